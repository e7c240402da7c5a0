"""The hot lane's answers: reads that need nothing awaited. It puts together what the front, the route and the sender do for such a request, from their own parts,
and declines (None) whatever is unusual or refused, which the framework's way then answers as if it had come there first.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from mediacdn import signing
from mediacdn.accel import ASKED_BY, Accel
from mediacdn.access import Access, Caller
from mediacdn.catalog.card import CardCache
from mediacdn.delivery import Answer, Ask, Delivery
from mediacdn.derivation.outputs import BELOW, Outputs
from mediacdn.derivation.variants import Form, Variants
from mediacdn.edge.files import OpenFiles
from mediacdn.errors import MediaError
from mediacdn.http.fields import field_lines, field_pairs, joined
from mediacdn.interfaces import Authenticator, Clock, Recall
from mediacdn.model import Card, Link, Principal, State
from mediacdn.routes.front import Front, Met

LARGEST = 1024 * 1024
"""Bytes of a body that the lane writes at once; longer ones are sent by the route, which notices readers that leave."""
COPIED = 65_536
"""Bytes of a file up to which reading and writing is quicker than two calls to ask and two to send."""
PLAIN = "/v1/media/{media_id}"
PREFIXED = "/s/{token}/v1/media/{media_id}"
_WANTED = {
    name.encode(): name
    for name in (
        "host",
        "accept",
        "origin",
        "authorization",
        "range",
        "if-range",
        "if-match",
        "if-none-match",
        "if-modified-since",
        "if-unmodified-since",
        "x-forwarded-for",
        "x-request-id",
        ASKED_BY,
    )
}
_NAMED = {"v": "/{variant}", "subtitles": "/{language}"}
_DECISIVE = frozenset({"authorization", "range", "if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since"})
_LISTS = frozenset({"accept", "x-forwarded-for", "if-match", "if-none-match"})


Body = tuple[Sequence[bytes | bytearray | memoryview], int, int, int, Any, Callable[[], None] | None]
"""The last fields of Ready."""


class Ready(Struct, frozen=True):
    """An answer that can leave now: its body is `pieces`, or `count` bytes of `file` (a descriptor that `keep` holds open) at `offset`. The rest is for the log."""

    front: Front
    request_id: str
    peer: str | None
    method: str
    url: bytes
    route: str
    subject: str | None
    began: float
    status: int = 200
    head: tuple[bytes, ...] = ()
    pieces: Sequence[bytes | bytearray | memoryview] = ()
    file: int = -1
    offset: int = 0
    count: int = 0
    keep: Any = None
    missed: Callable[[], None] | None = None
    """Called when nothing of the file left: its reader has gone, or it is damaged."""

    def sent(self, count: int) -> None:
        """Told once how many bytes of the body left, for the log and the metrics."""
        if self.missed is not None and not count:
            self.missed()
        self.front.tell(self.request_id, self.peer, self.method, self.url, self.route, self.status, count, self.subject, self.began)


class Seen(Struct, frozen=True):
    """What requests of one connection with the same fields have in common."""

    fields: dict[str, str]
    met: Met
    plain: bool
    """Whether none of the fields is about a condition, a range or who asks."""


class HotReads:
    """Asked by the lane for each GET and HEAD without a body on a connection that stays open."""

    def __init__(
        self,
        *,
        front: Front,
        base_path: str,
        lookup: Callable[[str], bytes | None],
        authenticators: Sequence[Authenticator],
        access: Access,
        cards: CardCache,
        delivery: Delivery,
        files: OpenFiles,
        local: frozenset[str],
        warm: Callable[[Answer], None],
        accel: Accel,
        variants: Variants,
        outputs: Outputs,
        clock: Clock,
    ) -> None:
        self._front = front
        self._base = len(base_path)
        self._lookup = lookup
        first: object = authenticators[0] if authenticators else None
        self._recall = first.recall if isinstance(first, Recall) and not access.asks_a_driver else None
        self._access = access
        self._cards = cards
        self._delivery = delivery
        self._files = files
        self._local = local
        self._warm = warm
        self._accel = accel
        self._variants = variants
        self._outputs = outputs
        self._presets = variants.presets
        self._clock = clock
        base = re.escape(base_path.encode())
        self._usual = re.compile(base + rb"(/v1/media/([0-7][0-9A-HJKMNP-TV-Z]{25}))(?:\?" + signing.SORTED_QUERY + rb")?")
        self._target = re.compile(
            base
            + rb"(?:/s/([A-Za-z0-9._-]{1,4096}))?/v1/media/([0-7][0-9A-HJKMNP-TV-Z]{25})(/thumb|/v/[A-Za-z0-9._~=,:@+-]{1,256}|"
            + BELOW.encode()
            + rb")?(?:\?([!\"$-~]*))?"
        )

    def meet(self, headers: Sequence[tuple[bytes, bytes]], client: tuple[str, int] | None) -> Seen | None:
        """What is known of requests with these fields before their targets are looked at; None when the framework is to answer them."""
        wanted = _wanted(headers)
        if wanted is None:
            return None
        met = self._front.greet(client[0] if client else None, "GET", wanted, media_read=True)
        return Seen(wanted, met, _DECISIVE.isdisjoint(wanted)) if met.host_allowed else None

    def answer(self, method: str, url: bytes, seen: Seen, further: tuple[bytes, bytes] | None = None) -> Ready | None:
        """The answer, when everything that it takes is at hand. `further` is a field that is not among the seen ones."""
        began = time.monotonic()
        usual = self._usual.fullmatch(url)
        if usual is not None:
            path, media_id, *signed = usual.groups()
        else:
            target = self._target.fullmatch(url)
            if target is None:
                return None
            token, media_id, rest, query = target.groups()
        card = self._cards.peek(media_id.decode())
        if card is None:
            return None
        now = self._clock.now()
        at = now.timestamp()
        below, route, link = "", PLAIN, None
        fields, met = seen.fields, seen.met
        try:
            if usual is None:
                below = "" if rest is None else rest.decode()
                link = self._link(method, url, token, query, card.id, below, int(at))
                route = _route(token is not None, below)
            elif signed[0] is not None:
                link = signing.verify_sorted(self._lookup, path, signed, int(at))
            principal = None
            if link is None and not card.public:
                principal = self._principal(fields)
                if principal is None:
                    return None
            caller = Caller(principal, link, met.peer)
            subject = principal.id if principal is not None else link.sub if link is not None else None
            request_id = met.request_id or self._front.new_id()
            if principal is None and seen.plain and not below and method == "GET" and not met.hands_over:
                self._access.read(card, caller, now)
                found = self._delivery.at_hand(card, link, at, further)
                if found is not None:
                    status, lines, pieces, start, length = found
                    head = (*lines, b"%bx-request-id: %b\r\n" % (met.cors, request_id.encode()))
                    if length > LARGEST:
                        return None
                    if pieces or not length:
                        return Ready(self._front, request_id, met.peer, method, url, route, subject, began, status, head, pieces)
                    body = self._of_file(card.storage, card.key, start, length)
                    if body is None:
                        return None
                    return Ready(self._front, request_id, met.peer, method, url, route, subject, began, status, head, *body)
            if further is not None:
                fields = {**fields, further[0].decode(): further[1].decode()}
            ask = Ask(method, fields, caller, now, at)
            if below:
                form = self._form(card, below, link, fields, now)
                if form is None:
                    return None
                ask, card = replace(ask, variant=form.mark, negotiated=form.negotiated), form.card
            answer = self._delivery.decide(ask, card)
        except MediaError:
            return None
        if not isinstance(answer, Answer):
            return None
        handed = self._accel.hand_over(answer, fields) if met.hands_over else None
        if handed is not None:
            if self._files.peek(answer.origin.storage, answer.origin.key) is None:
                return None  # the route opens it, and tells of one that is missing
            answer = handed
        elif answer.length > LARGEST:
            return None
        ready = Ready(self._front, request_id, met.peer, method, url, route, subject, began, answer.status)
        return self._ready(answer, met, ready, handed is not None)

    def _form(self, card: Card, below: str, link: Link | None, wanted: Mapping[str, str], now: datetime) -> Form | None:
        """The form that the path below the media asks for, when it is known and the caller may ask for it."""
        variant = "thumb" if below == "/thumb" else below[3:] if below.startswith("/v/") else None
        if variant is None:
            known = self._outputs.peek(card, below)
            found = None if known is None else (known, True)
        else:
            found = self._variants.peek(card, variant, wanted.get("accept"))
        if found is None:
            return None
        form, preset = found
        if form.derived is not None:
            derived = self._cards.peek(form.derived)
            if derived is None or derived.state is not State.LIVE or (derived.expires_at is not None and derived.expires_at <= now):
                return None
        return form if preset or link is not None or self._variants.unsigned else None

    def _link(self, method: str, url: bytes, token: bytes | None, query: bytes | None, media_id: str, below: str, now: int) -> Link | None:
        if token is not None:
            link = signing.verify_prefix(self._lookup, token.decode(), method, now)
            if not signing.link_covers(link, media_id, below, self._presets):
                raise MediaError()
            return link
        if query is None or b"sig=" not in query:
            return None
        path = url[self._base : -len(query) - 1]
        return signing.verify_query(self._lookup, method, path.decode(), query.decode(), now)

    def _principal(self, wanted: Mapping[str, str]) -> Principal | None:
        return None if self._recall is None or "authorization" not in wanted else self._recall(wanted)

    def _ready(self, answer: Answer, met: Met, ready: Ready, handed: bool) -> Ready | None:
        # Front.complete would add nothing else: an answer to a read says all of it.
        head = (*answer.head, met.cors, b"x-request-id: ", ready.request_id.encode(), b"\r\n")
        if handed:
            head = (field_lines(joined(field_pairs(head))),)
        if not answer.spans:
            if answer.warm:
                self._warm(answer)
            return replace(ready, head=head)
        if answer.pieces is not None:
            return replace(ready, head=head, pieces=_joined(answer))
        if answer.framing is not None or answer.origin.storage not in self._local:
            return None
        span = answer.spans[0]
        body = self._of_file(answer.origin.storage, answer.origin.key, span.start, span.length)
        if body is None:
            return None
        pieces, file, offset, count, keep, missed = body
        return replace(ready, head=head, pieces=pieces, file=file, offset=offset, count=count, keep=keep, missed=missed)

    def _of_file(self, storage: str, key: str, start: int, length: int) -> Body | None:
        """What of an open file can be sent without waiting for the disk."""
        files = self._files
        file = files.peek(storage, key)
        if file is None:
            return None
        if length <= COPIED:
            found = file.read_now(start, start + length)
            return None if found is None else ((found,), -1, 0, 0, None, None)
        if not file.resident(start, start + length):
            return None
        # Opened anew after it was missed it tells why, while a status can still say so.
        return (), file.fd, start, length, file, partial(files.drop, storage, key)


def _route(prefixed: bool, below: str) -> str:
    """The route's template, for the metrics."""
    route = PREFIXED if prefixed else PLAIN
    if not below:
        return route
    first, *further = below[1:].split("/", 1)
    return f"{route}/{first}" + ("" if not further else _NAMED.get(first, "/{path}"))


def _wanted(headers: Sequence[tuple[bytes, bytes]]) -> dict[str, str] | None:
    """The fields that a read looks at; None where one is repeated that should not be."""
    found: dict[str, str] = {}
    for raw, value in headers:
        name = _WANTED.get(raw)
        if name is not None:
            if name not in found:
                found[name] = value.decode("latin-1")
            elif name in _LISTS:
                found[name] = f"{found[name]}, {value.decode('latin-1')}"
            else:
                return None
    return found


def _joined(answer: Answer) -> Sequence[bytes | memoryview]:
    assert answer.pieces is not None
    if answer.framing is None:
        return answer.pieces
    pieces: list[bytes | memoryview] = []
    for head, piece in zip(answer.framing.heads, answer.pieces, strict=True):
        pieces += (head, piece)
    pieces.append(answer.framing.tail)
    return pieces
