"""A service that forgets the parts of an upload when it dies, as rclone does: whoever goes on is told so at once and by every request after it, and a fresh try gets through."""

import asyncio
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mediacdn.client import Client, Record
from tests.services.buckets import BUCKET, MIB, open_bucket
from tests.services.rclone import RcloneServer
from tests.services.served import Served, served
from tests.uploads.conftest import LIMITS, Speaker
from tests.uploads.test_direct import ask, complete, send


@pytest.fixture(scope="module")
def forgetting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RcloneServer, Served]]:
    """A service that keeps objects and no parts, and a server over it."""
    root = tmp_path_factory.mktemp("forgetting")
    service = RcloneServer(root, root / "kept")
    service.start()
    try:
        asyncio.run(_bucket(service))
        where = {"driver": "s3", "bucket": BUCKET, **service.table, "part_size": 5 * MIB, "connect_timeout": 3.0, "read_timeout": 10.0}
        table = "".join(f"{name} = {json.dumps(value)}\n" for name, value in where.items())
        with served(root / "data", f'plugins = ["local", "jwt", "s3"]\n{LIMITS}direct = "default"\n[storage.default]\n{table}') as server:
            yield service, server
    finally:
        service.kill()


async def _bucket(service: RcloneServer) -> None:
    async with open_bucket(service.table):
        return


@pytest.mark.parametrize("ending", [7 * MIB, MIB], ids=["another part", "less than a part"])
def test_parts_that_were_forgotten(forgetting: tuple[RcloneServer, Served], ending: int) -> None:
    service, server = forgetting
    speaker = Speaker(server)
    body = b"\x00" + os.urandom(6 * MIB + ending)
    url = speaker.url(speaker.begin(len(body)))
    assert speaker.patch(url, 0, body[: 6 * MIB]).status_code == 204
    service.kill()
    service.start()
    answer = speaker.patch(url, 6 * MIB, body[6 * MIB :])
    assert (answer.status_code, answer.json()["code"]) == (410, "upload_gone"), answer.text
    assert speaker.head(url).status_code == 410, "no offset is promised of what is lost"
    assert speaker.patch(url, 6 * MIB, body[6 * MIB :]).status_code == 410
    again = speaker.url(speaker.begin(len(body)))
    answer = speaker.patch(again, 0, body)
    assert answer.status_code == 204, answer.text
    assert speaker.media(answer.headers["upload-media-id"]) == body


def test_the_client_begins_anew(forgetting: tuple[RcloneServer, Served], tmp_path: Path) -> None:
    service, server = forgetting
    file = tmp_path / "film.bin"
    file.write_bytes(b"\x00" + os.urandom(20 * MIB))
    died = []

    def watch(done: int, total: int | None) -> None:
        if done > 12 * MIB and not died:
            died.append(done)
            service.kill()
            service.start()

    async def upload() -> Record:
        async with Client(server.url, server.token("survivor"), large=1_000_000) as media:
            return await media.upload(file, progress=watch)

    record = asyncio.run(upload())
    assert died
    assert record.digest == hashlib.sha256(file.read_bytes()).hexdigest()


def test_parts_past_us_that_were_forgotten(forgetting: tuple[RcloneServer, Served]) -> None:
    service, server = forgetting
    body = os.urandom(24 * MIB)
    offer = ask(server, len(body)).json()
    assert len(offer["parts"]) > 1
    named = send(offer, body)
    service.kill()
    service.start()
    answer = complete(server, offer, named)
    assert (answer.status_code, answer.json()["code"]) == (410, "upload_gone"), answer.text
    offer = ask(server, len(body)).json()
    answer = complete(server, offer, send(offer, body))
    assert answer.status_code in (200, 202), answer.text
