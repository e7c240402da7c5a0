"""Moves that an administrator asks a server for: a job of their own, which a worker does and takes up again after a crash."""

from collections.abc import Callable, Sequence
from typing import Any

from mediacdn.catalog.selection import selection
from mediacdn.errors import ObjectCorrupt
from mediacdn.jobs.runner import Running
from mediacdn.model import NewJob
from mediacdn.storage.transfer import Throttle
from mediacdn.upkeep.moving import Mover

KIND = "move"
LANE = "imports"
ATTEMPTS = 8


def move_job(to: str, where: Sequence[str], rate: int, new_id: Callable[[], str], *, by: str | None) -> NewJob:
    """The job of one move; the same wish is the same job. Raises: InvalidParameter, for what is no condition."""
    selection(where)
    conditions = sorted(each.strip() for each in where)
    return NewJob(
        id=new_id(),
        kind=KIND,
        lane=LANE,
        arguments={"to": to, "where": conditions, "rate": rate},
        fingerprint=":".join((KIND, to, *conditions)),
        max_attempts=ATTEMPTS,
        created_by=by,
    )


class MoveWork:
    """Does a job of KIND."""

    def __init__(self, mover: Mover) -> None:
        self._mover = mover

    async def __call__(self, running: Running) -> None:
        arguments: dict[str, Any] = running.job.arguments
        chosen, to = selection(arguments["where"]), str(arguments["to"])
        total = sum([each.stored.size async for each in self._mover.each(chosen, to, dry_run=True)])
        done = failed = 0
        async for each in self._mover.each(chosen, to, throttle=Throttle(float(arguments["rate"]))):
            done += each.stored.size
            failed += each.error is not None
            if total:
                running.progress(done / total)
        if failed:
            raise ObjectCorrupt(f"{failed} objects are damaged or missing and stay where they are; the log and `mediacdn scrub` name them")
