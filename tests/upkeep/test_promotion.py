"""Uploads that land in one storage and belong in another: promoted by a durable job, whatever is killed, and never lost on the way."""

import hashlib
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.services.command import answered, environment, within
from tests.services.program import Program
from tests.services.samples import text
from tests.services.served import Served, served

TOML = """
plugins = ["local", "jwt"]
[storage.default]
path = "lasting"
via = "landing"
fsync = false
reserve = 0
[storage.landing]
path = "landing"
fsync = false
reserve = 0
[storage.direct]
path = "direct"
reserve = 0
fsync = false
[[routing]]
storage = "direct"
tag = "direct"
[limits]
uploads_per_second = 0.0
max_upload_size = 100000000
[variants]
presets = {}
[lifecycle]
moved_grace = 1
sweep_every = 1.0
landed_too_long = 1
[jobs]
lease = 1.0
backoff_base = 0.05
backoff_max = 0.1
"""


def files(folder: Path) -> list[Path]:
    return [each for each in folder.rglob("*") if each.is_file()]


@contextmanager
def worker(server: Served, options: list[object]) -> Iterator[subprocess.Popen[str]]:
    process = Program(["worker", *map(str, options)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment(), text=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def place_of(server: Served, media: str) -> str:
    record = server.client.get(f"/v1/media/{media}/record", headers=server.auth("root", "admin")).json()
    return str(record["storage"])


def jobs(server: Served) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.client.get("/v1/admin/jobs", headers=server.auth("root", "admin")).json()["items"]
    return found


def test_uploads_land_are_read_and_go_on_through_kills(tmp_path: Path) -> None:
    with served(tmp_path / "data", TOML) as server:
        options: list[object] = ["--data", server.data, "--config", server.data / "mediacdn.toml"]
        bodies = [text(100, bytes([number])) + bytes([number]) * 20_000_000 for number in range(5)]
        media = {each["id"]: each["digest"] for each in map(server.upload, bodies)}
        direct = server.upload(text(100, b"direct"), tags="direct")
        assert {place_of(server, each) for each in media} == {"landing"}
        assert place_of(server, direct["id"]) == "direct"
        assert [server.upload(body)["id"] for body in bodies[:2]] == list(media)[:2], "where it belongs decides what is a duplicate"
        cut = 0
        for _ in range(2):
            with worker(server, options):
                within(30, lambda: any(job["status"] == "Processing" for job in jobs(server)))
            cut += any(job["status"] == "Processing" for job in jobs(server))
        assert cut, "a worker was killed in the middle of a promotion"
        with worker(server, options):
            within(60, lambda: {place_of(server, each) for each in media} == {"default"})
            for name, digest in media.items():
                assert hashlib.sha256(server.client.get(f"/v1/media/{name}", headers=server.auth()).content).hexdigest() == digest
            within(20, lambda: files(server.data / "landing") == [] and {job["status"] for job in jobs(server)} == {"Completed"})
        assert [server.upload(body)["id"] for body in bodies[:2]] == list(media)[:2]
        assert answered("scrub", *options)["findings"] == []


def test_what_does_not_go_on_is_reported_and_taken_up_again(tmp_path: Path) -> None:
    """Its job came to nothing: the media is readable meanwhile, the log says that it waits, and it goes on without anybody's help."""
    with served(tmp_path / "data", TOML) as server:
        options: list[object] = ["--data", server.data, "--config", server.data / "mediacdn.toml"]
        late = server.upload(text(200))
        assert answered("jobs", "cancel", jobs(server)[0]["id"], *options)["state"] == "Cancelled"
        assert server.client.get(f"/v1/media/{late['id']}", headers=server.auth()).content == text(200)
        usage = server.client.get("/v1/admin/storage", headers=server.auth("root", "admin")).json()["storages"]
        assert {each["name"]: (each["objects"], each["bytes"], each["via"], each["reachable"]) for each in usage} == {
            "default": (0, 0, "landing", True), "landing": (1, 200, None, True), "direct": (0, 0, None, True),
        }  # fmt: skip
        assert server.client.get("/v1/admin/storage", headers=server.auth("x", "write")).json()["code"] == "insufficient_scope"
        form = {"file": ("a.txt", text(300), "text/plain")}
        answer = server.client.post("/v1/media", headers=server.auth(), data={"tags": "direct"}, files=form)
        assert place_of(server, answer.json()["id"]) == "direct"
        patched = server.client.patch(f"/v1/media/{late['id']}/record", json={"title": "late"}, headers=server.auth())
        assert patched.status_code == 200
        time.sleep(1.1)
        with worker(server, options) as process:
            assert process.stdout is not None
            within(30, lambda: place_of(server, late["id"]) == "default")
            process.terminate()
            assert "uploads wait where they landed" in process.stdout.read()
        assert server.upload(text(200))["id"] == late["id"], "a change of its record meanwhile leaves it findable"
