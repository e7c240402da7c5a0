"""Where the server's processor time goes while one kind of GET is hot: microseconds a request on the event loop's thread, and cProfile's heaviest functions.

    python -m benchmarks.hotpath --size 10240 --signed

The real server runs in this process on one core and wrk on another; first without the profiler, for the figure, then with it, for the list.
"""

import argparse
import asyncio
import cProfile
import os
import pstats
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import uvloop

from benchmarks import cores, wrk
from mediacdn import logs
from mediacdn.app import create_app
from mediacdn.catalog.migrate import migrate
from mediacdn.cli.token import minted
from mediacdn.config import Config, Limits, Server
from mediacdn.plugins import Plugins
from mediacdn.server.run import serve


def _client(url: str, token: str, folder: Path, options: argparse.Namespace, connections: int = 32) -> wrk.Load:
    """In a thread of its own: store one media, and load it from the other core."""
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=60) as client:
        body = b"\x00\x01" + bytes(options.size - 2)
        media = client.post("/v1/media", content=body, params={"public": str(not options.signed).lower()}).json()["id"]
        path = f"/v1/media/{media}"
        if options.signed:
            path = httpx.URL(client.post(f"{path}/sign", json={"expires": 3600}).json()["url"]).raw_path.decode()
    with cores.pinned(options.load_core):
        return wrk.run(url, [path], options.seconds, connections, folder)


async def _measure(folder: Path, options: argparse.Namespace) -> None:
    limits = Limits(max_upload_size=10**9, uploads_per_second=0)
    config = Config(server=Server(port=0, data=str(folder), log_level=options.log_level), limits=limits)
    logs.configure(config.server.log_level, "json")
    await migrate(config.database, folder)
    plugins = Plugins.load(config.plugins)
    token = await minted(config, plugins, "admin", "admin", timedelta(hours=1))
    bound: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    server = asyncio.create_task(serve(create_app(config, plugins=plugins), config.server, ready=bound.set_result))
    server.add_done_callback(lambda _: bound.done() or bound.cancel())
    url = await bound
    try:
        await _loaded(url, token, folder, options, None)
        await _loaded(url, token, folder, options, cProfile.Profile())
    finally:
        server.cancel()
        await asyncio.wait({server})


async def _loaded(url: str, token: str, folder: Path, options: argparse.Namespace, profile: Any) -> None:
    began = time.thread_time()
    if profile is not None:
        profile.enable()
    load = await asyncio.to_thread(_client, url, token, folder, options)
    if profile is not None:
        profile.disable()
        pstats.Stats(profile).sort_stats("tottime").print_stats(options.lines)
    else:
        print(
            f"{(time.thread_time() - began) / load.requests * 1e6:.0f} us of the loop's thread a request, {load.requests / load.seconds:,.0f} requests/s"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=10_240, help="bytes of the media")
    parser.add_argument("--signed", action="store_true", help="read a private media by a signed link")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--lines", type=int, default=30, help="functions to list")
    parser.add_argument("--log-level", default="warning", choices=("info", "warning"), help="info writes the access log, to standard error")
    options = parser.parse_args()
    served, options.load_core = cores.pair()
    os.sched_setaffinity(0, {served})
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_measure(Path(folder), options))


if __name__ == "__main__":
    main()
