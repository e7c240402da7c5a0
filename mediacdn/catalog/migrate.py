"""Bringing the tables forward: cheap to ask whether it is needed, safe to run from several starters at once, and whole or not at all wherever it is killed.

Each branch (the core's and each plugin's) is its own line of revisions with its own version table, so that a plugin can be taken out without
leaving a revision that nobody knows. All that is pending, of all branches, is one transaction: DDL is transactional on both databases.
"""

import ast
import asyncio
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
from sqlalchemy import Connection, Text, column, inspect, select, table, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection

from mediacdn.catalog.engine import create_engine, sqlite_path
from mediacdn.catalog.faults import driver_errors, translated
from mediacdn.config import Database
from mediacdn.errors import MediaError, PluginError, StartupError
from mediacdn.hookspecs import Branch

MIGRATIONS = Path(__file__).parent / "migrations"
CORE = Branch("core", str(MIGRATIONS / "versions"))

# Any number that no other program on the same PostgreSQL uses as an advisory lock: "mediacdn" in ASCII.
LOCK = int.from_bytes(b"mediacdn", "big")

PATIENCE = 60.0
"""Seconds that one statement may take, or the wait for another starter's migration on SQLite."""


async def pending(config: Database, data: Path, branches: Sequence[Branch] = ()) -> bool:
    """Tell whether `migrate` has something to do. Raises: CatalogUnavailable, ConfigError; StartupError when the tables are newer than this program."""
    known = [(branch, _revisions(branch)) for branch in (CORE, *branches)]
    if not config.url and not await anyio.Path(sqlite_path(data)).exists():
        return True
    engine = create_engine(config, data)
    try:
        async with asyncio.timeout(config.deadline), engine.connect() as connection:
            stored = await connection.run_sync(_stored, [branch for branch, _ in known])
    except Exception as error:
        raise translated(error, driver_errors(engine.dialect.name)) from error
    finally:
        await engine.dispose()
    return any(_behind(branch, revisions, stored[branch.label]) for branch, revisions in known)


async def migrate(config: Database, data: Path, branches: Sequence[Branch] = ()) -> list[str]:
    """Apply what is pending and tell the applied revisions in order; [] when another starter has done it. Raises: as `pending`."""
    if not config.url:
        await anyio.Path(data).mkdir(parents=True, exist_ok=True)
    engine = create_engine(config, data, patience=PATIENCE)
    try:
        if not config.url:
            # SQLite would leave it readable to all, and its companions take its mode; a data directory of the operator's own may be open.
            await anyio.Path(sqlite_path(data)).touch(0o600)
        async with engine.connect() as connection:
            if engine.dialect.name == "sqlite":
                await _lock_sqlite(connection)
            else:
                await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
            applied = await connection.run_sync(_upgrade, (CORE, *branches))
            await connection.commit()
            return applied
    except MediaError:
        raise
    except Exception as error:
        raise translated(error, driver_errors(engine.dialect.name)) from error
    finally:
        await engine.dispose()


async def _lock_sqlite(connection: AsyncConnection) -> None:
    """Turn the file to WAL, which it then remembers, and begin as its only writer."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                # Not within a transaction, and another starter doing the same makes it fail at once, without the busy timeout.
                await connection.exec_driver_sql("PRAGMA journal_mode = WAL")
                await connection.exec_driver_sql("BEGIN IMMEDIATE")
            except OperationalError as error:
                if not getattr(error.orig, "sqlite_errorname", "").startswith("SQLITE_BUSY"):
                    raise
                await asyncio.sleep(0.02)
            else:
                return


def _revisions(branch: Branch) -> dict[str, set[str]]:
    """Read which revisions a branch has and what each follows, from the text of its files: executing them would need alembic."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", branch.label):
        raise PluginError(f"The migration branch {branch.label!r} needs a label of the letters a-z, digits and _")
    found: dict[str, set[str]] = {}
    for path in Path(branch.folder).glob("*.py"):
        values: dict[str, Any] = {}
        for node in ast.parse(path.read_bytes()).body:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
            for target in targets:
                if (
                    isinstance(target, ast.Name)
                    and target.id in {"revision", "down_revision"}
                    and isinstance(node, ast.Assign | ast.AnnAssign)
                ):
                    values[target.id] = ast.literal_eval(node.value) if node.value is not None else None
        if "revision" in values:
            below = values.get("down_revision") or ()
            found[values["revision"]] = {below} if isinstance(below, str) else set(below)
    if not found:
        raise PluginError(f"The migration branch {branch.label!r} has no revisions in {branch.folder}")
    return found


def _version_table(branch: Branch) -> str:
    return "alembic_version" if branch.label == CORE.label else f"alembic_version_{branch.label}"


def _stored(connection: Connection, branches: Sequence[Branch]) -> dict[str, set[str]]:
    present = set(inspect(connection).get_table_names())
    number = column("version_num", Text)
    return {
        branch.label: set(connection.scalars(select(number).select_from(table(name))))
        if (name := _version_table(branch)) in present
        else set()
        for branch in branches
    }


def _behind(branch: Branch, revisions: dict[str, set[str]], stored: set[str]) -> bool:
    if unknown := stored - revisions.keys():
        raise StartupError(f"The catalog's tables ({branch.label}) are newer than this program: it does not know revision {min(unknown)}")
    return stored != revisions.keys() - set().union(*revisions.values())


def _upgrade(connection: Connection, branches: Sequence[Branch]) -> list[str]:
    """Apply what is still pending now that the lock is held."""
    applied: list[str] = []
    stored = _stored(connection, branches)
    for branch in branches:
        if _behind(branch, _revisions(branch), stored[branch.label]):
            _apply(connection, branch, applied)
    return applied


def _apply(connection: Connection, branch: Branch, applied: list[str]) -> None:
    from alembic import command
    from alembic.config import Config

    settings = Config()
    for name, value in {
        "script_location": str(MIGRATIONS),
        "version_locations": branch.folder,
        "path_separator": "newline",  # so that a folder's name may hold a blank or a colon
    }.items():
        settings.set_main_option(name, value.replace("%", "%%"))
    settings.attributes.update(
        connection=connection,
        version_table=_version_table(branch),
        on_apply=lambda *, step, **_: applied.append(step.up_revision_id),
    )
    command.upgrade(settings, "heads")
