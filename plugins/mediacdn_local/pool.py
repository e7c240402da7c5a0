"""Threads of the driver's own for blocking file work, so that uploads waiting for a disk never take the threads that reads need."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

import anyio

from mediacdn import MediaError
from mediacdn_local.faults import translated

P = ParamSpec("P")
T = TypeVar("T")

PATIENCE = 5.0
"""Seconds for which a cancelled or failed caller waits for its clean-up; a disk that hangs longer finishes it in the background."""


class Pool:
    """Runs blocking calls. A call that was started always runs to its end: cancellation reaches the waiting task, never the thread."""

    def __init__(self, name: str, threads: int, begin: Callable[[], None] | None = None) -> None:
        """`begin` is what each thread does first."""
        self._executor = ThreadPoolExecutor(threads, name, begin)
        self._cleanups: set[asyncio.Task[None]] = set()

    def start(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Begin the call; OSError comes out as the seam's errors. Await it through `asyncio.shield` where the thread's end must stay visible."""
        return asyncio.get_running_loop().run_in_executor(self._executor, lambda: translated(call, *args, **kwargs))

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.shield(self.start(call, *args, **kwargs))

    def clean_later(self, after: asyncio.Future[Any], call: Callable[[], None]) -> asyncio.Task[None]:
        """Run `call` once the call in flight has ended, whoever is cancelled meanwhile."""
        # A task of its own: a second cancellation of the caller must not lose the clean-up.
        cleanup = asyncio.get_running_loop().create_task(self._clean(after, call))
        self._cleanups.add(cleanup)
        cleanup.add_done_callback(self._cleanups.discard)
        return cleanup

    async def clean(self, after: asyncio.Future[Any], call: Callable[[], None]) -> None:
        """Do `clean_later` and wait for it, at most PATIENCE seconds."""
        with anyio.move_on_after(PATIENCE, shield=True):
            await asyncio.wait([self.clean_later(after, call)])

    async def _clean(self, after: asyncio.Future[Any], call: Callable[[], None]) -> None:
        await asyncio.wait([after])
        after.exception()  # retrieved: the caller has an error of its own to tell
        with suppress(MediaError):  # what a failing disk leaves behind is swept at the next start
            await self.start(call)

    async def close(self) -> None:
        """Wait for what runs, at most PATIENCE seconds, and let the threads go."""
        with anyio.move_on_after(PATIENCE, shield=True):
            if self._cleanups:
                await asyncio.wait(self._cleanups)
            await asyncio.to_thread(self._executor.shutdown)
        self._executor.shutdown(wait=False)
