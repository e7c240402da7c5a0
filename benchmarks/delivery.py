"""Reads of media beside nginx: the same bytes on the same file system, each server pinned to the same core in turn, the load on the other core.

Servers alternate within every round and a ratio is made of two neighbours in time, so that a machine that grows slower meanwhile touches both.
"""

import hashlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from msgspec import Struct

from benchmarks import cores, reader, wrk
from benchmarks.machine import progress
from benchmarks.peers.nginx import Nginx
from benchmarks.results import table
from benchmarks.server import Mediacdn

TITLE = "Delivery beside nginx"
MANY = 64
"""Objects of one size asked for in turn: one alone would flatter whoever remembers the last answer."""


class Case(Struct, frozen=True):
    """A comparison: what is read, over how many connections, the ratio to reach, and whether both write an access log.

    With `discards` a reader does it that leaves the bytes in the kernel, else wrk, which copies them 8 KB at a time.
    """

    name: str
    size: str
    connections: int
    aim: float | None = None
    discards: bool = False
    signed: bool = False
    logged: bool = False

    @property
    def streams(self) -> bool:
        """Whether the rate is of bytes, because answers are too long to be counted."""
        return SIZES[self.size][1] == 1


CASES = (
    Case("1 MB public", "1MB", 16, aim=0.6),
    Case("1 MB public, discarded", "1MB", 16, aim=0.6, discards=True),
    Case("256 MB public, discarded", "256MB", 4, aim=0.8, discards=True),
    Case("10 KB public", "10KB", 32),
    Case("10 KB signed", "10KB", 32, signed=True),
    Case("1 MB public, both log", "1MB", 16, logged=True),
    Case("10 KB public, both log", "10KB", 32, logged=True),
)
SIZES = {"10KB": (10_240, MANY), "1MB": (1_048_576, 16), "256MB": (268_435_456, 1)}


class Round(Struct, frozen=True):
    """One server's part of one round: answers or bytes a second, processor seconds of the server a second and microseconds an answer or MB, and the slowest
    hundredth in microseconds (0 where it is not known)."""

    rate: float
    busy: float
    cost: float
    p99: float


class Side:
    """A started server and the paths of each size on it."""

    def __init__(self, url: str, pid: int, paths: dict[tuple[str, bool], list[str]]) -> None:
        self.url = url
        self.paths = paths
        self._pids = cores.family(pid)

    def round(self, case: Case, seconds: float, folder: Path) -> Round:
        paths = self.paths[case.size, case.signed]
        before, began = cores.spent(self._pids), time.perf_counter()
        if case.discards:
            answers, count, took = reader.read(self.url, paths, seconds, case.connections)
            units, p99 = (count / 1e6 if case.streams else float(answers)), 0.0
            rate = (count if case.streams else answers) / took
        else:
            load = wrk.run(self.url, paths, seconds, case.connections, folder)
            rate, units, p99 = load.requests / load.seconds, float(load.requests), load.p99
        used = cores.spent(self._pids) - before
        return Round(rate, used / (time.perf_counter() - began), used / units * 1e6, p99)


def measure(*, full: bool) -> dict[str, Any]:
    """Measure every case; tells the rounds and what came of them."""
    rounds, seconds = (5, 3.0) if full else (2, 2.0)
    with tempfile.TemporaryDirectory(prefix="mediacdn-bench-") as folder:
        files = _files(Path(folder))
        results = [
            *_compare([case for case in CASES if not case.logged], files, Path(folder) / "plain", rounds, seconds),
            *_compare([case for case in CASES if case.logged], files, Path(folder) / "logged", rounds, seconds, logged=True),
        ]
    return {"rounds": rounds, "seconds": seconds, "results": results}


def _files(folder: Path) -> dict[str, list[Path]]:
    """What both serve; written here, so that the pages of all of it are in memory."""
    made: dict[str, list[Path]] = {}
    for name, (size, count) in SIZES.items():
        made[name] = [folder / f"{name}-{number}.bin" for number in range(count)]
        for file in made[name]:
            file.write_bytes(b"\x00\x01" + os.urandom(size - 2))
    return made


def _compare(
    cases: list[Case], files: dict[str, list[Path]], root: Path, rounds: int, seconds: float, *, logged: bool = False
) -> list[Any]:
    root.mkdir()
    served, load = cores.pair()
    stops: list[Callable[[], None]] = []
    try:
        with cores.pinned(served):
            ours = Mediacdn(root / "data", log=root / "mediacdn.log" if logged else None)
            stops.append(ours.stop)
            theirs = Nginx(root, f"{root}/access.log combined buffer=64k flush=1s" if logged else "off")
            stops.append(theirs.stop)
        progress("storing the files")
        sides = (
            Side(ours.url, ours.pid, _stored(ours, {case.size for case in cases}, files)),
            Side(theirs.url, theirs.pid, _linked(theirs, root / "files", files)),
        )
        for size, signed in {(case.size, case.signed) for case in cases}:
            _same(sides, size, signed)
        measured: dict[str, list[tuple[Round, Round]]] = {case.name: [] for case in cases}
        with cores.pinned(load):
            for number in range(rounds + 1):
                for case in cases:
                    # The first round is not counted, and short: it opens files, fills caches and settles the clock of the core.
                    each = seconds if number else 1.0
                    order = sides if number % 2 else sides[::-1]
                    first, second = (side.round(case, each, root) for side in order)
                    ours_now, theirs_now = (first, second) if number % 2 else (second, first)
                    if number:
                        measured[case.name].append((ours_now, theirs_now))
                        progress(f"round {number} of {rounds}, {case.name}: {ours_now.rate / theirs_now.rate:.2f} of nginx")
    finally:
        for stop in stops:
            stop()
    return [_told(case, measured[case.name]) for case in cases]


def _stored(server: Mediacdn, sizes: set[str], files: dict[str, list[Path]]) -> dict[tuple[str, bool], list[str]]:
    paths: dict[tuple[str, bool], list[str]] = {}
    for size in sizes:
        paths[size, False] = [f"/v1/media/{server.upload(file, public='true')}" for file in files[size]]
    paths["10KB", True] = [server.signed(server.upload(file)) for file in files["10KB"]]
    return paths


def _linked(server: Nginx, root: Path, files: dict[str, list[Path]]) -> dict[tuple[str, bool], list[str]]:
    for file in (file for each in files.values() for file in each):
        (root / file.name).hardlink_to(file)
    paths = {(size, False): [f"/{file.name}" for file in each] for size, each in files.items()}
    paths["10KB", True] = [server.signed(file.name, int(time.time()) + 86400) for file in files["10KB"]]
    return paths


def _same(sides: tuple[Side, Side], size: str, signed: bool) -> None:
    """Both give the same bytes under an ETag, and refuse a link whose signature was touched."""
    digests = set()
    for side in sides:
        path = side.paths[size, signed][0]
        with httpx.stream("GET", side.url + path, timeout=60, trust_env=False) as answer:
            answer.raise_for_status()
            assert "etag" in answer.headers
            digest = hashlib.sha256()
            for chunk in answer.iter_raw():
                digest.update(chunk)
        digests.add(digest.hexdigest())
        if signed:
            at = path.index("sig=") + 4
            forged = path[:at] + ("B" if path[at] == "A" else "A") + path[at + 1 :]
            assert httpx.get(side.url + forged, trust_env=False).status_code == 403
    assert len(digests) == 1, f"{size}: the servers give different bytes"


def _told(case: Case, measured: list[tuple[Round, Round]]) -> dict[str, Any]:
    ratios = sorted(ours.rate / theirs.rate for ours, theirs in measured)

    def middle(of: Callable[[Round], float]) -> tuple[float, float]:
        return statistics.median(of(ours) for ours, _ in measured), statistics.median(of(theirs) for _, theirs in measured)

    return {
        "name": case.name,
        "unit": "bytes/s" if case.streams else "requests/s",
        "connections": case.connections,
        "aim": case.aim,
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "rate": middle(lambda each: each.rate),
        "busy": middle(lambda each: each.busy),
        "cost": middle(lambda each: each.cost),
        "p99": middle(lambda each: each.p99),
    }


def section(outcome: dict[str, Any]) -> str:
    """The outcome for RESULTS.md."""
    rows = []
    for each in outcome["results"]:
        stream = each["unit"] == "bytes/s"
        rates = [f"{rate / 1e6:,.0f} MB/s" if stream else f"{rate:,.0f}/s" for rate in each["rate"]]
        low, high = each["ratios"][0], each["ratios"][-1]
        costs = [f"{cost:.0f} us/MB" if stream else f"{cost:.0f} us" for cost in each["cost"]]
        rows.append(
            (
                each["name"],
                *rates,
                f"**{each['ratio']:.2f}** ({low:.2f} to {high:.2f})",
                "" if each["aim"] is None else f"{each['aim']}",
                *costs,
                " / ".join(f"{busy:.0%}" for busy in each["busy"]),
                " / ".join(f"{p99 / 1000:.1f}" for p99 in each["p99"]) if all(each["p99"]) else "",
            )
        )
    heads = ("case", "mediacdn", "nginx", "ratio (lowest to highest)", "to reach", "mediacdn CPU", "nginx CPU", "core busy %", "p99 ms")
    return f"""{table(heads, rows)}

Medians of {outcome["rounds"]} rounds of {outcome["seconds"]:.0f} s a server and case; the ratio is the median of the rounds' ratios. Both servers run pinned to one core and take turns on
it; the load generator has the other core and loopback is the network. Objects of one size are asked for in turn ({MANY} of 10 KB, 16 of 1 MB). Requests a second are wrk's; wrk copies
each byte on a core of its own and is slower than nginx there, so "discarded" repeats the large ones with a client that lets the kernel throw the bytes away: what is left is the server.
CPU is user and system time of the server's processes a request. Where "core busy" is far below 100 %, the load generator was the limit and the CPU columns say more than the ratio.
nginx: sendfile, one worker, open_file_cache; its signed links are secure_link's MD5, ours HMAC-SHA256 with revocation. No access log is written but in the last two cases (nginx:
buffered)."""
