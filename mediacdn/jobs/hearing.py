"""Hearing what a broker rings for in one lane, through its outages: while it cannot be heard, it is tried again with growing, scattered pauses."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from random import Random

import structlog

from mediacdn.errors import MediaError
from mediacdn.interfaces import Broker
from mediacdn.jobs.backoff import pause
from mediacdn.model import Ring

FIRST, MOST = 0.2, 5.0
ANSWER_WITHIN = 1.0

log = structlog.get_logger("mediacdn.jobs")


class Hearing:
    """One lane's ear. `deaf` says that nothing can be heard now, as before the first word. Nothing here raises."""

    def __init__(self, broker: Broker, lane: str) -> None:
        self.deaf = True
        self._broker = broker
        self._lane = lane
        self._rings: AsyncIterator[Ring | None] | None = None
        self._next: asyncio.Task[Ring | None] | None = None
        self._failures = 0
        self._again = 0.0
        self._random = Random()  # noqa: S311 - it spreads load, it keeps no secret

    async def wait(self, seconds: float) -> tuple[bool, Ring | None]:
        """Wait for the next ring, so long at most: whether anything came, and the ring, None when some may have been missed."""
        if self._next is None and (early := self._again - time.monotonic()) > 0:
            await asyncio.sleep(min(early, seconds))
            return False, None
        if self._next is None:
            self._next = asyncio.ensure_future(self._one())
        # Not cancelled when the time is up: a ring that is just arriving would be lost with the connection.
        await asyncio.wait({self._next}, timeout=seconds)
        return await self._taken()

    async def pass_over(self) -> None:
        """Answer a ring that is there, unheard: the table says the same, and in the right order."""
        if self._next is not None and self._next.done() and (ring := (await self._taken())[1]) is not None:
            await self.answer(ring)
        if self._next is None and time.monotonic() >= self._again:
            self._next = asyncio.ensure_future(self._one())

    async def answer(self, ring: Ring) -> None:
        """Tell the broker that a ring was seen to; what it does not hear it rings for again, which does no harm."""
        with suppress(Exception):
            async with asyncio.timeout(ANSWER_WITHIN):
                await ring.seen_to()

    async def close(self) -> None:
        if self._next is not None:
            self._next.cancel()
            await asyncio.wait({self._next})
            self._next = None
        await self._hang_up()

    async def _one(self) -> Ring | None:
        if self._rings is None:
            self._rings = self._broker.listen(self._lane)
        return await anext(self._rings)

    async def _taken(self) -> tuple[bool, Ring | None]:
        if self._next is None or not self._next.done():
            return False, None
        task, self._next = self._next, None
        try:
            ring = task.result()
        except Exception as error:
            await self._failed(error)
            return False, None
        if self.deaf and self._failures:
            log.info("jobs are heard of again", lane=self._lane)
        self.deaf, self._failures = False, 0
        return True, ring

    async def _failed(self, error: Exception) -> None:
        if not self._failures:
            expected = isinstance(error, MediaError | StopAsyncIteration)
            log.warning("jobs are not heard of", lane=self._lane, error=str(error), exc_info=None if expected else error)
        self.deaf = True
        self._failures += 1
        self._again = time.monotonic() + pause(self._failures, FIRST, MOST, self._random)
        await self._hang_up()

    async def _hang_up(self) -> None:
        rings, self._rings = self._rings, None
        if isinstance(rings, AsyncGenerator):
            with suppress(Exception):
                await rings.aclose()
