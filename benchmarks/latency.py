"""Hot hits while uploads run: how long answers take in an open loop of 500 a second, idle and beside uploads, in turns."""

import http.client
import os
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks import cores, openloop
from benchmarks.machine import progress
from benchmarks.plots import spread
from benchmarks.results import table
from benchmarks.server import Mediacdn

TITLE = "Hot hits while uploads run"
RATE = 500
PICTURES = 200
UPLOADS = 20
"""Uploads a second, which is what `limits.uploads_per_second` grants by default."""
SIZE = 500_000
LEAST, AIM = 2.0, 1.3


class Uploads(threading.Thread):
    """Uploads that begin every 1/20 s as long as the ones before are done in time; `done` tells how many a second it was."""

    def __init__(self, server: Mediacdn) -> None:
        super().__init__(daemon=True)
        self._server = server
        self._ending = threading.Event()
        self._count = 0
        self._began = time.monotonic()
        self._wrong = ""
        self.start()

    def run(self) -> None:
        connection = http.client.HTTPConnection(urlsplit(self._server.url).netloc, timeout=60)
        due, body = time.monotonic(), bytearray(b"\x00\x01" + os.urandom(SIZE - 2))
        while not self._ending.wait(max(0.0, due - time.monotonic())):
            due = max(due + 1 / UPLOADS, time.monotonic() - 0.5)
            body[2:18] = os.urandom(16)
            try:
                connection.request("POST", "/v1/media", bytes(body), {"Authorization": f"Bearer {self._server.token}"})
                answer = connection.getresponse()
                answer.read()
                if answer.status != 201:
                    self._wrong = f"{answer.status}"
            except OSError as error:
                self._wrong = str(error)
            if self._wrong:
                return
            self._count += 1
        connection.close()

    def done(self) -> float:
        """End. Raises: RuntimeError when an upload failed."""
        self._ending.set()
        self.join()
        if self._wrong:
            raise RuntimeError(f"an upload failed: {self._wrong}")
        return self._count / (time.monotonic() - self._began)


def measure(*, full: bool) -> dict[str, Any]:
    """The run of `python -m benchmarks latency`."""
    rounds, seconds = (7, 10.0) if full else (2, 2.0)
    served, load = cores.pair()
    times: dict[str, list[float]] = {"idle": [], "uploads": []}
    p99: dict[str, list[float]] = {"idle": [], "uploads": []}
    late: list[float] = []
    rates: list[float] = []
    with tempfile.TemporaryDirectory(prefix="mediacdn-bench-") as folder:
        root = Path(folder)
        with cores.pinned(served):
            server = Mediacdn(root / "data", log=root / "mediacdn.log")
        try:
            paths = []
            for _ in range(PICTURES):
                (root / "source").write_bytes(b"\x00\x01" + os.urandom(10_238))
                paths.append(server.signed(server.upload(root / "source")))
            for number in range(rounds + 1):
                for which in ("idle", "uploads") if number % 2 else ("uploads", "idle"):
                    with cores.pinned(load):
                        uploads = Uploads(server) if which == "uploads" else None
                        found = openloop.finished(openloop.apart(server.url, paths, RATE, seconds if number else 1.0, root, load))
                        rate = uploads.done() if uploads else 0.0
                    if number:
                        times[which] += found["times"]
                        p99[which].append(statistics.quantiles(found["times"], n=100)[98])
                        late += found["late"]
                        rates += [rate] if uploads else []
                if number:
                    progress(
                        f"round {number} of {rounds}: p99 {p99['idle'][-1]:,.0f} us idle, {p99['uploads'][-1]:,.0f} us beside {rates[-1]:.1f} uploads a second"
                    )
        finally:
            server.stop()
    ratios = sorted(one / other for one, other in zip(p99["uploads"], p99["idle"], strict=True))
    if full:
        spread(
            "latency",
            {which: [each / 1000 for each in values] for which, values in times.items()},
            "milliseconds from the moment a request was due",
        )
    return {
        "rounds": rounds,
        "seconds": seconds,
        "drawn": full,
        "p50": {which: statistics.median(values) for which, values in times.items()},
        "p99": {which: statistics.median(values) for which, values in p99.items()},
        "ratios": ratios,
        "ratio": statistics.median(ratios),
        "late": statistics.quantiles(late, n=100)[98],
        "uploads": statistics.median(rates),
    }


def section(outcome: dict[str, Any]) -> str:
    """The outcome for RESULTS.md."""
    rows = [
        (name, f"{outcome['p50'][which] / 1000:.2f}", f"{outcome['p99'][which] / 1000:.2f}", told)
        for which, name, told in (
            ("idle", "idle", ""),
            (
                "uploads",
                f"beside {outcome['uploads']:.1f} uploads a second of {SIZE // 1000} KB",
                f"**{outcome['ratio']:.2f}** ({outcome['ratios'][0]:.2f} to {outcome['ratios'][-1]:.2f}; at most {LEAST:g}, aim {AIM:g})",
            ),
        )
    ]
    plot = "\n\n![Times of answers](plots/latency.png)" if outcome["drawn"] else ""
    return f"""{table(("500 signed hits a second", "median ms", "p99 ms", "p99 : idle"), rows)}{plot}

{outcome["rounds"]} rounds of {outcome["seconds"]:.0f} s each way, in turns; p99 is the median of the rounds'. Times count from the moment a request was due, at random as of many callers ({PICTURES} private
pictures of 10 KB by link); the client's own lateness is in them (p99 {outcome["late"] / 1000:.2f} ms). The server has one core, probe and uploader the other."""
