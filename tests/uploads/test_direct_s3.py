"""Uploads past us into a real S3 service: there and promoted, parts that are missing or of no number, an object that is swapped after its completion, URLs past their
time; and what an upload of any kind answers whose time is over."""

import asyncio
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.services.buckets import BUCKET, open_bucket
from tests.services.served import Served, served
from tests.services.swift import SwiftServer
from tests.uploads.conftest import OFFSET
from tests.uploads.test_direct import MIB, ask, complete, got, over, record, send

TOML = """
plugins = ["local", "jwt", "s3"]
[limits]
max_upload_size = 200_000_000
[uploads]
direct = "incoming"
part_size = 5_242_880
{uploads}
[jobs]
attempts = 1
poll_every = 0.05
[storage.default]
driver = "local"
[storage.incoming]
driver = "s3"
"""
GONE = (410, "upload_gone")


def toml(swift: SwiftServer, prefix: str, uploads: str = "") -> str:
    async def made() -> None:
        async with open_bucket(swift.table):
            return

    asyncio.run(made())
    where: Mapping[str, Any] = {"bucket": BUCKET, "prefix": prefix, **swift.table}
    return TOML.format(uploads=uploads) + "".join(f"{name} = {json.dumps(value)}\n" for name, value in where.items())


@pytest.fixture(scope="module")
def server(swift_server: SwiftServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("direct"), toml(swift_server, "direct"), arguments=()) as running:
        yield running


@pytest.mark.parametrize("size", [1000, 24 * MIB])
def test_there_and_promoted(server: Served, size: int) -> None:
    body = os.urandom(size)
    offer = ask(server, size, digest=hashlib.sha256(body).hexdigest()).json()
    answer = complete(server, offer, send(offer, body))
    assert answer.status_code in (200, 202), answer.text
    media = answer.json()["id"]
    assert record(server, media, over)["status"] == "READY"
    assert got(server, media) == body


def test_parts_that_are_missing_and_parts_that_there_are_not(server: Served) -> None:
    body = os.urandom(23 * MIB)
    offer = ask(server, len(body)).json()
    first = offer["parts"][0]
    assert httpx.put(first["url"], content=body[: first["size"]]).status_code == 200
    answer = complete(server, offer)
    assert (answer.status_code, answer.json()["code"], answer.json()["parts"]) == (409, "parts_missing", [2, 3, 4, 5]), answer.text
    answer = complete(server, offer, [{"number": 99, "etag": "x"}])
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")
    assert complete(server, offer, send(offer, body)).status_code in (200, 202), "neither was the end of it"


def test_an_object_that_is_swapped(swift_server: SwiftServer, tmp_path: Path) -> None:
    """By the digest where one was told, and else by the service's own mark of what was completed."""
    body, other, swapped = os.urandom(5000), os.urandom(5000), []
    with served(tmp_path, toml(swift_server, tmp_path.name)) as own:  # nobody looks at it yet
        for wish in ({"digest": hashlib.sha256(body).hexdigest()}, {}):
            offer = ask(own, 5000, **wish).json()
            send(offer, body)
            swapped.append(complete(own, offer).json()["id"])
            send(offer, other)
    with served(tmp_path, toml(swift_server, tmp_path.name), arguments=()) as own:
        for media in swapped:
            found = record(own, media, over)
            assert (found["status"], found["digest"]) == ("FAILED", "")
            assert own.client.get(f"/v1/media/{media}", headers=own.auth()).status_code == 404


def test_past_their_time(swift_server: SwiftServer, tmp_path: Path) -> None:
    """The service refuses the URL by itself, and the server says 410 of every kind of upload, by every verb."""
    with served(tmp_path, toml(swift_server, tmp_path.name, "expires_in = 2\ndirect_expires_in = 2")) as own:
        offer = ask(own, 100).json()
        tus = {"Tus-Resumable": "1.0.0", "Upload-Offset": "0", "Content-Type": OFFSET}
        draft = {"Upload-Offset": "0", "Upload-Complete": "?1", "Content-Type": "application/partial-upload"}
        begun = own.client.post("/v1/uploads", headers={**own.auth(), "Tus-Resumable": "1.0.0", "Upload-Length": "9"})
        url = begun.headers["location"]
        assert own.client.head(url).status_code == 204
        time.sleep(2.2)
        late = httpx.put(offer["parts"][0]["url"], content=b"x" * 100, headers=offer["headers"])
        assert late.status_code == 403, late.text
        assert own.client.head(url, headers={"Tus-Resumable": "1.0.0"}).status_code == 410
        for answer in (
            own.client.get(url),
            own.client.patch(url, content=b"123456789", headers=tus),
            own.client.patch(url, content=b"123456789", headers=draft),
            own.client.delete(url),
            own.client.get(f"/v1/uploads/{offer['upload_id']}"),
            complete(own, offer),
        ):
            assert (answer.status_code, answer.json()["code"]) == GONE, (answer.request.method, answer.text)
