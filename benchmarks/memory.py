"""The memory tier's overhead: what 10^5 slices of 10 KB cost the process beyond the bytes that they hold, each eviction in a process of its own.

    python -m benchmarks.memory lru

Bodies are made one after the other as a fill makes them, keys as the edge does; what is measured is the growth of resident memory, which counts the allocator's loss too.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Literal, cast

from ulid import ULID

from benchmarks.machine import REPOSITORY, progress
from benchmarks.results import table
from mediacdn.edge.entries import Entry, Key
from mediacdn.edge.memory import MemoryTier

TITLE = "The memory tier's overhead"
ENTRIES, SIZE = 100_000, 10_240
EVICTIONS = ("lru", "tinylfu", "least-recently-stored")
LEAST, AIM = 0.15, 0.05


def measure(*, full: bool) -> dict[str, Any]:
    """The run of `python -m benchmarks memory`; it is the same, short or full."""
    told = {}
    for eviction in EVICTIONS:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.memory", eviction], check=True, capture_output=True, text=True, cwd=REPOSITORY
        )
        told[eviction] = json.loads(done.stdout)
        progress(f"{eviction}: {told[eviction]['overhead']:.1%} beyond the bodies")
    return {"results": told}


def section(outcome: dict[str, Any]) -> str:
    """The outcome for RESULTS.md."""
    rows = [
        (
            eviction,
            f"{each['entries']:,}",
            f"{each['bodies'] / 2**20:,.0f}",
            f"{each['resident'] / 2**20:,.0f}",
            f"**{each['overhead']:.1%}**",
            f"{each['each']:,.0f}",
            f"{each['put']:.2f} / {each['get']:.2f}",
        )
        for eviction, each in outcome["results"].items()
    ]
    heads = ("eviction", "entries", "bodies MiB", "grown by MiB", "overhead", "bytes an entry", "put / get us")
    return f"""{table(heads, rows)}

At most {LEAST:.0%}, aim {AIM:.0%}. Growth is that of the resident memory of a process that does nothing else, from before the first body to after the last; it has each key's text too."""


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _held(eviction: str) -> dict[str, Any]:
    tier = MemoryTier(2 * ENTRIES * SIZE, cast(Literal["lru", "tinylfu", "least-recently-stored"], eviction))
    noise, now = os.urandom(SIZE - 8), time.time()
    before, putting = _resident(), 0.0
    keys = []
    for number in range(ENTRIES):
        body = number.to_bytes(8, "big") + noise
        key = Key(str(ULID()), "original", 1, 0)
        keys.append(key)
        began = time.perf_counter()
        tier.put(key, Entry(body, SIZE, now, 86400.0, 86400.0))
        putting += time.perf_counter() - began
    resident = _resident() - before
    began = time.perf_counter()
    held = sum(len(entry.body) for key in keys if (entry := tier.get(key)) is not None)
    getting = time.perf_counter() - began
    return {
        "entries": tier.entries,
        "bodies": held,
        "resident": resident,
        "overhead": resident / held - 1,
        "each": (resident - held) / tier.entries,
        "put": putting / ENTRIES * 1e6,
        "get": getting / ENTRIES * 1e6,
    }


if __name__ == "__main__":
    print(json.dumps(_held(sys.argv[1])))
