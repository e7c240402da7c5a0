"""The table as a doorbell: a taskiq broker whose messages are the ids of jobs that are due. It carries nothing and keeps nothing; to ring twice or not at all does no harm.

Any other broker may ring in its place: what a message says is looked up in the table, which alone decides.
"""

from collections.abc import AsyncGenerator
from functools import partial

import anyio
import structlog
from taskiq import AckableMessage, AsyncBroker, BrokerMessage, TaskiqMessage

from mediacdn.catalog.jobs import JobRows
from mediacdn.errors import MediaError

TASK = "job"
"""The one task that our brokers know: run the job of this id."""
AHEAD = 8
"""Jobs named in one look at the table; what comes later and matters more waits behind so many at most."""

log = structlog.get_logger("mediacdn.jobs")


class TableBell(AsyncBroker):
    """Rings for one lane, looking every `every` seconds while nothing is due."""

    def __init__(self, rows: JobRows, lane: str, every: float) -> None:
        super().__init__()
        self.is_worker_process = True
        self._rows = rows
        self._lane = lane
        self._every = every
        self._rung: set[str] = set()

    async def kick(self, message: BrokerMessage) -> None:
        """Nothing to carry: the row is there."""

    async def listen(self) -> AsyncGenerator[bytes | AckableMessage, None]:
        """Name each due job once, until it is acknowledged."""
        silent = False
        while True:
            due: list[str] = []
            try:
                due = await self._rows.due(self._lane, AHEAD, self._rung)
                silent = False
            except MediaError as error:
                if not silent:
                    log.warning("jobs cannot be looked for", lane=self._lane, error=error.detail)
                silent = True
            for each in due:
                self._rung.add(each)
                yield AckableMessage(data=self._message(each), ack=partial(self._rung.discard, each))
            if len(due) < AHEAD:
                await anyio.sleep(self._every)

    def _message(self, id: str) -> bytes:
        return self.formatter.dumps(TaskiqMessage(task_id=id, task_name=TASK, labels={}, args=[id], kwargs={})).message
