"""Many jobs through losses of Redis: each is asked for over HTTP, rung for or not, run by two workers, and must be done once. Redis is killed three times meanwhile."""

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from typing import Any

from benchmarks.machine import progress
from benchmarks.nodes_load import Client
from benchmarks.nodes_world import World

ASKING = 4
AWAY = 1.5


def jobs_through_a_loss(world: World, count: int) -> dict[str, Any]:
    """Ask for `count` jobs while Redis goes and comes; count what became of them. `lost` and `doubled` must be 0."""
    media = world.nodes.upload(b"one media for all jobs")["id"]
    asked = 0
    lock = threading.Lock()
    refused: Counter[str] = Counter()

    def ask(numbers: range) -> None:
        nonlocal asked
        client = Client(world.nodes.port)
        headers = {**world.nodes.auth("root", "admin"), "Content-Type": "application/json"}
        for number in numbers:
            while True:
                try:
                    status, _, text = client.ask("POST", f"/v1/media/{media}/tasks/tally@1", b'{"args": {"n": %d}}' % number, headers)
                except (OSError, HTTPException):
                    status, text = 0, b""
                if status in (200, 201, 202):
                    break
                refused[f"{status} {text[:100].decode(errors='replace')}"] += 1
                if refused.total() > count:
                    raise RuntimeError(str(refused))
                time.sleep(0.1)
            with lock:
                asked += 1
        client.close()

    began = time.monotonic()
    losses: list[float] = []
    with ThreadPoolExecutor(ASKING) as threads:
        asking = [threads.submit(ask, range(part, count, ASKING)) for part in range(ASKING)]
        for share in (0.2, 0.5, 0.8):
            while asked < count * share and not all(each.done() for each in asking):
                time.sleep(0.01)
            gone = time.monotonic()
            world.valkey.kill()
            time.sleep(AWAY)
            world.valkey.start()
            losses.append(round(time.monotonic() - gone, 2))
            progress(f"{asked} of {count} jobs asked for, Redis was away for {losses[-1]} s")
        for each in asking:
            each.result()
    asked_in = time.monotonic() - began
    done = _drained(world, count, began)
    ran = Counter(int(line) for line in world.tally.read_text().split())
    rows = world.rows("SELECT state, attempts FROM jobs WHERE code = 'tally@1'")
    return {
        "jobs": count,
        "away": losses,
        "asked in": round(asked_in, 1),
        "done in": round(done, 1),
        "refused": dict(refused),
        "lost": count - sum(1 for row in rows if row["state"] == "Completed") + sum(1 for number in range(count) if not ran[number]),
        "doubled": sum(times - 1 for times in ran.values()) + max(0, len(rows) - count),
        "more than one attempt": sum(1 for row in rows if row["attempts"] > 1),
    }


def _drained(world: World, count: int, began: float) -> float:
    deadline = time.monotonic() + 60 + count / 50
    while time.monotonic() < deadline:
        found = world.jobs()
        if not found.get("Pending") and not found.get("Processing"):
            break
        time.sleep(0.2)
    return time.monotonic() - began
