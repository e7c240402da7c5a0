"""Migrations: they make the tables that the program means, run once however many start, and survive a kill at any statement (dangers 1.26)."""

import asyncio
import importlib
import os
import re
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text

from mediacdn.catalog.database import open_catalog
from mediacdn.catalog.engine import create_engine, sqlite_path
from mediacdn.catalog.migrate import CORE, migrate, pending
from mediacdn.catalog.tables import metadata
from mediacdn.config import Database
from mediacdn.errors import CatalogUnavailable, ConfigError, PluginError, StartupError
from mediacdn.hookspecs import Branch

pytestmark = pytest.mark.anyio

REVISIONS = sorted(each[1:5] for each in os.listdir(CORE.folder) if re.match("r[0-9]{4}_", each))


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A database that has never been migrated."""
    if request.param == "sqlite":
        yield Database(timeout=30)
        return
    server = request.getfixturevalue("postgres_server")
    name = server.create_database()
    yield Database(url=server.url(name), timeout=30)
    server.drop_database(name)


@pytest.fixture
def branch(tmp_path: Path) -> Callable[..., Branch]:
    """Write a plugin's branch whose revisions are given as SQL, in a folder with an awkward name."""

    def write(*statements: str) -> Branch:
        folder = tmp_path / "a plugin: 100%"
        folder.mkdir(exist_ok=True)
        for number, statement in enumerate(statements, 1):
            down = f'"p{number - 1}"' if number > 1 else "None"
            (folder / f"r{number}.py").write_text(
                f'from alembic import op\nrevision: str = "p{number}"\ndown_revision = {down}\n\n\ndef upgrade():\n    op.execute("{statement}")\n'
            )
        return Branch("plug", str(folder))

    return write


async def on(config: Database, data: Path, ask: Callable[[Any], Any]) -> Any:
    engine = create_engine(config, data)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(ask)
    finally:
        await engine.dispose()


async def test_from_nothing(empty: Database, tmp_path: Path) -> None:
    data = tmp_path / "not" / "there"
    assert await pending(empty, data)
    assert await migrate(empty, data) == REVISIONS
    assert not await pending(empty, data)
    assert await migrate(empty, data) == []


async def test_what_was_made_before_is_credited_to_tasks_that_are_kept(empty: Database, tmp_path: Path) -> None:
    await migrate(empty, tmp_path)
    required = {
        "media": {"id": "d", "source_id": "s"},
        "jobs": {"id": "j", "kind": "recipe", "code": "poster@2", "media_id": "s", "fingerprint": "f"},
    }
    steps = '[{"name": "look", "output": null}, {"name": "scale", "output": "d"}, {"name": "gone", "output": "e"}]'

    def before(connection: Any) -> None:
        connection.execute(text("DROP TABLE derivations"))
        connection.execute(text("ALTER TABLE jobs DROP COLUMN tracked"))
        for name, given in required.items():
            table = metadata.tables[name]
            # A value for every column that must have one, as the database keeps it.
            plain = {"BIGINT": 1, "INTEGER": 1, "BOOLEAN": False, "DOUBLE": 0.0, "TEXT": "{}"}
            row = {
                each.name: plain.get(str(each.type.compile()).split("(")[0].split(" ")[0], "{}")
                for each in table.c
                if not each.nullable and each.name != "tracked"
            }
            row |= given | ({"steps": steps, "arguments": '{"w":1}'} if name == "jobs" else {})
            connection.execute(text(f"INSERT INTO {name} ({', '.join(row)}) VALUES ({', '.join(':' + each for each in row)})"), row)
        connection.commit()

    def again(connection: Any) -> None:
        with Operations.context(MigrationContext.configure(connection)):
            importlib.import_module("mediacdn.catalog.migrations.versions.r0004_derivations").upgrade()
        connection.commit()

    await on(empty, tmp_path, before)
    await on(empty, tmp_path, again)
    [row] = await on(empty, tmp_path, lambda connection: connection.execute(text("SELECT * FROM derivations")).mappings().all())
    assert dict(row) == {
        "made": "d", "fingerprint": "f", "media_id": "s", "code": "poster", "version": 2, "arguments": '{"w":1}', "step": "scale",
    }  # fmt: skip


async def test_tables_are_those_of_the_program(empty: Database, tmp_path: Path) -> None:
    """Migrated tables equal `metadata.create_all`: columns, types, nullability, keys and indexes with their predicates."""
    await migrate(empty, tmp_path / "migrated")

    def describe(connection: Any) -> Any:
        look = inspect(connection)
        tables = {}
        for name in sorted(metadata.tables):
            columns = [{**column, "type": repr(column["type"])} for column in look.get_columns(name)]
            keys = [look.get_pk_constraint(name), look.get_foreign_keys(name), look.get_unique_constraints(name)]
            indexes = sorted(
                (
                    index["name"],
                    index["column_names"],
                    index["unique"],
                    sorted((key, str(value)) for key, value in index["dialect_options"].items()),
                )
                for index in look.get_indexes(name)
            )
            tables[name] = [columns, keys, indexes]
        return tables

    migrated = await on(empty, tmp_path / "migrated", describe)

    def build(connection: Any) -> Any:
        if connection.dialect.name == "postgresql":
            connection.execute(text("CREATE SCHEMA other"))
            connection.execute(text("SET search_path TO other"))
        metadata.create_all(connection)
        return describe(connection)

    (tmp_path / "built").mkdir()
    assert migrated == await on(empty, tmp_path / "built", build)


async def test_pending_does_not_import_alembic(empty: Database, tmp_path: Path) -> None:
    await migrate(empty, tmp_path)
    script = """
        import asyncio, sys
        from pathlib import Path
        from mediacdn.catalog.database import open_catalog
        from mediacdn.catalog.migrate import pending
        from mediacdn.config import Database
        config, data = Database(url=sys.argv[1], timeout=30), Path(sys.argv[2])
        assert asyncio.run(pending(config, data)) is False
        async def main():
            async with open_catalog(config, data, None):
                pass
        asyncio.run(main())
        assert "sqlalchemy" in sys.modules
        print("alembic" in sys.modules)
    """
    assert (await python(textwrap.dedent(script), empty.url, str(tmp_path))).strip() == "False"


async def python(script: str, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, *arguments, stdout=subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0, process.returncode
    return out.decode()


async def test_behind_is_refused(empty: Database, tmp_path: Path, clock: Any) -> None:
    with pytest.raises(StartupError, match="mediacdn migrate"):
        async with open_catalog(empty, tmp_path, clock):
            pass


async def test_another_folder_is_no_data_directory(tmp_path: Path, clock: Any) -> None:
    with pytest.raises(StartupError, match=f"no catalog in the data directory {re.escape(str(tmp_path))}.*--data"):
        async with open_catalog(Database(), tmp_path, clock):
            pass
    assert not os.listdir(tmp_path)


async def test_newer_is_refused(empty: Database, tmp_path: Path) -> None:
    await migrate(empty, tmp_path)

    def age(connection: Any) -> None:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        connection.commit()

    await on(empty, tmp_path, age)
    for act in (pending, migrate):
        with pytest.raises(StartupError, match="9999"):
            await act(empty, tmp_path)


async def test_branches(empty: Database, tmp_path: Path, branch: Callable[..., Branch]) -> None:
    first = branch("CREATE TABLE plug_one (id INTEGER)")
    assert await migrate(empty, tmp_path, [first]) == [*REVISIONS, "p1"]
    second = branch("CREATE TABLE plug_one (id INTEGER)", "CREATE TABLE plug_two (id INTEGER)")
    assert await pending(empty, tmp_path, [second])
    assert not await pending(empty, tmp_path), "a plugin that was taken out is in nobody's way"
    assert await migrate(empty, tmp_path, [second]) == ["p2"]
    assert not await pending(empty, tmp_path, [second])
    assert {"plug_one", "plug_two"} <= set(await on(empty, tmp_path, lambda connection: inspect(connection).get_table_names()))


async def test_failing_revision_leaves_nothing(empty: Database, tmp_path: Path, branch: Callable[..., Branch]) -> None:
    broken = branch("CREATE TABLE plug_one (id INTEGER)", "CREATE TABLE plug_one (id INTEGER)")
    with pytest.raises(Exception, match="plug_one"):
        await migrate(empty, tmp_path, [broken])
    assert await on(empty, tmp_path, lambda connection: inspect(connection).get_table_names()) == []


@pytest.mark.parametrize("label", ["", "Upper", "a-b", "1a", 'a"; --'])
async def test_branch_label(label: str, tmp_path: Path) -> None:
    with pytest.raises(PluginError):
        await pending(Database(), tmp_path, [Branch(label, str(tmp_path))])


async def test_branch_without_revisions(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="no revisions"):
        await pending(Database(), tmp_path, [Branch("plug", str(tmp_path))])


@pytest.mark.parametrize("url", ["mysql://u@h/d", "nonsense", "postgresql+psycopg://h/d"])
async def test_url(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"database\.url"):
        await pending(Database(url=url), tmp_path)


async def test_no_server(tmp_path: Path) -> None:
    for act in (pending, migrate):
        with pytest.raises(CatalogUnavailable):
            await act(Database(url="postgresql://postgres@127.0.0.1:1/none"), tmp_path)


async def test_a_missing_driver_is_told_with_what_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(ConfigError) as refused:
        create_engine(Database(url="postgresql://postgres@127.0.0.1:1/none"), tmp_path)
    assert refused.value.detail == "PostgreSQL needs a driver: pip install 'mediacdn[postgres]' (in a clone: make install EXTRAS=postgres)"


# Forks processes that migrate, after the imports, which take longer than the migration. `killed` names the event at whose n-th turn a child is killed.
FORKS = """
    import asyncio, os, signal, sys
    from pathlib import Path
    import alembic.command, alembic.ddl.postgresql, alembic.ddl.sqlite, aiosqlite, asyncpg
    from sqlalchemy import event, inspect
    from sqlalchemy.engine import Engine
    from mediacdn.catalog.engine import create_engine
    from mediacdn.catalog.migrate import CORE, migrate, pending
    from mediacdn.config import Database

    config, data = Database(url=sys.argv[1], timeout=30), Path(sys.argv[2])

    def forked(work):
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            try:
                print(asyncio.run(work()), flush=True)
                os._exit(0)
            finally:
                os._exit(1)
        return pid

    def ended(pid):
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def killed(left, moment):
        def die(*_):
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

        async def work():
            event.listen(Engine, moment, die)
            return await migrate(config, data)

        return forked(work)

    async def state():
        engine = create_engine(config, data)
        async with engine.connect() as connection:
            names = await connection.run_sync(lambda c: inspect(c).get_table_names())
        await engine.dispose()
        return await pending(config, data), len(names)
"""


async def forks(config: Database, data: Path, script: str) -> list[str]:
    return (await python(textwrap.dedent(FORKS) + textwrap.dedent(script), config.url, str(data))).splitlines()


async def test_starters_at_once(empty: Database, tmp_path: Path) -> None:
    told = await forks(
        empty, tmp_path / "data", "for pid in [forked(lambda: migrate(config, data)) for _ in range(6)]: assert ended(pid) == 0"
    )
    assert sorted(told) == [str(REVISIONS)] + ["[]"] * 5


async def test_killed_at_any_statement(empty: Database, tmp_path: Path) -> None:
    """Before the commit, and after every fourth statement: each kill leaves nothing, and the start that is not killed does it all."""
    script = """
        assert ended(killed(0, "commit")) == -signal.SIGKILL
        ended(forked(state))
        left = 0
        while ended(killed(left, "after_cursor_execute")) == -signal.SIGKILL:
            ended(forked(state))
            left += 4
        ended(forked(state))
    """
    *kills, last, state = await forks(empty, tmp_path, script)
    assert len(kills) > 5
    assert set(kills) == {"(True, 0)"}
    assert (last, state) == (str(REVISIONS), f"(False, {len(metadata.tables) + 1})")


async def test_embedded_settings(sqlite_template: Path) -> None:
    """A commit is on the disk when it returns; readers and the writer do not block one another; foreign keys hold."""

    def ask(connection: Any) -> dict[str, Any]:
        names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        return {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names}

    assert await on(Database(timeout=3), sqlite_template, ask) == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 2700,
    }
    with sqlite3.connect(f"file:{sqlite_path(sqlite_template)}?mode=ro", uri=True) as plain:
        assert plain.execute("PRAGMA journal_mode").fetchone() == ("wal",), "remembered by the file"
    plain.close()


async def test_the_catalog_is_its_owners_alone(tmp_path: Path, clock: Any) -> None:
    os.chmod(tmp_path, 0o755)
    before = os.umask(0)
    try:
        await migrate(Database(), tmp_path)
        async with open_catalog(Database(), tmp_path, clock) as catalog:
            await catalog.objects.intend("default", "originals/a")
            modes = {each.name: each.stat().st_mode & 0o777 for each in os.scandir(tmp_path) if each.name.startswith("catalog.sqlite3")}
    finally:
        os.umask(before)
    assert len(modes) == 3
    assert set(modes.values()) == {0o600}, modes
