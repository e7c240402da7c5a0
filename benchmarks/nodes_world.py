"""The world of benchmarks.nodes: PostgreSQL, Valkey, S3, two API nodes and two workers behind nginx, and a plugin whose action writes down that it was run."""

import asyncio
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
from msgspec import Struct

from tests.services.nodes import Nodes, many_nodes, s3_storage
from tests.services.postgres import PostgresServer
from tests.services.swift import SwiftServer
from tests.services.valkey import ValkeyServer

PLUGIN = """
import os
from contextlib import asynccontextmanager
from msgspec import Struct
from mediacdn import Argument, Driver, Made, Recipe, Step, hookimpl


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    file: str


class Tally:
    arguments = (Argument(name="n", type="integer", min=0),)
    accepts = ("*/*",)

    def __init__(self, file):
        self._file = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    async def run(self, source, spec, sink):
        os.write(self._file, f"{spec['n']}\\n".encode())
        return Made()


@asynccontextmanager
async def opened(config, kit):
    yield Tally(config.file)


@hookimpl
def mediacdn_drivers():
    return [Driver("action", "tally", Settings, opened)]


@hookimpl
def mediacdn_recipes():
    step = Step(name="tally", action="tally", spec={"n": "${n}"})
    return [Recipe(code="tally", version=1, accepts=("*/*",), arguments=Tally.arguments, steps=(step,))]
"""


FAULTS = ("s3", "s3, silent", "redis", "redis, silent", "postgresql", "postgresql, silent", "one API node", "one worker")
"""All there are, in the order in which they are played; those of S3 where it is started here."""


class Engines(Struct, frozen=True):
    """What a storage other than the S3 service that is started here needs: the TOML of its table, and the plugins that bring it. "folder" is a shared folder."""

    storage: str = ""
    plugins: tuple[str, ...] = ()


class World:
    """Everything, running. `tally` is the file of the action."""

    def __init__(
        self, nodes: Nodes, postgres: PostgresServer, valkey: ValkeyServer, s3: SwiftServer | None, database: str, tally: Path
    ) -> None:
        self.nodes = nodes
        self.postgres = postgres
        self.valkey = valkey
        self.s3 = s3
        self.tally = tally
        self._database = database

    def rows(self, statement: str, *values: object) -> Sequence[Any]:
        """Ask the database."""

        async def ask() -> Sequence[Any]:
            connection = await asyncpg.connect(self.postgres.url(self._database), timeout=5)
            try:
                return list(await connection.fetch(statement, *values))
            finally:
                await connection.close()

        return asyncio.run(ask())

    def jobs(self) -> dict[str, int]:
        """How many jobs there are, by state."""
        return {row["state"]: row["count"] for row in self.rows("SELECT state, count(*) AS count FROM jobs GROUP BY state")}

    def faults(self) -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
        """How each part is taken away, by kill -9 unless it says otherwise, and brought back."""
        node, worker = self.nodes.nodes[1], self.nodes.workers[1]
        storage = {} if self.s3 is None else {"s3": (self.s3.kill, self.s3.start), "s3, silent": (self.s3.pause, self.s3.resume)}
        return {
            **storage,
            "redis": (self.valkey.kill, self.valkey.start),
            "redis, silent": (self.valkey.pause, self.valkey.resume),
            "postgresql": (self.postgres.kill, self.postgres.start),
            "postgresql, silent": (self.postgres.pause, self.postgres.resume),
            "one API node": (node.kill, node.start),
            "one worker": (worker.kill, worker.start),
        }


@contextmanager
def world(engines: Engines, toml: str = "") -> Iterator[World]:
    """The world until the context is left."""
    with tempfile.TemporaryDirectory(prefix="mediacdn-bench-") as name:
        folder = Path(name)
        info = folder / "plugin" / "tallying-1.0.dist-info"
        info.mkdir(parents=True)
        (folder / "plugin" / "tallying.py").write_text(PLUGIN)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tallying\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[mediacdn]\ntallying = tallying\n")
        postgres, valkey, left = PostgresServer.create(), ValkeyServer(), ExitStack()
        try:
            s3, storage, plugins = None, engines.storage, engines.plugins
            if not storage:
                s3, storage = left.enter_context(s3_storage(folder / "s3"))
                plugins = ("s3",)
            postgres.start()
            valkey.start()
            database = postgres.create_database()
            tally = folder / "tally"
            with many_nodes(
                folder,
                postgres.url(database),
                valkey.url,
                storage="" if storage == "folder" else storage,
                plugins=(*plugins, "tallying"),
                environ={
                    "PYTHONPATH": str(folder / "plugin"),
                    "MEDIACDN_RECIPES__TALLY__FILE": str(tally),
                    "MEDIACDN_JOBS__LANES": '{"interactive": 2, "images": 4}',
                },
                toml=toml,
            ) as nodes:
                yield World(nodes, postgres, valkey, s3, database, tally)
        finally:
            left.close()
            valkey.destroy()
            postgres.destroy()
