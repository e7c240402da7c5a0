"""Servers whose uploads wait in files, or in a storage of parts, and a small speaker of the protocols."""

import base64
import os
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.services import bucket
from tests.services.served import Served, served

LIMITS = """
[limits]
max_upload_size = 200_000_000
uploads_per_second = 0
[uploads]
per_owner = 1000
part_size = 5_242_880
"""
OFFSET = "application/offset+octet-stream"


class Speaker:
    """What tests say to one server."""

    def __init__(self, server: Served) -> None:
        self.server = server
        self.tus = {"Tus-Resumable": "1.0.0"}

    def begin(self, size: int | None, *, sub: str = "alice", body: bytes | None = None, **fields: str) -> httpx.Response:
        told = {name.replace("_", "-"): value for name, value in fields.items()}
        length = {"Upload-Defer-Length": "1"} if size is None else {"Upload-Length": str(size)}
        if "Upload-Concat" in told and told["Upload-Concat"].startswith("final"):
            length = {}
        headers = {**self.server.auth(sub), **self.tus, **length, **told}
        if body is not None:
            headers["Content-Type"] = OFFSET
        return self.server.client.post("/v1/uploads", content=body, headers=headers)

    def url(self, answer: httpx.Response) -> str:
        assert answer.status_code == 201, answer.text
        return str(answer.headers["location"])

    def patch(self, url: str, offset: int, body: Any, **fields: str) -> httpx.Response:
        told = {name.replace("_", "-"): value for name, value in fields.items()}
        return self.server.client.patch(
            url, content=body, headers={**self.tus, "Upload-Offset": str(offset), "Content-Type": OFFSET, **told}
        )

    def head(self, url: str) -> httpx.Response:
        return self.server.client.head(url, headers=self.tus)

    def media(self, id: str) -> bytes:
        answer = self.server.client.get(f"/v1/media/{id}", headers=self.server.auth())
        assert answer.status_code == 200, answer.text
        return answer.content

    def staged(self, url: str) -> list[str]:
        """The names of whatever of this upload waits somewhere."""
        name, bucket = url.rpartition("/")[2].partition(".")[0], self.server.data / "bucket"
        parts = [each.parent.name for each in (bucket / "parts").glob("*/key") if name in each.read_text()]
        files = [*(self.server.data / "uploads").glob(f"{name}*"), *(bucket / "objects").glob(f"uploads+{name}*")]
        return [*parts, *(each.name for each in files)]

    def left(self, url: str) -> list[str]:
        """What is staged of an upload that is over: cleaning up comes a moment after the answer."""
        deadline = time.monotonic() + 2
        while (found := self.staged(url)) and time.monotonic() < deadline:
            time.sleep(0.02)
        return found


def metadata(**values: str) -> str:
    return ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in values.items())


@pytest.fixture
def content() -> bytes:
    """Bytes that nobody else uploads, of no type that anybody knows."""
    return b"\x00\x01" + os.urandom(300_000)


@pytest.fixture(scope="session", params=["files", "parts"])
def speaker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Speaker]:
    data = tmp_path_factory.mktemp(request.param)
    toml, environ = LIMITS, {}
    if request.param == "parts":
        environ = bucket.install(data / "plugin")
        toml = bucket.PLUGINS + LIMITS + bucket.storage("default", data / "bucket")
    with served(data, toml, environ=environ) as server:
        yield Speaker(server)
