"""The hot lane's answers: reads that need nothing awaited. It puts together what the front, the route and the sender do for such a request, from their own parts,
and declines (None) whatever is unusual or refused, which the framework's way then answers as if it had come there first.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from mediacdn import signing
from mediacdn.access import Access, Caller
from mediacdn.catalog.card import CardCache
from mediacdn.delivery import Answer, Ask, Delivery
from mediacdn.derivation.outputs import BELOW, Outputs
from mediacdn.derivation.variants import Form, Variants
from mediacdn.edge.files import OpenFiles
from mediacdn.errors import MediaError
from mediacdn.interfaces import Authenticator, Clock, Recall
from mediacdn.model import Card, Link, Principal, State
from mediacdn.routes.front import Front, Met

LARGEST = 1024 * 1024
"""Bytes of a body that the lane writes at once; longer ones are sent by the route, which notices readers that leave."""
_SIGNATURE = 43
"""Characters of HMAC-SHA256 in base64url."""
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
    )
}
_LISTS = frozenset({"accept", "x-forwarded-for", "if-match", "if-none-match"})


class Ready(Struct, frozen=True):
    """An answer that can leave now: its body is `pieces`, or `count` bytes of `file` (a descriptor that `keep` holds open) at `offset`."""

    status: int
    head: tuple[bytes, ...]
    pieces: Sequence[bytes | bytearray | memoryview]
    sent: Callable[[int], None]
    """Told once how many bytes of the body left, for the log and the metrics."""
    file: int = -1
    offset: int = 0
    count: int = 0
    keep: Any = None


class HotReads:
    """Called by the lane for each GET and HEAD without a body on a connection that stays open."""

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
        self._variants = variants
        self._outputs = outputs
        self._presets = variants.presets
        self._clock = clock
        base = re.escape(base_path.encode())
        self._target = re.compile(
            base
            + rb"(?:/s/([A-Za-z0-9._-]{1,4096}))?/v1/media/([0-7][0-9A-HJKMNP-TV-Z]{25})(/thumb|/v/[A-Za-z0-9._~=,:@+-]{1,256}|"
            + BELOW.encode()
            + rb")?(?:\?([!\"$-~]*))?"
        )

    def __call__(self, method: str, url: bytes, headers: Sequence[tuple[bytes, bytes]], client: tuple[str, int] | None) -> Ready | None:
        """The answer, when everything that it takes is at hand."""
        target = self._target.fullmatch(url)
        if target is None:
            return None
        began = time.monotonic()
        token, media_id, rest, query = target.groups()
        card = self._cards.peek(media_id.decode())
        if card is None:
            return None
        wanted = _wanted(headers)
        if wanted is None:
            return None
        met = self._front.meet(client[0] if client else None, method, wanted, media_read=True)
        if not met.host_allowed:
            return None
        now = self._clock.now()
        try:
            at = now.timestamp()
            below = "" if rest is None else rest.decode()
            link = self._link(method, url, token, query, card.id, below, int(at))
            principal = None
            if link is None and not card.public:
                principal = self._principal(wanted)
                if principal is None:
                    return None
            ask = Ask(method, wanted, Caller(principal, link, met.peer), now, at)
            if below:
                form = self._form(card, below, link, wanted)
                if form is None:
                    return None
                ask, card = replace(ask, variant=form.mark, negotiated=form.negotiated), form.card
            answer = self._delivery.decide(ask, card)
        except MediaError:
            return None
        if not isinstance(answer, Answer) or answer.length > LARGEST:
            return None
        subject = principal.id if principal is not None else link.sub if link is not None else None
        route = PLAIN if token is None else PREFIXED
        if below:
            first, *further = below[1:].split("/", 1)
            route += f"/{first}" + ("" if not further else "/{variant}" if first == "v" else "/{path}")
        return self._ready(answer, met, method, url, subject, route, began)

    def _form(self, card: Card, below: str, link: Link | None, wanted: Mapping[str, str]) -> Form | None:
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
            if derived is None or derived.state is not State.LIVE:
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

    def _ready(self, answer: Answer, met: Met, method: str, url: bytes, subject: str | None, route: str, began: float) -> Ready | None:
        front = self._front

        def sent(count: int) -> None:
            front.tell(met, method, _masked(url), route, answer.status, count, subject, began)

        # Front.complete would add nothing else: an answer to a read says all of it.
        head = (*answer.head, met.lines)
        if not answer.spans:
            if answer.warm:
                self._warm(answer)
            return Ready(answer.status, head, (), sent)
        if answer.pieces is not None:
            return Ready(answer.status, head, _joined(answer), sent)
        if answer.framing is not None or answer.origin.storage not in self._local:
            return None
        files, origin = self._files, answer.origin
        file, span = files.peek(origin.storage, origin.key), answer.spans[0]
        if file is None:
            return None
        if span.length <= COPIED:
            found = file.read_now(span.start, span.stop)
            return None if found is None else Ready(answer.status, head, (found,), sent)
        if not file.resident(span.start, span.stop):
            return None

        def poured(count: int) -> None:
            if not count:  # its reader left, or it is damaged: opened anew it tells which, while a status can still say so
                files.drop(origin.storage, origin.key)
            sent(count)

        return Ready(answer.status, head, (), poured, file.fd, span.start, span.length, file)


def _masked(url: bytes) -> str:
    """`signing.mask` of a target that was answered here: what a link may look like is known by then, so a search will do."""
    text = url.decode("latin-1")
    at = text.find("sig=")
    if at < 0 or "/s/" in text or "%" in text:
        return signing.mask(text)
    return f"{text[: at + 4]}***{text[at + 4 + _SIGNATURE :]}"


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
