"""Media in a bucket, through a real server: taken in, read in pieces, cached, withheld and deleted; and what readers and writers hear while S3 is away."""

import asyncio
import itertools
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.services.buckets import BUCKET, MIB, Bucket, open_bucket
from tests.services.command import answered, run, within
from tests.services.samples import png
from tests.services.served import Served, served
from tests.services.swift import SwiftServer, swift

SECRET = "JOURNEY_S3_SECRET"
NUMBERS = itertools.count(1)
FILM = b"\0\0\0\x18ftypisom" + bytes(n * 13 % 251 for n in range(251)) * 50_000  # 12 MiB: three parts


class Place:
    """A corner of a bucket of one server, in which a mediacdn keeps its media."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.prefix = f"journey{next(NUMBERS)}"
        self.environ = {SECRET: server.table["secret_key"]}
        self.toml = f"""
plugins = ["local", "jwt", "vips", "pdf", "s3"]
[storage.default]
driver = "s3"
bucket = "{BUCKET}"
prefix = "{self.prefix}"
endpoint = "{server.endpoint}"
region = "us-east-1"
addressing = "path"
access_key = "{server.table["access_key"]}"
secret_key = {{env = "{SECRET}"}}
part_size = {5 * MIB}
connect_timeout = 3.0
read_timeout = 10.0
[limits]
max_upload_size = 100000000
[edge]
memory = {8 * MIB}
[lifecycle]
abandoned_parts_after = 1
"""

    def do(self, work: Callable[[Bucket], Awaitable[Any]]) -> Any:
        """Do something in the bucket, beside mediacdn."""

        async def opened() -> Any:
            async with open_bucket(self.server.table, prefix=self.prefix) as bucket:
                return await work(bucket)

        return asyncio.run(opened())

    def keys(self) -> list[str]:
        async def listed(bucket: Bucket) -> list[str]:
            return [info.key async for info in bucket.storage(prefix=self.prefix).list()]

        keys: list[str] = self.do(listed)
        return keys

    def uploads(self) -> list[str]:
        async def begun(bucket: Bucket) -> list[str]:
            return [each.key async for each in bucket.storage(prefix=self.prefix).list_uploads()]

        uploads: list[str] = self.do(begun)
        return uploads


@pytest.fixture(scope="module", params=["swift_server", "rclone_server"])
def place(request: pytest.FixtureRequest) -> Place:
    place = Place(request.getfixturevalue(request.param))
    place.keys()  # makes the bucket
    return place


@pytest.fixture(scope="module")
def server(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("s3") / "data", place.toml, environ=place.environ) as running:
        yield running


def test_a_life_in_a_bucket(place: Place, server: Served) -> None:
    client, auth = server.client, server.auth()
    before = set(place.keys())
    picture = png(8, 8, place.prefix.encode())
    small = server.upload(picture, public="true")
    film = server.upload(FILM, public="true")
    assert server.upload(picture, public="true")["id"] == small["id"]
    assert set(place.keys()) - before == {small["storage_key"], film["storage_key"]}
    # Cold, from the bucket; then from the edge; each range from slices.
    path = f"/v1/media/{film['id']}"
    cold = client.get(path)
    assert (cold.status_code, len(cold.content), cold.content == FILM) == (200, len(FILM), True)
    assert "fwd=miss" in cold.headers["Cache-Status"]
    for start, length in ((0, 10), (2_000_000, 2_000_000), (len(FILM) - 5, 5), (4 * MIB - 1, 2)):
        part = client.get(path, headers={"Range": f"bytes={start}-{start + length - 1}"})
        assert (part.status_code, part.content == FILM[start : start + length]) == (206, True)
        assert (
            "hit" in part.headers["Cache-Status"] or "collapsed" in part.headers["Cache-Status"]
        )  # the last slices may still be on their way
    assert client.get(f"/v1/media/{small['id']}").content == picture
    film2 = server.upload(FILM + b"range", public="true")
    part = client.get(f"/v1/media/{film2['id']}", headers={"Range": "bytes=9000000-9000009"})
    assert part.content == FILM[9_000_000:9_000_010]
    assert "fwd=miss" in part.headers["Cache-Status"]
    assert client.delete(f"/v1/media/{film2['id']}", headers=server.auth("root", "admin")).status_code == 204
    # Withheld in the same moment, copies or not; deleted, and its bytes with it.
    admin = server.auth("root", "admin")
    assert client.post(f"{path}/quarantine", headers=admin, json={"reason": "r"}).status_code == 200
    assert client.get(path, headers=auth).status_code == 451
    assert client.delete(path, headers=admin).status_code == 204
    assert client.get(path).status_code in (401, 404)
    assert set(place.keys()) - before == {small["storage_key"]}
    ready = client.get("/readyz")
    assert ready.status_code == 200, ready.text


def test_an_upload_that_is_cut_leaves_nothing(place: Place, server: Served) -> None:
    before = place.keys()
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as upload:
        head = f"POST /v1/media HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000\r\nAuthorization: Bearer {server.token()}\r\n\r\n"
        upload.sendall(head.encode() + FILM)
        within(10, place.uploads)
    within(10, lambda: not place.uploads())
    assert place.keys() == before


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (("", ""), "an object was put, read and deleted; an upload in parts was begun, listed and aborted"),
        ((f'bucket = "{BUCKET}"', 'bucket = "no-such-bucket"'), "The bucket does not exist"),
    ],
    ids=["right", "bucket"],
)
def test_doctor_says_what_is_wrong(swift_server: SwiftServer, tmp_path: Path, wrong: tuple[str, str], sentence: str) -> None:
    place = Place(swift_server)
    place.keys()
    config = tmp_path / "mediacdn.toml"
    config.write_text(place.toml.replace(*wrong))
    told = run("doctor", "--config", config, "--data", tmp_path / "data", "--json", environ=place.environ)
    assert sentence in told.stdout
    assert told.returncode == (0 if not wrong[0] else 1)
    assert place.environ[SECRET] not in told.stdout + told.stderr


def test_without_credentials_the_start_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "mediacdn.toml"
    config.write_text('plugins = ["local", "jwt", "s3"]\n[storage.default]\ndriver = "s3"\nbucket = "media"\n')
    alone = {"AWS_EC2_METADATA_DISABLED": "true", "HOME": str(tmp_path), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none")}
    done = run("serve", "--port", "0", "--config", config, "--data", tmp_path / "data", environ=alone)
    assert done.returncode == 1
    assert "no credentials for S3" in done.stderr
    assert "Traceback" not in done.stderr


def test_s3_is_away_and_comes_back(tmp_path: Path) -> None:
    with swift() as s3:
        place = Place(s3)
        place.keys()
        with served(tmp_path / "data", place.toml, environ=place.environ) as server:
            kept, cold = (server.upload(png(8, 8, name), public="true") for name in (b"kept", b"cold"))
            assert server.client.get(f"/v1/media/{kept['id']}").status_code == 200
            s3.kill()
            began = time.monotonic()
            refused = server.client.post("/v1/media", content=png(8, 8, b"while it is away"), headers=server.auth())
            assert (refused.status_code, refused.json()["code"]) == (503, "storage_unavailable")
            assert "Retry-After" in refused.headers
            large = server.client.post("/v1/media", content=FILM, headers=server.auth())
            assert large.status_code == 503
            assert time.monotonic() - began < 6
            assert server.client.get(f"/v1/media/{kept['id']}").status_code == 200
            assert server.client.get(f"/v1/media/{cold['id']}").status_code == 503
            ready = server.client.get("/readyz")
            assert ready.status_code == 503
            assert "storage.default" in ready.text
            s3.start()
            began = time.monotonic()
            within(10, lambda: server.client.get(f"/v1/media/{cold['id']}").status_code == 200)
            assert server.upload(png(8, 8, b"it is back"))["size"] > 0
            assert server.client.get("/readyz").status_code == 200
            assert place.environ[SECRET] not in "".join(server.log)
            # What an outage left of an upload in parts is found later.
            place.do(lambda bucket: bucket.storage(prefix=place.prefix).begin_parts("originals/dead"))
            time.sleep(2.1)
            options = ["--data", server.data, "--config", server.data / "mediacdn.toml"]
            found = answered("gc", *options, environ=place.environ)["objects"]
            assert {"storage": "default", "key": "originals/dead"} in found
            assert place.uploads() == []
