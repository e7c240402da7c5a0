"""Where uploads wait whose first bytes do not tell much: for a storage of parts, in that storage, so that any node can go on with them."""

import asyncio
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.services import bucket
from tests.services.buckets import BUCKET, MIB, open_bucket
from tests.services.rclone import RcloneServer
from tests.services.samples import png
from tests.services.served import served
from tests.uploads.conftest import LIMITS, Speaker, metadata

PICTURE = png(120, 120, b"staging" * 2000)
assert len(PICTURE) > 10_000


@pytest.fixture(scope="module")
def speaker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Speaker]:
    """A server that takes pictures alone, and puts them into a storage of parts."""
    data = tmp_path_factory.mktemp("pictures")
    limits = LIMITS.replace("[limits]", '[limits]\nallow_types = ["image/png"]')
    toml = bucket.PLUGINS + limits + bucket.storage("default", data / "bucket")
    with served(data, toml, environ=bucket.install(data / "plugin")) as server:
        yield Speaker(server)


@pytest.fixture(autouse=True)
def nothing_waits_here(speaker: Speaker) -> Iterator[None]:
    yield
    assert not list((speaker.server.data / "uploads").glob("*"))


def picture(name: str) -> bytes:
    return PICTURE + name.encode()


@pytest.mark.parametrize("cuts", [[0], [1], [100], [0, 3, 5000], [9000]], ids=str)
@pytest.mark.parametrize("deferred", [False, True])
def test_first_requests_of_any_size(speaker: Speaker, cuts: list[int], deferred: bool) -> None:
    body = picture(f"{cuts} {deferred}")
    url = speaker.url(speaker.begin(None if deferred else len(body)))
    at = 0
    for stop in cuts:
        assert speaker.patch(url, at, body[at:stop]).status_code == 204
        assert speaker.head(url).headers["upload-offset"] == str(stop)
        at = stop
    told = {"Upload_Length": str(len(body))} if deferred else {}
    answer = speaker.patch(url, at, body[at:], **told)
    assert answer.status_code == 204, answer.text
    media = answer.headers["upload-media-id"]
    assert speaker.media(media) == body
    found = speaker.server.client.get(f"/v1/media/{media}/record", headers=speaker.server.auth()).json()
    assert found["media_type"] == "image/png"
    assert not speaker.left(url)


def test_begun_without_a_byte_by_the_draft(speaker: Speaker) -> None:
    """The object is the one that the parts were sent to: nothing was chosen by no bytes at all."""
    body = picture("draft")
    headers = {**speaker.server.auth(), "Upload-Complete": "?0", "Upload-Length": str(len(body))}
    url = speaker.server.client.post("/v1/uploads", headers=headers).headers["location"]
    headers = {"Upload-Offset": "0", "Upload-Complete": "?1", "Content-Type": "application/partial-upload"}
    answer = speaker.server.client.patch(url, content=body, headers=headers)
    assert (answer.status_code, answer.json()["digest"]) == (201, hashlib.sha256(body).hexdigest())
    assert (speaker.server.data / "bucket" / "objects" / f"originals+{answer.json()['id']}.png").exists()


def test_partial_uploads_are_of_no_type(speaker: Speaker) -> None:
    body = picture("joined")
    urls = [speaker.url(speaker.begin(len(part), body=part, Upload_Concat="partial")) for part in (body[:6000], body[6000:])]
    final = speaker.begin(None, Upload_Concat=f"final;{' '.join(urls)}", Upload_Metadata=metadata(title="joined"))
    assert speaker.media(final.headers["upload-media-id"]) == body
    assert not [each for url in [*urls, speaker.url(final)] for each in speaker.left(url)]


def test_what_is_not_allowed_is_refused_as_soon_as_it_can_be_told(speaker: Speaker) -> None:
    body = b"\x00" * 20_000
    url = speaker.url(speaker.begin(len(body)))
    assert speaker.patch(url, 0, body[:100]).status_code == 204
    answer = speaker.patch(url, 100, body[100:])
    assert (answer.status_code, answer.json()["code"]) == (415, "type_not_allowed")
    for size in (len(body), None):
        url = speaker.url(speaker.begin(size))
        answer = speaker.patch(url, 0, body[:10_000])
        assert (answer.status_code, answer.json()["code"]) == (415, "type_not_allowed")
        assert not speaker.left(url)


def test_a_service_that_wants_parts_without_a_gap(rclone_server: RcloneServer, tmp_path: Path) -> None:
    """rclone refuses numbers that are passed over, and there are none where every writer has ended in order."""
    asyncio.run(_bucket(rclone_server.table))
    where = {"driver": "s3", "bucket": BUCKET, "prefix": tmp_path.name, **rclone_server.table, "part_size": 5 * MIB}
    table = "".join(f"{name} = {json.dumps(value)}\n" for name, value in where.items())
    with served(tmp_path, f'plugins = ["local", "jwt", "s3"]\n{LIMITS}[storage.default]\n{table}') as server:
        speaker = Speaker(server)
        body = b"\x00" + os.urandom(12 * MIB)
        url = speaker.url(speaker.begin(len(body)))
        at = 0
        for stop in (MIB, 7 * MIB, 7 * MIB + 1, len(body)):
            answer = speaker.patch(url, at, body[at:stop])
            assert answer.status_code == 204, answer.text
            at = stop
        assert speaker.media(answer.headers["upload-media-id"]) == body


async def _bucket(table: Mapping[str, Any]) -> None:
    async with open_bucket(table):
        return
