"""What is still to be done after a failure: whoever was refused waits for it a little, since it may need the very part that is away; then it goes on behind the answer."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import anyio

PATIENCE = 0.2
"""Seconds that whoever was refused waits."""


class Tidying:
    """Work that outlives its callers, until this is closed."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    async def __call__(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin it and wait a little, whatever cancels the caller meanwhile."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        with anyio.CancelScope(shield=True):
            await asyncio.wait({task}, timeout=PATIENCE)

    def close(self) -> None:
        for each in self._running:
            each.cancel()
