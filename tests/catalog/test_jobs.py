"""Jobs' rows: every transition, who may make it, what it makes of the media's status, and what two that want the same get."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from ulid import ULID

from mediacdn.catalog.database import Catalog
from mediacdn.catalog.jobs import Lane
from mediacdn.catalog.leases import Held
from mediacdn.errors import Conflict, NotFound, TooManyTasks
from mediacdn.model import Job, JobState, Media, NewJob, StepRun

pytestmark = pytest.mark.anyio

STEP = StepRun(name="scale", action="image", state=JobState.COMPLETED, output="01ARZ3NDEKTSV4RRFFQ69G5FAV", tools={"libvips": "8.18"})
LONG = timedelta(days=365)


def new(fingerprint: str, **fields: Any) -> NewJob:
    given = {"kind": "recipe", "lane": "images", "code": "thumb@1", "arguments": {"w": 320}}
    return NewJob(id=str(ULID()), fingerprint=fingerprint, **{**given, **fields})


def held(job: Job) -> Held:
    return Held(job.id, job.fence)


async def taken(catalog: Catalog, job: Job, seconds: float = 10) -> Job:
    found, _ = await catalog.leases.lease(job.id, seconds)
    assert found is not None
    return found


async def test_asking_twice_is_one_job(catalog: Catalog) -> None:
    job, created, _ = await catalog.jobs.ask(new("f", created_by="ada"))
    assert (created, job.state, job.attempts, job.arguments, job.created_by) == (True, JobState.PENDING, 0, {"w": 320}, "ada")
    again, created, _ = await catalog.jobs.ask(new("f"))
    assert (again.id, created) == (job.id, False)
    assert await catalog.jobs.by_fingerprint("f") == await catalog.jobs.get(job.id) == job
    assert await catalog.jobs.get("none") is None


async def test_there_is_an_end_to_what_one_may_have_waiting(catalog: Catalog, clock: Any) -> None:
    first, _, _ = await catalog.jobs.ask(new("1", created_by="ada"), most=2)
    await catalog.jobs.ask(new("2", created_by="ada"), most=2)
    with pytest.raises(TooManyTasks):
        await catalog.jobs.ask(new("3", created_by="ada"), most=2)
    assert await catalog.jobs.by_fingerprint("3") is None, "it was not recorded"
    assert (await catalog.jobs.ask(new("2", created_by="ada"), most=2))[1] is False, "what is there already is no more than before"
    assert (await catalog.jobs.ask(new("4", created_by="eve"), most=2))[1] is True
    assert (await catalog.jobs.ask(new("5"), most=2))[1] is True, "nobody's"
    await catalog.jobs.cancel(first.id)
    assert (await catalog.jobs.ask(new("3", created_by="ada"), most=2))[1] is True
    with pytest.raises(TooManyTasks):
        await catalog.jobs.ask(new("1", created_by="ada"), most=2)
    again = await catalog.jobs.get(first.id)
    assert again is not None
    assert again.state is JobState.CANCELLED, "nor is one started again"
    assert (await catalog.jobs.ask(new("6", created_by="ada")))[1] is True


async def test_counting_them_walks_an_index(catalog: Catalog) -> None:
    explain = "EXPLAIN QUERY PLAN " if catalog.dialect == "sqlite" else "EXPLAIN "

    async def look(connection: Any) -> str:
        if catalog.dialect == "postgresql":  # whose planner reads so small a table whole
            await connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        plan = await connection.exec_driver_sql(explain + "SELECT id FROM jobs WHERE created_by = 'ada' AND ended_at IS NULL LIMIT 3")
        return "\n".join(str(row) for row in plan)

    assert "jobs_asked" in await catalog._transactions.read(look)


async def test_asking_at_once_is_one_job(catalog: Catalog) -> None:
    answers = await asyncio.gather(*[catalog.jobs.ask(new("f")) for _ in range(20)])
    assert len({job.id for job, _, _ in answers}) == 1
    assert sum(created for _, created, _ in answers) == 1


async def test_a_life(catalog: Catalog, clock: Any) -> None:
    job, _, _ = await catalog.jobs.ask(new("f"))
    assert await catalog.leases.due("images", 10) == [job.id]
    assert await catalog.leases.due("images", 10, [job.id]) == []
    assert await catalog.leases.due("video", 10) == []
    mine = await taken(catalog, job)
    assert (mine.state, mine.attempts, mine.started_at) == (JobState.PROCESSING, 1, clock.now())
    assert mine.lease_until == clock.now() + timedelta(seconds=10)
    assert (await catalog.leases.lease(job.id, 10))[0] is None
    assert await catalog.leases.due("images", 10) == []
    assert await catalog.leases.note(held(mine), [STEP], 0.5)
    clock.pass_by(seconds=5)
    assert await catalog.leases.beat({held(mine): 0.7}, 10) == {held(mine)}
    seen = await catalog.jobs.get(job.id)
    assert seen is not None
    assert (seen.progress, seen.steps, seen.lease_until) == (0.7, [STEP], clock.now() + timedelta(seconds=10))
    assert await catalog.leases.complete(held(mine), [STEP]) == (True, [])
    done = await catalog.jobs.get(job.id)
    assert done is not None
    assert (done.state, done.progress, done.ended_at, done.lease_until) == (JobState.COMPLETED, 1.0, clock.now(), None)
    revisions = [job.revision, mine.revision, seen.revision, done.revision]
    assert revisions == sorted(set(revisions)), "a watcher sees each change"
    assert (await catalog.jobs.ask(new("f")))[1] is False
    assert (await catalog.jobs.ask(new("f"), again=True))[1] is True


async def test_who_lost_the_fence_writes_nothing(catalog: Catalog, clock: Any) -> None:
    job, _, _ = await catalog.jobs.ask(new("f"))
    slow = await taken(catalog, job)
    clock.pass_by(seconds=11)
    assert (await catalog.leases.reclaim(0))[0] == 1
    quick = await taken(catalog, job)
    assert quick.attempts == 2
    before = await catalog.jobs.get(job.id)
    assert await catalog.leases.beat({held(slow): 0.9}, 10) == set()
    assert not await catalog.leases.note(held(slow), [STEP], 1)
    assert (await catalog.leases.complete(held(slow), []))[0] is False
    assert (await catalog.leases.fail(held(slow), [], code="c", message="m", again_in=None))[0] is False
    await catalog.leases.release(held(slow))
    assert await catalog.jobs.get(job.id) == before
    assert (await catalog.leases.complete(held(quick), []))[0] is True


async def test_only_one_gets_the_lease(catalog: Catalog) -> None:
    job, _, _ = await catalog.jobs.ask(new("f"))
    got = await asyncio.gather(*[catalog.leases.lease(job.id, 10) for _ in range(20)])
    assert len([each for each, _ in got if each is not None]) == 1


async def test_failing_waits_and_then_ends(catalog: Catalog, clock: Any) -> None:
    job, _, _ = await catalog.jobs.ask(new("f"))
    mine = await taken(catalog, job)
    await catalog.leases.fail(held(mine), [], code="undecodable", message="broken", again_in=30)
    waiting = await catalog.jobs.get(job.id)
    assert waiting is not None
    assert (waiting.state, waiting.error_code, waiting.error_message) == (JobState.PENDING, "undecodable", "broken")
    assert await catalog.leases.due("images", 10) == []
    assert (await catalog.leases.lease(job.id, 10))[0] is None, "a bell that rings early opens nothing"
    clock.pass_by(seconds=30)
    mine = await taken(catalog, job)
    await catalog.leases.fail(held(mine), [], code="undecodable", message="broken", again_in=None)
    over = await catalog.jobs.get(job.id)
    assert over is not None
    assert (over.state, over.attempts, over.ended_at) == (JobState.FAILED, 2, clock.now())
    again, _ = await catalog.jobs.retry(job.id)
    assert (again.state, again.attempts, again.error_code, again.ended_at) == (JobState.PENDING, 0, None, None)
    assert again.steps == [], "or what was there"


@pytest.mark.parametrize(("attempts", "state"), [(1, JobState.PENDING), (3, JobState.FAILED)])
async def test_a_dead_workers_job(catalog: Catalog, clock: Any, attempts: int, state: JobState) -> None:
    job, _, _ = await catalog.jobs.ask(new("f"))
    for _ in range(attempts):
        await taken(catalog, job, 10)
        assert (await catalog.leases.reclaim(0))[0] == 0, "it is alive"
        clock.pass_by(seconds=10.1)
        assert (await catalog.leases.reclaim(0))[0] == 1
    found = await catalog.jobs.get(job.id)
    assert found is not None
    assert (found.state, found.error_code) == (state, "worker_lost")


async def test_giving_back_costs_no_attempt(catalog: Catalog) -> None:
    job, _, _ = await catalog.jobs.ask(new("f"))
    await catalog.leases.release(held(await taken(catalog, job)))
    assert (await taken(catalog, job)).attempts == 1


async def test_cancelling(catalog: Catalog) -> None:
    job, _, _ = await catalog.jobs.ask(new("f"))
    mine = await taken(catalog, job)
    cancelled, _ = await catalog.jobs.cancel(job.id)
    assert cancelled.state is JobState.CANCELLED
    assert (await catalog.jobs.cancel(job.id))[0] == cancelled
    assert await catalog.leases.beat({held(mine): 0}, 10) == set()
    assert (await catalog.jobs.ask(new("f")))[1] is True, "asked again it starts again"
    await catalog.leases.complete(held(await taken(catalog, job)), [])
    for act in (catalog.jobs.cancel, catalog.jobs.retry):
        with pytest.raises(Conflict):
            await act(job.id)
        with pytest.raises(NotFound):
            await act("none")


async def test_the_order_of_a_lane(catalog: Catalog, clock: Any) -> None:
    plain, _, _ = await catalog.jobs.ask(new("a"))
    clock.pass_by(seconds=1)
    later, _, _ = await catalog.jobs.ask(new("b"))
    urgent, _, _ = await catalog.jobs.ask(new("c", priority=5))
    assert await catalog.leases.due("images", 10) == [urgent.id, plain.id, later.id]
    assert await catalog.leases.due("images", 1) == [urgent.id]
    await catalog.jobs.ask(new("d", lane="video"))
    await taken(catalog, plain)
    clock.pass_by(seconds=9)
    assert await catalog.jobs.lanes() == {"images": Lane(2, 1, 9.0), "video": Lane(1, 0, 9.0)}


async def test_lists(catalog: Catalog) -> None:
    made = [(await catalog.jobs.ask(new(str(number), media_id="m" if number % 2 else "n")))[0] for number in range(5)]
    first, cursor = await catalog.jobs.page(limit=3)
    rest, end = await catalog.jobs.page(limit=3, after=cursor)
    assert [each.id for each in first + rest] == [each.id for each in reversed(made)]
    assert end is None
    assert [each.id for each in await catalog.jobs.of_media("m")] == [made[3].id, made[1].id]
    await taken(catalog, made[0])
    assert [each.id for each in (await catalog.jobs.page(limit=9, state=JobState.PROCESSING))[0]] == [made[0].id]
    assert (await catalog.jobs.page(limit=9, lane="video"))[0] == []


async def test_old_ones_are_removed(catalog: Catalog, clock: Any) -> None:
    done, failed, waiting, running = [(await catalog.jobs.ask(new(str(number))))[0] for number in range(4)]
    await catalog.leases.complete(held(await taken(catalog, done)), [])
    await catalog.leases.fail(held(await taken(catalog, failed)), [], code="c", message="m", again_in=None)
    await taken(catalog, running)
    clock.pass_by(days=2)
    assert await catalog.jobs.prune(timedelta(days=3), LONG) == 0
    assert await catalog.jobs.prune(timedelta(days=1), LONG) == 1
    assert await catalog.jobs.prune(LONG, timedelta(days=1)) == 1
    assert {each.id for each in (await catalog.jobs.page(limit=9))[0]} == {waiting.id, running.id}


async def test_required_jobs_move_the_status(catalog: Catalog, media_like: Callable[..., Media], store: Any, clock: Any) -> None:
    media = await store(media_like())

    async def status() -> tuple[str, str | None]:
        found = await catalog.media.get(media.id)
        assert found is not None
        return found.status.value, found.error_message

    one, _, _ = await catalog.jobs.ask(new("a", media_id=media.id, required=True))
    two, _, _ = await catalog.jobs.ask(new("b", media_id=media.id, required=True))
    thumb, _, _ = await catalog.jobs.ask(new("c", media_id=media.id))
    await catalog.leases.fail(held(await taken(catalog, thumb)), [], code="c", message="m", again_in=None)
    assert await status() == ("READY", None), "a job that is not required decides nothing"
    seen = await catalog.changes.latest()
    mine, changes = await catalog.leases.lease(one.id, 10)
    assert mine is not None
    assert [each.media_id for each in changes] == [media.id]
    assert await catalog.changes.latest() == seen + 1
    assert await status() == ("PROCESSING", None)
    await catalog.leases.fail(held(mine), [], code="c", message="later", again_in=0)
    assert await status() == ("PROCESSING", None), "it never goes back"
    await catalog.leases.complete(held(await taken(catalog, one)), [])
    assert await status() == ("PROCESSING", None)
    await catalog.leases.fail(held(await taken(catalog, two)), [], code="c", message="It is broken", again_in=None)
    assert await status() == ("FAILED", "It is broken")
    await catalog.jobs.retry(two.id)
    assert await status() == ("PROCESSING", None)
    await catalog.leases.complete(held(await taken(catalog, two)), [])
    assert await status() == ("READY", None)
