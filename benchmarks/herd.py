"""A herd: a thousand clients that ask for one key which nobody has read yet, at once, and how often the origin was read for all of them.

The origin is 50 ms away and writes down every read (origin.py). A fresh key is used in each round, and one round a size: a single slice, and an object of several slices.
"""

import asyncio
import os
import statistics
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.machine import progress
from benchmarks.origin import Origin
from benchmarks.results import table
from benchmarks.server import Mediacdn
from benchmarks.wire import opened, run

TITLE = "A thousand misses of one key"
CLIENTS = 1000
SLICE = 4_194_304
SIZES = {"10 KB": 10_240, "10 MB": 10_000_000}
PROCESSES = (1, 4)


def measure(*, full: bool) -> dict[str, Any]:
    """The run of `python -m benchmarks herd`."""
    return measured(PROCESSES, rounds=5 if full else 2, clients=CLIENTS)


def measured(processes: tuple[int, ...], *, rounds: int, clients: int) -> dict[str, Any]:
    """Let the herd loose on servers of so many processes. Raises: RuntimeError for a wrong answer."""
    told = []
    for number in processes:
        for name, size in SIZES.items():
            # A thousand times 10 MB through Python on a shared core takes minutes and shows nothing more than fifty do.
            told.append(_herds(number, name, size, rounds, clients if size <= SLICE else clients // 20))
    return {"rounds": rounds, "results": told}


def _herds(processes: int, name: str, size: int, rounds: int, clients: int) -> dict[str, Any]:
    reads, heads, took = [], [], []
    with tempfile.TemporaryDirectory(prefix="mediacdn-bench-") as folder:
        origin = Origin(Path(folder))
        server = Mediacdn(
            Path(folder) / "data",
            server="max_connections_per_address = 4096",
            toml=origin.toml,
            plugins=origin.plugins,
            workers=processes,
            environ=origin.environ,
        )
        try:
            for number in range(rounds):
                source = Path(folder) / "source"
                body = b"\x00\x01" + os.urandom(size - 2)
                source.write_bytes(body)
                link = server.signed(server.upload(source))
                origin.forget()
                took.append(run(lambda: _herd(server, processes, link, body, clients)))  # noqa: B023
                counted = origin.counted()
                reads.append(counted["open"])
                heads.append(counted["head"])
                progress(
                    f"{processes} processes, {name}, round {number + 1}: {clients} answers in {took[-1]:.2f} s, {reads[-1]} reads of the origin"
                )
        finally:
            server.stop()
    return {
        "processes": processes,
        "name": name,
        "slices": -(-size // SLICE),
        "clients": clients,
        "reads": reads,
        "heads": heads,
        "seconds": statistics.median(took),
    }


async def _herd(server: Mediacdn, processes: int, link: str, body: bytes, clients: int) -> float:
    """All connect first, then all ask; gives the seconds until the last has its whole answer."""
    wires = await opened(server.url, clients, count())
    await asyncio.gather(*(each.ask("/healthz") for each in wires))
    if (held := server.holders()) != processes:
        raise RuntimeError(f"the clients reach {held} of {processes} server processes")
    ask = wires[0].request(link)
    began = time.perf_counter()
    for each in wires:
        each.writer.write(ask)
    answers = await asyncio.gather(*(each.answer() for each in wires))
    took = time.perf_counter() - began
    for each in wires:
        each.close()
    if wrong := [each for each in answers if each.status != 200 or each.body != body]:
        raise RuntimeError(f"{len(wrong)} of {clients} answers were wrong, such as {wrong[0].status}, {len(wrong[0].body)} bytes")
    return took


def section(outcome: dict[str, Any]) -> str:
    """The outcome for RESULTS.md."""
    rows = [
        (
            f"{each['name']}, {each['processes']} server process{'es' if each['processes'] > 1 else ''}",
            f"{each['clients']:,}",
            f"{each['slices']}",
            f"**{max(each['reads'])}**",
            ", ".join(map(str, each["reads"])),
            f"{max(each['heads'])}",
            f"{each['seconds']:.2f} s",
        )
        for each in outcome["results"]
    ]
    heads = ("object", "clients", "slices", "most reads of the origin", "by round", "most heads", "until the last had all")
    return f"""{table(heads, rows)}

All clients are connected before the first asks, and ask for a private object by one link at once; each answer is compared byte by byte. The storage answers after 50 ms and writes down
every read; a read fetches one slice, so that an object of one slice should cost one."""
