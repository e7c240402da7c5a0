"""Real workers: how they end, what they do when the catalog goes away, and that no job is run by two of them, nor by a child that nobody wants any more."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from ulid import ULID

from benchmarks.jobs_world import Process, children_of, strangers, wait_gone
from mediacdn.catalog.database import Catalog, open_catalog
from mediacdn.catalog.jobs import plan
from mediacdn.catalog.migrate import migrate
from mediacdn.config import Database
from mediacdn.drivers import SystemClock
from mediacdn.model import Job, JobState, NewJob
from tests.services import distribution, samples
from tests.services.postgres import PostgresServer
from tests.services.program import Program
from tests.services.served import served

LEASE = 3.0
PLUGIN = """
import os
import time
from contextlib import asynccontextmanager
from msgspec import Struct
from mediacdn import Argument, Driver, Made, Recipe, Step, hookimpl, open_sandbox


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    file: str


def nap(request, descriptors):
    time.sleep(request["seconds"])
    return {}


class Nap:
    arguments = (Argument(name="n", type="integer"), Argument(name="seconds", type="number"))
    accepts = ("*/*",)

    def __init__(self, file, box):
        self._file, self._box = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), box

    async def run(self, source, spec, sink):
        os.write(self._file, f"begin {spec['n']}\\n".encode())
        try:
            await self._box.run({"seconds": spec["seconds"]}, deadline=60)
            return Made()
        finally:
            os.write(self._file, f"end {spec['n']}\\n".encode())


@asynccontextmanager
async def opened(config, kit):
    async with open_sandbox(call="napping:nap", children=2) as box:
        yield Nap(config.file, box)


@hookimpl
def mediacdn_drivers():
    return [Driver("action", "nap", Settings, opened)]


@hookimpl
def mediacdn_recipes():
    step = Step(name="nap", action="nap", spec={"n": "${n}", "seconds": "${seconds}"})
    return [Recipe(code="nap", version=1, accepts=("*/*",), arguments=Nap.arguments, steps=(step,))]
"""
TOML = """
plugins = ["local", "jwt", "napping"]
[database]
url = "{url}"
timeout = 2
[jobs]
lease = {lease}
backoff_base = 0.2
[recipes.nap]
file = "{file}"
"""


class World:
    """A catalog with one media, naps to be taken of it, and workers in processes of their own."""

    def __init__(self, folder: Path, url: str = "") -> None:
        self.data = folder / "data"
        self.diary = folder / "diary"
        self.toml = TOML.format(url=url, lease=LEASE, file=self.diary)
        self.environ = distribution.install(folder / "plugin", "napping", PLUGIN)
        self._database = Database(url=url, timeout=30)
        asyncio.run(migrate(self._database, self.data))
        with served(self.data, self.toml, environ=self.environ) as server:
            self.media = server.upload(samples.binary(100))["id"]

    @contextmanager
    def worker(self) -> Iterator[subprocess.Popen[bytes]]:
        command = ["worker", "--data", str(self.data), "--config", str(self.data / "mediacdn.toml")]
        with (self.data / "worker.log").open("ab") as log:
            worker = Program(command, env={**os.environ, **self.environ}, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            yield worker
        finally:
            if worker.poll() is None:
                worker.kill()
            worker.wait(10)

    def do(self, work: Callable[[Catalog], Awaitable[Any]]) -> Any:
        async def opened() -> Any:
            async with open_catalog(self._database, self.data, SystemClock()) as catalog:
                return await work(catalog)

        return asyncio.run(opened())

    def naps(self, seconds: float, count: int = 1) -> list[str]:
        new = [
            NewJob(
                id=str(ULID()), kind="recipe", lane="images", media_id=self.media, code="nap@1",
                arguments={"n": number, "seconds": seconds}, fingerprint=f"{seconds} {number}", max_attempts=3,
            )
            for number in range(count)
        ]  # fmt: skip

        async def fill(catalog: Catalog) -> None:
            await catalog._transactions.write(lambda connection: plan(connection, new, SystemClock().now()))

        self.do(fill)
        return [each.id for each in new]

    def until(self, id: str, *states: JobState, seconds: float = 20) -> Job:
        async def look(catalog: Catalog) -> Job:
            deadline = time.monotonic() + seconds
            while (job := await catalog.jobs.get(id)) is None or job.state not in states:
                assert time.monotonic() < deadline, f"{job}\n{(self.data / 'worker.log').read_text()[-3000:]}"
                await asyncio.sleep(0.05)
            return job

        return self.do(look)  # type: ignore[no-any-return]

    def begun(self, pid: int, id: str) -> list[Process]:
        """Wait until the job's child is at work; tell the worker's children."""
        self.until(id, JobState.PROCESSING)
        deadline = time.monotonic() + 20
        while not self.diary.exists() or "begin" not in self.diary.read_text() or not children_of(pid):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.8)  # the child has the request
        return children_of(pid)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    yield World(tmp_path)
    assert strangers(str(tmp_path)) == []


@pytest.mark.parametrize(("nap", "state", "attempts", "most"), [(3.0, JobState.COMPLETED, 1, 6.0), (40.0, JobState.PENDING, 0, 14.0)])
def test_a_worker_ends_after_what_runs_or_gives_it_back(world: World, nap: float, state: JobState, attempts: int, most: float) -> None:
    (job_id,) = world.naps(nap)
    with world.worker() as worker:
        there = world.begun(worker.pid, job_id)
        asked = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 0
        assert time.monotonic() - asked < most
        assert wait_gone(there, 1) == []
    job = world.until(job_id, state, seconds=1)
    assert (job.attempts, job.lease_until) == (attempts, None)


def test_a_server_ends_with_its_worker(world: World) -> None:
    (job_id,) = world.naps(40.0)
    with served(world.data, world.toml, environ=world.environ, arguments=()) as server:
        world.until(job_id, JobState.PROCESSING)
        (worker,) = [pid for pid, _ in children_of(server.process.pid) if b"--tethered" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        world.begun(worker, job_id)
        asked = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - asked < 30
    job = world.until(job_id, JobState.PENDING, seconds=1)
    assert job.attempts == 0


def test_a_cancelled_job_loses_its_child(world: World) -> None:
    (job_id,) = world.naps(40.0)
    with world.worker() as worker:
        there = world.begun(worker.pid, job_id)

        async def cancel(catalog: Catalog) -> None:
            await catalog.jobs.cancel(job_id)

        world.do(cancel)
        asked = time.monotonic()
        deadline = asked + LEASE / 3 + 1
        while len(wait_gone(there, 0)) == len(there):
            assert time.monotonic() < deadline, "the child naps on"
            time.sleep(0.02)
        (after,) = world.naps(0.01)  # the worker goes on
        world.until(after, JobState.COMPLETED)
        assert "end 0" in world.diary.read_text()


def test_no_job_is_run_by_two(world: World) -> None:
    ids = world.naps(0.02, 40)
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(world.worker())
        for job_id in ids:
            assert world.until(job_id, JobState.COMPLETED, seconds=40).attempts == 1
    lines = world.diary.read_text().split("\n")[:-1]
    assert sorted(lines) == sorted(f"{word} {number}" for word in ("begin", "end") for number in range(40))


def test_a_catalog_that_comes_back(tmp_path: Path) -> None:
    server = PostgresServer.create()
    try:
        server.start()
        world = World(tmp_path, server.url(server.create_database()))
        (before,) = world.naps(0.01)
        (during,) = world.naps(2.0)
        with world.worker() as worker:
            world.until(before, JobState.COMPLETED)
            world.until(during, JobState.PROCESSING)
            server.kill()
            time.sleep(10)
            server.start()
            (after,) = world.naps(0.03)
            for job_id in (during, after):
                world.until(job_id, JobState.COMPLETED, seconds=40)
            assert worker.poll() is None
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(20) == 0
    finally:
        server.destroy()
