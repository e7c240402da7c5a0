"""The mixes of locustfile.py against a server that is started for them: each mix alone, headless, for a bounded time."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.machine import progress
from benchmarks.results import table
from benchmarks.server import Mediacdn

TITLE = "Mixed loads"
LOCUSTFILE = Path(__file__).with_name("locustfile.py")
MIXES = {"Chat": 20, "Uploader": 4}
"""Kinds of users, and how many of each."""


def measure(*, full: bool) -> dict[str, Any]:
    """Run each mix; any failed request fails the benchmark. Raises: RuntimeError."""
    seconds = 60 if full else 10
    mixes: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="mediacdn-bench-") as folder:
        server = Mediacdn(Path(folder) / "data")
        try:
            for mix, users in MIXES.items():
                progress(f"{mix}: {users} users for {seconds} s")
                mixes[mix] = _locust(server, mix, users, seconds)
        finally:
            server.stop()
    return {"seconds": seconds, "mixes": mixes}


def _locust(server: Mediacdn, mix: str, users: int, seconds: int) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--json", "--loglevel", "WARNING", "--host", server.url]
    command += ["--data", str(server.data), "--server-config", str(server.config), "--users", str(users), "--spawn-rate", str(users)]
    command += ["--run-time", f"{seconds}s", mix]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 120)
    entries = json.loads(done.stdout) if done.stdout.strip() else []
    failed = sum(each["num_failures"] for each in entries)
    if done.returncode or failed or not entries:
        raise RuntimeError(f"{mix}: {failed} requests failed, locust ended with {done.returncode}:\n{done.stderr}")
    return [_told(each) for each in entries]


def _told(entry: dict[str, Any]) -> dict[str, Any]:
    """One kind of request: how many a second, and how long they took in milliseconds (locust keeps times rounded to two digits)."""
    times = sorted((float(time), count) for time, count in entry["response_times"].items())
    return {
        "name": entry["name"],
        "requests": entry["num_requests"],
        "rate": entry["num_requests"] / (entry["last_request_timestamp"] - entry["start_time"]),
        "p50": _percentile(times, 0.5),
        "p99": _percentile(times, 0.99),
    }


def _percentile(times: list[tuple[float, int]], part: float) -> float:
    left = sum(count for _, count in times) * part
    for time, count in times:
        left -= count
        if left <= 0:
            return time
    return times[-1][0]


def section(outcome: dict[str, Any]) -> str:
    """The outcome for RESULTS.md."""
    rows = [
        (
            f"{mix}, {MIXES[mix]} users: {each['name']}",
            f"{each['requests']:,}",
            f"{each['rate']:,.0f}/s",
            f"{each['p50']:.0f}",
            f"{each['p99']:.0f}",
        )
        for mix, entries in outcome["mixes"].items()
        for each in entries
    ]
    return f"""{table(("load", "requests", "rate", "median ms", "p99 ms"), rows)}

Each mix alone for {outcome["seconds"]} s without pauses between requests, none failed. locust is Python itself and shares the machine with the server: it is the limit of these rates, which
are here to compare one commit with the next. `locustfile.py` says what the mixes are."""
