"""Ten thousand connections that do nothing, or next to it, and how long a probe's answers take among them.

    python -m benchmarks.crowd --hold URL --idle 5000 --dribbling 5000

Half of them have asked once and stay idle; the other half send a request a byte at a time, a byte a second, and connect again when the server has had enough of them. The crowd comes
from a process of its own and from several addresses of loopback.
"""

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks import cores, openloop
from benchmarks.machine import REPOSITORY, progress
from benchmarks.results import table
from benchmarks.server import Mediacdn
from benchmarks.wire import Wire, run

TITLE = "A probe among ten thousand connections"
CROWD = 10_000
RATE = 100
LIMIT, AIM = 100.0, 20.0
"""Milliseconds."""


def measure(*, full: bool) -> dict[str, Any]:
    """The run of `python -m benchmarks crowd`."""
    return measured(CROWD, 30.0 if full else 5.0)


def measured(crowd: int, seconds: float) -> dict[str, Any]:
    """Probe alone, then among so many connections, then alone again."""
    served, load = cores.pair()
    with tempfile.TemporaryDirectory(prefix="mediacdn-bench-") as folder:
        root = Path(folder)
        with cores.pinned(served):
            server = Mediacdn(root / "data", log=root / "mediacdn.log")
        try:
            paths = []
            for _ in range(50):
                (root / "source").write_bytes(b"\x00\x01" + os.urandom(10_238))
                paths.append(server.signed(server.upload(root / "source")))

            def probed(for_seconds: float) -> list[float]:
                times = openloop.finished(openloop.apart(server.url, paths, RATE, for_seconds, root, load))["times"]
                return [each / 1000 for each in times]

            probed(1.0)
            alone = probed(seconds / 2)
            memory = _resident(server.pid)
            command = ["taskset", "-c", str(load), sys.executable, "-m", "benchmarks.crowd", "--hold", server.url]
            command += ["--idle", str(crowd // 2), "--dribbling", str(crowd - crowd // 2)]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as holder:
                assert holder.stdout is not None
                assert holder.stdin is not None
                told = json.loads(holder.stdout.readline() or "{}")
                if told.get("open", 0) < crowd:
                    raise RuntimeError(f"only {told} of {crowd} connections stood")
                progress(f"{crowd:,} connections stand after {told['seconds']:.1f} s")
                meter, began = cores.Meter([server.pid]), time.monotonic()
                among = probed(seconds)
                busy = meter.used() / (time.monotonic() - began)
                grown = _resident(server.pid) - memory
                holder.stdin.write("enough\n")
                holder.stdin.flush()
                end = json.loads(holder.stdout.readline())
            alone += probed(seconds / 2)
        finally:
            server.stop()
    progress(f"p99 {_p99(alone):.2f} ms alone, {_p99(among):.2f} ms among {end['open']:,}")
    return {
        "crowd": crowd,
        "seconds": seconds,
        "stood": end["open"],
        "again": end["again"],
        "alone": {"p50": statistics.median(alone), "p99": _p99(alone)},
        "among": {"p50": statistics.median(among), "p99": _p99(among)},
        "busy": busy,
        "memory": grown / crowd,
    }


def _p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[98]


def _resident(pid: int) -> int:
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) * 1024


async def _hold(url: str, idle: int, dribbling: int) -> None:
    """Stand until a line comes on standard input; tells how many stand, first when all do and then at the end."""
    standing: set[int] = set()
    numbers, again = count(), 0
    slots = asyncio.Semaphore(100)

    async def one(slot: int, dribbles: bool) -> None:
        nonlocal again
        number = next(numbers)
        while True:
            with suppress(OSError, asyncio.IncompleteReadError):
                async with slots:
                    wire = await Wire.open(url, number)
                    if not dribbles:
                        await wire.ask("/healthz")
                standing.add(slot)
                request = wire.request("/healthz")
                if dribbles:
                    for at in range(len(request)):
                        if wire.reader.at_eof():
                            break
                        wire.writer.write(request[at : at + 1])
                        await asyncio.sleep(1)
                else:
                    await wire.reader.read(1)
                wire.close()
            standing.discard(slot)
            again += 1

    began = time.monotonic()
    tasks = [asyncio.create_task(one(slot, slot >= idle)) for slot in range(idle + dribbling)]
    while len(standing) < idle + dribbling and time.monotonic() - began < 60:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    again = 0
    print(json.dumps({"open": len(standing), "seconds": time.monotonic() - began}), flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    print(json.dumps({"open": len(standing), "again": again}), flush=True)
    for each in tasks:
        each.cancel()
    await asyncio.wait(tasks)


def section(outcome: dict[str, Any]) -> str:
    """The outcome for RESULTS.md."""
    rows = [
        ("alone", f"{outcome['alone']['p50']:.2f}", f"{outcome['alone']['p99']:.2f}", ""),
        (
            f"among {outcome['crowd']:,} connections",
            f"{outcome['among']['p50']:.2f}",
            f"**{outcome['among']['p99']:.2f}**",
            f"under {LIMIT:g} (aim {AIM:g})",
        ),
    ]
    return f"""{table(("a probe, 100 signed hits a second", "median ms", "p99 ms", "to reach"), rows)}

Half of the crowd has asked once and is idle, the other half sends a byte of its request each second; {outcome["again"]:,} of them were closed by the server's deadlines in {outcome["seconds"]:.0f} s and came back, and
{outcome["stood"]:,} stood at the end. They cost {outcome["memory"] / 1024:.1f} KiB of resident memory each and {outcome["busy"]:.0%} of the server's core, the probe included. Times count from the moment a request was due."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hold", required=True, metavar="URL")
    parser.add_argument("--idle", type=int, default=CROWD // 2)
    parser.add_argument("--dribbling", type=int, default=CROWD // 2)
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    run(lambda: _hold(options.hold, options.idle, options.dribbling))


if __name__ == "__main__":
    main()
