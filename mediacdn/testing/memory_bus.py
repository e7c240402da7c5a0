"""A bus in memory, for tests of what stands above the seam: several ends in one event loop, and the faults that a real one has."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from mediacdn.errors import Unavailable
from mediacdn.model import Change


class MemoryBus:
    """One end; `peer` gives another of the same medium.

    Of the medium, and so of all its ends: `down` refuses publications and loses what is not yet heard, `losing` takes them and tells nobody,
    `repeating` tells everything twice, and backwards.
    """

    def __init__(self) -> None:
        self._medium = _Medium()

    def peer(self) -> "MemoryBus":
        """Another end: what one publishes, all hear, itself included."""
        other = MemoryBus()
        other._medium = self._medium
        return other

    @property
    def down(self) -> bool:
        return self._medium.down

    @down.setter
    def down(self, down: bool) -> None:
        self._medium.down = down
        if down:
            for listener in self._medium.listeners:
                while not listener.empty():
                    listener.get_nowait()

    @property
    def losing(self) -> bool:
        return self._medium.losing

    @losing.setter
    def losing(self, losing: bool) -> None:
        self._medium.losing = losing

    @property
    def repeating(self) -> bool:
        return self._medium.repeating

    @repeating.setter
    def repeating(self, repeating: bool) -> None:
        self._medium.repeating = repeating

    async def publish(self, changes: Sequence[Change]) -> None:
        await asyncio.sleep(0)
        medium = self._medium
        if medium.down:
            raise Unavailable("The bus is down")
        if medium.losing or not changes:
            return
        told = [tuple(reversed(changes))] * 2 if medium.repeating else [tuple(changes)]
        for listener in medium.listeners:
            for each in told:
                if not listener.full():  # who does not listen loses, and the publisher does not wait
                    listener.put_nowait(each)

    async def listen(self) -> AsyncIterator[Sequence[Change]]:
        listener: asyncio.Queue[Sequence[Change]] = asyncio.Queue(1000)
        self._medium.listeners.add(listener)
        try:
            while True:
                yield await listener.get()
        finally:
            self._medium.listeners.discard(listener)


class _Medium:
    def __init__(self) -> None:
        self.listeners: set[asyncio.Queue[Sequence[Change]]] = set()
        self.down = False
        self.losing = False
        self.repeating = False
