"""The doorbell of a lane, as taskiq hears it: messages are ids of jobs that are due, by the table and, sooner, by a broker. To ring twice or not at all does no harm.

What a message says is looked up in the table, which alone decides. Without a broker, and while it is away, the table is looked at often; beside one, seldom.
"""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial

import anyio
import structlog
from taskiq import AckableMessage, AsyncBroker, BrokerMessage, TaskiqMessage

from mediacdn.catalog.leases import LeaseRows
from mediacdn.errors import MediaError
from mediacdn.interfaces import Broker
from mediacdn.jobs.hearing import Hearing
from mediacdn.model import Ring

TASK = "job"
"""The one task that our brokers know: run the job of this id."""
AHEAD = 8
"""Jobs named in one look at the table; what comes later and matters more waits behind so many at most, and only while they are short."""
STALE = 1.0
"""Seconds after which a look at the table is forgotten: where jobs are long, the next is who matters most by then."""

log = structlog.get_logger("mediacdn.jobs")


class Bell(AsyncBroker):
    """Rings for one lane, looking every `every` seconds while nothing is due; every `beside` seconds as long as `broker` can be heard."""

    def __init__(self, rows: LeaseRows, lane: str, every: float, broker: Broker | None = None, beside: float | None = None) -> None:
        super().__init__()
        self.is_worker_process = True
        self._rows = rows
        self._lane = lane
        self._every = every
        self._beside = every if beside is None else max(beside, every)
        self._hearing = Hearing(broker, lane) if broker is not None else None
        self._rung: set[str] = set()
        self._silent = False

    async def kick(self, message: BrokerMessage) -> None:
        """Nothing to carry: the row is there."""

    async def listen(self) -> AsyncGenerator[bytes | AckableMessage, None]:
        """Name each due job once, until it is acknowledged."""
        try:
            while True:
                looked = time.monotonic()
                due = await self._due()
                for each in due:
                    if time.monotonic() > looked + STALE:
                        break
                    yield self._message(each, partial(self._rung.discard, each))
                    if self._hearing is not None:
                        await self._hearing.pass_over()
                if len(due) == AHEAD or time.monotonic() > looked + max(STALE, self._pace):
                    continue
                while (left := looked + self._pace - time.monotonic()) > 0:
                    if self._hearing is None:
                        await anyio.sleep(left)
                        continue
                    came, ring = await self._hearing.wait(left)  # also over when the broker goes away, and with it the pace changes
                    if came and ring is None:
                        break
                    if ring is not None and ring.job in self._rung:
                        await self._hearing.answer(ring)
                    elif ring is not None:
                        yield self._message(ring.job, partial(self._answered, self._hearing, ring))
        finally:
            if self._hearing is not None:
                with anyio.CancelScope(shield=True), anyio.move_on_after(2):
                    await self._hearing.close()

    @property
    def _pace(self) -> float:
        return self._every if self._hearing is None or self._hearing.deaf else self._beside

    async def _due(self) -> list[str]:
        try:
            due = await self._rows.due(self._lane, AHEAD, self._rung)
        except MediaError as error:
            if not self._silent:
                log.warning("jobs cannot be looked for", lane=self._lane, error=error.detail)
            self._silent = True
            return []
        self._silent = False
        return due

    async def _answered(self, hearing: Hearing, ring: Ring) -> None:
        self._rung.discard(ring.job)
        await hearing.answer(ring)

    def _message(self, id: str, ack: Callable[[], Awaitable[None] | None]) -> AckableMessage:
        self._rung.add(id)
        data = self.formatter.dumps(TaskiqMessage(task_id=id, task_name=TASK, labels={}, args=[id], kwargs={})).message
        return AckableMessage(data=data, ack=ack)
