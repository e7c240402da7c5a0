"""Jobs at work: who holds one, under which fence, and how its attempt ends. A job that is due is leased, kept by heartbeats, and completed, failed, divided or given back.

Who runs a job holds its fence: the number moves with every lease, cancellation and retry, and what a former holder still writes meets no row.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import ColumnElement, Integer, and_, bindparam, delete, func, not_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mediacdn.catalog.jobs import COLUMNS, job_of, row_of
from mediacdn.catalog.standing import OVER, SEEN, TAKEN, judge, settle
from mediacdn.catalog.tables import Json, Micros, jobs
from mediacdn.catalog.transactions import Transactions
from mediacdn.interfaces import Clock
from mediacdn.model import Change, Division, Job, JobState, NewJob, StepRun

LOST = "worker_lost"
NOT_BEFORE = timedelta(days=3650)
"""When a job that waits for its units is due, unless one of them ends."""
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


async def insist(connection: AsyncConnection, held: Held) -> None:
    """Hold the lease until the end of this transaction. Raises: LeaseLost."""
    mine = select(jobs.c.id).where(_mine(held)).with_for_update()
    if (await connection.execute(mine)).first() is None:
        raise LeaseLost


def _mine(held: Held) -> ColumnElement[bool]:
    return and_(jobs.c.id == held.id, jobs.c.fence == held.fence, jobs.c.state == JobState.PROCESSING.value)


# Of jobs whose media's status does not hang on them, each transition is one statement; the others' go the longer way.
_NOW = bindparam("now", type_=Micros())
LEASED = {
    **TAKEN,
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
    **TAKEN,
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


class LeaseRows:
    """Jobs by id, as those who do them know them. What moves a media's status gives the changes that say so, already committed."""

    def __init__(self, transactions: Transactions, clock: Clock) -> None:
        self._transactions = transactions
        self._clock = clock
        self._due_words = transactions.words(DUE)
        self._lease_words = transactions.words(LEASE)
        self._complete_words = transactions.words(COMPLETE)

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
            return job_of(row), await judge(connection, [job_of(row)], now)

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
                    await connection.execute(update(jobs).where(_mine(each)).values(progress=held[each], **SEEN))
            return kept

        return await self._transactions.write(work)

    async def note(self, held: Held, steps: Sequence[StepRun], progress: float) -> bool:
        """Write the timeline. False when the lease is lost."""
        values = {"steps": msgspec.to_builtins(steps), "progress": progress, **SEEN}

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
            **TAKEN, "state": JobState.PENDING.value, "attempts": 0, "division": msgspec.to_builtins(division),
            "steps": msgspec.to_builtins(steps), "progress": progress,
        }  # fmt: skip

        async def work(connection: AsyncConnection) -> bool:
            now = self._clock.now()
            if (await connection.execute(update(jobs).where(_mine(held)).values({**values, "run_at": now + NOT_BEFORE}))).rowcount != 1:
                return False
            for each in units:
                await connection.execute(self._transactions.insert(jobs).values(row_of(each, now)).on_conflict_do_nothing())
            over = select(jobs.c.id).where(jobs.c.parent == held.id, jobs.c.state.in_([state.value for state in OVER])).limit(1)
            if (await connection.execute(over)).first() is not None:
                await connection.execute(update(jobs).where(jobs.c.id == held.id).values(run_at=now))
            return True

        return await self._transactions.write(work)

    async def failed_unit(self, id: str) -> tuple[str, str] | None:
        """Tell the error code and message of a unit of the job that failed or was cancelled, if there is one."""
        over = jobs.c.state.in_((JobState.FAILED.value, JobState.CANCELLED.value))
        query = select(jobs.c.error_code, jobs.c.error_message).where(jobs.c.parent == id, over).order_by(jobs.c.id.desc()).limit(1)

        async def work(connection: AsyncConnection) -> tuple[str, str] | None:
            found = (await connection.execute(query)).first()
            return (found[0] or "cancelled", found[1] or "A part of it was cancelled") if found else None

        return await self._transactions.read(work)

    async def release(self, held: Held) -> None:
        """Give a job back as if it had not been taken: the worker ends before it could."""
        values = {**TAKEN, "state": JobState.PENDING.value, "attempts": jobs.c.attempts - 1, "run_at": self._clock.now()}

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
                rows = await connection.execute(update(jobs).where(dead, which).values({**TAKEN, **values}).returning(*COLUMNS))
                taken += [job_of(row) for row in rows]
            return len(taken), await settle(connection, taken, now)

        return await self._transactions.write(work)

    async def _end(self, held: Held, values: Mapping[str, Any], given: Mapping[str, Any] | None = None) -> tuple[bool, list[Change]]:
        async def work(connection: AsyncConnection) -> tuple[bool, list[Change]]:
            statement = update(jobs).where(_mine(held)).values({**TAKEN, **values}).returning(*COLUMNS)
            row = (await connection.execute(statement, given)).one_or_none()
            if row is None:
                return False, []
            job = job_of(row)
            changed = await settle(connection, [job], self._clock.now())
            if job.state is JobState.COMPLETED and not job.tracked:
                await connection.execute(delete(jobs).where(jobs.c.id == job.id))
            return True, changed

        return await self._transactions.write(work)
