"""What the memory tier costs: bytes beyond the bodies at 10^5 entries of 10 KB, and nanoseconds a call. `python -m benchmarks.micro_memory`; each eviction in a process of its own."""

import gc
import os
import random
import subprocess
import sys
import time

from mediacdn.edge.entries import Entry, Key
from mediacdn.edge.memory import MemoryTier

ENTRIES, BODY = 100_000, 10_240


def resident() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def key(number: int) -> Key:
    """A key as a request makes it: nothing of it is shared with another."""
    return Key(f"01J{number:023d}", "", (1 << 40) + number, 0)


def measure(eviction: str) -> None:
    tier = MemoryTier(2 * ENTRIES * BODY, eviction)  # type: ignore[arg-type]
    now, ttl = time.time(), 86400.0
    gc.collect()
    before = resident()
    began = time.perf_counter()
    for number in range(ENTRIES):
        tier.put(key(number), Entry(os.urandom(16) * (BODY // 16), BODY + number, now + number, ttl, ttl))
    put = (time.perf_counter() - began) / ENTRIES
    overhead = (resident() - before) / (ENTRIES * BODY) - 1
    assert tier.entries == ENTRIES
    zipf = random.choices(range(ENTRIES), [1 / rank for rank in range(1, ENTRIES + 1)], k=20_000)
    some = [key(number) for number in zipf]
    absent = [key(number) for number in range(ENTRIES, ENTRIES + 20_000)]
    figures = {}
    for name, keys in (("hit", some), ("miss", absent)):
        rounds = []
        for _ in range(7):
            began = time.perf_counter()
            for each in keys:
                tier.get(each)
            rounds.append((time.perf_counter() - began) / len(keys) * 1e9)
        figures[name] = sorted(rounds)[3]
    full = MemoryTier(1000 * BODY, eviction)  # type: ignore[arg-type]
    body = bytes(BODY)
    began = time.perf_counter()
    for each in some:
        full.put(each, Entry(body, BODY, now, ttl, ttl))
    evicting = (time.perf_counter() - began) / len(some)
    print(
        f"{eviction:22} overhead {overhead:6.2%}  hit {figures['hit']:5.0f} ns  miss {figures['miss']:5.0f} ns  "
        f"put with its body {put * 1e6:.1f} us  put that evicts {evicting * 1e6:.1f} us"
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(sys.argv[1])
    else:
        for each in ("lru", "tinylfu", "least-recently-stored"):
            subprocess.run([sys.executable, "-m", "benchmarks.micro_memory", each], check=True)
