"""Calls to the caches in front, planned in the transaction of what made their copies untrue: with its commit they are as durable as it is."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from mediacdn.catalog.jobs import plan
from mediacdn.config import PURGES, Purge
from mediacdn.model import NewJob
from mediacdn.ulids import Ulids

ATTEMPTS = 10_000
"""Weeks of them: a call that is given up would leave what was withheld in a public cache."""


class Outward:
    """Plans a job for each of the configured `purges`, and one more after its `again_after`."""

    def __init__(self, purges: Sequence[Purge] = ()) -> None:
        self._purges = purges
        self._new_id = Ulids()

    async def plan(self, connection: AsyncConnection, ids: Sequence[str] | None, now: datetime) -> None:
        """Have the caches in front forget these media; None is all of them."""
        if ids is not None and not ids:
            return
        await plan(connection, [self._job(each, ids, at) for each in self._purges for at in _times(each, now)], now)

    def _job(self, purge: Purge, ids: Sequence[str] | None, at: datetime) -> NewJob:
        arguments: dict[str, Any] = {} if ids is None else {"ids": list(ids)}
        media_id = ids[0] if ids is not None and len(ids) == 1 else None
        return NewJob(
            id=self._new_id(),
            kind=PURGES,
            lane=PURGES,
            media_id=media_id,
            code=purge.name,
            arguments=arguments,
            max_attempts=ATTEMPTS,
            run_at=at,
        )


def _times(purge: Purge, now: datetime) -> list[datetime]:
    return [now, now + timedelta(seconds=purge.again_after)] if purge.again_after else [now]
