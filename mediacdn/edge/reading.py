"""What the edge answers with: how the bytes were come by, and the bytes themselves, slice after slice."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from msgspec import Struct

from mediacdn.edge.coalesce import PIECE, Fill, Source, pieces
from mediacdn.edge.entries import Entry
from mediacdn.edge.origin import Origin
from mediacdn.edge.slices import Cut, Slices, Wanted, cuts
from mediacdn.model import ByteRange

__all__ = ["Hit", "Note", "Origin", "Reading", "note_of_entry", "open_reading"]


class Note(Struct, frozen=True, gc=False):
    """How bytes were come by, for Cache-Status (RFC 9211), Age and the log.

    `fwd` is "miss", "stale" or "bypass" (section 2.2), None on a hit; `stored` whether a miss is being kept; `collapsed` that another's fill was waited for.
    `stored_at` is unix seconds, None when nothing was kept; `ttl` is seconds of freshness left, negative when stale.
    `detail` is "disk", "stale", "local", or the name of the policy's rule that said never.
    """

    hit: bool
    fwd: str | None = None
    stored: bool | None = None
    collapsed: bool = False
    stored_at: float | None = None
    ttl: float | None = None
    detail: str | None = None


class Hit(Struct, frozen=True):
    """Bytes that were at hand: exactly one piece a span, in order."""

    pieces: tuple[bytes | memoryview, ...]
    note: Note


class Reading:
    """An open look-up. Ask for the spans in their order, each once, and leave with `aclose`. It holds the slice being read and the next one, no more; none at all
    between two pieces while readers hold too much together."""

    note: Note

    def __init__(self, slices: Slices, wanted: Wanted, spans: tuple[ByteRange, ...]) -> None:
        self.note = Note(False, "miss")
        self.joined = False
        self._slices = slices
        self._wanted = wanted
        self._spans = spans
        self._open: AsyncGenerator[bytes | memoryview, None] | None = None
        self._held: dict[int, Entry | Fill] = {}

    def span(self, number: int) -> AsyncIterator[bytes | memoryview]:
        """The bytes of `spans[number]`, in pieces as they arrive. Raises: what the storage raises."""
        self._open = self._read(number)
        return self._open

    async def aclose(self) -> None:
        """Stop waiting for whatever is still on its way. For the task that reads."""
        if self._open is not None:
            await self._open.aclose()
        self._let_go(set())

    async def _read(self, number: int) -> AsyncGenerator[bytes | memoryview, None]:
        span = self._spans[number]
        size = self._slices.size
        last = (span.stop - 1) // size
        for cut in cuts(span, size):
            while cut.start < cut.stop and self._slices.lent.crowded:
                copied = await self._copied(cut)
                cut = cut._replace(start=cut.start + len(copied))
                yield copied
            if cut.start == cut.stop:
                continue
            source = self.hold(cut)
            ahead = cut.number + 1
            if ahead <= last:
                self._take(ahead)  # so that the next slice is on its way while this one is read
            self._let_go({cut.number, ahead})
            if isinstance(source, Fill):
                async with aclosing(source.read(cut.start, cut.stop)) as arriving:
                    async for piece in arriving:
                        yield piece
            else:
                for piece in pieces(source.body, cut.start, cut.stop):
                    yield piece

    async def _copied(self, cut: Cut) -> bytes:
        """The next piece of a slice, which is let go of where a tier or a fill has it when the client has taken this."""
        source = self.hold(cut)
        stop = min(cut.stop, cut.start + PIECE)
        if isinstance(source, Fill):
            async with aclosing(source.read(cut.start, stop)) as arriving:
                piece = bytes(await anext(arriving))
            self._let_go(set() if source.admission.tiers else {cut.number})
        else:
            piece = source.body[cut.start : stop]
            self._let_go(set())
        return piece

    def hold(self, cut: Cut) -> Entry | Fill:
        """The source of a cut's slice."""
        return self._take(cut.number)

    def _take(self, number: int) -> Entry | Fill:
        source = self._held.get(number)
        if source is None:
            source, self.joined = self._slices.find(self._wanted, number)
            if isinstance(source, Fill):
                source.readers += 1
            self._slices.lent.take(source)
            self._held[number] = source
        return source

    def _let_go(self, needed: set[int]) -> None:
        for number in [number for number in self._held if number not in needed]:
            source = self._held.pop(number)
            self._slices.lent.give_back(source)
            if isinstance(source, Fill):
                self._slices.fills.leave(self._wanted.key(number), source)


async def open_reading(slices: Slices, wanted: Wanted, spans: tuple[ByteRange, ...], now: float) -> Reading:
    """Return when the first bytes of the first span are at hand, with the note of how. Raises: what the storage raises before that."""
    reading = Reading(slices, wanted, spans)
    if not spans:
        return reading
    cut = next(cuts(spans[0], slices.size))
    source = reading.hold(cut)
    if isinstance(source, Entry):
        reading.note = note_of_entry(source, now)
        return reading
    joined = reading.joined
    try:
        await source.reached(cut.start)
    except BaseException:
        await reading.aclose()
        raise
    reading.note = _note_of_fill(source, wanted, joined, now)
    return reading


def note_of_entry(entry: Entry, now: float, detail: str | None = None) -> Note:
    """The note of a copy that was at hand; `detail` is said of a fresh one."""
    left = entry.stored + entry.ttl - now
    return Note(True, None, None, False, entry.stored, left, detail if left > 0 else "stale")


def _note_of_fill(fill: Fill, wanted: Wanted, joined: bool, now: float) -> Note:
    if fill.entry is not None:
        now = max(now, fill.entry.stored)  # asked while it was still on its way: nothing is fresh for longer than its ttl
    if fill.source is Source.DISK and fill.entry is not None:
        return note_of_entry(fill.entry, now, "disk")
    forward = "stale" if fill.outdated else "miss"
    collapsed = joined or fill.source is Source.NEIGHBOUR
    admission = fill.admission
    if not admission.tiers:
        return Note(False, forward, False, collapsed, None, None, admission.rule)
    stored_at = now if fill.entry is None else fill.entry.stored
    return Note(False, forward, True, collapsed, stored_at, stored_at + admission.ttl - now)
