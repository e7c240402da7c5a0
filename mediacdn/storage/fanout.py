"""One stream written to several storages at once, at the pace of the slowest that is still waited for."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Mapping
from contextlib import aclosing

import anyio

from mediacdn.errors import StorageUnavailable
from mediacdn.model import ObjectInfo

AHEAD = 2
"""Chunks that a storage may be behind the stream."""

Put = Callable[[AsyncIterable[bytes]], Awaitable[ObjectInfo]]
Result = ObjectInfo | Exception


class LeftBehind(StorageUnavailable):
    """The put was stopped: because of another's failure, or because it was too slow."""


class _Lane:
    """A storage's end of the stream: what it is still to take, and its put."""

    def __init__(self, put: Put) -> None:
        self.waiting: asyncio.Queue[bytes | BaseException | None] = asyncio.Queue(AHEAD)
        self.task = asyncio.create_task(self._run(put))

    async def _run(self, put: Put) -> ObjectInfo:
        async with aclosing(self._chunks()) as chunks:
            return await put(chunks)

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        while (item := await self.waiting.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    async def give(self, item: bytes | BaseException | None, patience: float | None) -> bool:
        """Hand it an item. False when it has ended by itself, or takes nothing for so long."""
        if self.task.done():
            return False
        try:
            self.waiting.put_nowait(item)
        except asyncio.QueueFull:
            pass
        else:
            return True
        giving = asyncio.create_task(self.waiting.put(item))
        try:
            await asyncio.wait({giving, self.task}, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            return giving.done() and not self.task.done()
        finally:
            giving.cancel()

    async def stop(self) -> None:
        self.task.cancel()
        with anyio.CancelScope(
            shield=True
        ):  # a scope cancels again and again, and would leave the put to the collector in the middle of its work
            await asyncio.wait({self.task})

    def result(self) -> Result:
        if self.task.cancelled():
            return LeftBehind("The storage was too slow to take the bytes")
        error = self.task.exception()
        return self.task.result() if error is None else error if isinstance(error, Exception) else StorageUnavailable()


async def fan_out(chunks: AsyncIterable[bytes], puts: Mapping[str, Put], *, all_or_nothing: bool, patience: float) -> dict[str, Result]:
    """Feed every put with the stream; give how each ended, in the order of `puts`.

    With `all_or_nothing` the first that fails stops the others: they keep nothing, unless they were through already. Without, those that fail are left behind,
    as is one that takes nothing for `patience` seconds while another does, or that ends so much later than the first.
    What `chunks` raises goes on, and no storage keeps anything. So does a cancellation.
    """
    lanes = {name: _Lane(put) for name, put in puts.items()}
    try:
        living = dict(lanes)
        try:
            async for chunk in chunks:
                await _give(living, chunk, None if all_or_nothing else patience)
                if not living or (all_or_nothing and len(living) < len(lanes)):
                    break
            else:
                await _give(living, None, None if all_or_nothing else patience)
        except BaseException as error:
            await _abort(lanes, error)
            raise
        if all_or_nothing:
            await _all(lanes)
        else:
            await _any(lanes, patience)
        return {name: lane.result() for name, lane in lanes.items()}
    finally:
        for lane in lanes.values():
            if not lane.task.done():
                await lane.stop()
            elif not lane.task.cancelled():
                lane.task.exception()  # it was heard


async def _give(living: dict[str, _Lane], item: bytes | None, patience: float | None) -> None:
    for name in list(living):
        if not await living[name].give(item, patience if len(living) > 1 else None):
            await living.pop(name).stop()


async def _abort(lanes: Mapping[str, _Lane], error: BaseException) -> None:
    """Raise it in every put, as their stream's own; who does not hear it soon is cancelled."""
    if isinstance(error, Exception):
        for lane in lanes.values():
            await lane.give(error, 1.0)
        await asyncio.wait([lane.task for lane in lanes.values()], timeout=5.0)


async def _all(lanes: Mapping[str, _Lane]) -> None:
    waiting = {lane.task for lane in lanes.values()}
    while waiting:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if any(task.cancelled() or task.exception() is not None for task in done):
            for task in waiting:
                task.cancel()


async def _any(lanes: Mapping[str, _Lane], patience: float) -> None:
    waiting = {lane.task for lane in lanes.values()}
    durable = False
    while waiting:
        done, waiting = await asyncio.wait(waiting, timeout=patience if durable else None, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)
            return
        durable = durable or any(not task.cancelled() and task.exception() is None for task in done)
