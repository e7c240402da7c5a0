"""From the command to the first answer: `mediacdn serve` in a warm file system, with few records and with many, and where the time goes."""

import asyncio
import http.client
import re
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks import cores
from benchmarks.filling import fill_sqlite
from benchmarks.machine import progress
from benchmarks.results import table
from benchmarks.server import Mediacdn
from mediacdn.catalog.migrate import migrate
from mediacdn.config import Database

TITLE = "Start-up"
LIMIT = 2.0
SIZES = (10**3, 10**5)
LINES = {"healthz": "first answer (/healthz)", "media": "first byte of a media", "processor": "the same, processor time"}
IMPORTED = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)")


def measure(*, full: bool) -> dict[str, Any]:
    """Start `runs` times on each catalog, in turns."""
    runs = 7 if full else 3
    with tempfile.TemporaryDirectory(prefix="mediacdn-bench-") as folder:
        began = time.perf_counter()
        server = Mediacdn(Path(folder) / "new")
        _get(server.url, "/healthz")
        fresh = time.perf_counter() - began
        server.stop()
        progress(f"in an empty directory, tables and keys made: {fresh:.2f} s")
        media = {size: _prepare(Path(folder) / str(size), size) for size in SIZES}
        took: dict[int, list[tuple[float, float, float]]] = {size: [] for size in SIZES}
        for number in range(runs):
            for size in SIZES if number % 2 else SIZES[::-1]:
                took[size].append(_start(Path(folder) / str(size), media[size]))
                progress(
                    f"run {number + 1} of {runs}, {size:,} records: {took[size][-1][0]:.2f} s to /healthz, {took[size][-1][1]:.2f} s to media"
                )
        modules, packages = _imports(Path(folder) / str(SIZES[0]))
    return {
        "runs": runs,
        "fresh": fresh,
        "healthz": {str(size): sorted(first for first, _, _ in each) for size, each in took.items()},
        "media": {str(size): sorted(second for _, second, _ in each) for size, each in took.items()},
        "processor": {str(size): sorted(third for _, _, third in each) for size, each in took.items()},
        "modules": modules,
        "packages": packages,
    }


def _prepare(data: Path, size: int) -> str:
    """A data directory with so many records and one media that has bytes; tells its id."""
    asyncio.run(migrate(Database(), data))
    fill_sqlite(data, 0, size)
    file = data.with_suffix(".bin")
    file.write_bytes(b"\x00\x01" * 50_000)
    server = Mediacdn(data)
    try:
        return server.upload(file, public="true")
    finally:
        server.stop()


def _start(data: Path, media: str) -> tuple[float, float, float]:
    """Seconds from the command to the answer of /healthz and to the first byte of a media, and the processor time that the server took for it."""
    began = time.perf_counter()
    server = Mediacdn(data)
    try:
        _get(server.url, "/healthz")
        healthy = time.perf_counter() - began
        _get(server.url, f"/v1/media/{media}")
        return healthy, time.perf_counter() - began, cores.spent([server.pid])
    finally:
        server.stop()


def _get(url: str, path: str) -> None:
    """Wait for the first byte of a 200."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    connection.request("GET", path)
    answer = connection.getresponse()
    assert answer.status == 200, f"{path}: {answer.status}"
    assert answer.read(1)
    connection.close()


def _imports(data: Path) -> tuple[list[tuple[str, float]], list[tuple[str, float]]]:
    """Milliseconds of import by module, what it imports in turn left out, and by package; the ten heaviest of each. Tracing itself costs some."""
    log = data / "imports.log"
    Mediacdn(data, log=log, interpreter=("-X", "importtime")).stop()
    own: Counter[str] = Counter()
    for micros, name in IMPORTED.findall(log.read_text()):
        own[name] += int(micros)
    whole: Counter[str] = Counter()
    for name, micros in own.items():
        whole[name.partition(".")[0]] += micros
    return _heaviest(own), _heaviest(whole)


def _heaviest(micros: Counter[str]) -> list[tuple[str, float]]:
    return [(name, each / 1000) for name, each in micros.most_common(10)]


def section(outcome: dict[str, Any]) -> str:
    """The outcome for RESULTS.md."""
    rows = []
    for what, label in LINES.items():
        few, many = (outcome[what][str(size)] for size in SIZES)
        ratio = statistics.median(many) / statistics.median(few)
        rows.append(
            (
                label,
                *(f"{statistics.median(each):.2f} s ({each[0]:.2f} to {each[-1]:.2f})" for each in (few, many)),
                f"**{ratio:.2f}**",
                f"{LIMIT:.0f} s" if what != "processor" else "",
            )
        )
    heads = ("from the command to", *(f"{size:,} records" for size in SIZES), "ratio", "limit")
    pairs = zip(outcome["packages"], outcome["modules"], strict=True)
    heaviest = [(package, f"{cost:.0f}", module, f"{own:.1f}") for (package, cost), (module, own) in pairs]
    return f"""{table(heads, rows)}

Medians of {outcome["runs"]} starts (fastest to slowest), the two catalogs in turns, files in the page cache. In an empty directory, where tables, keys and a token are made first, it took
{outcome["fresh"]:.2f} s, once. Where import time goes, of one start under `-X importtime`, which slows it down:

{table(("package", "ms, all its modules", "module", "ms, by itself"), heaviest)}"""
