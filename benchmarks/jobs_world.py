"""The world of benchmarks.jobs_crash: a plugin whose action says who is at work, uploads that never run dry, and processes as /proc shows them."""

import http.client
import json
import os
import random
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.services import samples
from tests.services.served import Served

BACKLOG = 40
"""Jobs that wait at most before the next upload: what is left at the end is bounded by it."""
PLUGIN = '''
import asyncio
import os
import time
from contextlib import asynccontextmanager
from msgspec import Struct
from mediacdn.hookspecs import Driver, hookimpl
from mediacdn.model import Made, Plan


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    file: str


class Witness:
    """Says when it begins and ends with a media, in a line each."""

    arguments = ()
    accepts = ("image/*",)

    def __init__(self, file):
        self._file = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def say(self, word, media):
        os.write(self._file, f"{word} {media} {os.getpid()} {time.monotonic()}\\n".encode())

    async def run(self, source, spec, sink):
        self.say("begin", source.media.id)
        try:
            await asyncio.sleep(0.02)
            return Made(facts={"seen": True})
        finally:
            self.say("end", source.media.id)


@asynccontextmanager
async def opened(config, kit):
    yield Witness(config.file)


@hookimpl
def mediacdn_drivers():
    return [Driver("action", "witness", Settings, opened)]


@hookimpl
def mediacdn_plan_jobs(media):
    return [Plan(recipe="card", required=True), Plan(recipe="witnessed")] if media.kind == "image" and media.source_id is None else []
'''
TOML = """
plugins = ["local", "jwt", "vips", "crashing"]
[database]
url = "{url}"
[limits]
uploads_per_second = 0
[lifecycle]
abandoned_after = 1
sweep_every = 1
[jobs]
lease = {lease}
attempts = {attempts}
backoff_base = 0.2
[recipes.witness]
file = "{witness}"
[[recipes.define]]
code = "card"
version = 1
accepts = ["image/*"]
steps = [
    {{name = "scale", action = "image", spec = {{w = 48, format = "png"}}, relationship = "middle"}},
    {{name = "card", action = "image", spec = {{w = 24, h = 24, fit = "cover", format = "jpeg"}}, relationship = "card"}},
]
[[recipes.define]]
code = "witnessed"
version = 1
accepts = ["image/*"]
steps = [{{name = "see", action = "witness"}}]
[[recipes.define]]
code = "pair"
version = 1
accepts = ["image/*"]
steps = [
    {{name = "left", action = "image", spec = {{w = 40, format = "webp"}}, relationship = "left"}},
    {{name = "right", action = "image", spec = {{w = 20, format = "webp"}}, relationship = "right"}},
]
"""
PLANNED = ("thumb", "look", "card", "witnessed")
CUT = {"thumb", "card", "pair"}
"""Recipes that fail on a picture that is cut short."""


def install(folder: Path) -> dict[str, str]:
    """Put the plugin into `folder`; the environment in which a process finds it."""
    info = folder / "crashing-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "crashing.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: crashing\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mediacdn]\ncrashing = crashing\n")
    return {"PYTHONPATH": str(folder)}


class Uploader(threading.Thread):
    """Uploads pictures and asks for tasks, as long as there is less than BACKLOG to do. `uploaded` maps ids to whether the picture is whole, `asked` holds ids."""

    def __init__(self, server: Served, seed: int) -> None:
        super().__init__(daemon=True)
        self._address = server.url.removeprefix("http://")
        self._headers = {"Authorization": f"Bearer {server.token('writer', 'admin', '12h')}"}
        self._random = random.Random(seed)
        self.uploaded: dict[str, bool] = {}
        self.asked: set[str] = set()
        self.stopping = threading.Event()
        self._failure: BaseException | None = None

    def run(self) -> None:
        try:
            self._run()
        except BaseException as error:
            self._failure = error

    def finish(self) -> None:
        """Stop, and wait. Raises: what ended the thread."""
        self.stopping.set()
        self.join(30)
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        connection = http.client.HTTPConnection(self._address, timeout=30)
        while not self.stopping.is_set():
            waiting = self._ask(connection, "GET", f"/v1/admin/jobs?state=Pending&limit={BACKLOG}")["items"]
            if len(waiting) >= BACKLOG:
                time.sleep(0.1)
                continue
            size = self._random.randint(32, 160)
            body, whole = samples.png(size, size, self._random.randbytes(8)), self._random.random() > 0.15
            media = self._ask(connection, "POST", "/v1/media", body if whole else body[: len(body) // 2])["id"]
            self.uploaded[media] = whole
            if self._random.random() < 0.4:
                self._ask(connection, "POST", f"/v1/media/{media}/tasks/pair")
                self.asked.add(media)
        connection.close()

    def _ask(self, connection: http.client.HTTPConnection, method: str, path: str, body: bytes = b"") -> Any:
        connection.request(method, path, body, self._headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status not in (200, 201, 202):
            raise RuntimeError(f"{method} {path}: {answer.status} {text!r}")
        return json.loads(text)


Process = tuple[int, str]
"""A process by its number and when it was started, so that no later one passes for it."""


def children_of(pid: int) -> list[Process]:
    """The processes that a process has started."""
    return [(each, fields[19]) for each in _numbers() if (fields := _stat(each)) is not None and int(fields[1]) == pid]


def wait_gone(there: list[Process], seconds: float) -> list[int]:
    """Wait until these have ended; tell who has not."""
    deadline = time.monotonic() + seconds
    while alive := [pid for pid, began in there if (fields := _stat(pid)) is not None and fields[19] == began and fields[0] != "Z"]:
        if time.monotonic() > deadline:
            return alive
        time.sleep(0.01)
    return []


def strangers(folder: str) -> list[int]:
    """Processes whose command names a folder."""
    found = []
    for pid in _numbers():
        with suppress(OSError):
            if pid != os.getpid() and folder.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def _numbers() -> list[int]:
    return [int(each) for each in os.listdir("/proc") if each.isdigit()]


def _stat(pid: int) -> list[str] | None:
    """What /proc/PID/stat says after the name: state, parent, …, at 19 when it was started."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return None
