"""The cards kept in this process: what delivery knows of a media without asking the catalog. It answers for never keeping a card older than the last `drop`."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from mediacdn.model import Card

UNKNOWN_FOR = 1.0
"""Seconds that an id without a media is remembered: long enough to blunt a flood of guesses, short enough not to hide a new media."""

UNKNOWN_KEPT = 4096


class CardCache:
    """At most `size` cards, the least recently used leaving first. One loop's; no locks are needed because nothing here awaits half-way."""

    def __init__(self, load: Callable[[str], Awaitable[Card | None]], size: int) -> None:
        self._load = load
        self._size = size
        self._cards: OrderedDict[str, Card] = OrderedDict()
        self._unknown: OrderedDict[str, float] = OrderedDict()
        self._loading: dict[str, asyncio.Task[Card | None]] = {}

    def peek(self, id: str) -> Card | None:
        """Tell the card if it is here; None also when nothing is known yet."""
        card = self._cards.get(id)
        if card is not None:
            self._cards.move_to_end(id)
        return card

    async def get(self, id: str) -> Card | None:
        """Tell the card, loading it at most once for all who ask meanwhile; None when there is no such media. Raises: what the load raises, to all of them."""
        if (card := self.peek(id)) is not None:
            return card
        if (until := self._unknown.get(id)) is not None:
            if time.monotonic() < until:
                return None
            del self._unknown[id]
        task = self._loading.get(id)
        if task is None:
            # A task of its own: the first to ask may be cancelled, and the others still want the card.
            task = self._loading[id] = asyncio.create_task(self._fetch(id))
            task.add_done_callback(_hear)
        return await asyncio.shield(task)

    def drop(self, id: str) -> None:
        """Forget a card, after the commit that changed it: a load that began before answers those who wait for it, and is not kept."""
        self._cards.pop(id, None)
        self._unknown.pop(id, None)
        self._loading.pop(id, None)

    async def _fetch(self, id: str) -> Card | None:
        task = asyncio.current_task()
        try:
            card = await self._load(id)
            if self._loading.get(id) is task:
                self._keep(id, card)
            return card
        finally:
            if self._loading.get(id) is task:
                del self._loading[id]

    def _keep(self, id: str, card: Card | None) -> None:
        if card is None:
            self._unknown[id] = time.monotonic() + UNKNOWN_FOR
            if len(self._unknown) > UNKNOWN_KEPT:
                self._unknown.popitem(last=False)
            return
        self._cards[id] = card
        if len(self._cards) > self._size:
            self._cards.popitem(last=False)


def _hear(task: asyncio.Task[Card | None]) -> None:
    # Everyone who asked may be gone by now; an unheard exception would be reported as a mistake.
    if not task.cancelled():
        task.exception()
