"""What becomes true with a job's transition: its parent finds itself due, its units end or begin again, and the media that requires it has another status."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import and_, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mediacdn.catalog.changes import append
from mediacdn.catalog.tables import jobs, media
from mediacdn.model import Change, Job, JobState, State, Status

OVER = (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)
SEEN = {"revision": jobs.c.revision + 1}
TAKEN = {"fence": jobs.c.fence + 1, "lease_until": None, **SEEN}
"""Of every transition: whoever held the job holds it no more."""


async def settle(connection: AsyncConnection, moved: Sequence[Job], now: datetime) -> list[Change]:
    """Tell a parent of its units, units of their parent, and media of their required jobs.

    Locks are taken upwards, from a unit to its parent. A parent that looks while one of its units is ending has its lock waited for: it has either seen that
    unit's row as it is now, or finds itself due.
    """
    for parent in sorted({job.parent for job in moved if job.parent is not None and job.state in OVER}):
        await connection.execute(select(jobs.c.id).where(jobs.c.id == parent).with_for_update())
        waits = and_(jobs.c.id == parent, jobs.c.state == JobState.PENDING.value, jobs.c.run_at > now)
        await connection.execute(update(jobs).where(waits).values(run_at=now))
    for job in moved:
        if job.division is None or job.state is JobState.PROCESSING:
            continue
        own = jobs.c.parent == job.id
        if job.state is JobState.PENDING and job.attempts == 0:  # it starts again, and so do those that had failed
            await connection.execute(delete(jobs).where(own, jobs.c.state.in_([state.value for state in OVER])))
        elif job.state is JobState.COMPLETED:
            await connection.execute(delete(jobs).where(own))
        elif job.state in OVER:
            going = jobs.c.state.in_((JobState.PENDING.value, JobState.PROCESSING.value))
            ended = {"state": JobState.CANCELLED.value, "ended_at": now, **TAKEN}
            await connection.execute(update(jobs).where(own, going).values(ended))
    return await judge(connection, moved, now)


async def judge(connection: AsyncConnection, moved: Sequence[Job], now: datetime) -> list[Change]:
    """Bring the status of media whose required jobs moved to what these jobs now say."""
    touched = []
    for media_id in sorted({job.media_id for job in moved if job.required and job.media_id is not None}):
        rows = await connection.execute(
            select(jobs.c.state, jobs.c.started_at, jobs.c.error_message).where(jobs.c.media_id == media_id, jobs.c.required)
        )
        status, message = _status([(JobState(state), begun is not None, error) for state, begun, error in rows])
        here = and_(media.c.id == media_id, media.c.state != State.DELETED.value, media.c.status != status.value)
        values = {"status": status.value, "error_message": message, "updated_at": now, "version": media.c.version + 1}
        if (await connection.execute(update(media).where(here).values(values))).rowcount:
            touched.append(media_id)
    return await append(connection, touched, now)


def _status(required: Sequence[tuple[JobState, bool, str | None]]) -> tuple[Status, str | None]:
    """What a media's required jobs make of its status."""
    states = [state for state, _, _ in required]
    for state in (JobState.FAILED, JobState.CANCELLED):
        if state in states:
            message = next((error for each, _, error in required if each is state and error), None)
            return Status.FAILED, message or f"A required job has ended as {state.value}"
    if all(state is JobState.COMPLETED for state in states):
        return Status.READY, None
    begun = any(begun for _, begun, _ in required)
    return (Status.PROCESSING if begun else Status.UPLOADED), None
