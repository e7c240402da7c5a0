"""The journey of a read: from a card and a request to the head of the answer and the spans of its body.

`decide` is synchronous and does no I/O. It gives an Answer that can be sent, or a Fill whose bytes are not at hand: the door awaits the edge, and `settle` makes
the Answer of it. Both doors (the hot lane and the route) ask the same `decide`; sending is theirs.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from secrets import token_hex
from typing import Protocol
from weakref import ref

from msgspec import Struct

from mediacdn.access import Access, Caller
from mediacdn.config import Edge as EdgeConfig
from mediacdn.edge.entries import Entry, Known
from mediacdn.edge.origin import LOCAL, Origin
from mediacdn.edge.reading import Hit, Note
from mediacdn.errors import PreconditionFailed, RangeNotSatisfiable
from mediacdn.http.cache_status import cache_status
from mediacdn.http.conditionals import Outcome, evaluate, range_applies
from mediacdn.http.dates import http_date
from mediacdn.http.digests import etag, repr_digest
from mediacdn.http.disposition import SANDBOX_CSP, content_disposition, inline_safe, is_active, saved_as
from mediacdn.http.fields import Fields, field_lines, field_pairs
from mediacdn.http.freshness import cache_control, cdn_cache_control
from mediacdn.http.groups import cache_groups, separator, surrogate_keys
from mediacdn.http.media_types import content_type_of
from mediacdn.http.ranges import ByteRangesBody, byteranges_body, resolve_ranges, unsatisfied_range
from mediacdn.http.timing import server_timing
from mediacdn.model import ByteRange, Card, Link

ORIGINAL = ""
FROM_CARD = Note(hit=True, detail="card")
"""An answer without a body: the card knew all of it."""
PASSED = Note(hit=False, fwd="bypass", detail=LOCAL)
"""The edge leaves the object to its storage."""
WARMING = Note(hit=False, fwd="miss", stored=True)
NOT_KEPT = Note(hit=False, fwd="miss", stored=False)
HIT_TIMING = field_lines([(b"server-timing", server_timing([("edge", None, "hit")]).encode())])
HIT = b"cache-status: " + cache_status(hit=True, ttl=0).removesuffix("0").encode() + b"%d\r\n" + HIT_TIMING + b"age: %d\r\n%b"
BY_LINK = field_lines([(b"referrer-policy", b"no-referrer")])
BY_TOKEN = field_lines([(b"vary", b"Authorization")])
"""Or a browser shows it on to whoever asks next."""
BY_ACCEPT = field_lines([(b"vary", b"Accept")])
FIRST_BYTE = (ByteRange(0, 1),)
ONE_RANGE = re.compile(rb"bytes=([0-9]{1,15})-([0-9]{1,15})")
"""The one form of Range that `at_hand` reads; http.ranges reads all."""
MOST_SLICES = 16
"""Slices that a request for several ranges may touch: a few bytes of each would else read all of the object (RFC 9110 section 14.2 lets us give the whole instead)."""


class Cache(Protocol):
    """What `decide` asks of the edge; edge.tiers.Edge is it."""

    def peek(self, card: Card, variant: str, spans: tuple[ByteRange, ...], now: float) -> Hit | None: ...

    def whole(self, card: Card, variant: str, now: float, known: Known | None = None) -> Entry | None: ...

    def bypasses(self, card: Card, variant: str, origin: Origin) -> str | None: ...

    def leaves(self, origin: Origin) -> bool: ...


class Ask(Struct, frozen=True):
    """A request for one media's bytes. Header names are lower case, repeated fields joined by ", "; `at` is `now` in unix seconds."""

    method: str
    headers: Mapping[str, str]
    caller: Caller
    now: datetime
    at: float
    variant: str = ORIGINAL
    negotiated: bool = False
    """Whether Accept had a say in what `card` is."""


class Fill(Struct, frozen=True):
    """An answer but for its bytes, and for what depends on how they are come by: `settle` makes the Answer."""

    status: int
    ask: Ask
    card: Card
    origin: Origin
    shared: bytes
    own: tuple[bytes, ...]
    spans: tuple[ByteRange, ...]
    framing: ByteRangesBody | None
    length: int


class Answer(Struct, frozen=True):
    """What to send: `head` as field lines (http.fields), and `spans` of the origin's object in order; with `framing`, each span is preceded by its part head and the tail ends the body.

    `pieces` are the spans' bytes where the edge holds them. `warm`: nobody waits for them, but the edge should have them.
    """

    status: int
    head: tuple[bytes, ...]
    card: Card
    origin: Origin
    variant: str = ORIGINAL
    spans: tuple[ByteRange, ...] = ()
    framing: ByteRangesBody | None = None
    length: int = 0
    pieces: tuple[bytes | memoryview, ...] | None = None
    warm: bool = False

    @property
    def headers(self) -> Fields:
        """The head's fields."""
        return field_pairs(self.head)


Prompt = tuple[int, tuple[bytes, ...], tuple[bytes | memoryview, ...], int, int]
"""What `at_hand` answers: status, field lines, the pieces of the body; and, where it has none of its length, where in the stored object it begins. A plain tuple is made in a third of a Struct's time."""


class Face(Struct):
    """What the answers for one card have in common, as bytes: worked out once, sent many times.

    `usual` are the lines of a 200, in one piece because what lies in many has to be fetched from many places of memory: first those that 304 sends too (RFC 9110
    section 15.4.5), up to `common`; then what is said of the media, with its disposition, up to `said`; then those of the whole. `attachment` is said by a link that asks for it.
    """

    card: Card
    origin: Origin
    etag: str
    tag: bytes
    """The same as it is sent."""
    modified: datetime
    usual: bytes
    common: int
    said: int
    attachment: bytes
    content_type: tuple[bytes, bytes]
    typed: bytes
    """The same as it is sent."""
    direct: bytes
    """What is told of the copy where the edge leaves the object to its storage; else empty."""
    copy: Known | None = None
    """Where the original was found in memory the last time."""

    @property
    def shared(self) -> bytes:
        return self.usual[: self.common]

    @property
    def whole(self) -> bytes:
        return self.usual[self.said :]

    def part(self, start: int, stop: int) -> bytes:
        """What is said of one range."""
        return b"%bcontent-range: bytes %d-%d/%d\r\ncontent-length: %d\r\n" % (self.typed, start, stop - 1, self.card.size, stop - start)

    def own(self, link: Link | None) -> bytes:
        """What is said of the media to a reader by this link, or by none."""
        return self.attachment if link is not None and link.disposition == "attachment" else self.usual[self.common : self.said]


class Delivery:
    """`decide`, bound to the rules, the edge and the configured freshness."""

    def __init__(
        self,
        access: Access,
        config: EdgeConfig,
        cache: Cache,
        resource_policy: str,
        boundary: Callable[[], str] = lambda: token_hex(16),
    ) -> None:
        self._access = access
        self._config = config
        self._cache = cache
        self._resource_policy = resource_policy.encode()
        self._boundary = boundary
        self._faces: dict[str, Face] = {}
        self._fresh: dict[tuple[bool, bool, bool], bytes] = {}

    def decide(self, ask: Ask, card: Card | None, verdict: bool | None = None) -> Answer | Fill:
        """Answer a GET or HEAD: the caller's right first, then preconditions (RFC 9110 section 13.2.2), then ranges (section 14), then where the bytes are.

        `verdict` is the authorizer driver's word, None when it has none. Raises: what Access.read raises, PreconditionFailed, RangeNotSatisfiable.
        """
        card = self._access.read(card, ask.caller, ask.now, verdict)
        face = self._face(card, ask)
        headers = ask.headers
        outcome = evaluate(ask.method, headers, face.etag, face.modified, ask.now)
        if outcome is Outcome.FAILED:
            raise PreconditionFailed(headers={"ETag": face.etag})
        if outcome is Outcome.NOT_MODIFIED:
            return self._bodiless(304, ask, face, ())
        own = face.own(ask.caller.link)
        if ask.method == "HEAD":  # RFC 9110 section 14.2: ranges are defined for GET alone; HEAD tells of the whole
            return self._bodiless(200, ask, face, (own, face.whole))
        wanted = headers.get("range")
        if wanted is None or not range_applies(headers.get("if-range"), face.etag, face.modified, ask.now):
            spans = None
        else:
            spans = resolve_ranges(wanted, card.size)
            if spans and len(spans) > 1 and self._scattered(spans):
                spans = None
        if spans is None:
            return self._whole(ask, face, own)
        if not spans:
            raise RangeNotSatisfiable(headers={"Content-Range": unsatisfied_range(card.size), "Accept-Ranges": "bytes", "ETag": face.etag})
        return self._partial(ask, face, own, spans)

    def at_hand(self, card: Card, link: Link | None, now: float, further: tuple[bytes, bytes] | None = None) -> Prompt | None:
        """What `decide` answers a GET of the original whose fields say nothing of conditions or ranges, but for If-None-Match or Range (`further`); None where it has to
        be asked, because this card was not answered before, its bytes are neither fresh in memory nor read directly, the one tag is not ours, or the range is not one
        from here to there. The caller's right is already seen to (Access.read)."""
        face = self._faces.get(card.id)
        if face is None or face.card is not card or not card.size:
            return None
        start, stop, status = 0, card.size, 200
        if further is not None:
            name, value = further
            asked = ONE_RANGE.fullmatch(value) if name == b"range" else None
            if asked is not None:
                start, stop, status = int(asked[1]), min(int(asked[2]) + 1, stop), 206
            elif name == b"if-none-match" and value == face.tag:
                status = 304
            if status == 200 or start >= stop:
                return None
        if face.direct:
            remaining = self._remaining(card, link, now)
            told = (BY_CARD if status == 304 else face.direct) + self._freshly(card.public, remaining, link is not None, negotiated=False)
            body = None
        else:
            entry = self._cache.whole(card, ORIGINAL, now, face.copy)
            if entry is None:
                return None
            if face.copy is None or face.copy() is not entry:
                face.copy = ref(entry)
            told = self._told_of_hit(card, link, now, entry.stored, int(entry.stored + entry.ttl - now), negotiated=False)
            body = entry.body
        if status == 304:
            return 304, (face.shared, told), (), 0, 0
        if status == 206:
            parts = face.shared, face.own(link), face.part(start, stop), told
            return 206, parts, () if body is None else (memoryview(body)[start:stop],), start, stop - start
        pieces = () if body is None else (body,)
        if link is not None and link.disposition == "attachment":
            return 200, (face.shared, face.attachment, face.whole, told), pieces, 0, stop
        return 200, (face.usual, told), pieces, 0, stop

    def _scattered(self, spans: tuple[ByteRange, ...]) -> bool:
        size, slices = self._config.slice_size, set[int]()
        for span in spans:
            slices.update(range(span.start // size, min((span.stop - 1) // size, span.start // size + MOST_SLICES) + 1))
        return len(slices) > MOST_SLICES and sum(span.length for span in spans) < len(slices) * size // 2

    def settle(self, fill: Fill, note: Note, milliseconds: float | None = None) -> Answer:
        """Make the Answer of a Fill, now that the edge (or whoever read the bytes) tells how they came; `milliseconds` is how long the first of them took."""
        head = (fill.shared, *fill.own, self._told(fill.ask, fill.card, note, milliseconds))
        return Answer(fill.status, head, fill.card, fill.origin, fill.ask.variant, fill.spans, fill.framing, fill.length)

    def _bodiless(self, status: int, ask: Ask, face: Face, own: tuple[bytes, ...]) -> Answer:
        """Answer from the card, with the edge's word on the copy that a GET would get."""
        card = face.card
        hit = self._cache.peek(card, ask.variant, FIRST_BYTE, ask.at) if card.size else None
        if hit is not None:
            note = hit.note
        elif status == 304 or not card.size:
            note = FROM_CARD
        elif (reason := self._cache.bypasses(card, ask.variant, face.origin)) is not None:
            note = Note(hit=False, fwd="bypass", detail=reason)
        else:
            note = WARMING if self._config.warm_on_head else NOT_KEPT
        return Answer(status, (face.shared, *own, self._told(ask, card, note)), card, face.origin, ask.variant, warm=note is WARMING)

    def _whole(self, ask: Ask, face: Face, own: bytes) -> Answer | Fill:
        size = face.card.size
        if not size:
            return Answer(200, (face.shared, own, face.whole, self._told(ask, face.card, FROM_CARD)), face.card, face.origin, ask.variant)
        return self._with_bytes(200, ask, face, (own, face.whole), (ByteRange(0, size),), None, size)

    def _partial(self, ask: Ask, face: Face, own: bytes, spans: tuple[ByteRange, ...]) -> Answer | Fill:
        card = face.card
        if len(spans) == 1:
            length = spans[0].length
            return self._with_bytes(206, ask, face, (own, face.part(spans[0].start, spans[0].stop)), spans, None, length)
        boundary = self._boundary()
        framing = byteranges_body(spans, card.size, face.content_type[1].decode(), boundary)
        parts = field_lines(
            [
                (b"content-type", b"multipart/byteranges; boundary=" + boundary.encode()),
                (b"content-length", b"%d" % framing.length),
            ]
        )
        return self._with_bytes(206, ask, face, (own, parts), spans, framing, framing.length)

    def _with_bytes(
        self,
        status: int,
        ask: Ask,
        face: Face,
        own: tuple[bytes, ...],
        spans: tuple[ByteRange, ...],
        framing: ByteRangesBody | None,
        length: int,
    ) -> Answer | Fill:
        card = face.card
        hit = self._cache.peek(card, ask.variant, spans, ask.at)
        if hit is not None:
            head = (face.shared, *own, self._told(ask, card, hit.note))
            return Answer(status, head, card, face.origin, ask.variant, spans, framing, length, hit.pieces)
        fill = Fill(status, ask, card, face.origin, face.shared, own, spans, framing, length)
        reason = self._cache.bypasses(card, ask.variant, face.origin)
        return fill if reason is None else self.settle(fill, Note(hit=False, fwd="bypass", detail=reason))

    def _told(self, ask: Ask, card: Card, note: Note, milliseconds: float | None = None) -> bytes:
        """What is told of the copy, and of how long the answer may be kept."""
        now, link = ask.at, ask.caller.link
        if note.hit and note.detail is None and note.stored_at is not None and note.ttl is not None:
            return self._told_of_hit(card, link, now, note.stored_at, int(note.ttl), negotiated=ask.negotiated)
        remaining = self._remaining(card, link, now)
        told = _told_of_copy(note, milliseconds)
        if note.hit and note.stored_at is not None:
            age = _age(card, now, note.stored_at)
            remaining = None if remaining is None else remaining + age
            told += b"age: %d\r\n" % age
        return told + self._freshly(card.public, remaining, link is not None, ask.negotiated)

    def _told_of_hit(self, card: Card, link: Link | None, now: float, stored_at: float, ttl: int, *, negotiated: bool) -> bytes:
        """What is told of a fresh copy."""
        age = _age(card, now, stored_at)
        remaining = self._remaining(card, link, now)
        fresh = self._fresh.get((card.public, link is not None, negotiated)) if remaining is None else None
        if fresh is None:
            # RFC 9111 section 4.2.3 takes the age off again.
            fresh = self._freshly(card.public, None if remaining is None else remaining + age, link is not None, negotiated)
        return HIT % (ttl, age, fresh)

    def _remaining(self, card: Card, link: Link | None, now: float) -> int | None:
        """Seconds for which the answer may be kept at most, where that is less than usual."""
        remaining = card.fresh_for
        if card.expires_at is not None:
            left = max(0, int(card.expires_at.timestamp() - now))
            remaining = left if remaining is None else min(left, remaining)
        if link is not None and not card.public:
            left = max(0, link.exp - int(now))
            if left < self._config.private_max_age:
                return left if remaining is None else min(left, remaining)
        return remaining

    def _freshly(self, public: bool, remaining: int | None, linked: bool, negotiated: bool) -> bytes:
        """The lines that say how long and by whom the answer may be kept; made once where nothing limits it further."""
        key = public, linked, negotiated
        if remaining is None and (known := self._fresh.get(key)) is not None:
            return known
        longest = self._config.public_max_age if public else self._config.private_max_age
        told = b"cache-control: %b\r\n" % _freshness(public, longest, remaining)
        if public and self._config.cdn_max_age is not None:
            told += b"cdn-cache-control: %b\r\n" % self._for_cdn(remaining)
        if negotiated:
            told += BY_ACCEPT
        if linked:
            told += BY_LINK
        elif not public:
            told += BY_TOKEN
        if remaining is None:
            self._fresh[key] = told
        return told

    def _for_cdn(self, remaining: int | None) -> bytes:
        return cdn_cache_control(self._config.cdn_max_age or 0, self._config.grace, remaining=remaining).encode()

    def _face(self, card: Card, ask: Ask) -> Face:
        name = card.id + ask.variant
        face = self._faces.get(name)
        if face is None or face.card is not card:  # another card of the same media means that something of it changed
            if len(self._faces) >= self._config.cards:
                self._faces.clear()
            face = self._worked_out(card, ask.now)
            if card.modified <= ask.now:
                self._faces[name] = face
        return face

    def _worked_out(self, card: Card, now: datetime) -> Face:
        tag = etag(card.digest)
        modified = min(card.modified, now)  # RFC 9110 section 8.8.2.1: never after Date; another node's clock may run ahead of ours
        shared = [
            (b"etag", tag.encode()),
            (b"last-modified", http_date(modified).encode()),
            (b"cross-origin-resource-policy", self._resource_policy),
            (b"x-content-type-options", b"nosniff"),
            *self._groups(card),
        ]
        told = [(b"accept-ranges", b"bytes"), (b"repr-digest", repr_digest(card.digest).encode())]
        if is_active(card.media_type):
            told.append((b"content-security-policy", SANDBOX_CSP.encode()))
        for name, value in ((b"x-media-width", card.width), (b"x-media-height", card.height), (b"x-media-duration", card.duration)):
            if value is not None:
                told.append((name, str(value).encode()))
        content_type = (b"content-type", content_type_of(card.media_type).encode())
        attachment = (b"content-disposition", content_disposition("attachment", saved_as(card)).encode())
        inline = (b"content-disposition", content_disposition("inline", card.filename).encode())
        typed, common = field_lines([content_type]), field_lines(shared)
        origin = Origin(card.storage, card.key, card.size, card.digest)
        said = common + field_lines([*told, inline if inline_safe(card.media_type) else attachment])
        return Face(
            card,
            origin,
            tag,
            tag.encode(),
            modified,
            said + typed + field_lines([(b"content-length", b"%d" % card.size)]),
            len(common),
            len(said),
            field_lines([*told, attachment]),
            content_type,
            typed,
            _told_of_copy(PASSED) if self._cache.leaves(origin) else b"",
        )

    def _groups(self, card: Card) -> Fields:
        """By what names a cache in front can purge it; only for what such a cache may keep."""
        if not card.public:
            return []
        header = self._config.surrogate_key_header
        names = [card.id]
        if header is None:
            return [(b"cache-groups", cache_groups(names).encode())]
        names += [f"tag:{tag}" for tag in card.tags]
        return [
            (b"cache-groups", cache_groups(names).encode()),
            (header.lower().encode(), surrogate_keys(names, separator(header)).encode()),
        ]


def _age(card: Card, now: float, stored_at: float) -> int:
    """What is told to one reader is made for that reader now, out of bytes that the edge had; only what all may share has been waiting."""
    return max(0, int(now - stored_at)) if card.public else 0


def _told_of_copy(note: Note, milliseconds: float | None = None) -> bytes:
    timing = HIT_TIMING if note.hit else field_lines([(b"server-timing", server_timing([("edge", milliseconds, note.fwd)]).encode())])
    return b"cache-status: %b\r\n%b" % (_status(note), timing)


def _status(note: Note) -> bytes:
    ttl = None if note.ttl is None else int(note.ttl)
    if note.hit and note.detail is None:
        return cache_status(hit=True, ttl=ttl).encode()
    collapsed = True if note.collapsed else None
    return cache_status(hit=note.hit, fwd=note.fwd, ttl=ttl, stored=note.stored, collapsed=collapsed, detail=note.detail).encode()


@lru_cache(maxsize=1024)
def _freshness(public: bool, longest: int, remaining: int | None) -> bytes:
    return cache_control(public, longest, remaining=remaining).encode()


BY_CARD = _told_of_copy(FROM_CARD)
