"""A broker in memory, for tests of what stands above the seam: several ends in one event loop, and the faults that a real one has."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator

from mediacdn.errors import Unavailable
from mediacdn.model import Ring


class MemoryBroker:
    """One end; `peer` gives another of the same medium. Of the medium: `down` refuses and forgets, `losing` takes rings and tells nobody, `repeating` rings twice."""

    def __init__(self) -> None:
        self._medium = _Medium()

    def peer(self) -> "MemoryBroker":
        """Another end: what one rings for, one of all listeners hears."""
        other = MemoryBroker()
        other._medium = self._medium
        return other

    @property
    def down(self) -> bool:
        return self._medium.down.is_set()

    @down.setter
    def down(self, down: bool) -> None:
        if down:
            self._medium.down.set()
            self._medium.lanes.clear()
        else:
            self._medium.down.clear()

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

    async def ring(self, lane: str, job: str) -> None:
        await asyncio.sleep(0)
        if self.down:
            raise Unavailable("The broker is down")
        if not self.losing:
            for _ in range(2 if self.repeating else 1):
                self._medium.lanes[lane].put_nowait(job)

    async def listen(self, lane: str) -> AsyncGenerator[Ring | None, None]:
        medium = self._medium
        if self.down:
            raise Unavailable("The broker is down")
        yield None
        while True:
            one = asyncio.ensure_future(medium.lanes[lane].get())
            away = asyncio.ensure_future(medium.down.wait())
            try:
                await asyncio.wait({one, away}, return_when=asyncio.FIRST_COMPLETED)
                if away.done():
                    raise Unavailable("The broker is down")
                job = one.result()
            finally:
                one.cancel()
                away.cancel()
            yield Ring(job, _nothing)


async def _nothing() -> None:
    pass


class _Medium:
    def __init__(self) -> None:
        self.lanes: defaultdict[str, asyncio.Queue[str]] = defaultdict(asyncio.Queue)
        self.down = asyncio.Event()
        self.losing = False
        self.repeating = False
