"""Hot hits beside other work: how long answers take in an open loop of 500 a second, idle, while uploads run, and while a film is transcoded on the server's own core, in turns."""

import http.client
import os
import signal
import statistics
import subprocess
import sys
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
from tests.services.films import ffmpeg

TITLE = "Hot hits beside other work"
WAYS = ("idle", "uploads", "transcode")
RATE = 500
PICTURES = 200
UPLOADS = 20
"""Uploads a second, which is what `limits.uploads_per_second` grants by default."""
SIZE = 500_000
LEAST, AIM = 2.0, 1.3
FILM = 1200
"""Seconds of a film in 720p: more than the rounds are through with."""
RECIPES = """
[recipes]
plan = {poster = [], thumb-film = [], storyboard = []}
"""


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


class Transcode:
    """A worker, on the server's core, that transcodes a film; `done` ends it, and the next one goes on with what is left."""

    def __init__(self, server: Mediacdn, core: int, media: str) -> None:
        self._server, self._media = server, media
        command = [sys.executable, "-m", "mediacdn", "worker", "--data", str(server.data), "--config", str(server.config)]
        with cores.pinned(core), (server.data / "worker.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until = time.monotonic() + 60
        while not self._works():
            if time.monotonic() > until:
                raise RuntimeError("the worker does not transcode")
            time.sleep(0.1)

    def _works(self) -> bool:
        return any(b"-progress" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in cores.family(self._process.pid))

    def done(self) -> None:
        """End. Raises: RuntimeError when there was nothing left to do, which measures nothing."""
        status = self._server.client.get(f"/v1/media/{self._media}/record").raise_for_status().json()["status"]
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)
        if status != "PROCESSING":
            raise RuntimeError(f"the film was {status} before the round was over")


def _film(folder: Path) -> Path:
    clip, film = folder / "clip.mp4", folder / "film.mp4"
    ffmpeg(
        "-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=25:duration=20", "-f", "lavfi", "-i", "sine=duration=20",
        "-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-c:a", "aac", str(clip), timeout=300,
    )  # fmt: skip
    ffmpeg("-stream_loop", str(FILM // 20 - 1), "-i", str(clip), "-c", "copy", str(film), timeout=300)
    return film


def measure(*, full: bool) -> dict[str, Any]:
    """The run of `python -m benchmarks latency`."""
    rounds, seconds = (7, 10.0) if full else (2, 2.0)
    served, load = cores.pair()
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    p99: dict[str, list[float]] = {way: [] for way in WAYS}
    late: list[float] = []
    rates: list[float] = []
    with tempfile.TemporaryDirectory(prefix="mediacdn-bench-") as folder:
        root = Path(folder)
        film = _film(root)
        with cores.pinned(served):
            server = Mediacdn(root / "data", log=root / "mediacdn.log", plugins=("ffmpeg",), toml=RECIPES)
        try:
            media = server.upload(film)
            paths = []
            for _ in range(PICTURES):
                (root / "source").write_bytes(b"\x00\x01" + os.urandom(10_238))
                paths.append(server.signed(server.upload(root / "source")))
            for number in range(rounds + 1):
                for way in WAYS if number % 2 else WAYS[::-1]:
                    transcode = Transcode(server, served, media) if way == "transcode" else None
                    with cores.pinned(load):
                        uploads = Uploads(server) if way == "uploads" else None
                        found = openloop.finished(openloop.apart(server.url, paths, RATE, seconds if number else 1.0, root, load))
                        rate = uploads.done() if uploads else 0.0
                    if transcode:
                        transcode.done()
                    if number:
                        times[way] += found["times"]
                        p99[way].append(statistics.quantiles(found["times"], n=100)[98])
                        late += found["late"]
                        rates += [rate] if uploads else []
                if number:
                    progress(f"round {number} of {rounds}: p99 " + ", ".join(f"{p99[way][-1]:,.0f} us {way}" for way in WAYS))
        finally:
            server.stop()
    ratios = {way: sorted(one / other for one, other in zip(p99[way], p99["idle"], strict=True)) for way in WAYS[1:]}
    if full:
        spread(
            "latency",
            {way: [each / 1000 for each in values] for way, values in times.items()},
            "milliseconds from the moment a request was due",
        )
    return {
        "rounds": rounds,
        "seconds": seconds,
        "drawn": full,
        "p50": {way: statistics.median(values) for way, values in times.items()},
        "p99": {way: statistics.median(values) for way, values in p99.items()},
        "ratios": ratios,
        "late": statistics.quantiles(late, n=100)[98],
        "uploads": statistics.median(rates),
    }


def section(outcome: dict[str, Any]) -> str:
    """The outcome for RESULTS.md."""
    names = {
        "idle": "idle",
        "uploads": f"beside {outcome['uploads']:.1f} uploads a second of {SIZE // 1000} KB",
        "transcode": "beside a niced transcode on the same core",
    }
    ratios = {
        way: f"**{statistics.median(found):.2f}** ({found[0]:.2f} to {found[-1]:.2f}; at most {LEAST:g}, aim {AIM:g})"
        for way, found in outcome["ratios"].items()
    }
    rows = [
        (name, f"{outcome['p50'][way] / 1000:.2f}", f"{outcome['p99'][way] / 1000:.2f}", ratios.get(way, "")) for way, name in names.items()
    ]
    plot = "\n\n![Times of answers](plots/latency.png)" if outcome["drawn"] else ""
    return f"""{table(("500 signed hits a second", "median ms", "p99 ms", "p99 : idle"), rows)}{plot}

{outcome["rounds"]} rounds of {outcome["seconds"]:.0f} s each way, in turns; p99 is the median of the rounds'. Times count from the moment a request was due, at random as of many callers ({PICTURES} private
pictures of 10 KB by link); the client's own lateness is in them (p99 {outcome["late"] / 1000:.2f} ms). The server has one core, probe and uploader the other; the worker that transcodes has the
server's, and ffmpeg there is as nice as the configuration says."""
