"""`mediacdn worker`: the worker process, alone or tethered to a server."""

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mediacdn.cli.verb import Verb, answer, settings, with_settings
from mediacdn.errors import StartupError

if TYPE_CHECKING:
    from mediacdn.config import Config


@click.command(cls=Verb, name="worker")
@click.option("--queues", metavar="NAME,…", help="Take jobs of these queues only; sweeping is done by every worker.  [default: all]")
@click.option("--concurrency", type=click.IntRange(1, 1024), help="How many jobs at once.  [default: the number of CPUs]")
@click.option("--tethered", is_flag=True, hidden=True, help="End when standard input closes.")
@with_settings
def command(
    queues: str | None, concurrency: int | None, tethered: bool, config_file: Path | None, data: Path | None, as_json: bool
) -> None:
    """Do the work that no request waits for: today sweeping what crashes and deletions leave. Ends with SIGTERM or Ctrl-C."""
    import asyncio

    from mediacdn import logs

    config = settings(config_file, data).config
    writer = logs.configure(config.server.log_level, config.server.log_format)
    try:
        asyncio.run(_work(config, tethered=tethered, as_json=as_json))
    finally:
        writer.drain()


async def _work(config: "Config", *, tethered: bool, as_json: bool) -> None:
    import asyncio

    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    ending = False

    def end() -> None:
        nonlocal ending
        if not ending:  # a signal and the tether may come together, and a second cancellation would break the closing
            ending = True
            task.cancel()

    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, end)
    if tethered:
        from mediacdn.cli.companion import tether

        def let_go() -> None:
            loop.call_soon_threadsafe(end)

        tether(let_go)
    try:
        from mediacdn.app import run_worker
        from mediacdn.catalog.migrate import pending
        from mediacdn.plugins import Plugins

        plugins = Plugins.load(config.plugins)
        if await pending(config.database, Path(config.server.data), plugins.branches()):
            raise StartupError("the catalog's tables are behind this program: run `mediacdn migrate`")
        if as_json:
            answer({"worker": "started", "pid": os.getpid()})
        await run_worker(config, plugins=plugins)
    except asyncio.CancelledError:
        return
