"""kill -9 of workers in the midst of jobs: every job ends once, nothing is made twice, torn or left behind, and no child outlives its worker.

    python -m benchmarks.jobs_crash --kills 300 --workers 2 [--database postgresql]

Pictures are uploaded to a real server, some of them cut short, with a thumbnail, facts and a required two-step recipe planned for each, and another recipe asked
for by some. Real workers do the jobs, and are killed at random moments, over and over. Then a last one finishes, and everything is looked at.
"""

import argparse
import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.jobs_left import Left, look
from benchmarks.jobs_world import TOML, Uploader, children_of, install, strangers, wait_gone
from benchmarks.machine import progress
from benchmarks.results import table
from mediacdn.config import Database
from tests.services.command import COMMAND
from tests.services.postgres import PostgresServer
from tests.services.program import Program
from tests.services.served import Served

TITLE = "kill -9 of workers during jobs"
ATTEMPTS = 5
LEASE = 2.0
CHILDREN = 2
"""That a worker keeps warm: when they are there, it is at work."""
FINISH = 90.0
"""Seconds that the last worker has for what is left; the backlog is bounded."""


@dataclass
class Report:
    """What came of a run. Whatever is in `wrong` must be 0; `worker_lost` are jobs whose worker was killed at each of ATTEMPTS attempts, started again at the end."""

    kills: int = 0
    uploads: int = 0
    jobs: int = 0
    again: int = 0
    worker_lost: int = 0
    most_attempts: int = 0
    killed_children: int = 0
    seconds: float = 0.0
    finished_in: float = 0.0
    wrong: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not self.wrong.total()

    def blame(self, what: str, about: str) -> None:
        self.wrong[what] += 1
        self.notes.append(f"{what}: {about}")


class Workers:
    """Real worker processes on a data directory, `at_once` of them, each killed at a random moment and started again."""

    def __init__(self, server: Served, environ: dict[str, str], report: Report, seed: int, *, forked: bool) -> None:
        self._forked = forked
        self._line = ["worker", "--data", str(server.data), "--config", str(server.data / "mediacdn.toml")]
        self._environ = {**{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}, **environ}
        self._log = (server.data / "worker.log").open("ab")
        self._report = report
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self.killed_at: dict[int, float] = {}

    def kill_over_and_over(self, at_once: int, kills: int) -> None:
        """Raises: what ended one of the threads that do it."""
        with ThreadPoolExecutor(at_once) as threads:
            for each in [threads.submit(self._turns, kills) for _ in range(at_once)]:
                each.result()

    def close(self) -> None:
        self._log.close()

    def start(self) -> subprocess.Popen[bytes]:
        if self._forked:
            return Program(self._line, env=self._environ, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)
        return subprocess.Popen([*COMMAND, *self._line], env=self._environ, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)

    def stop(self, worker: subprocess.Popen[bytes]) -> None:
        worker.send_signal(signal.SIGTERM)
        if (code := worker.wait(40)) != 0:
            self._report.blame("worker ended badly", str(code))

    def _turns(self, kills: int) -> None:
        while self._report.kills < kills and self._report.clean:
            worker = self.start()
            if self._random.random() > 0.1:  # else it is killed while it starts
                while worker.poll() is None and len(children_of(worker.pid)) < CHILDREN:
                    time.sleep(0.05)
            time.sleep(self._random.uniform(0, 1.2))
            self._kill(worker)

    def _kill(self, worker: subprocess.Popen[bytes]) -> None:
        """kill -9; what it had started must die of it."""
        if worker.poll() is not None:
            self._report.blame("worker ended by itself", str(worker.returncode))
            return
        there = children_of(worker.pid)
        worker.kill()
        worker.wait(10)
        with self._lock:
            self.killed_at[worker.pid] = time.monotonic()
            self._report.kills += 1
            self._report.killed_children += len(there)
            if self._report.kills % 20 == 0:
                progress(f"{self._report.kills} kills")
        for pid in wait_gone(there, 3.0):
            self._report.blame("orphan child", str(pid))


def run(folder: Path, *, kills: int, workers: int = 2, url: str = "", seed: int = 1, forked: bool = False) -> Report:
    """Kill `kills` times, of one worker at first, then of `workers` at once; then finish, and check everything. `url` is the catalog's, "" for the embedded one."""
    began = time.monotonic()
    report = Report()
    data = folder / "data"
    data.mkdir(parents=True)
    config = data / "mediacdn.toml"
    config.write_text(TOML.format(url=url, attempts=ATTEMPTS, lease=LEASE, witness=folder / "witness"))
    environ = install(folder / "plugin")
    server = Served(data, config, environ, ("--no-worker",), forked=forked)
    crew = Workers(server, environ, report, seed, forked=forked)
    there: list[subprocess.Popen[bytes]] = []
    uploader = Uploader(server, seed)
    uploader.start()
    try:
        for at_once, share in ((1, 0.2), (workers, 1.0)):
            crew.kill_over_and_over(at_once, math.ceil(kills * share))
        uploader.finish()
        report.uploads = len(uploader.uploaded)
        there.append(crew.start())
        moment = time.monotonic()
        _finish(server, report)
        report.finished_in = time.monotonic() - moment
        crew.stop(there.pop())
        _check(server, environ, Database(url=url, timeout=30), uploader, crew, folder / "witness", report)
    finally:
        uploader.stopping.set()
        for worker in there:
            worker.kill()
            worker.wait(10)
        crew.close()
        server.stop()
    for pid in strangers(str(folder)):
        report.blame("orphan process", str(pid))
    report.seconds = time.monotonic() - began
    return report


def _finish(server: Served, report: Report) -> None:
    """Wait until every job has ended; those that nothing but kills have ended are started again, and end."""
    headers = {"Authorization": f"Bearer {server.token('writer', 'admin', '12h')}"}
    deadline = time.monotonic() + FINISH
    lost: set[str] = set()
    while time.monotonic() < deadline:
        failed = [each for each in _jobs(server, headers, "Failed") if each.get("error", {}).get("code") == "worker_lost"]
        for each in failed:
            if each["attempts"] != ATTEMPTS:
                report.blame("given up too early", str(each))
            if each["id"] in lost:
                report.blame("lost with nobody killed", str(each))
                return
            lost.add(each["id"])
            server.client.post(f"/v1/admin/jobs/{each['id']}/retry", headers=headers).raise_for_status()
        if not failed and not any(_jobs(server, headers, state) for state in ("Pending", "Processing")):
            report.worker_lost = len(lost)
            return
        time.sleep(0.3)
    report.blame("stuck", str([*_jobs(server, headers, "Pending"), *_jobs(server, headers, "Processing")][:3]))


def _jobs(server: Served, headers: dict[str, str], state: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor = None
    while True:
        page = server.client.get(
            "/v1/admin/jobs", params={"state": state, "limit": 200, **({"cursor": cursor} if cursor else {})}, headers=headers
        )
        found += page.raise_for_status().json()["items"]
        cursor = page.json()["next"]
        if cursor is None:
            return found


def _check(
    server: Served, environ: dict[str, str], database: Database, uploader: Uploader, crew: Workers, witness: Path, report: Report
) -> None:
    time.sleep(1.2)  # longer than abandoned_after
    subprocess.run(
        [sys.executable, "-m", "mediacdn", "gc", "--data", str(server.data), "--config", str(server.data / "mediacdn.toml"), "--json"],
        check=True, capture_output=True, timeout=60, env={**os.environ, **environ},
    )  # fmt: skip
    left = Left(database, server.data, uploader, crew.killed_at, witness, ATTEMPTS)
    report.jobs, report.again, report.most_attempts = look(left, report.blame)


def measure(*, full: bool) -> dict[str, Any]:
    """The run of `python -m benchmarks jobs_crash`, on both databases. Raises: RuntimeError when anything was wrong."""
    kills = 300 if full else 20
    outcome: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        outcome["SQLite"] = run(Path(folder), kills=kills)
    with tempfile.TemporaryDirectory() as folder:
        outcome["PostgreSQL"] = on_postgresql(Path(folder), kills=kills)
    told = {name: shown(report) for name, report in outcome.items()}
    if not all(report.clean for report in outcome.values()):
        raise RuntimeError(json.dumps(told, indent=2))
    return told


def on_postgresql(folder: Path, **options: Any) -> Report:
    """`run` on a PostgreSQL of its own."""
    postgres = PostgresServer.create()
    try:
        postgres.start()
        return run(folder, url=postgres.url(), **options)
    finally:
        postgres.destroy()


def shown(report: Report) -> dict[str, Any]:
    return {**vars(report), "wrong": dict(report.wrong), "notes": report.notes[:20]}


def section(outcome: dict[str, Any]) -> str:
    """The outcome for RESULTS.md."""
    names = ("kills", "killed_children", "uploads", "jobs", "again", "worker_lost", "most_attempts")
    figures = table(
        ["", *(name.replace("_", " ") for name in names), "wrong"],
        [[base, *(f"{each[name]:,}" for name in names), f"{sum(each['wrong'].values()):,}"] for base, each in outcome.items()],
    )
    return f"""{figures}

One worker at first, then two at once, a lease of {LEASE:g} s and {ATTEMPTS} attempts a job. "Again" are jobs that took more than one attempt, "worker lost" those whose worker was killed at every
one. "Wrong" is whatever must not be: a job that did not end, or ended otherwise than its picture says; a derivative doubled, torn, or without a job; a file or row of an object left
behind after a sweep; a status that its jobs do not bear out; two living workers in one step of a job; a child that outlived its worker."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        how = run if options.database == "sqlite" else on_postgresql
        report = how(Path(folder), kills=options.kills, workers=options.workers, seed=options.seed)
        if not report.clean:
            print("".join((Path(folder) / "data/worker.log").read_text().splitlines(keepends=True)[-30:]), file=sys.stderr)
    print(json.dumps(shown(report), indent=2))
    raise SystemExit(0 if report.clean else 1)


if __name__ == "__main__":
    main()
