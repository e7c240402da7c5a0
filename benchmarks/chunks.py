"""A long film made by one worker and by two, each pinned to a core of its own; and how soon it plays.

    python -m benchmarks.chunks [FILM.mp4] [--seconds 600] [--workers 1,2]

Without FILM a moving one of so many seconds in 720p is made. For a quiet machine with as many cores as there are workers; the server has what these leave.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.services.films import ffmpeg
from tests.services.served import Served, served

TOML = """
plugins = ["local", "jwt", "ffmpeg"]
[limits]
uploads_per_second = 0
max_upload_size = 32000000000
[recipes]
plan = {poster = [], thumb-film = [], storyboard = []}
[recipes.hls]
threads = 1
"""


def worker(server: Served, core: int) -> subprocess.Popen[bytes]:
    """A worker process that has this core alone."""
    command = [sys.executable, "-m", "mediacdn", "worker", "--data", str(server.data), "--config", str(server.data / "mediacdn.toml")]
    with (server.data / f"worker{core}.log").open("ab") as log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=lambda: os.sched_setaffinity(0, {core})
        )


def measured(film: Path, workers: int) -> tuple[float, float]:
    """Seconds from the upload's answer until it plays, and until it is READY."""
    with tempfile.TemporaryDirectory() as folder, served(Path(folder) / "data", TOML) as server:
        there = [worker(server, core) for core in sorted(os.sched_getaffinity(0))[:workers]]
        try:
            time.sleep(3)  # the workers start; nothing outside tells when they are ready
            with film.open("rb") as body:
                answer = server.client.post("/v1/media", content=body, params={"public": "true"}, headers=server.auth(), timeout=600)
            began, media = time.monotonic(), answer.raise_for_status().json()["id"]
            plays = 0.0
            while True:
                if not plays and server.client.get(f"/v1/media/{media}/hls/master.m3u8").status_code == 200:
                    plays = time.monotonic() - began
                record = server.client.get(f"/v1/media/{media}/record", headers=server.auth()).json()
                if record["status"] in ("READY", "FAILED"):
                    if record["status"] == "FAILED":
                        raise RuntimeError(record["error_message"])
                    return plays, time.monotonic() - began
                time.sleep(0.05 if not plays else 0.5)
        finally:
            for each in there:
                each.send_signal(signal.SIGTERM)
            for each in there:
                each.wait(30)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.chunks")
    parser.add_argument("film", nargs="?", type=Path)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--workers", default="1,2")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        film = options.film or Path(folder) / "film.mp4"
        if options.film is None:
            clip = Path(folder) / "clip.mp4"
            ffmpeg(
                "-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=25:duration=20", "-f", "lavfi", "-i", "sine=duration=20",
                "-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-c:a", "aac", str(clip), timeout=300,
            )  # fmt: skip
            ffmpeg("-stream_loop", str(options.seconds // 20 - 1), "-i", str(clip), "-c", "copy", str(film), timeout=300)
        took = {}
        for each in map(int, options.workers.split(",")):
            plays, took[each] = measured(film, each)
            sys.stdout.write(f"{each} worker(s): plays after {plays:.1f} s, whole after {took[each]:.1f} s\n")
        first, *others = took
        for each in others:
            sys.stdout.write(f"{each} workers are {took[first] / took[each]:.2f} times as fast as {first}\n")


if __name__ == "__main__":
    main()
