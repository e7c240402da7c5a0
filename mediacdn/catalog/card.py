"""The cards kept in this process: what delivery knows of a media without asking the catalog.

Each is kept with its counter in the node's shared table, read before its load began, and is here only as long as that counter has not moved:
whoever changes a media commits, then moves its counter, then says so. Which table that is, it is told.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from mediacdn.model import Card

UNKNOWN_KEPT = 4096


class Stamps(Protocol):
    """The shared counters: `words[slot(id)]` moves with every change of that media. `words` may become another object, whose counters differ from the old."""

    @property
    def words(self) -> Sequence[int]: ...

    def slot(self, media_id: str, /) -> int: ...


class CardCache:
    """At most `size` cards, the least recently used leaving first (uses count from half the size on). One loop's; no locks are needed because nothing here awaits half-way.

    `negative_ttl` is how many seconds an id without a media is remembered: long enough to blunt a flood of guesses, short enough not to hide a new
    media, whose upload moves no counter.
    """

    def __init__(self, load: Callable[[str], Awaitable[Card | None]], size: int, stamps: Stamps, negative_ttl: float = 1.0) -> None:
        self._load = load
        self._size = size
        self._stamps = stamps
        self._negative_ttl = negative_ttl
        self._kept: OrderedDict[str, tuple[Card, int, int]] = OrderedDict()
        self._unknown: OrderedDict[str, tuple[float, int, int]] = OrderedDict()
        self._loading: dict[str, tuple[asyncio.Task[Card | None], int, int]] = {}

    def peek(self, id: str) -> Card | None:
        """Tell the card if it is here and true; None also when nothing is known yet."""
        kept = self._kept.get(id)
        if kept is None or self._stamps.words[kept[1]] != kept[2]:
            return None
        if len(self._kept) * 2 > self._size:  # before that nothing leaves for long, and to move costs more than to look
            self._kept.move_to_end(id)
        return kept[0]

    async def get(self, id: str) -> Card | None:
        """Tell the card, loading it at most once for all who ask meanwhile; None when there is no such media. Raises: what the load raises, to all of them."""
        if (card := self.peek(id)) is not None:
            return card
        slot = self._stamps.slot(id)
        stamp = self._stamps.words[slot]
        if (unknown := self._unknown.get(id)) is not None:
            if time.monotonic() < unknown[0] and unknown[1:] == (slot, stamp):
                return None
            del self._unknown[id]
        loading = self._loading.get(id)
        if loading is None or loading[1:] != (
            slot,
            stamp,
        ):  # one that began before the change may tell those who asked before it, and nobody else
            # A task of its own: the first to ask may be cancelled, and the others still want the card.
            loading = self._loading[id] = asyncio.create_task(self._fetch(id, slot, stamp)), slot, stamp
            loading[0].add_done_callback(_hear)
        return await asyncio.shield(loading[0])

    def forget(self, id: str) -> Card | None:
        """Let go of a card, true or not, and tell what it was; for making room only."""
        kept = self._kept.pop(id, None)
        return None if kept is None else kept[0]

    async def _fetch(self, id: str, slot: int, stamp: int) -> Card | None:
        task = asyncio.current_task()
        try:
            card = await self._load(id)
            if self._stamps.words[slot] == stamp:
                self._keep(id, card, slot, stamp)
            return card
        finally:
            if (loading := self._loading.get(id)) is not None and loading[0] is task:
                del self._loading[id]

    def _keep(self, id: str, card: Card | None, slot: int, stamp: int) -> None:
        if card is None:
            self._unknown[id] = time.monotonic() + self._negative_ttl, slot, stamp
            self._unknown.move_to_end(id)
            if len(self._unknown) > UNKNOWN_KEPT:
                self._unknown.popitem(last=False)
            return
        self._kept[id] = card, slot, stamp
        self._kept.move_to_end(id)
        if len(self._kept) > self._size:
            self._kept.popitem(last=False)


def _hear(task: asyncio.Task[Card | None]) -> None:
    # Everyone who asked may be gone by now; an unheard exception would be reported as a mistake.
    if not task.cancelled():
        task.exception()
