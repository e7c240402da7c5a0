"""Ringing for jobs that were committed: handed to the broker from a task of its own, so that no upload waits for it or fails of it.

What is not rung for, because the broker is away or too slow, workers find by their own look at the table.
"""

import asyncio
from collections.abc import Iterable

import structlog

from mediacdn.errors import MediaError
from mediacdn.interfaces import Broker
from mediacdn.model import Job, NewJob

WAITING = 1000
"""Jobs that wait for a slow broker before the next are left to the workers' own look."""

WITHIN = 2.0
PAUSE = 0.5
"""Seconds in which nothing is rung for after a failure: what waits meanwhile is dropped."""

log = structlog.get_logger("mediacdn.jobs")


class Rings:
    """Call it with jobs that are committed, on the event loop; `follow` does the ringing. Without a broker both do nothing."""

    def __init__(self, broker: Broker | None) -> None:
        self._broker = broker
        self._waiting: asyncio.Queue[tuple[str, str]] = asyncio.Queue(WAITING)

    def __call__(self, jobs: Iterable[NewJob | Job]) -> None:
        """Ring for jobs soon, or not at all. Never waits, never raises."""
        if self._broker is not None:
            for each in jobs:
                if not self._waiting.full():
                    self._waiting.put_nowait((each.lane, each.id))

    async def follow(self) -> None:
        """Ring until cancelled."""
        if self._broker is None:
            return
        silent = False
        while True:
            lane, job = await self._waiting.get()
            try:
                async with asyncio.timeout(WITHIN):
                    await self._broker.ring(lane, job)
            except Exception as error:
                if not silent:
                    expected = isinstance(error, MediaError | TimeoutError)
                    log.warning("jobs are not rung for", error=str(error) or type(error).__name__, exc_info=None if expected else error)
                silent = True
                await asyncio.sleep(PAUSE)
                while not self._waiting.empty():
                    self._waiting.get_nowait()
            else:
                if silent:
                    log.info("jobs are rung for again")
                silent = False
