"""Jobs a second of one worker on both databases, and how long a thumbnail takes from the upload's answer.

Small jobs are those of an action that does nothing: what they cost is the queue's own. Thumbnails are of small pictures, each with its facts: two jobs a picture,
of which one writes an object. A real worker drains what is there; the time is from the first job's start to the last one's end.
"""

import argparse
import asyncio
import io
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection
from ulid import ULID

from benchmarks.machine import progress
from benchmarks.results import table
from mediacdn.catalog.database import Catalog, open_catalog
from mediacdn.catalog.jobs import plan
from mediacdn.catalog.tables import jobs
from mediacdn.config import Database
from mediacdn.drivers import SystemClock
from mediacdn.model import NewJob
from tests.services import samples
from tests.services.postgres import PostgresServer
from tests.services.served import Served

TITLE = "Jobs"
STARTED = 4.0
"""Seconds in which a worker has started."""
T = TypeVar("T")
PLUGIN = """
from contextlib import asynccontextmanager
from msgspec import Struct
from mediacdn.hookspecs import Driver, hookimpl
from mediacdn.model import Argument, Made, Recipe, Step


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Nothing:
    arguments = (Argument(name="n", type="integer", min=0),)
    accepts = ("*/*",)

    async def run(self, source, spec, sink):
        return Made()


@asynccontextmanager
async def opened(config, kit):
    yield Nothing()


@hookimpl
def mediacdn_drivers():
    return [Driver("action", "nothing", Settings, opened)]


@hookimpl
def mediacdn_recipes():
    step = Step(name="nothing", action="nothing", spec={"n": "${n}"})
    return [Recipe(code="nothing", version=1, accepts=("*/*",), arguments=(Argument(name="n", type="integer", min=0),), steps=(step,))]
"""
TOML = """
plugins = ["local", "jwt", "vips", "idle"]
[database]
url = "{url}"
[limits]
uploads_per_second = 0
"""


class World:
    """A data directory with a catalog, the server that fills it, and the worker that drains it."""

    def __init__(self, folder: Path, url: str) -> None:
        self.data = folder / "data"
        self.data.mkdir(parents=True)
        self.config = self.data / "mediacdn.toml"
        self.config.write_text(TOML.format(url=url))
        info = folder / "plugin" / "idle-1.0.dist-info"
        info.mkdir(parents=True)
        (folder / "plugin" / "idle.py").write_text(PLUGIN)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: idle\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[mediacdn]\nidle = idle\n")
        self._database = Database(url=url, timeout=30)
        self._environ = {"PYTHONPATH": str(folder / "plugin")}

    @contextmanager
    def serving(self) -> Iterator[Served]:
        server = Served(self.data, self.config, self._environ, ("--no-worker",))
        try:
            yield server
        finally:
            server.stop()

    @contextmanager
    def working(self) -> Iterator[subprocess.Popen[bytes]]:
        """A worker, from here until the context is left; it may still be starting."""
        environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        command = [sys.executable, "-m", "mediacdn", "worker", "--data", str(self.data), "--config", str(self.config)]
        with (self.data / "worker.log").open("ab") as log:
            worker = subprocess.Popen(command, env={**environ, **self._environ}, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            yield worker
        finally:
            worker.send_signal(signal.SIGTERM)
            worker.wait(40)

    def do(self, work: Callable[[Catalog], Awaitable[T]]) -> T:
        async def opened() -> T:
            async with open_catalog(self._database, self.data, SystemClock()) as catalog:
                return await work(catalog)

        return asyncio.run(opened())

    def drained(self, count: int) -> dict[str, float]:
        """Have a worker do all that is there: jobs a second, and milliseconds of its processor time a job. Raises: RuntimeError when one did not end well."""
        ended = (select(func.count(), func.min(jobs.c.started_at), func.max(jobs.c.ended_at)).where(jobs.c.state == "Completed"),)

        async def look(catalog: Catalog) -> tuple[int, datetime, datetime]:
            async def work(connection: AsyncConnection) -> tuple[int, datetime, datetime]:
                return tuple((await connection.execute(*ended)).one())  # type: ignore[return-value]

            deadline = time.monotonic() + 120
            while (found := await catalog._transactions.read(work))[0] < count:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{found[0]} of {count} jobs done: " + (self.data / "worker.log").read_text()[-2000:])
                await asyncio.sleep(0.2)
            return found

        with self.working() as worker:
            _, first, last = self.do(look)
            spent = processor_time(worker.pid)
        with self.working() as idle:  # what it takes to start, and to do nothing
            time.sleep(STARTED)
            spent -= processor_time(idle.pid)
        return {"rate": count / (last - first).total_seconds(), "processor": spent * 1000 / count}


def processor_time(pid: int) -> float:
    """Seconds that a process has used, without its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def small_jobs(world: World, count: int) -> dict[str, float]:
    """Jobs that do nothing."""
    with world.serving() as server:
        media = server.upload(b"one")["id"]

    async def fill(catalog: Catalog) -> None:
        async def work(connection: AsyncConnection) -> None:
            now = SystemClock().now()
            await plan(connection, [_nothing(media, number) for number in range(count)], now)

        await catalog._transactions.write(work)

    world.do(fill)
    return world.drained(count)


def _nothing(media: str, number: int) -> NewJob:
    return NewJob(
        id=str(ULID()),
        kind="recipe",
        lane="images",
        media_id=media,
        code="nothing@1",
        arguments={"n": number},
        fingerprint=f"nothing-{number}",
    )


def thumbnails(world: World, pictures: int) -> dict[str, float]:
    """Jobs of small pictures: a thumbnail and facts of each."""
    with world.serving() as server:
        for number in range(pictures):
            server.upload(samples.png(64, 64, str(number).encode()))
    return world.drained(2 * pictures)


def waits(world: World, times: int) -> dict[str, dict[str, float]]:
    """Milliseconds from the answer of an upload to its thumbnail being read, on an otherwise idle server and worker, by what was uploaded."""
    with world.serving() as server, world.working():
        _thumbnail(server, _jpeg(64, 64, 0))  # the worker is there
        found = {
            name: [_thumbnail(server, _jpeg(*size, seed)) for seed in range(1, times + 1)]
            for name, size in {"200 x 200 JPEG": (200, 200), "12 MP JPEG": (4000, 3000)}.items()
        }
    return {
        name: {"median": statistics.median(each), "p95": sorted(each)[int(len(each) * 0.95)], "max": max(each)}
        for name, each in found.items()
    }


def _thumbnail(server: Served, picture: bytes) -> float:
    media = server.upload(picture)["id"]
    began = time.monotonic()
    while time.monotonic() < began + 30:
        items = server.client.get(f"/v1/media/{media}/derivatives", headers=server.auth()).raise_for_status().json()["items"]
        if items:
            server.client.get(f"/v1/media/{items[0]['id']}", headers=server.auth()).raise_for_status()
            waited = (time.monotonic() - began) * 1000
            time.sleep(0.1 + (hash(media) % 100) / 1000)  # its facts, and out of step with the worker's looks
            return waited
        time.sleep(0.005)
    raise RuntimeError("no thumbnail")


def _jpeg(width: int, height: int, seed: int) -> bytes:
    """A picture with something in it, as a camera's: a gradient under noise."""
    noise = Image.effect_noise((width // 4, height // 4), 40 + seed % 20).resize((width, height)).convert("L")
    picture = Image.merge(
        "RGB", (noise, Image.linear_gradient("L").resize((width, height)), noise.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    )
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=88)
    return out.getvalue()


def _both(work: Callable[[World], T]) -> dict[str, T]:
    """Do `work` on each database, in a world of its own."""
    found: dict[str, T] = {}
    with tempfile.TemporaryDirectory(prefix="mediacdn-bench-") as folder:
        found["SQLite"] = work(World(Path(folder), ""))
    server = PostgresServer.create()
    try:
        server.start()
        with tempfile.TemporaryDirectory(prefix="mediacdn-bench-") as folder:
            found["PostgreSQL"] = work(World(Path(folder), server.url(server.create_database())))
    finally:
        server.destroy()
    return found


def measure(*, full: bool) -> dict[str, Any]:
    """Everything, on both databases; the waits on SQLite."""
    outcome: dict[str, Any] = {"small": _both(lambda world: small_jobs(world, 5000 if full else 1000))}
    progress(f"small jobs: {outcome['small']}")
    outcome["thumbnails"] = _both(lambda world: thumbnails(world, 1000 if full else 150))
    progress(f"thumbnails: {outcome['thumbnails']}")
    with tempfile.TemporaryDirectory(prefix="mediacdn-bench-") as folder:
        outcome["waits"] = waits(World(Path(folder), ""), 100 if full else 30)
    return outcome


def section(outcome: dict[str, Any]) -> str:
    """The outcome for RESULTS.md."""
    rate = table(
        ["one worker", "small jobs/s", "ms of processor time each", "jobs/s of small pictures", "ms each, without children"],
        [
            [
                base,
                *(
                    f"{outcome[what][base][which]:,.{digits}f}"
                    for what in ("small", "thumbnails")
                    for which, digits in (("rate", 0), ("processor", 1))
                ),
            ]
            for base in outcome["small"]
        ],
    )
    wait = table(
        ["upload's answer to thumbnail read, ms", "median", "p95", "max"],
        [[name, *(f"{each[which]:,.0f}" for which in ("median", "p95", "max"))] for name, each in outcome["waits"].items()],
    )
    return f"""{rate}

Small jobs do nothing: what they cost is the queue's own. A picture has two jobs, of which one writes an object.

{wait}

Beside an idle worker with its default of a look at the table every 0.1 s."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("small", "thumbnails", "waits"))
    parser.add_argument("--count", type=int, default=0)
    options = parser.parse_args()
    if options.what == "waits":
        with tempfile.TemporaryDirectory(prefix="mediacdn-bench-") as folder:
            print(json.dumps(waits(World(Path(folder), ""), options.count or 30), indent=2))
    else:
        work, count = (small_jobs, options.count or 1000) if options.what == "small" else (thumbnails, options.count or 150)
        print(json.dumps(_both(lambda world: work(world, count)), indent=2))


if __name__ == "__main__":
    main()
