"""`mediacdn worker`: the worker process, alone or tethered to a server."""

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mediacdn.cli.verb import Verb, answer, settings, with_settings
from mediacdn.errors import StartupError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mediacdn.config import Config


@click.command(cls=Verb, name="worker")
@click.option("--queues", metavar="NAME,…", help="Take jobs of these queues only; sweeping is done by every worker.  [default: all]")
@click.option("--concurrency", type=click.IntRange(1, 1024), help="How many jobs of each queue at once.  [default: jobs.lanes]")
@click.option("--tethered", is_flag=True, hidden=True, help="End when standard input closes.")
@with_settings
def command(
    queues: str | None, concurrency: int | None, tethered: bool, config_file: Path | None, data: Path | None, as_json: bool
) -> None:
    """Do the work that no request waits for: jobs, and sweeping what crashes and deletions leave. Ends with SIGTERM or Ctrl-C, after what runs."""
    from mediacdn import logs
    from mediacdn.server.loop import run

    config = settings(config_file, data).config
    writer = logs.configure(config.server.log_level, config.server.log_format)
    try:
        run(_work(config, queues, concurrency, tethered=tethered, as_json=as_json))
    finally:
        writer.drain()


async def _work(config: "Config", queues: str | None, concurrency: int | None, *, tethered: bool, as_json: bool) -> None:
    import asyncio

    loop = asyncio.get_running_loop()
    ending = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, ending.set)
    if tethered:
        from mediacdn.cli.companion import tether

        def let_go() -> None:
            loop.call_soon_threadsafe(ending.set)

        tether(let_go)
    from mediacdn.catalog.migrate import pending
    from mediacdn.plugins import Plugins
    from mediacdn.worker_app import run_worker

    plugins = Plugins.load(config.plugins)
    if await pending(config.database, Path(config.server.data), plugins.branches()):
        raise StartupError("the catalog's tables are behind this program: run `mediacdn migrate`")
    if as_json:
        answer({"worker": "started", "pid": os.getpid()})
    await run_worker(config, ending, plugins=plugins, lanes=chosen(config.lanes, queues, concurrency))


def chosen(lanes: "Mapping[str, int]", queues: str | None, concurrency: int | None) -> "Mapping[str, int]":
    """The lanes that this worker works: the configured ones, those named in `queues` alone, each with `concurrency` where that is given. Raises: UsageError."""
    names = list(lanes) if queues is None else [each.strip() for each in queues.split(",") if each.strip()]
    if unknown := [each for each in names if each not in lanes]:
        raise click.UsageError(f"no such queue: {', '.join(unknown)}; jobs.lanes has {', '.join(lanes)}")
    return {each: concurrency or lanes[each] for each in names}
