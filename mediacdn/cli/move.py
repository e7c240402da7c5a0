"""`mediacdn move`: media to another storage, while they are read."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mediacdn.cli.verb import Size, Verb, answer, log_on_stderr, settings, with_settings
from mediacdn.errors import StartupError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mediacdn.catalog.selection import Selection
    from mediacdn.config import Config
    from mediacdn.drivers import Opened
    from mediacdn.model import Change


@click.command(cls=Verb, name="move")
@click.option("--to", required=True, metavar="STORAGE", help="The storage they go to.")
@click.option(
    "--where",
    multiple=True,
    metavar="NAME=VALUE",
    help="Which media: id, owner, tag, type, public, variant, storage, min_size, max_size, before or after; all that are given must hold. "
    "A tag holds for what was made of its media too.",
)
@click.option("--all", "everything", is_flag=True, help="All media, where no condition is given.")
@click.option("--rate", type=Size(), default="0", metavar="BYTES", help="Bytes a second at most, such as 20M.  [default: no limit]")
@click.option("--dry-run", is_flag=True, help="Name what would be moved, and move nothing.")
@with_settings
def command(
    to: str, where: tuple[str, ...], everything: bool, rate: int, dry_run: bool, config_file: Path | None, data: Path | None, as_json: bool
) -> None:
    """Move media to another storage: copied, verified by digest, then pointed to. Safe beside a running server, whose readers notice nothing.

    The same command goes on where an interrupted one was ended. The old bytes go with the sweep, lifecycle.moved_grace later.
    """
    import asyncio

    from mediacdn.catalog.selection import selection

    if bool(where) == everything:
        raise click.UsageError("give conditions with --where, or --all")
    chosen = selection(where)
    config = settings(config_file, data).config
    with log_on_stderr(config):
        told = asyncio.run(_move(config, chosen, to, rate, dry_run=dry_run, quiet=as_json))
    if as_json:
        answer(told)
    else:
        how = "would be moved" if dry_run else f"moved, {told['copied']} of them copied"
        click.echo(f"{told['objects']} objects of {told['records']} records, {told['bytes']} bytes {how}")
    if told["failed"]:
        raise SystemExit(1)


async def _move(config: "Config", chosen: "Selection", to: str, rate: int, *, dry_run: bool, quiet: bool) -> dict[str, Any]:
    from mediacdn.drivers import mover
    from mediacdn.storage.transfer import Throttle

    told: dict[str, Any] = {"to": to, "dry_run": dry_run, "objects": 0, "records": 0, "bytes": 0, "copied": 0, "failed": []}
    if dry_run:
        told["items"] = []
    async with opened_beside(config) as opened:
        async for each in mover(opened, _leave).each(chosen, to, throttle=Throttle(rate), dry_run=dry_run):
            stored = each.stored
            if each.error is not None:
                told["failed"].append({"storage": stored.storage, "key": stored.key, "error": each.error})
            elif each.records:
                told["objects"] += 1
                told["records"] += each.records
                told["bytes"] += stored.size
                told["copied"] += stored.size if each.copied else 0
                if dry_run:
                    told["items"].append({"storage": stored.storage, "key": stored.key, "size": stored.size})
            if not quiet and (each.records or each.error):
                click.echo(f"{stored.storage}:{stored.key}  {stored.size} bytes" + (f"  {each.error}" if each.error else ""))
    return told


async def _leave(changes: "Sequence[Change]") -> None:
    """Those who serve learn of it by their own sweep; until then the old place is good."""


@asynccontextmanager
async def opened_beside(config: "Config") -> "AsyncIterator[Opened]":
    """Open catalog and storages beside a running server. Raises: StartupError."""
    from prometheus_client import CollectorRegistry

    from mediacdn.catalog.migrate import pending
    from mediacdn.drivers import open_drivers
    from mediacdn.plugins import Plugins

    plugins = Plugins.load(config.plugins)
    if await pending(config.database, Path(config.server.data), plugins.branches()):
        raise StartupError("the catalog's tables are behind this program: run `mediacdn migrate`")
    async with open_drivers(config, plugins, CollectorRegistry(), use="tend") as opened:
        yield opened
