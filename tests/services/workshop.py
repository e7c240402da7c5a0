"""A plugin of actions that do nothing, installed beside a served test: its recipes are real, and what is made is what the test says was made."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import update

from mediacdn.catalog.database import Catalog, open_catalog
from mediacdn.catalog.leases import Held
from mediacdn.catalog.tables import media
from mediacdn.config import Database
from mediacdn.drivers import SystemClock
from mediacdn.model import Derivation, Job, JobState, StepRun
from mediacdn.recipes.fingerprints import fingerprint
from tests.services import distribution

T = TypeVar("T")
PLUGIN = """
from contextlib import asynccontextmanager
from msgspec import Struct
from mediacdn.hookspecs import Driver, hookimpl
from mediacdn.model import Argument, Made, Recipe, Step


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    strength: int = 1


class Bench:
    arguments = (Argument(name="w", type="integer", min=1, max=8192), Argument(name="tone", allowed=("warm", "cold")))
    accepts = ("image/*",)

    async def run(self, source, spec, sink):
        return Made()


@asynccontextmanager
async def opened(config, kit):
    yield Bench()


def recipe(code, version, w, **more):
    step = Step(name="scale", action="bench", spec={"w": w, **more}, relationship=code)
    return Recipe(code=code, version=version, arguments=(Argument(name="tone", allowed=("warm", "cold")),) if more else (), steps=(step,))


@hookimpl
def mediacdn_drivers():
    return [Driver("action", "bench", Settings, opened)]


@hookimpl
def mediacdn_recipes():
    return [recipe("small", 1, 100), recipe("small", 2, 120), recipe("toned", 1, 320, tone="${tone}")]
"""
TOML = 'plugins = ["local", "jwt", "workshop"]\n'


def install(folder: Path) -> dict[str, str]:
    """Put the plugin into `folder`; the environment in which a server finds it."""
    return distribution.install(folder, "workshop", PLUGIN)


class Bench:
    """A worker in the test's own hands, at the catalog of a served data directory."""

    def __init__(self, data: Path) -> None:
        self.data = data

    def do(self, work: Callable[[Catalog], Awaitable[T]]) -> T:
        """Run `work` on the catalog."""

        async def opened() -> T:
            async with open_catalog(Database(timeout=30), self.data, SystemClock()) as catalog:
                return await work(catalog)

        return asyncio.run(opened())

    def lease(self, id: str) -> Job:
        async def work(catalog: Catalog) -> Job:
            job, _ = await catalog.leases.lease(id, 60)
            assert job is not None
            return job

        return self.do(work)

    def note(self, job: Job, progress: float, *steps: StepRun) -> None:
        async def work(catalog: Catalog) -> None:
            assert await catalog.leases.note(Held(job.id, job.fence), steps, progress)

        self.do(work)

    def complete(self, job: Job, output: str | None = None) -> None:
        step = StepRun(name="scale", action="bench", state=JobState.COMPLETED, output=output, tools={"bench": "1"})

        async def work(catalog: Catalog) -> None:
            done, _ = await catalog.leases.complete(Held(job.id, job.fence), [step])
            assert done

        self.do(work)

    def fail(self, job: Job, code: str = "undecodable") -> None:
        async def work(catalog: Catalog) -> None:
            done, _ = await catalog.leases.fail(Held(job.id, job.fence), [], code=code, message="It is broken", again_in=None)
            assert done

        self.do(work)

    def credit(self, child: str, source: str, code: str, version: int, step: str = "scale") -> None:
        """Have one media be what a recipe made of another, without arguments."""
        by = Derivation(
            media_id=source, code=code, version=version, arguments={}, fingerprint=fingerprint(source, code, version, {}), step=step
        )
        self.do(lambda catalog: catalog.derivatives.credit(child, by))

    def link(self, child: str, source: str, relationship: str = "small", key: str = "") -> None:
        """Have one media be what was made of another."""

        async def work(catalog: Catalog) -> None:
            async def write(connection: Any) -> None:
                values = {"source_id": source, "relationship": relationship, "derivation_key": key}
                await connection.execute(update(media).where(media.c.id == child).values(values))

            await catalog._transactions.write(write)

        self.do(work)
