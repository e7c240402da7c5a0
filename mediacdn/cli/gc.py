"""`mediacdn gc`: remove what crashes and deletions left, now instead of at the worker's next round."""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mediacdn.cli.verb import Verb, answer, log_on_stderr, settings, with_settings
from mediacdn.errors import StartupError

if TYPE_CHECKING:
    from mediacdn.config import Config


@click.command(cls=Verb, name="gc")
@click.option("--dry-run", is_flag=True, help="Name what would be removed, and remove nothing.")
@with_settings
def command(dry_run: bool, config_file: Path | None, data: Path | None, as_json: bool) -> None:
    """Remove the bytes of uploads whose writer died, of abandoned uploads in parts, and of deleted media. Safe beside a running server."""
    import asyncio

    config = settings(config_file, data).config
    with log_on_stderr(config):
        swept = asyncio.run(_sweep(config, dry_run=dry_run))
    if as_json:
        answer({"dry_run": dry_run, "objects": [{"storage": storage, "key": key} for storage, key in swept]})
        return
    for storage, key in swept:
        click.echo(f"{storage}:{key}")
    click.echo(f"{len(swept)} objects {'would be removed' if dry_run else 'removed'}")


async def _sweep(config: "Config", *, dry_run: bool) -> list[tuple[str, str]]:
    from prometheus_client import CollectorRegistry

    from mediacdn.catalog.migrate import pending
    from mediacdn.drivers import open_drivers
    from mediacdn.plugins import Plugins
    from mediacdn.worker_app import sweeper

    plugins = Plugins.load(config.plugins)
    if await pending(config.database, Path(config.server.data), plugins.branches()):
        raise StartupError("the catalog's tables are behind this program: run `mediacdn migrate`")
    abandoned, moved = (timedelta(seconds=each) for each in (config.lifecycle.abandoned_after, config.lifecycle.moved_grace))
    async with open_drivers(config, plugins, CollectorRegistry(), use="tend") as opened:
        lifecycle, ages = sweeper(opened), config.lifecycle
        swept = await lifecycle.sweep(abandoned, moved=moved, dry_run=dry_run)
        parts = timedelta(seconds=ages.abandoned_parts_after)
        return swept + await lifecycle.reap_parts(parts, opened.catalog.uploads.parts_held, dry_run=dry_run)
