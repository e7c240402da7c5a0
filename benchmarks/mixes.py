"""The mixes of locustfile.py against a server that is started for them: each mix alone, headless, for a bounded time."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from msgspec import Struct

from benchmarks.corpus import folder
from benchmarks.machine import progress
from benchmarks.results import table
from benchmarks.server import Mediacdn

TITLE = "Mixed loads"
LOCUSTFILE = Path(__file__).with_name("locustfile.py")


class Mix(Struct, frozen=True):
    """Kinds of users of locustfile.py, and how many users altogether."""

    kinds: tuple[str, ...]
    users: int


MIXES = {
    "hot signed reads": Mix(("HotReader",), 20),
    "cold reads": Mix(("ColdReader",), 20),
    "range seeks": Mix(("Seeker",), 10),
    "revalidation": Mix(("Revalidator",), 20),
    "purge storm beside hot reads": Mix(("HotReader", "Purger"), 22),
    "uploads beside hot reads": Mix(("HotReader", "Uploader"), 20),
    "chat": Mix(("Chat",), 20),
    "uploads": Mix(("Uploader",), 4),
}


def measure(*, full: bool) -> dict[str, Any]:
    """Run each mix; any failed request fails the benchmark. Raises: RuntimeError."""
    seconds = 60 if full else 5
    mixes: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="mediacdn-bench-") as root:
        server = Mediacdn(Path(root) / "data")
        try:
            for name, mix in MIXES.items():
                progress(f"{name}: {mix.users} users for {seconds} s")
                mixes[name] = _locust(server, name, mix, seconds)
        finally:
            server.stop()
    return {"seconds": seconds, "mixes": mixes}


def _locust(server: Mediacdn, name: str, mix: Mix, seconds: int) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--json", "--loglevel", "WARNING", "--host", server.url]
    command += [
        "--data",
        str(server.data),
        "--server-config",
        str(server.config),
        "--users",
        str(mix.users),
        "--spawn-rate",
        str(mix.users),
    ]
    reports = folder() / "locust"
    reports.mkdir(exist_ok=True)
    report = reports / name.replace(" ", "-")
    command += ["--run-time", f"{seconds}s", "--html", f"{report}.html", "--csv", str(report), "--only-summary", *mix.kinds]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 120)
    entries = json.loads(done.stdout) if done.stdout.strip() else []
    failed = sum(each["num_failures"] for each in entries)
    if done.returncode or failed or not entries:
        raise RuntimeError(f"{name}: {failed} requests failed, locust ended with {done.returncode}:\n{done.stderr}")
    return [_told(each, seconds) for each in entries]


def _told(entry: dict[str, Any], seconds: int) -> dict[str, Any]:
    """One kind of request: how many a second, and how long they took in milliseconds (locust keeps times rounded to two digits)."""
    times = sorted((float(time), count) for time, count in entry["response_times"].items())
    return {
        "name": entry["name"],
        "requests": entry["num_requests"],
        "rate": entry["num_requests"] / seconds,
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
            f"{mix}, {MIXES[mix].users} users: {each['name']}",
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
are here to compare one commit with the next. `locustfile.py` says what the users do; locust's
own reports, with charts over time, are in `.test/bench/locust` after a run."""
