"""Jobs: the table that is the truth of them, as those see it who ask for jobs and look at them. Every transition is one transaction, told by compare-and-set on state
and fence; required jobs move their media's status in it. Who runs them is leases.py's business, what a transition means for others standing.py's.

A job may be divided: it waits, and its units are jobs whose `parent` it is. Each one that ends makes it due, for whoever leases it to see what there is now; a unit
that has made what it should leaves no row. When the parent ends, its units end with it.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import ColumnElement, and_, bindparam, delete, func, insert, not_, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mediacdn.catalog.standing import TAKEN, settle
from mediacdn.catalog.tables import jobs
from mediacdn.catalog.transactions import Transactions
from mediacdn.errors import Conflict, NotFound, TooManyTasks
from mediacdn.interfaces import Clock
from mediacdn.model import Change, Division, Job, JobState, NewJob, StepRun

FIELDS = Job.__struct_fields__
COLUMNS = [jobs.c[name] for name in FIELDS]
REVISION = select(jobs.c.revision).where(jobs.c.id == bindparam("id"))


class Lane(Struct, frozen=True):
    """What waits in a lane, and how long the job that is due longest has waited, in seconds."""

    waiting: int
    running: int
    oldest: float


def job_of(row: Sequence[Any]) -> Job:
    """Read a row of COLUMNS."""
    values = dict(zip(FIELDS, row, strict=True))
    values["state"] = JobState(values["state"])
    values["steps"] = msgspec.convert(values["steps"], list[StepRun])
    values["division"] = values["division"] and msgspec.convert(values["division"], Division)
    return Job(**values)


def row_of(new: NewJob, now: datetime) -> dict[str, Any]:
    """A new job as it is inserted."""
    own = {name: getattr(new, name) for name in NewJob.__struct_fields__}
    fresh = {
        "state": JobState.PENDING.value,
        "attempts": 0,
        "run_at": new.run_at or now,
        "fence": 0,
        "revision": 1,
        "progress": 0.0,
        "steps": [],
    }
    return {**own, **fresh, "created_at": now}


async def plan(connection: AsyncConnection, new: Sequence[NewJob], now: datetime) -> None:
    """Record the jobs of a media that is being recorded in the same transaction."""
    if new:
        await connection.execute(insert(jobs), [row_of(each, now) for each in new])


_AGAIN = {
    "state": JobState.PENDING.value,
    "attempts": 0,
    "ended_at": None,
    "error_code": None,
    "error_message": None,
    "progress": 0.0,
    **TAKEN,
}


class JobRows:
    """Jobs by id. What moves a media's status gives the changes that say so, already committed."""

    def __init__(self, transactions: Transactions, clock: Clock) -> None:
        self._transactions = transactions
        self._clock = clock
        self._revision_words = transactions.words(REVISION)

    async def get(self, id: str) -> Job | None:
        """Read a job."""
        return await self._one(jobs.c.id == id)

    async def revision(self, id: str) -> int | None:
        """Read a job's revision alone, as those who watch it do several times a second."""
        row = await self._transactions.point(self._revision_words, id=id)
        return None if row is None else int(row[0])

    async def by_fingerprint(self, fingerprint: str) -> Job | None:
        """Read the one job of a fingerprint."""
        return await self._one(jobs.c.fingerprint == fingerprint)

    async def ask(self, new: NewJob, *, again: bool = False, most: int = 0) -> tuple[Job, bool, list[Change]]:
        """Record a job, or find the one of the same fingerprint; True when it is to be run because of this.

        One that failed or was cancelled starts again, and so does a completed one with `again`: what it had made is not there any more.
        Raises: TooManyTasks, when whoever asks would have more than `most` that have not ended; 0 is no limit.
        """
        assert new.fingerprint is not None

        async def work(connection: AsyncConnection) -> tuple[Job, bool, list[Change]]:
            now = self._clock.now()
            fresh = self._transactions.insert(jobs).values(row_of(new, now)).on_conflict_do_nothing(index_elements=["fingerprint"])
            created = (await connection.execute(fresh.returning(*COLUMNS))).one_or_none()
            if created is not None:
                await self._bounded(connection, new.created_by, most)
                return job_of(created), True, []
            over = (JobState.FAILED.value, JobState.CANCELLED.value, *((JobState.COMPLETED.value,) if again else ()))
            same = jobs.c.fingerprint == new.fingerprint
            restarted = await self._restart(connection, and_(same, jobs.c.state.in_(over)), now, tracked=new.tracked)
            if restarted is not None:
                await self._bounded(connection, restarted.created_by, most)
                return restarted, True, await settle(connection, [restarted], now)
            if new.tracked:  # also what somebody else did not care to
                await connection.execute(update(jobs).where(same, not_(jobs.c.tracked)).values(tracked=True))
            row = (await connection.execute(select(*COLUMNS).where(same))).one_or_none()
            if row is None:  # it ended in between, and left no record
                created = (await connection.execute(fresh.returning(*COLUMNS))).one()
                return job_of(created), True, []
            return job_of(row), False, []

        return await self._transactions.write(work)

    async def _bounded(self, connection: AsyncConnection, by: str | None, most: int) -> None:
        """Undo this transaction where it is one too many. Raises: TooManyTasks."""
        if not most or by is None:
            return
        own = select(jobs.c.id).where(jobs.c.created_by == by, jobs.c.ended_at.is_(None)).limit(most + 1).subquery()
        if (await connection.execute(select(func.count()).select_from(own))).scalar_one() > most:
            raise TooManyTasks(f"You have {most} tasks that have not ended, which is as many as may wait", headers={"Retry-After": "60"})

    async def retry(self, id: str) -> tuple[Job, list[Change]]:
        """Start a failed or cancelled job again. Raises: NotFound; Conflict, when it is neither."""

        async def work(connection: AsyncConnection) -> tuple[Job, list[Change]]:
            now = self._clock.now()
            over = jobs.c.state.in_((JobState.FAILED.value, JobState.CANCELLED.value))
            restarted = await self._restart(connection, and_(jobs.c.id == id, over), now)
            if restarted is None:
                raise await self._refusal(connection, id, "Only a failed or cancelled job can be started again")
            return restarted, await settle(connection, [restarted], now)

        return await self._transactions.write(work)

    async def cancel(self, id: str) -> tuple[Job, list[Change]]:
        """Cancel what waits or runs; who runs it finds out by its next heartbeat. One that was cancelled stays so. Raises: NotFound; Conflict, when it has ended."""

        async def work(connection: AsyncConnection) -> tuple[Job, list[Change]]:
            now = self._clock.now()
            going = jobs.c.state.in_((JobState.PENDING.value, JobState.PROCESSING.value))
            values = {"state": JobState.CANCELLED.value, "ended_at": now, **TAKEN}
            row = (await connection.execute(update(jobs).where(jobs.c.id == id, going).values(values).returning(*COLUMNS))).one_or_none()
            if row is not None:
                return job_of(row), await settle(connection, [job_of(row)], now)
            job = (await connection.execute(select(*COLUMNS).where(jobs.c.id == id))).one_or_none()
            if job is None or job_of(job).state is not JobState.CANCELLED:
                raise await self._refusal(connection, id, "The job has already ended")
            return job_of(job), []

        return await self._transactions.write(work)

    async def of_media(self, media_id: str, limit: int = 100) -> list[Job]:
        """List a media's jobs, newest first."""
        return await self._many(jobs.c.media_id == media_id, limit)

    async def page(
        self,
        *,
        limit: int,
        after: str | None = None,
        state: JobState | None = None,
        lane: str | None = None,
        kind: str | None = None,
        media_id: str | None = None,
        tracked: bool = False,
    ) -> tuple[list[Job], str | None]:
        """List jobs, newest first, of ids below `after`; with the cursor of the next page, None at the end."""
        where = [
            *([jobs.c.id < after] if after else []),
            *([jobs.c.state == state.value] if state else []),
            *([jobs.c.lane == lane] if lane else []),
            *([jobs.c.kind == kind] if kind else []),
            *([jobs.c.media_id == media_id] if media_id else []),
            *([jobs.c.tracked] if tracked else []),
        ]
        found = await self._many(and_(True, *where), limit + 1)
        return found[:limit], found[limit - 1].id if len(found) > limit else None

    async def prune(self, completed: timedelta, failed: timedelta, limit: int = 1000) -> int:
        """Remove up to `limit` jobs that ended so long ago; tell how many."""
        now = self._clock.now()
        old = or_(
            and_(jobs.c.state.in_((JobState.COMPLETED.value, JobState.CANCELLED.value)), jobs.c.ended_at < now - completed),
            and_(jobs.c.state == JobState.FAILED.value, jobs.c.ended_at < now - failed),
        )
        some = select(jobs.c.id).where(old).limit(limit)

        async def work(connection: AsyncConnection) -> int:
            return (await connection.execute(delete(jobs).where(jobs.c.id.in_(some)))).rowcount

        return await self._transactions.write(work)

    async def lanes(self) -> dict[str, Lane]:
        """Tell of each lane with something in it."""
        now = self._clock.now()
        waiting = (
            select(jobs.c.lane, func.count(), func.min(jobs.c.run_at)).where(jobs.c.state == JobState.PENDING.value).group_by(jobs.c.lane)
        )
        running = select(jobs.c.lane, func.count()).where(jobs.c.state == JobState.PROCESSING.value).group_by(jobs.c.lane)

        async def work(connection: AsyncConnection) -> dict[str, Lane]:
            busy: dict[str, int] = {row[0]: row[1] for row in await connection.execute(running)}
            found = {lane: Lane(0, count, 0.0) for lane, count in busy.items()}
            for lane, count, first in await connection.execute(waiting):
                found[lane] = Lane(count, busy.get(lane, 0), max(0.0, (now - first).total_seconds()))
            return found

        return await self._transactions.read(work)

    async def _restart(
        self, connection: AsyncConnection, which: ColumnElement[bool], now: datetime, *, tracked: bool = False
    ) -> Job | None:
        statement = (
            update(jobs).where(which).values({**_AGAIN, "run_at": now, **({"tracked": True} if tracked else {})}).returning(*COLUMNS)
        )
        row = (await connection.execute(statement)).one_or_none()
        return None if row is None else job_of(row)

    async def _refusal(self, connection: AsyncConnection, id: str, why: str) -> Conflict | NotFound:
        there = (await connection.execute(select(jobs.c.id).where(jobs.c.id == id))).first()
        return NotFound("There is no such job") if there is None else Conflict(why)

    async def _one(self, which: ColumnElement[bool]) -> Job | None:
        async def work(connection: AsyncConnection) -> Job | None:
            row = (await connection.execute(select(*COLUMNS).where(which))).one_or_none()
            return None if row is None else job_of(row)

        return await self._transactions.read(work)

    async def _many(self, which: ColumnElement[bool], limit: int) -> list[Job]:
        async def work(connection: AsyncConnection) -> list[Job]:
            rows = await connection.execute(select(*COLUMNS).where(which).order_by(jobs.c.id.desc()).limit(limit))
            return [job_of(row) for row in rows]

        return await self._transactions.read(work)
