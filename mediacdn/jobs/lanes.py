"""Lanes: each has its own bell, receiver and number of jobs at once, so that what takes long in one delays nothing in another."""

import asyncio
from collections.abc import Callable, Mapping

import anyio
from taskiq import AsyncBroker
from taskiq.acks import AcknowledgeType
from taskiq.receiver import Receiver

from mediacdn.jobs.bell import TASK
from mediacdn.jobs.runner import Runner


async def work_lanes(
    lanes: Mapping[str, int], bell: Callable[[str], AsyncBroker], runner: Runner, ending: asyncio.Event, grace: float
) -> None:
    """Run what `bell(lane)` rings for, up to so many at once a lane, until `ending` is set; what runs then has `grace` seconds, and is given back."""
    async with anyio.create_task_group() as group:
        group.start_soon(runner.beat)
        async with anyio.create_task_group() as receiving:
            for lane, at_once in lanes.items():
                receiving.start_soon(_receive, bell(lane), at_once, runner, ending, grace + 10)
            await ending.wait()
            await runner.end(grace)
        group.cancel_scope.cancel()


async def _receive(broker: AsyncBroker, at_once: int, runner: Runner, ending: asyncio.Event, patience: float) -> None:
    async def job(id: str) -> None:
        await runner.run(id)

    broker.register_task(job, task_name=TASK)
    receiver = Receiver(
        broker, max_async_tasks=at_once, run_startup=True, ack_type=AcknowledgeType.WHEN_EXECUTED, wait_tasks_timeout=patience
    )
    try:
        await receiver.listen(ending)
    finally:
        await broker.shutdown()
