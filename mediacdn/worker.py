"""The loop of the worker process: chores that come round, each in its own time; one that fails is told and tried again."""

from collections.abc import Awaitable, Callable, Mapping

import anyio
import structlog
from msgspec import Struct

log = structlog.get_logger("mediacdn.worker")


class Chore(Struct, frozen=True):
    """Work that comes round: `run` every `every` seconds."""

    every: float
    run: Callable[[], Awaitable[None]]


async def work(chores: Mapping[str, Chore]) -> None:
    """Run all chores until cancelled."""
    async with anyio.create_task_group() as group:
        for name, chore in chores.items():
            group.start_soon(_turns, name, chore)


async def _turns(name: str, chore: Chore) -> None:
    while True:
        try:
            await chore.run()
        except Exception as error:
            log.warning("chore failed", chore=name, error=str(error), exc_info=not hasattr(error, "code"))
        await anyio.sleep(chore.every)
