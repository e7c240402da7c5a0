"""Jobs: the table that is the truth of them. Every transition is one transaction, told by compare-and-set on state and fence; required jobs move their media's status in it.

Who runs a job holds its fence: the number moves with every lease, cancellation and retry, and what a former holder still writes meets no row.

A job may be divided: it waits, and its units are jobs whose `parent` it is. Each one that ends makes it due, for whoever leases it to see what there is now; a unit
that has made what it should leaves no row. When the parent ends, its units end with it.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct
from sqlalchemy import ColumnElement, Integer, and_, bindparam, delete, func, insert, not_, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mediacdn.catalog.changes import append
from mediacdn.catalog.tables import Json, Micros, jobs, media
from mediacdn.catalog.transactions import Transactions
from mediacdn.errors import Conflict, NotFound, TooManyTasks
from mediacdn.interfaces import Clock
from mediacdn.model import Change, Division, Job, JobState, NewJob, State, Status, StepRun

FIELDS = Job.__struct_fields__
COLUMNS = [jobs.c[name] for name in FIELDS]
OVER = (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)
LOST = "worker_lost"
NOT_BEFORE = timedelta(days=3650)
"""When a job that waits for its units is due, unless one of them ends."""
REVISION = select(jobs.c.revision).where(jobs.c.id == bindparam("id"))
DUE = (
    select(jobs.c.id)
    .where(jobs.c.state == JobState.PENDING.value, jobs.c.lane == bindparam("lane"), jobs.c.run_at <= bindparam("now", type_=Micros()))
    .order_by(jobs.c.priority.desc(), jobs.c.run_at, jobs.c.id)
    .limit(bindparam("most", type_=Integer()))
)


class LeaseLost(Exception):
    """The job is somebody else's by now, or was cancelled."""


class Held(NamedTuple):
    """A lease: the job, and the fence under which its holder writes."""

    id: str
    fence: int


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


def _row(new: NewJob, now: datetime) -> dict[str, Any]:
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
        await connection.execute(insert(jobs), [_row(each, now) for each in new])


async def insist(connection: AsyncConnection, held: Held) -> None:
    """Hold the lease until the end of this transaction. Raises: LeaseLost."""
    mine = select(jobs.c.id).where(_mine(held)).with_for_update()
    if (await connection.execute(mine)).first() is None:
        raise LeaseLost


def _mine(held: Held) -> ColumnElement[bool]:
    return and_(jobs.c.id == held.id, jobs.c.fence == held.fence, jobs.c.state == JobState.PROCESSING.value)


_SEEN = {"revision": jobs.c.revision + 1}
_TAKEN = {"fence": jobs.c.fence + 1, "lease_until": None, **_SEEN}
_AGAIN = {
    "state": JobState.PENDING.value,
    "attempts": 0,
    "ended_at": None,
    "error_code": None,
    "error_message": None,
    "progress": 0.0,
    **_TAKEN,
}


# Of jobs whose media's status does not hang on them, each transition is one statement; the others' go the longer way.
_NOW = bindparam("now", type_=Micros())
LEASED = {
    **_TAKEN,
    "state": JobState.PROCESSING.value,
    "attempts": jobs.c.attempts + 1,
    "lease_until": bindparam("until", type_=Micros()),
    "started_at": func.coalesce(jobs.c.started_at, _NOW),
    "error_code": None,
    "error_message": None,
}
LEASE = (
    update(jobs)
    .where(jobs.c.id == bindparam("job"), jobs.c.state == JobState.PENDING.value, jobs.c.run_at <= _NOW, not_(jobs.c.required))
    .values(LEASED)
    .returning(*COLUMNS)
)
COMPLETED = {
    **_TAKEN,
    "state": JobState.COMPLETED.value,
    "progress": 1.0,
    "steps": bindparam("timeline", type_=Json()),
    "ended_at": _NOW,
}
COMPLETE = (
    update(jobs)
    .where(
        jobs.c.id == bindparam("job"),
        jobs.c.fence == bindparam("held"),
        jobs.c.state == JobState.PROCESSING.value,
        not_(jobs.c.required),
        jobs.c.tracked,
        jobs.c.division.is_(None),
    )
    .values(COMPLETED)
    .returning(jobs.c.id)
)


class JobRows:
    """Jobs by id. What moves a media's status gives the changes that say so, already committed."""

    def __init__(self, transactions: Transactions, clock: Clock) -> None:
        self._transactions = transactions
        self._clock = clock
        self._due_words = transactions.words(DUE)
        self._lease_words = transactions.words(LEASE)
        self._complete_words = transactions.words(COMPLETE)
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
            fresh = self._transactions.insert(jobs).values(_row(new, now)).on_conflict_do_nothing(index_elements=["fingerprint"])
            created = (await connection.execute(fresh.returning(*COLUMNS))).one_or_none()
            if created is not None:
                await self._bounded(connection, new.created_by, most)
                return job_of(created), True, []
            over = (JobState.FAILED.value, JobState.CANCELLED.value, *((JobState.COMPLETED.value,) if again else ()))
            same = jobs.c.fingerprint == new.fingerprint
            restarted = await self._restart(connection, and_(same, jobs.c.state.in_(over)), now, tracked=new.tracked)
            if restarted is not None:
                await self._bounded(connection, restarted.created_by, most)
                return restarted, True, await self._moved(connection, [restarted], now)
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
            return restarted, await self._moved(connection, [restarted], now)

        return await self._transactions.write(work)

    async def cancel(self, id: str) -> tuple[Job, list[Change]]:
        """Cancel what waits or runs; who runs it finds out by its next heartbeat. One that was cancelled stays so. Raises: NotFound; Conflict, when it has ended."""

        async def work(connection: AsyncConnection) -> tuple[Job, list[Change]]:
            now = self._clock.now()
            going = jobs.c.state.in_((JobState.PENDING.value, JobState.PROCESSING.value))
            values = {"state": JobState.CANCELLED.value, "ended_at": now, **_TAKEN}
            row = (await connection.execute(update(jobs).where(jobs.c.id == id, going).values(values).returning(*COLUMNS))).one_or_none()
            if row is not None:
                return job_of(row), await self._moved(connection, [job_of(row)], now)
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

    # What runs them.

    async def due(self, lane: str, limit: int, without: Collection[str] = ()) -> list[str]:
        """Name up to `limit` jobs of a lane that may run now: the highest priority first, then who has waited longest."""
        found = await self._transactions.rows(self._due_words, lane=lane, now=self._clock.now(), most=limit + len(without))
        return [each for (each,) in found if each not in without][:limit]

    async def lease(self, id: str, seconds: float) -> tuple[Job | None, list[Change]]:
        """Take a job that is due: it is the caller's until `seconds` after its last heartbeat. None when somebody else has it, or it is not due."""
        now = self._clock.now()
        taken = await self._transactions.stroke(self._lease_words, job=id, now=now, until=now + timedelta(seconds=seconds))
        if taken is not None:
            return job_of(taken), []

        async def work(connection: AsyncConnection) -> tuple[Job | None, list[Change]]:
            now = self._clock.now()
            free = and_(jobs.c.id == id, jobs.c.state == JobState.PENDING.value, jobs.c.run_at <= now)
            given = {"now": now, "until": now + timedelta(seconds=seconds)}
            row = (await connection.execute(update(jobs).where(free).values(LEASED).returning(*COLUMNS), given)).one_or_none()
            if row is None:
                return None, []
            return job_of(row), await self._judge(connection, [job_of(row)], now)

        return await self._transactions.write(work)

    async def beat(self, held: Mapping[Held, float], seconds: float) -> set[Held]:
        """Prolong leases and note the progress of each (0 to 1); those left out of the answer are not the caller's any more."""
        if not held:
            return set()

        async def work(connection: AsyncConnection) -> set[Held]:
            until = self._clock.now() + timedelta(seconds=seconds)
            alive = and_(tuple_(jobs.c.id, jobs.c.fence).in_([tuple(each) for each in held]), jobs.c.state == JobState.PROCESSING.value)
            found = await connection.execute(
                update(jobs).where(alive).values(lease_until=until).returning(jobs.c.id, jobs.c.fence, jobs.c.progress)
            )
            kept = set()
            for own, fence, progress in found:
                kept.add(each := Held(own, fence))
                if held[each] > progress:
                    await connection.execute(update(jobs).where(_mine(each)).values(progress=held[each], **_SEEN))
            return kept

        return await self._transactions.write(work)

    async def note(self, held: Held, steps: Sequence[StepRun], progress: float) -> bool:
        """Write the timeline. False when the lease is lost."""
        values = {"steps": msgspec.to_builtins(steps), "progress": progress, **_SEEN}

        async def work(connection: AsyncConnection) -> bool:
            return (await connection.execute(update(jobs).where(_mine(held)).values(values))).rowcount == 1

        return await self._transactions.write(work)

    async def complete(self, held: Held, steps: Sequence[StepRun]) -> tuple[bool, list[Change]]:
        """End it well. False when the lease is lost."""
        given = {"timeline": msgspec.to_builtins(steps), "now": self._clock.now()}
        if await self._transactions.stroke(self._complete_words, job=held.id, held=held.fence, **given) is not None:
            return True, []
        return await self._end(held, COMPLETED, given)

    async def fail(
        self, held: Held, steps: Sequence[StepRun], *, code: str, message: str, again_in: float | None, counted: bool = True
    ) -> tuple[bool, list[Change]]:
        """End an attempt: the next one is due in `again_in` seconds, or never; one that is not `counted` leaves as many. False when the lease is lost."""
        now = self._clock.now()
        values: dict[str, Any] = {"steps": msgspec.to_builtins(steps), "error_code": code, "error_message": message}
        if again_in is None:
            values.update(state=JobState.FAILED.value, ended_at=now)
        else:
            values.update(state=JobState.PENDING.value, run_at=now + timedelta(seconds=again_in))
            if not counted:
                values["attempts"] = jobs.c.attempts - 1
        return await self._end(held, values)

    async def divide(self, held: Held, division: Division, units: Sequence[NewJob], steps: Sequence[StepRun], progress: float) -> bool:
        """Have it wait for its units, of which `units` are to run now if they do not already. False when the lease is lost.

        That it was leased to find this out is no attempt, and that it came so far ends what there were. If a unit has failed meanwhile it is due at once.
        """
        values = {
            **_TAKEN, "state": JobState.PENDING.value, "attempts": 0, "division": msgspec.to_builtins(division),
            "steps": msgspec.to_builtins(steps), "progress": progress,
        }  # fmt: skip

        async def work(connection: AsyncConnection) -> bool:
            now = self._clock.now()
            if (await connection.execute(update(jobs).where(_mine(held)).values({**values, "run_at": now + NOT_BEFORE}))).rowcount != 1:
                return False
            for each in units:
                await connection.execute(self._transactions.insert(jobs).values(_row(each, now)).on_conflict_do_nothing())
            over = select(jobs.c.id).where(jobs.c.parent == held.id, jobs.c.state.in_([state.value for state in OVER])).limit(1)
            if (await connection.execute(over)).first() is not None:
                await connection.execute(update(jobs).where(jobs.c.id == held.id).values(run_at=now))
            return True

        return await self._transactions.write(work)

    async def failed_unit(self, id: str) -> tuple[str, str] | None:
        """Tell the error code and message of a unit of the job that failed or was cancelled, if there is one."""
        over = jobs.c.state.in_((JobState.FAILED.value, JobState.CANCELLED.value))
        found = await self._many(and_(jobs.c.parent == id, over), 1)
        return (found[0].error_code or "cancelled", found[0].error_message or "A part of it was cancelled") if found else None

    async def release(self, held: Held) -> None:
        """Give a job back as if it had not been taken: the worker ends before it could."""
        values = {**_TAKEN, "state": JobState.PENDING.value, "attempts": jobs.c.attempts - 1, "run_at": self._clock.now()}

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(update(jobs).where(_mine(held)).values(values))

        await self._transactions.write(work)

    async def reclaim(self, again_in: float) -> tuple[int, list[Change]]:
        """Take back jobs whose lease has run out: who held them is gone. They are due again in `again_in` seconds, those out of attempts have failed."""

        async def work(connection: AsyncConnection) -> tuple[int, list[Change]]:
            now = self._clock.now()
            dead = and_(jobs.c.state == JobState.PROCESSING.value, jobs.c.lease_until < now)
            spent = {
                "state": JobState.FAILED.value,
                "ended_at": now,
                "error_code": LOST,
                "error_message": "The worker died of it each time",
            }
            again = {
                "state": JobState.PENDING.value,
                "run_at": now + timedelta(seconds=again_in),
                "error_code": LOST,
                "error_message": "The worker died",
            }
            taken: list[Job] = []
            for which, values in ((jobs.c.attempts >= jobs.c.max_attempts, spent), (jobs.c.attempts < jobs.c.max_attempts, again)):
                rows = await connection.execute(update(jobs).where(dead, which).values({**_TAKEN, **values}).returning(*COLUMNS))
                taken += [job_of(row) for row in rows]
            return len(taken), await self._moved(connection, taken, now)

        return await self._transactions.write(work)

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

    async def _end(self, held: Held, values: Mapping[str, Any], given: Mapping[str, Any] | None = None) -> tuple[bool, list[Change]]:
        async def work(connection: AsyncConnection) -> tuple[bool, list[Change]]:
            statement = update(jobs).where(_mine(held)).values({**_TAKEN, **values}).returning(*COLUMNS)
            row = (await connection.execute(statement, given)).one_or_none()
            if row is None:
                return False, []
            job = job_of(row)
            changed = await self._moved(connection, [job], self._clock.now())
            if job.state is JobState.COMPLETED and not job.tracked:
                await connection.execute(delete(jobs).where(jobs.c.id == job.id))
            return True, changed

        return await self._transactions.write(work)

    async def _restart(
        self, connection: AsyncConnection, which: ColumnElement[bool], now: datetime, *, tracked: bool = False
    ) -> Job | None:
        statement = (
            update(jobs).where(which).values({**_AGAIN, "run_at": now, **({"tracked": True} if tracked else {})}).returning(*COLUMNS)
        )
        row = (await connection.execute(statement)).one_or_none()
        return None if row is None else job_of(row)

    async def _moved(self, connection: AsyncConnection, moved: Sequence[Job], now: datetime) -> list[Change]:
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
                ended = {"state": JobState.CANCELLED.value, "ended_at": now, **_TAKEN}
                await connection.execute(update(jobs).where(own, going).values(ended))
        return await self._judge(connection, moved, now)

    async def _judge(self, connection: AsyncConnection, moved: Sequence[Job], now: datetime) -> list[Change]:
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


__all__ = ["Held", "JobRows", "Lane", "LeaseLost", "insist", "job_of", "plan"]
