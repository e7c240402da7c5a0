"""kill -9 during uploads: nothing acknowledged may be lost or torn, nothing half-written visible, nothing left behind.

    python -m benchmarks.crash --kills 1000 --writers 8

Writers upload blobs of 1 KB to 2 MB over real sockets and note what the server acknowledged; the server is killed at a random moment and started
again, over and over. At each restart the newest acknowledged objects are read back, at the end all of them.
"""

import argparse
import hashlib
import http.client
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.machine import progress
from benchmarks.results import table
from tests.services.served import Served

TITLE = "kill -9 during uploads"
TOML = """
[limits]
uploads_per_second = 0
[lifecycle]
abandoned_after = 1
sweep_every = 1
"""


@dataclass
class Report:
    """What came of a run; `lost`, `torn`, `half_written` and `left_behind` must be 0."""

    kills: int = 0
    acknowledged: int = 0
    refused: int = 0
    lost: int = 0
    torn: int = 0
    half_written: int = 0
    left_behind: int = 0
    slowest_restart: float = 0.0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not (self.lost or self.torn or self.half_written or self.left_behind)


class Writer(threading.Thread):
    """Uploads until told to stop; `acknowledged` maps ids to SHA-256."""

    def __init__(self, server: Served, token: str, seed: int) -> None:
        super().__init__(daemon=True)
        self._server = server
        self._token = token
        self._random = random.Random(seed)
        self.acknowledged: dict[str, str] = {}
        self.refused = 0
        self.stopping = threading.Event()

    def run(self) -> None:
        headers = {"Authorization": f"Bearer {self._token}"}
        connection: http.client.HTTPConnection | None = None
        while not self.stopping.is_set():
            body = b"\x00\x01" + self._random.randbytes(int(2 ** self._random.uniform(10, 21)))
            try:
                if connection is None:
                    connection = http.client.HTTPConnection(self._server.url.removeprefix("http://"), timeout=10)
                connection.request("POST", "/v1/media", body, headers)
                answer = connection.getresponse()
                text = answer.read()
            except (http.client.HTTPException, OSError):
                if connection is not None:
                    connection.close()
                connection = None
                time.sleep(0.05)
                continue
            if answer.status in (200, 201):
                self.acknowledged[json.loads(text)["id"]] = hashlib.sha256(body).hexdigest()
            else:
                self.refused += 1
        if connection is not None:
            connection.close()


def run(data: Path, *, kills: int, writers: int, seed: int = 1, forked: bool = False) -> Report:
    """Kill and restart `kills` times; the last thing is a full check of every object. `forked`: as `Served` has it."""
    began = time.monotonic()
    report = Report()
    chance = random.Random(seed)
    data.mkdir(parents=True, exist_ok=True)
    config = data / "mediacdn.toml"
    config.write_text(TOML)
    server = Served(data, config, {}, ("--no-worker",), forked=forked)
    try:
        token = server.token("writer", "admin", "12h")
        threads = [Writer(server, token, seed * 1000 + number) for number in range(writers)]
        for thread in threads:
            thread.start()
        checked: set[str] = set()
        for _ in range(kills):
            time.sleep(chance.uniform(0.05, 0.6))
            server.kill()
            report.kills += 1
            if report.kills % 20 == 0:
                progress(
                    f"{report.kills} of {kills} kills, {sum(len(thread.acknowledged) for thread in threads):,} acknowledged, lost or torn {report.lost + report.torn}"
                )
            moment = time.monotonic()
            server.start()
            report.slowest_restart = max(report.slowest_restart, time.monotonic() - moment)
            fresh = {media: digest for thread in threads for media, digest in list(thread.acknowledged.items()) if media not in checked}
            _check(server, token, fresh, report)
            checked |= fresh.keys()
        for thread in threads:
            thread.stopping.set()
        for thread in threads:
            thread.join(30)
        acknowledged = {media: digest for thread in threads for media, digest in thread.acknowledged.items()}
        report.acknowledged = len(acknowledged)
        report.refused = sum(thread.refused for thread in threads)
        _check(server, token, acknowledged, report)
        _check_visible(server, token, report)
        _check_leftovers(server, report)
    finally:
        server.stop()
    report.seconds = time.monotonic() - began
    return report


def _check(server: Served, token: str, expected: dict[str, str], report: Report) -> None:
    for media, digest in expected.items():
        answer = server.client.get(f"/v1/media/{media}", headers={"Authorization": f"Bearer {token}"})
        if answer.status_code != 200:
            report.lost += 1
            report.notes.append(f"{media}: {answer.status_code}")
        elif hashlib.sha256(answer.content).hexdigest() != digest:
            report.torn += 1
            report.notes.append(f"{media}: other bytes")


def _check_visible(server: Served, token: str, report: Report) -> None:
    """Every record that is listed, acknowledged or not, has its whole bytes."""
    headers = {"Authorization": f"Bearer {token}"}
    cursor = None
    while True:
        page = server.client.get("/v1/media", params={"limit": 200, **({"cursor": cursor} if cursor else {})}, headers=headers).json()
        for record in page["items"]:
            answer = server.client.get(f"/v1/media/{record['id']}", headers=headers)
            if answer.status_code != 200 or hashlib.sha256(answer.content).hexdigest() != record["digest"]:
                report.half_written += 1
                report.notes.append(f"{record['id']}: visible and not whole")
        cursor = page["next"]
        if cursor is None:
            return


def _check_leftovers(server: Served, report: Report) -> None:
    """After a sweep there are as many files as distinct objects, and the staging folder is empty."""
    time.sleep(1.5)
    subprocess.run(
        [sys.executable, "-m", "mediacdn", "gc", "--data", str(server.data), "--config", str(server.data / "mediacdn.toml"), "--json"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    objects = server.data / "objects"
    files = [each for each in objects.rglob("*") if each.is_file()]
    staged = [each for each in files if "staging" in each.parts]
    distinct = set()
    cursor, headers = None, {"Authorization": f"Bearer {server.token('writer', 'admin', '12h')}"}
    while True:
        page = server.client.get("/v1/media", params={"limit": 200, **({"cursor": cursor} if cursor else {})}, headers=headers).json()
        distinct |= {record["storage_key"] for record in page["items"]}
        cursor = page["next"]
        if cursor is None:
            break
    report.left_behind = len(staged) + max(0, len(files) - len(staged) - len(distinct))
    if report.left_behind:
        report.notes.append(f"{len(files)} files, {len(staged)} staged, {len(distinct)} objects")


def measure(*, full: bool) -> dict[str, Any]:
    """The run of `python -m benchmarks crash`. Raises: RuntimeError when anything was lost."""
    with tempfile.TemporaryDirectory() as folder:
        report = run(Path(folder), kills=1000 if full else 20, writers=8)
    outcome = {**vars(report), "notes": report.notes[:20]}
    if not report.clean:
        raise RuntimeError(json.dumps(outcome, indent=2))
    return outcome


def section(outcome: dict[str, Any]) -> str:
    """The outcome for RESULTS.md."""
    names = ("kills", "acknowledged", "lost", "torn", "half_written", "left_behind")
    figures = table([name.replace("_", " ") for name in names], [[f"{outcome[name]:,}" for name in names]])
    return f"""{figures}

8 writers, objects of 1 KB to 2 MB, a kill every 0.05 to 0.6 s. "Half written" is any listed media whose bytes are not whole, "left behind" any file without a media after a sweep; all but
the first two must be 0. {outcome["refused"]:,} uploads were refused; the slowest restart took {outcome["slowest_restart"]:.2f} s. kill -9 leaves the page cache alone: what a power cut
would do is tested by the order of system calls (tests/plugins/test_local_durability.py)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--writers", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = run(Path(folder), kills=options.kills, writers=options.writers)
    print(json.dumps({**vars(report), "notes": report.notes[:20]}, indent=2))
    raise SystemExit(0 if report.clean else 1)


if __name__ == "__main__":
    main()
