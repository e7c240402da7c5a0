"""Jobs at work on a real catalog: outcomes, retries, lost leases, an orderly end, and lanes that do not wait for one another."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from shutil import copytree
from typing import Any

import pytest
from ulid import ULID

from mediacdn.catalog.database import Catalog, open_catalog
from mediacdn.catalog.leases import LeaseLost
from mediacdn.config import Database, Jobs
from mediacdn.errors import CatalogUnavailable, Overloaded, StorageUnavailable, TooManyRequests, Unavailable, Undecodable
from mediacdn.jobs import runner as running_jobs
from mediacdn.jobs.backoff import hopeless, pause
from mediacdn.jobs.bell import Bell
from mediacdn.jobs.lanes import work_lanes
from mediacdn.jobs.runner import Runner, Running, Work
from mediacdn.model import Change, Job, JobState, NewJob, StepRun

pytestmark = pytest.mark.anyio

QUICK = Jobs(lease=1, backoff_base=0.01, poll_every=0.02)


class Now:
    def now(self) -> datetime:
        return datetime.now(UTC)


@pytest.fixture
async def catalog(database_url: str, sqlite_template: Path, tmp_path: Path) -> AsyncIterator[Catalog]:
    data = tmp_path / "data"
    copytree(sqlite_template, data)
    async with open_catalog(Database(url=database_url, timeout=30), data, Now()) as opened:
        yield opened


@asynccontextmanager
async def worker(
    catalog: Catalog, kinds: Mapping[str, Work], lanes: Mapping[str, int] | None = None, settings: Jobs = QUICK, grace: float = 5
) -> AsyncIterator[asyncio.Event]:
    async def told(changes: Sequence[Change]) -> None:
        return

    ending = asyncio.Event()
    runner = Runner(catalog.leases, kinds, told, settings)

    def bell(lane: str) -> Bell:
        return Bell(catalog.leases, lane, settings.poll_every)

    async with asyncio.TaskGroup() as group:  # which ends the test when the worker dies
        task = group.create_task(work_lanes(lanes or {"images": 4}, bell, runner, ending, grace))
        yield ending
        ending.set()
        await asyncio.wait_for(task, grace + 10)


async def asked(catalog: Catalog, kind: str = "k", **fields: Any) -> Job:
    number = str(ULID())
    given = {"id": number, "kind": kind, "lane": "images", "fingerprint": number}
    job, _, _ = await catalog.jobs.ask(NewJob(**{**given, **fields}))
    return job


async def over(catalog: Catalog, job: Job, seconds: float = 20) -> Job:
    return await until(catalog, job, lambda now: now.ended_at is not None, seconds)


async def until(catalog: Catalog, job: Job, holds: Callable[[Job], bool], seconds: float = 20) -> Job:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = await catalog.jobs.get(job.id)
        assert found is not None
        if holds(found):
            return found
        await asyncio.sleep(0.01)
    raise AssertionError(f"{found}")


async def test_a_job_is_done_once(catalog: Catalog) -> None:
    done: list[str] = []

    async def work(running: Running) -> None:
        done.append(running.job.id)

    async with worker(catalog, {"k": work}), worker(catalog, {"k": work}):
        made = [await asked(catalog) for _ in range(30)]
        for job in made:
            assert (await over(catalog, job)).state is JobState.COMPLETED
    assert sorted(done) == [job.id for job in made]


async def test_a_fault_of_the_moment_is_tried_again(catalog: Catalog) -> None:
    tries = 0

    async def work(running: Running) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise Overloaded()

    async with worker(catalog, {"k": work}):
        job = await over(catalog, await asked(catalog))
    assert (job.state, job.attempts, tries, job.error_code) == (JobState.COMPLETED, 3, 3, None)


async def test_an_outage_costs_no_attempts(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the storage is away, the job is done when it is back; only one that grows old by it is given up."""
    tries = 0

    async def work(running: Running) -> None:
        nonlocal tries
        tries += 1
        if tries < 9:
            raise StorageUnavailable("Away") if tries % 2 else CatalogUnavailable()

    async with worker(catalog, {"k": work}):
        job = await over(catalog, await asked(catalog))
        assert (job.state, job.attempts, tries, job.error_code) == (JobState.COMPLETED, 1, 9, None)
        tries = -100
        monkeypatch.setattr(running_jobs, "PATIENCE", timedelta(0))
        job = await over(catalog, await asked(catalog))
    assert (job.state, job.attempts, tries) == (JobState.FAILED, 3, -97)


@pytest.mark.parametrize(
    ("error", "attempts", "code", "message"),
    [
        (Undecodable("The picture is truncated"), 1, "undecodable", "The picture is truncated"),
        (Unavailable("Away"), 3, "unavailable", "Away"),
        (RuntimeError("/secret/path"), 3, "internal_error", "The work failed on a fault of the server"),
    ],
)
async def test_a_job_that_fails(catalog: Catalog, error: Exception, attempts: int, code: str, message: str) -> None:
    async def work(running: Running) -> None:
        raise error

    async with worker(catalog, {"k": work}):
        job = await over(catalog, await asked(catalog))
    assert (job.state, job.attempts, job.error_code, job.error_message) == (JobState.FAILED, attempts, code, message)


async def test_nobody_does_this_kind(catalog: Catalog) -> None:
    async with worker(catalog, {}):
        assert (await over(catalog, await asked(catalog))).state is JobState.FAILED


async def test_progress_and_steps_are_seen_meanwhile(catalog: Catalog) -> None:
    go_on = asyncio.Event()
    step = StepRun(name="s", action="a", state=JobState.PROCESSING)

    async def work(running: Running) -> None:
        await running.note([step])
        running.progress(0.4)
        await go_on.wait()

    async with worker(catalog, {"k": work}):
        job = await asked(catalog)
        seen = await until(catalog, job, lambda now: now.progress == 0.4)
        assert seen.steps == [step]
        go_on.set()
        await over(catalog, job)


async def test_a_long_job_keeps_its_lease(catalog: Catalog) -> None:
    runs = 0

    async def work(running: Running) -> None:
        nonlocal runs
        runs += 1
        await asyncio.sleep(2.5)

    async with worker(catalog, {"k": work}):
        job = await asked(catalog)
        while (await catalog.jobs.get(job.id)).ended_at is None:  # type: ignore[union-attr]
            assert (await catalog.leases.reclaim(0))[0] == 0
            await asyncio.sleep(0.1)
    assert runs == 1


async def test_cancelling_stops_the_work(catalog: Catalog) -> None:
    stopped = asyncio.Event()

    async def work(running: Running) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()

    async with worker(catalog, {"k": work}):
        job = await asked(catalog)
        await until(catalog, job, lambda now: now.state is JobState.PROCESSING)
        await catalog.jobs.cancel(job.id)
        await asyncio.wait_for(stopped.wait(), 5)
    assert (await over(catalog, job)).state is JobState.CANCELLED


async def test_who_lost_the_lease_cannot_go_on(catalog: Catalog) -> None:
    lost = asyncio.Event()

    async def work(running: Running) -> None:
        await catalog.jobs.cancel(running.job.id)
        with suppress(LeaseLost):
            await running.note([])
            raise AssertionError
        lost.set()
        raise LeaseLost

    async with worker(catalog, {"k": work}):
        job = await over(catalog, await asked(catalog))
        await asyncio.wait_for(lost.wait(), 5)
    assert job.state is JobState.CANCELLED


async def test_an_orderly_end_lets_work_finish(catalog: Catalog) -> None:
    begun = asyncio.Event()

    async def work(running: Running) -> None:
        begun.set()
        await asyncio.sleep(0.5)

    async with worker(catalog, {"k": work}) as ending:
        job = await asked(catalog)
        await begun.wait()
        ending.set()
    assert (await over(catalog, job, 1)).state is JobState.COMPLETED


async def test_what_cannot_finish_is_given_back(catalog: Catalog) -> None:
    begun = asyncio.Event()

    async def work(running: Running) -> None:
        begun.set()
        await asyncio.sleep(60)

    async with worker(catalog, {"k": work}, grace=0.2) as ending:
        job = await asked(catalog)
        await begun.wait()
        ending.set()
    found = await catalog.jobs.get(job.id)
    assert found is not None
    assert (found.state, found.attempts) == (JobState.PENDING, 0)


async def test_a_full_lane_delays_no_other(catalog: Catalog) -> None:
    go_on = asyncio.Event()

    async def slow(running: Running) -> None:
        await go_on.wait()

    async def quick(running: Running) -> None:
        return

    async with worker(catalog, {"slow": slow, "quick": quick}, {"video": 1, "images": 1}):
        films = [await asked(catalog, "slow", lane="video") for _ in range(3)]
        await until(catalog, films[0], lambda now: now.state is JobState.PROCESSING)
        thumb = await over(catalog, await asked(catalog, "quick"), 5)
        assert thumb.state is JobState.COMPLETED
        assert [(await catalog.jobs.get(film.id)).state for film in films[1:]] == [JobState.PENDING] * 2  # type: ignore[union-attr]
        go_on.set()
        for film in films:
            await over(catalog, film)


async def test_an_unnamed_lane_is_not_worked(catalog: Catalog) -> None:
    async def work(running: Running) -> None:
        return

    async with worker(catalog, {"k": work}):
        job = await asked(catalog, lane="imports")
        await over(catalog, await asked(catalog))
    assert (await catalog.jobs.get(job.id)).state is JobState.PENDING  # type: ignore[union-attr]


def test_pauses_grow_and_scatter() -> None:
    random = Random(1)
    for attempt, most in [(1, 1), (2, 2), (3, 4), (10, 60)]:
        drawn = [pause(attempt, 1.0, 60.0, random) for _ in range(500)]
        assert 0 <= min(drawn) < most * 0.05
        assert most * 0.95 < max(drawn) <= most


def test_what_is_hopeless() -> None:
    assert [hopeless(each) for each in (Undecodable(), TooManyRequests(), StorageUnavailable(), RuntimeError())] == [
        True,
        False,
        False,
        False,
    ]
