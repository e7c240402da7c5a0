"""The s3 driver when the service refuses, hangs, loses answers, cuts bodies and lies; each through a relay before a real server."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import anyio
import pytest

from mediacdn import ByteRange, Conflict, NotFound, ObjectCorrupt, Part, StorageFull, StorageUnavailable, TooLarge
from mediacdn.hookspecs import Kit
from mediacdn.testing.kit import SystemClock
from mediacdn_s3 import writing
from mediacdn_s3.storage import S3Storage
from tests.services.buckets import MIB, Bucket, open_bucket
from tests.services.rclone import RcloneServer
from tests.services.storm import Spoil, Storm, canned, cut, drop, lose_answer, open_storm, refusal, silence, slowly
from tests.services.tokens import Journal

pytestmark = pytest.mark.anyio

DOWN = refusal(503, "SlowDown")
PART = 320 * 1024
CONTENT = bytes(n * 7 % 251 for n in range(251)) * 5000  # four parts
AHEAD = 10 * PART
PATIENCE = 3.0
"""Seconds; a service that shares a busy machine takes some of them."""
SMALL = {"part_size": PART, "read_ahead": AHEAD}


@pytest.fixture(scope="module")
async def relayed(rclone_server: RcloneServer) -> AsyncIterator[tuple[Storm, Bucket]]:
    async with open_storm(rclone_server.endpoint) as storm:
        async with open_bucket(
            {**rclone_server.table, "endpoint": storm.endpoint}, connect_timeout=PATIENCE, read_timeout=PATIENCE
        ) as bucket:
            yield storm, bucket


@pytest.fixture(scope="module")
async def hasty(relayed: tuple[Storm, Bucket], rclone_server: RcloneServer) -> AsyncIterator[Bucket]:
    """For tests of silence, which others than the service may keep too when the machine is busy: it asks for short."""
    async with open_bucket({**rclone_server.table, "endpoint": relayed[0].endpoint}, connect_timeout=0.5, read_timeout=0.5) as bucket:
        yield bucket


@pytest.fixture
def storm(relayed: tuple[Storm, Bucket]) -> Storm:
    relayed[0].rules.clear()
    relayed[0].seen.clear()
    return relayed[0]


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture
def storage(request: pytest.FixtureRequest, relayed: tuple[Storm, Bucket], hasty: Bucket, storm: Storm, journal: Journal) -> S3Storage:
    silent = hasattr(request.node, "callspec") and request.node.callspec.params.get("spoil") is silence
    return (hasty if silent else relayed[1]).storage(kit=Kit("", journal, None, SystemClock()), **SMALL)


async def given(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def large() -> AsyncIterator[bytes]:
    for at in range(0, len(CONTENT), PART // 5):
        yield CONTENT[at : at + PART // 5]


async def read(storage: S3Storage, key: str = "a", span: ByteRange | None = None) -> bytes:
    async with storage.open(key, span) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def nothing_is_left(storage: S3Storage, key: str = "a") -> None:
    with pytest.raises(NotFound):
        await storage.head(key)
    assert [each async for each in storage.list_uploads()] == []


# What is repeated, and what it comes to


@pytest.mark.parametrize(
    "spoil", [DOWN, refusal(500, "InternalError"), drop, lose_answer, silence], ids=["503", "500", "drop", "lost", "silence"]
)
@pytest.mark.parametrize(
    ("method", "text"),
    [("PUT", "/a?partNumber"), ("POST", "uploads"), ("POST", "uploadId")],
    ids=["part", "begin", "complete"],
)
async def test_a_large_put_outlives_one_failure(storage: S3Storage, storm: Storm, spoil: Spoil, method: str, text: str) -> None:
    if text.startswith("/a?"):
        text = "partNumber=2"
    storm.on(method, spoil, text)
    info = await storage.put("a", large(), size=len(CONTENT))
    assert info.size == len(CONTENT)
    storm.rules.clear()
    assert await read(storage) == CONTENT


async def test_a_large_put_that_is_named_by_its_parts_is_not_asked_after(storage: S3Storage, storm: Storm) -> None:
    """A service may have to read all of it for that."""
    info = await storage.put("a", large(), size=len(CONTENT))
    assert storm.count("HEAD", "") == 0
    assert (info.size, info.etag.rpartition("-")[2]) == (len(CONTENT), "4")
    assert (await storage.head("a")).size == len(CONTENT)


@pytest.mark.parametrize("spoil", [DOWN, drop, lose_answer, silence], ids=["503", "drop", "lost", "silence"])
async def test_a_small_put_outlives_one_failure(storage: S3Storage, storm: Storm, spoil: Spoil) -> None:
    storm.on("PUT", spoil)
    await storage.put("a", given(b"hello"))
    assert await read(storage) == b"hello"
    assert storm.count("PUT") == 2


@pytest.mark.parametrize(("text", "times"), [("partNumber=3", 9), ("partNumber", 99)], ids=["one part", "every part"])
async def test_a_put_that_fails_leaves_nothing(storage: S3Storage, storm: Storm, text: str, times: int) -> None:
    storm.on("PUT", DOWN, text, times=times)
    with pytest.raises(StorageUnavailable):
        await storage.put("a", large(), size=len(CONTENT))
    assert storm.count("DELETE", "uploadId") == 1
    await nothing_is_left(storage)


async def test_a_completion_that_fails_leaves_nothing(storage: S3Storage, storm: Storm) -> None:
    storm.on("POST", DOWN, "uploadId", times=9)
    with pytest.raises(StorageUnavailable):
        await storage.put("a", large(), size=len(CONTENT))
    await nothing_is_left(storage)


async def test_a_completion_that_says_200_and_means_500(storage: S3Storage, storm: Storm) -> None:
    storm.on(
        "POST", canned(200, b"<?xml version='1.0'?>\n<Error><Code>InternalError</Code><Message>m</Message></Error>"), "uploadId", times=9
    )
    with pytest.raises(StorageUnavailable):
        await storage.put("a", large(), size=len(CONTENT))
    await nothing_is_left(storage)


async def test_an_abort_that_fails_is_tried_again(storage: S3Storage, storm: Storm) -> None:
    async def breaking() -> AsyncIterator[bytes]:
        yield CONTENT
        raise ValueError

    storm.on("DELETE", DOWN, "uploadId")
    with pytest.raises(ValueError):
        await storage.put("a", breaking())
    await nothing_is_left(storage)


async def test_a_service_that_is_away_does_not_keep_a_failed_put(storage: S3Storage, storm: Storm) -> None:
    storm.on("PUT", DOWN, times=99)
    storm.on("DELETE", silence, times=99)
    began = time.monotonic()
    with pytest.raises(StorageUnavailable):
        await storage.put("a", large(), size=len(CONTENT))
    assert time.monotonic() - began < 10
    storm.rules.clear()
    [left] = [each async for each in storage.list_uploads()]
    await storage.abort_parts(left.key, left.upload)


# Cancelled


@pytest.mark.parametrize("native", [False, True], ids=["cancel scope", "task.cancel"])
@pytest.mark.parametrize(
    ("method", "text", "spoil"),
    [("PUT", "partNumber=2", slowly(0.3)), ("POST", "uploadId", slowly(0.3)), ("PUT", "partNumber=2", silence)],
    ids=["sending a part", "completing", "a part that hangs"],
)
async def test_a_cancelled_large_put_leaves_nothing(
    storage: S3Storage, storm: Storm, method: str, text: str, spoil: Spoil, native: bool
) -> None:
    storm.on(method, spoil, text)
    await cancelled(storage.put("a", large(), size=len(CONTENT)), lambda: storm.count(method, text) > 0, native)
    await nothing_is_left(storage)


@pytest.mark.parametrize("native", [False, True], ids=["cancel scope", "task.cancel"])
@pytest.mark.parametrize("spoil", [slowly(0.3), silence], ids=["slow", "hanging"])
async def test_a_cancelled_small_put_leaves_nothing(storage: S3Storage, storm: Storm, spoil: Spoil, native: bool) -> None:
    storm.on("PUT", spoil, times=9)
    await cancelled(storage.put("a", given(b"hello")), lambda: storm.count("PUT") > 0, native)
    await nothing_is_left(storage)


async def cancelled(call: Any, begun: Callable[[], bool], native: bool) -> None:
    """Run until `begun` and then cancel; it must end within the time for cleaning up."""
    ended = False

    async def run() -> None:
        nonlocal ended
        try:
            await call
        finally:
            ended = True

    async def until_begun() -> None:
        while not begun():  # noqa: ASYNC110 - the relay is asked, nothing tells
            await asyncio.sleep(0.005)

    if native:
        task = asyncio.create_task(run())
        await until_begun()
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await until_begun()
            began = time.monotonic()
            tasks.cancel_scope.cancel()
    assert ended
    assert time.monotonic() - began < writing.CLEANING / 2


# Errors by their names


async def head(storage: S3Storage) -> Any:
    return await storage.head("a")


async def put(storage: S3Storage) -> Any:
    return await storage.put("a", given(b"x"))


async def delete(storage: S3Storage) -> Any:
    return await storage.delete("a")


async def listed(storage: S3Storage) -> Any:
    return [each async for each in storage.list()]


@pytest.mark.parametrize("call", [read, put, delete, listed], ids=lambda call: str(call.__name__))
@pytest.mark.parametrize(
    ("status", "code", "error", "sentence"),
    [
        (403, "AccessDenied", StorageUnavailable, "The service refuses access to the bucket"),
        (404, "NoSuchBucket", StorageUnavailable, "The bucket does not exist"),
        (403, "SignatureDoesNotMatch", StorageUnavailable, "The service refuses the secret key"),
        (403, "RequestTimeTooSkewed", StorageUnavailable, "The clock differs too much from the service's"),
        (503, "SlowDown", StorageUnavailable, "The storage fails to answer"),
        (500, "InternalError", StorageUnavailable, "The storage fails to answer"),
        (507, "InsufficientStorage", StorageFull, "There is no room for this upload"),
        (403, "QuotaExceeded", StorageFull, "There is no room for this upload"),
        (400, "Nonsense", StorageUnavailable, "The storage fails to answer"),
    ],
)
async def test_refusals(
    storage: S3Storage,
    storm: Storm,
    journal: Journal,
    call: Callable[[S3Storage], Awaitable[Any]],
    status: int,
    code: str,
    error: Any,
    sentence: str,
) -> None:
    for method in ("GET", "PUT", "DELETE"):
        storm.on(method, refusal(status, code), times=9)
    with pytest.raises(error) as raised:
        await call(storage)
    assert type(raised.value) is error
    assert raised.value.detail == sentence
    [(_, event, details)] = journal.entries
    assert (event, details["code"], details["status"]) == ("S3 fails", code, status)
    assert details["operation"] in ("GetObject", "PutObject", "DeleteObject", "ListObjectsV2")
    assert "rclonesecret01" not in repr(journal.entries)


async def test_what_is_absent_is_no_failure(storage: S3Storage, journal: Journal) -> None:
    for call in (head, read):
        with pytest.raises(NotFound):
            await call(storage)
    await storage.delete("a")
    assert journal.entries == []


@pytest.mark.parametrize("spoil", [drop, silence], ids=["drop", "silence"])
@pytest.mark.parametrize("call", [head, read, delete, listed], ids=lambda call: str(call.__name__))
async def test_no_wait_is_without_end(storage: S3Storage, storm: Storm, call: Callable[[S3Storage], Awaitable[Any]], spoil: Spoil) -> None:
    for method in ("HEAD", "GET", "DELETE"):
        storm.on(method, spoil, times=2)  # the client itself asks a second time when a connection that it kept is gone
    began = time.monotonic()
    with pytest.raises(StorageUnavailable):
        await call(storage)
    assert time.monotonic() - began < 2


async def test_nobody_listens(relayed: tuple[Storm, Bucket]) -> None:
    async with open_bucket_elsewhere() as storage:
        for call in (head, read, put, delete, listed):
            with pytest.raises(StorageUnavailable):
                await call(storage)


def open_bucket_elsewhere() -> Any:
    from mediacdn.testing import kit
    from mediacdn_s3 import S3Config, open_s3

    where = {"endpoint": "http://127.0.0.1:9", "access_key": "a", "secret_key": "b", "connect_timeout": 0.5}
    return open_s3(S3Config(bucket="media", **where), kit("/nowhere"))


# Reads


@pytest.fixture
async def stored(storage: S3Storage, storm: Storm) -> S3Storage:
    await storage.put("a", large(), size=len(CONTENT))
    storm.seen.clear()
    return storage


@pytest.mark.parametrize("after", [0, 1, 100_000])
@pytest.mark.parametrize("parts", [0, 1, 3], ids=["the first part", "the second", "the last"])
async def test_a_cut_body_never_ends_clean(stored: S3Storage, storm: Storm, after: int, parts: int) -> None:
    storm.on("GET", cut(after), after=parts)
    got: list[bytes] = []

    async def taken() -> None:
        async with stored.open("a") as chunks:
            async for chunk in chunks:
                got.append(chunk)  # noqa: PERF401 - what came before the error counts

    with pytest.raises(StorageUnavailable):
        await taken()
    assert CONTENT.startswith(b"".join(got))
    assert len(b"".join(got)) < len(CONTENT)
    assert stored._ahead._left == AHEAD


async def test_parts_of_a_read_are_of_one_version(stored: S3Storage, storm: Storm) -> None:
    async with stored.open("a") as chunks:
        first = await anext(chunks)
        assert CONTENT.startswith(first)
        await stored.put("a", given(bytes(len(CONTENT))))
        with pytest.raises(StorageUnavailable, match="replaced"):
            [chunk async for chunk in chunks]


async def test_a_service_without_etags_is_read_at_once(stored: S3Storage, storm: Storm) -> None:
    storm.on("GET", canned(206, bytes(PART), Content_Range=f"bytes 0-{PART - 1}/{len(CONTENT)}"))
    assert await read(stored) == CONTENT
    assert storm.count("GET") == 2


async def test_a_service_without_if_match_is_held_to_the_etag(stored: S3Storage, storm: Storm) -> None:
    part = bytes(PART)
    storm.on("GET", canned(206, part, Content_Range=f"bytes {PART}-{2 * PART - 1}/{len(CONTENT)}", ETag='"another"'), after=1)
    with pytest.raises(StorageUnavailable, match="replaced"):
        await read(stored)


@pytest.mark.parametrize("ahead", [0, PART, AHEAD])
@pytest.mark.parametrize("parallel", [1, 2, 4])
async def test_a_large_read_is_whole_however_it_is_done(relayed: tuple[Storm, Bucket], storm: Storm, parallel: int, ahead: int) -> None:
    storage = relayed[1].storage(part_size=PART, parallel_reads=parallel, read_ahead=ahead)
    await storage.put("a", large())
    storm.seen.clear()
    assert await read(storage) == CONTENT
    assert await read(storage, span=ByteRange(1000, len(CONTENT) - 1000)) == CONTENT[1000:-1000]
    assert storm.count("GET") == (2 if parallel == 1 else 8)
    async with storage.open("a") as one, storage.open("a") as two:  # both take from one allowance
        pairs = [(await anext(one), await anext(two)) for _ in range(3)]
        assert b"".join(first for first, _ in pairs) == CONTENT[: sum(len(first) for first, _ in pairs)]
    assert storage._ahead._left == ahead


async def test_leaving_gives_back_what_was_fetched_ahead(stored: S3Storage) -> None:
    async with stored.open("a") as chunks:
        for _ in range(3):
            await anext(chunks)
    assert stored._ahead._left == AHEAD


@pytest.mark.parametrize(
    ("span", "status", "headers", "body", "expected"),
    [
        (ByteRange(2, 5), 200, {}, b"0123456789", b"234"),
        (ByteRange(0, 5), 200, {}, b"0123456789", b"01234"),
        (ByteRange(2, 10), 200, {}, b"0123456789", b"23456789"),
        (ByteRange(2, 5), 200, {"Content_Range": "bytes 2-4/10"}, b"234", b"234"),
        (ByteRange(2, 5), 206, {"Content_Range": "bytes 2-4/*"}, b"234", b"234"),
        (None, 200, {}, b"0123456789", b"0123456789"),
        (ByteRange(2, 5), 206, {"Content_Range": "bytes 3-5/10"}, b"345", StorageUnavailable),
        (ByteRange(2, 5), 206, {"Content_Range": "bytes 2-5/10"}, b"2345", StorageUnavailable),
        (ByteRange(2, 5), 206, {"Content_Range": "bytes 2-3/10"}, b"23", StorageUnavailable),
        (ByteRange(2, 5), 206, {"Content_Range": "bytes 2-4/10"}, b"23", StorageUnavailable),
        (ByteRange(2, 5), 206, {}, b"234", StorageUnavailable),
        (ByteRange(2, 5), 200, {}, b"0123", StorageUnavailable),
        (ByteRange(17 * MIB, 17 * MIB + 1), 200, {}, b"0" * 10, StorageUnavailable),
        (ByteRange(2, 5), 416, {}, b"<Error><Code>InvalidRange</Code></Error>", ObjectCorrupt),
    ],
    ids=[
        "ignored", "ignored from the start", "ignored to the end", "200 and Content-Range", "unknown total", "whole", "another start", "another end", "too short",
        "a body too short", "206 without Content-Range", "ignored and shorter", "too far to skip", "beyond the end",
    ],
)  # fmt: skip
async def test_ranges_are_what_they_say(
    storage: S3Storage, storm: Storm, span: ByteRange | None, status: int, headers: dict[str, str], body: bytes, expected: Any
) -> None:
    storm.on("GET", canned(status, body, **{"ETag": '"e"', **headers}))
    if isinstance(expected, bytes):
        assert await read(storage, span=span) == expected
    else:
        with pytest.raises(expected):
            await read(storage, span=span)


async def test_a_slow_reader_is_not_held_against_the_service(stored: S3Storage) -> None:
    """Nothing is read for longer than the timeout, and then the rest is."""
    async with stored.open("a") as chunks:
        got = [await anext(chunks)]
        await anyio.sleep(PATIENCE + 0.2)
        got += [chunk async for chunk in chunks]
    assert b"".join(got) == CONTENT


# Bounds


async def test_no_more_parts_are_held_than_said(relayed: tuple[Storm, Bucket], storm: Storm) -> None:
    """With two in flight, the stream is asked for no more than a third part and the chunk after it while the service takes none."""
    storage = relayed[1].storage(part_size=PART, parts_in_flight=2)
    storm.on("PUT", slowly(0.4), "partNumber", times=2)
    asked = 0

    async def counted() -> AsyncIterator[bytes]:
        nonlocal asked
        async for chunk in large():
            asked += 1
            yield chunk

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(storage.put, "a", counted())
        await anyio.sleep(0.25)
        assert storm.count("PUT", "partNumber") == 2
        assert asked == 16
    assert storm.count("PUT", "partNumber") >= 4


@pytest.mark.parametrize(
    ("hint", "length"), [(None, 5 * MIB), (0, 5 * MIB), (50_000 * MIB, 5 * MIB), (50_001 * MIB, 6 * MIB), (1 << 50, 512 * MIB)]
)
def test_parts_are_as_long_as_10000_of_them_need(relayed: tuple[Storm, Bucket], hint: int | None, length: int) -> None:
    assert relayed[1].storage()._writing._length(hint) == length


async def test_more_parts_than_there_may_be(storage: S3Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "MOST_PARTS", 2)
    with pytest.raises(TooLarge):
        await storage.put("a", large())
    await nothing_is_left(storage)


async def test_a_part_is_sent_again_and_its_size_is_checked(storage: S3Storage, storm: Storm) -> None:
    upload = await storage.begin_parts("a")
    storm.on("PUT", DOWN, "partNumber=1", times=2)
    tag = await storage.put_part("a", upload, 1, given(b"he", b"llo"), size=5)
    with pytest.raises(TooLarge):
        await storage.put_part("a", upload, 2, given(b""), size=1 << 40)
    for size in (4, 6):
        with pytest.raises(Exception, match="another size"):
            await storage.put_part("a", upload, 2, given(b"hello"), size=size)
    storm.on("POST", lose_answer, "uploadId")
    assert (await storage.complete_parts("a", upload, [Part(1, tag)])).size == 5
    assert await read(storage) == b"hello"


async def test_damage_on_the_way_is_noticed_by_the_service(relayed: tuple[Storm, Bucket], storm: Storm) -> None:
    """Content-MD5 goes with each body where it is asked for: other bytes than were sent are refused."""
    storage = relayed[1].storage(checksum="md5")

    async def damaged(storm: Storm, request: Any) -> Any:
        content = bytearray(await request.read())
        content[0] ^= 1
        request._read_bytes = bytes(content)
        async with storm._client.request(
            "PUT", f"{storm._target}{request.raw_path}", headers=request.headers, data=bytes(content)
        ) as upstream:
            return await refusal(upstream.status, "BadDigest")(storm, request)

    storm.on("PUT", damaged, times=1)
    assert (await storage.put("a", given(b"hello"))).size == 5  # sent again
    assert storm.count("PUT") == 2
    assert await read(storage) == b"hello"


async def test_a_put_may_be_told_not_to_replace(relayed: tuple[Storm, Bucket], storm: Storm) -> None:
    storage = relayed[1].storage(overwrite=False)
    storm.on("PUT", refusal(412, "PreconditionFailed"))
    with pytest.raises(Conflict):
        await storage.put("a", given(b"x"))
    assert storm.count("PUT") == 1


async def test_listing_reads_on_when_the_consumer_leaves(stored: S3Storage) -> None:
    async with aclosing(stored.list()) as objects:  # type: ignore[type-var]
        assert (await anext(objects)).key == "a"
