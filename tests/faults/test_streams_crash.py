"""kill -9 of the worker during transcodes, of films in one piece and in parts: each film ends READY with all of its segments, or FAILED; nothing is left behind, and no ffmpeg outlives its worker.

TRANSCODE_KILLS says how many kills, 10 by default.
"""

import os
import random
import re
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.services.command import alive, children, within
from tests.services.films import ffmpeg
from tests.services.program import Program
from tests.services.served import Served, served

KILLS = int(os.environ.get("TRANSCODE_KILLS", "10"))
LENGTHS = (3, 7)
"""Seconds: the first is made in one piece, the other in parts."""
TOML = """
plugins = ["local", "jwt", "ffmpeg"]
[limits]
uploads_per_second = 0
[lifecycle]
sweep_every = 1
abandoned_after = 2
keep_replaced = 1
[jobs]
attempts = 100
lease = 1
backoff_base = 0.05
backoff_max = 0.1
[recipes.hls]
seconds = 1
chunk = 2
whole = 0
renditions = ["240p"]
"""
TRANSCODE = 0.8
"""Seconds within which a worker that has begun to transcode is killed: in the midst of it, while it looks at what was made, or while it publishes."""


class Worker:
    """A real worker process."""

    def __init__(self, server: Served) -> None:
        command = ["worker", "--data", str(server.data), "--config", str(server.data / "mediacdn.toml")]
        self._log = (server.data / "worker.log").open("ab")
        self._process = Program(command, env=os.environ, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)

    @property
    def family(self) -> list[int]:
        """All that runs below it."""
        found = children(self._process.pid)
        for each in found:
            found += children(each)
        return found

    def kill(self) -> list[int]:
        """kill -9; the family that it had."""
        family = self.family
        self._process.kill()
        self._process.wait(10)
        self._log.close()
        return family


def state(server: Served, media: str) -> dict[str, Any]:
    found: dict[str, Any] = server.client.get(f"/v1/media/{media}/record", headers=server.auth()).json()
    return found


def over(server: Served, media: list[str]) -> list[dict[str, Any]]:
    """The records, once all of them are final."""
    found = [state(server, each) for each in media]
    return found if all(each["status"] in ("READY", "FAILED") for each in found) else []


def works(pid: int) -> bool:
    try:
        return b"-progress" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


@pytest.mark.timeout(120 + 6 * KILLS)
def test_each_film_ends_whole_or_failed(tmp_path: Path) -> None:
    chance = random.Random(11)
    films = []
    for seconds in LENGTHS:
        path = tmp_path / f"{seconds}.mp4"
        ffmpeg(
            "-f", "lavfi", "-i", f"testsrc2=size=320x180:rate=25:duration={seconds}", "-f", "lavfi", "-i", f"sine=duration={seconds}",
            "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac", str(path),
        )  # fmt: skip
        films.append(path.read_bytes())
    kills, at_work, families = 0, 0, []
    with served(tmp_path / "data", TOML) as server:
        media = [
            server.upload(films[number % 2] + bytes(4) + b"\x00\x00\x00\x09free" + bytes([number]), public="true")["id"]
            for number in range(3)
        ]
        media.append(server.upload(films[0][: len(films[0]) // 2], public="true")["id"])
        while kills < KILLS:
            worker = Worker(server)
            within(20, lambda worker=worker: any(map(works, worker.family)) or over(server, media))
            time.sleep(chance.uniform(0, TRANSCODE))
            at_work += any(works(each) for each in worker.family)
            families += worker.kill()
            kills += 1
            if over(server, media):  # quicker than the kills: another one to do
                media.append(server.upload(films[len(media) % 2] + os.urandom(8), public="true")["id"])
        within(5, lambda: not any(map(alive, families)))
        last = Worker(server)
        records = within(60, lambda: over(server, media))
        assert at_work, "no worker was killed at work; the run says nothing"
        assert [each["status"] for each in records] == ["READY"] * 3 + ["FAILED"] + ["READY"] * (len(media) - 4)
        for number, each in enumerate(records):
            base = f"/v1/media/{each['id']}/hls"
            if each["status"] == "FAILED":
                assert server.client.get(f"{base}/master.m3u8").status_code == 404
                continue
            for rendition in ("240p", "audio"):
                playlist = server.client.get(f"{base}/{rendition}.m3u8").text
                segments = [line for line in playlist.splitlines() if line and line[0] != "#"] + re.findall(r'URI="([^"]+)"', playlist)
                assert len(segments) == LENGTHS[number % 2] + 1
                for name in segments:
                    assert server.client.get(f"{base}/{name}").status_code == 200
            within(
                20, lambda each=each: derived(server, each["id"], "hls") == 1 and derived(server, each["id"], "unit") == 0
            )  # made once, and tidied up
        assert twice(server.data) == [], "what a part has made is not made again"
        within(20, lambda: files(server.data) == recorded(server.data))
        last.kill()


def derived(server: Served, media: str, relationship: str) -> int:
    return len(server.client.get(f"/v1/media/{media}/derivatives?relationship={relationship}", headers=server.auth()).json()["items"])


def twice(data: Path) -> list[str]:
    """The keys of units that were made more than once."""
    with closing(sqlite3.connect(data / "catalog.sqlite3")) as catalog:
        made = "SELECT derivation_key FROM media WHERE relationship = 'unit' GROUP BY derivation_key HAVING count(*) > 1"
        return [key for (key,) in catalog.execute(made)]


def files(data: Path) -> int:
    """How many segments there are."""
    return len(list(data.rglob("*.m4s")))


def recorded(data: Path) -> int:
    """How many there should be."""
    with closing(sqlite3.connect(data / "catalog.sqlite3")) as catalog:
        return int(catalog.execute("SELECT count(*) FROM objects WHERE key LIKE '%.m4s' AND state = 'live' AND refcount > 0").fetchone()[0])
