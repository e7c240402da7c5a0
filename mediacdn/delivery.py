"""The journey of a read: from a card and a request to the head of the answer and the spans of its body. `decide` is synchronous and does no I/O; sending is the door's business."""

from collections.abc import Callable, Mapping
from datetime import datetime
from secrets import token_hex

from msgspec import Struct

from mediacdn.access import Access, Caller
from mediacdn.config import Edge
from mediacdn.errors import PreconditionFailed, RangeNotSatisfiable
from mediacdn.http.cache_status import cache_status
from mediacdn.http.conditionals import Outcome, evaluate, range_applies
from mediacdn.http.dates import http_date
from mediacdn.http.digests import etag, repr_digest
from mediacdn.http.disposition import SANDBOX_CSP, content_disposition, inline_safe, is_active
from mediacdn.http.freshness import cache_control
from mediacdn.http.ranges import ByteRangesBody, byteranges_body, content_range, resolve_ranges, unsatisfied_range
from mediacdn.model import ByteRange, Card, Link
from mediacdn.sniff import extension

Fields = list[tuple[bytes, bytes]]


class Ask(Struct, frozen=True):
    """A request for one media's bytes. Header names are lower case, repeated fields joined by ", "."""

    method: str
    headers: Mapping[str, str]
    caller: Caller
    now: datetime


class Answer(Struct, frozen=True):
    """What to send: `spans` of the card's object in order; with `framing`, each span is preceded by its part head and the tail ends the body."""

    status: int
    headers: Fields
    card: Card
    spans: tuple[ByteRange, ...] = ()
    framing: ByteRangesBody | None = None
    length: int = 0


def _content_type(media_type: str) -> bytes:
    # Plain text is called so only when it is valid UTF-8; without the charset browsers would guess another.
    return b"text/plain; charset=utf-8" if media_type == "text/plain" else media_type.encode()


class Face(Struct, frozen=True):
    """What the answers for one card have in common, as bytes: worked out once, sent many times. `shared` is what 304 sends too."""

    card: Card
    etag: str
    shared: Fields
    inline: Fields
    attachment: Fields
    content_type: tuple[bytes, bytes]


class Delivery:
    """`decide`, bound to the rules and the configured freshness."""

    def __init__(
        self,
        access: Access,
        edge: Edge,
        resource_policy: str,
        boundary: Callable[[], str] = lambda: token_hex(16),
    ) -> None:
        self._access = access
        self._edge = edge
        self._resource_policy = resource_policy.encode()
        self._boundary = boundary
        self._faces: dict[str, Face] = {}

    def decide(self, ask: Ask, card: Card | None, verdict: bool | None = None) -> Answer:
        """Answer a GET or HEAD: the caller's right first, then preconditions (RFC 9110 section 13.2.2), then ranges (section 14).

        `verdict` is the authorizer driver's word, None when it has none. Raises: what Access.read raises, PreconditionFailed, RangeNotSatisfiable.
        """
        card = self._access.read(card, ask.caller, ask.now, verdict)
        face = self._face(card)
        headers = ask.headers
        outcome = evaluate(ask.method, headers, face.etag, card.modified, ask.now)
        if outcome is Outcome.FAILED:
            raise PreconditionFailed(headers={"ETag": face.etag})
        link = ask.caller.link
        fields = [*face.shared, self._freshness(card, link, ask.now)]
        if link is not None:
            fields.append((b"referrer-policy", b"no-referrer"))
        elif not card.public:
            fields.append((b"vary", b"Authorization"))  # or a browser shows it on to whoever asks next
        if outcome is Outcome.NOT_MODIFIED:
            return Answer(304, fields, card)
        fields += face.attachment if link is not None and link.disposition == "attachment" else face.inline
        # RFC 9110 section 14.2: range handling is defined for GET alone; HEAD tells of the whole.
        wanted = headers.get("range") if ask.method == "GET" else None
        if wanted is None or not range_applies(headers.get("if-range"), face.etag, card.modified, ask.now):
            return self._whole(face, fields)
        spans = resolve_ranges(wanted, card.size)
        if spans is None:
            return self._whole(face, fields)
        if not spans:
            raise RangeNotSatisfiable(headers={"Content-Range": unsatisfied_range(card.size), "Accept-Ranges": "bytes", "ETag": face.etag})
        return self._partial(face, fields, spans)

    def _whole(self, face: Face, fields: Fields) -> Answer:
        size = face.card.size
        fields += (face.content_type, (b"content-length", b"%d" % size))
        return Answer(200, fields, face.card, (ByteRange(0, size),) if size else (), None, size)

    def _partial(self, face: Face, fields: Fields, spans: tuple[ByteRange, ...]) -> Answer:
        card = face.card
        if len(spans) == 1:
            length = spans[0].length
            fields += (
                face.content_type,
                (b"content-range", content_range(spans[0], card.size).encode()),
                (b"content-length", b"%d" % length),
            )
            return Answer(206, fields, card, spans, None, length)
        boundary = self._boundary()
        framing = byteranges_body(spans, card.size, face.content_type[1].decode(), boundary)
        fields += (
            (b"content-type", b"multipart/byteranges; boundary=" + boundary.encode()),
            (b"content-length", b"%d" % framing.length),
        )
        return Answer(206, fields, card, spans, framing, framing.length)

    def _freshness(self, card: Card, link: Link | None, now: datetime) -> tuple[bytes, bytes]:
        remaining = None if card.expires_at is None else max(0, int((card.expires_at - now).total_seconds()))
        if link is not None and not card.public:
            left = max(0, link.exp - int(now.timestamp()))
            remaining = left if remaining is None else min(left, remaining)
        longest = self._edge.public_max_age if card.public else self._edge.private_max_age
        return (b"cache-control", cache_control(card.public, longest, remaining=remaining).encode())

    def _face(self, card: Card) -> Face:
        face = self._faces.get(card.id)
        if face is None or face.card is not card:  # another card of the same media means that something of it changed
            if len(self._faces) >= self._edge.cards:
                self._faces.clear()
            face = self._faces[card.id] = self._worked_out(card)
        return face

    def _worked_out(self, card: Card) -> Face:
        tag = etag(card.digest)
        shared = [  # RFC 9110 section 15.4.5
            (b"etag", tag.encode()),
            (b"last-modified", http_date(card.modified).encode()),
            (b"cache-status", cache_status(fwd="bypass").encode()),
            (b"cross-origin-resource-policy", self._resource_policy),
            (b"x-content-type-options", b"nosniff"),
        ]
        told = [(b"accept-ranges", b"bytes"), (b"repr-digest", repr_digest(card.digest).encode())]
        if is_active(card.media_type):
            told.append((b"content-security-policy", SANDBOX_CSP.encode()))
        for name, value in ((b"x-media-width", card.width), (b"x-media-height", card.height), (b"x-media-duration", card.duration)):
            if value is not None:
                told.append((name, str(value).encode()))
        # Saved without a name it would be the bare id; opened in the page the name matters to nobody.
        saved_as = card.filename or f"{card.id}.{extension(card.media_type)}"
        attachment = (b"content-disposition", content_disposition("attachment", saved_as).encode())
        inline = (b"content-disposition", content_disposition("inline", card.filename).encode())
        return Face(
            card,
            tag,
            shared,
            [*told, inline if inline_safe(card.media_type) else attachment],
            [*told, attachment],
            (b"content-type", _content_type(card.media_type)),
        )
