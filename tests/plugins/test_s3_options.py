"""The keys of the s3 driver's table: which are refused, and what each does to the requests that go out."""

from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from mediacdn import Conflict, InvalidParameter
from mediacdn.testing import kit
from mediacdn_s3 import S3Config, open_s3
from mediacdn_s3.names import Names
from mediacdn_s3.storage import S3Storage
from tests.services.buckets import MIB, open_bucket
from tests.services.rclone import RcloneServer
from tests.services.storm import Storm, open_storm
from tests.services.swift import SwiftServer

pytestmark = pytest.mark.anyio

KEYS = {"access_key": "AKIDEXAMPLE", "secret_key": "secret"}
HOUR = timedelta(hours=1)


async def given(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def read(storage: S3Storage, key: str) -> bytes:
    async with storage.open(key) as chunks:
        return b"".join([chunk async for chunk in chunks])


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ({"bucket": "a"}, "bucket"),
        ({"bucket": "../x"}, "bucket"),
        ({"prefix": "a b"}, "prefix"),
        ({"prefix": "a/../b"}, "prefix"),
        ({"prefix": "p" * 401}, "prefix"),
        ({"endpoint": "s3.example.org"}, "endpoint"),
        ({"public_endpoint": "ftp://s3.example.org"}, "public_endpoint"),
        ({"proxy": "proxy:3128"}, "proxy"),
        ({"access_key": "a"}, "access_key"),
        ({"secret_key": "a"}, "access_key"),
        ({"session_token": "a"}, "session_token"),
        ({"kms_key": "k"}, "kms_key"),
        ({"kms_key": "k", "encryption": "AES256"}, "kms_key"),
        ({"part_size": 5 * MIB - 1}, "part_size"),
        ({"part_size": 513 * MIB}, "part_size"),
        ({"parts_in_flight": 0}, "parts_in_flight"),
        ({"parallel_reads": 0}, "parallel_reads"),
        ({"connections": 0}, "connections"),
        ({"read_timeout": 0.0}, "timeouts"),
        ({"connect_timeout": -1.0}, "timeouts"),
        ({"read_ahead": -1}, "read_ahead"),
    ],
)
def test_what_cannot_work_is_refused(table: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        S3Config(**{"bucket": "media", **table})


@pytest.mark.parametrize(
    "table", [{}, {"prefix": ""}, {"prefix": "/a/b/"}, {"kms_key": "k", "encryption": "aws:kms"}, {"part_size": 5 * MIB}]
)
def test_what_works(table: dict[str, Any]) -> None:
    S3Config(**{"bucket": "media", **table})


def test_names() -> None:
    names = Names("/a/b/")
    assert names.of("originals/x.png") == "a/b/originals/x.png"
    assert [names.key(name) for name in ("a/b/x", "a/b/", "a/bx", "x", "a/b//x", "a/b/x y")] == ["x", None, None, None, None, None]
    assert (names.beneath(""), names.beneath("o/"), names.beneath("o o")) == ("a/b/", "a/b/o/", None)
    assert Names("").of("x") == "x"


# Where requests go, seen from the URLs that are signed


async def url(**table: Any) -> str:
    async with open_s3(S3Config(**{"bucket": "media", **KEYS, **table}), kit("/nowhere")) as storage:
        return await storage.presign_get("a/b.png", HOUR, media_type="image/png", disposition="inline")


@pytest.mark.parametrize(
    ("table", "address"),
    [
        ({}, "https://media.s3.amazonaws.com/a/b.png"),
        ({"region": "eu-central-1"}, "https://media.s3.eu-central-1.amazonaws.com/a/b.png"),
        ({"region": "eu-central-1", "addressing": "path"}, "https://s3.eu-central-1.amazonaws.com/media/a/b.png"),
        ({"endpoint": "https://s3.example.org"}, "https://s3.example.org/media/a/b.png"),
        ({"endpoint": "https://s3.example.org", "addressing": "virtual"}, "https://media.s3.example.org/a/b.png"),
        ({"endpoint": "http://127.0.0.1:9", "addressing": "path", "prefix": "p"}, "http://127.0.0.1:9/media/p/a/b.png"),
        (
            {"endpoint": "http://10.0.0.1", "public_endpoint": "https://cdn.example.org", "addressing": "path"},
            "https://cdn.example.org/media/a/b.png",
        ),
    ],
)
async def test_addresses(monkeypatch: pytest.MonkeyPatch, table: dict[str, Any], address: str) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    assert (await url(**table)).partition("?")[0] == address


async def test_the_usual_chain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text("[media]\naws_access_key_id = FROMFILE\naws_secret_access_key = s\n")
    (tmp_path / "config").write_text("[profile media]\nregion = eu-west-3\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    async with open_s3(S3Config(bucket="media", profile="media"), kit("/nowhere")) as storage:
        signed = await storage.presign_get("a", HOUR, media_type="image/png", disposition="inline")
    assert urlsplit(signed).hostname == "media.s3.eu-west-3.amazonaws.com"
    assert parse_qs(urlsplit(signed).query)["X-Amz-Credential"][0].startswith("FROMFILE/")


@pytest.mark.parametrize("expires", [timedelta(), timedelta(days=7, seconds=1)])
async def test_a_presigned_url_lives_for_a_week_at_most(expires: timedelta) -> None:
    async with open_s3(S3Config(bucket="media", **KEYS), kit("/nowhere")) as storage:
        with pytest.raises(InvalidParameter):
            await storage.presign_put("a", expires)


# What is asked for with each object


class Ear:
    """Notes the headers of requests on their way."""

    def __init__(self, storm: Storm) -> None:
        self.heard: list[tuple[str, Mapping[str, str]]] = []
        relay = storm.relay

        async def noted(request: Any, **how: Any) -> Any:
            self.heard.append((f"{request.method} {request.query_string.partition('=')[0]}", request.headers))
            return await relay(request, **how)

        storm.relay = noted  # type: ignore[method-assign]

    def of(self, name: str) -> list[str | None]:
        """That header of each request that may make an object: put, begin, part, complete."""
        return [headers.get(name) for call, headers in self.heard if call.startswith(("PUT", "POST"))]


async def test_what_objects_get(rclone_server: RcloneServer) -> None:
    async with open_storm(rclone_server.endpoint) as storm, open_bucket({**rclone_server.table, "endpoint": storm.endpoint}) as bucket:
        ear = Ear(storm)
        storage = bucket.storage(storage_class="STANDARD_IA", encryption="aws:kms", kms_key="key-1")
        await storage.put("a", given(b"x"))
        await storage.abort_parts("b", await storage.begin_parts("b"))
        assert ear.of("x-amz-storage-class") == ["STANDARD_IA"] * 2
        assert ear.of("x-amz-server-side-encryption") == ["aws:kms"] * 2
        assert ear.of("x-amz-server-side-encryption-aws-kms-key-id") == ["key-1"] * 2
        assert ear.of("x-amz-content-sha256")[0] == "UNSIGNED-PAYLOAD"
        assert ear.of("Expect") == [None] * 2


async def test_no_proxy_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, rclone_server: RcloneServer) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with open_bucket(rclone_server.table) as bucket:
        storage = bucket.storage()
        await storage.put("a", given(b"x"))
        assert await read(storage, "a") == b"x"
    async with open_storm(rclone_server.endpoint) as storm, open_bucket(rclone_server.table, proxy=storm.endpoint) as bucket:
        assert (await bucket.storage().put("a", given(b"x"))).size == 1
        assert storm.count("PUT")


@pytest.mark.parametrize(
    ("server", "checksum", "size"),
    [
        ("swift_server", "crc32", 5),
        ("swift_server", "crc32", 5 * MIB + 1),
        ("swift_server", "md5", 5 * MIB + 1),
        ("rclone_server", "md5", 5),
        ("rclone_server", "none", 5),
        ("rclone_server", "none", 5 * MIB + 1),
    ],
)
async def test_bodies_carry_a_checksum(request: pytest.FixtureRequest, server: str, checksum: str, size: int) -> None:
    header = {"crc32": "x-amz-checksum-crc32", "md5": "Content-MD5", "none": None}[checksum]
    service: SwiftServer | RcloneServer = request.getfixturevalue(server)
    async with open_storm(service.endpoint) as storm, open_bucket({**service.table, "endpoint": storm.endpoint}) as bucket:
        ear = Ear(storm)
        storage = bucket.storage(checksum=checksum)
        content = bytes(size)
        assert (await storage.put("a", given(content))).size == size
        assert await read(storage, "a") == content
        bodies = [headers for call, headers in ear.heard if call.startswith("PUT")]
        assert len(bodies) == (1 if size < 5 * MIB else 2)
        for name in ("x-amz-checksum-crc32", "Content-MD5"):
            assert [name in headers for headers in bodies] == [name == header] * len(bodies)


async def test_swift_refuses_a_wrong_crc32(swift_server: SwiftServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mediacdn_s3.body.Body.crc32", lambda body: "AAAAAA==")
    async with open_bucket(swift_server.table) as bucket:
        storage = bucket.storage()
        with pytest.raises(Exception, match="fails to answer"):
            await storage.put("a", given(bytes(5), b"x"))
        assert [each async for each in storage.list()] == []
        assert [each async for each in storage.list_uploads()] == []


async def test_swift_does_not_replace_when_told_so(swift_server: SwiftServer) -> None:
    async with open_bucket(swift_server.table) as bucket:
        storage = bucket.storage(overwrite=False)
        await storage.put("a", given(b"first"))
        with pytest.raises(Conflict):
            await storage.put("a", given(b"second"))
        assert await read(storage, "a") == b"first"
