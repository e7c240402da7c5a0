"""The client, against a small server after the contract that fails as it is told to, and against the real one."""

import asyncio
import fcntl
import hashlib
import os
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mediacdn.client import Client, Download, transport
from mediacdn.client.download import digest_of
from mediacdn.client.problem import error_from, retry_after
from mediacdn.errors import (
    BadRequest,
    CatalogUnavailable,
    Conflict,
    DigestMismatch,
    Forbidden,
    InvalidParameter,
    MediaError,
    NotFound,
    PreconditionFailed,
    RangeNotSatisfiable,
    StorageFull,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    Unprocessable,
)
from tests.services.samples import png
from tests.services.served import Served, served
from tests.services.shelf import Fault, Shelf, filename_of, open_shelf, refuse, refuse_late, reset

pytestmark = pytest.mark.anyio

ID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
BIG = os.urandom(3_000_000)


@pytest.fixture
async def shelf() -> AsyncIterator[Shelf]:
    async with open_shelf() as opened:
        yield opened


@pytest.fixture
async def media(shelf: Shelf) -> AsyncIterator[Client]:
    async with Client(shelf.origin, "t0ken") as client:
        client._transport.pause = lambda failures: 0.0
        yield client


def tree(root: type[MediaError] = MediaError) -> list[type[MediaError]]:
    return [root, *(each for child in root.__subclasses__() if child.__module__ == "mediacdn.errors" for each in tree(child))]


@pytest.mark.parametrize("kind", tree(), ids=lambda kind: kind.code)
def test_each_error_comes_back_as_its_own_class(kind: type[MediaError]) -> None:
    document = {"type": "x", "title": kind.title, "status": kind.status, "detail": "why", "code": kind.code, "request_id": "r", "more": 1}
    error = error_from(kind.status, {"Content-Type": "application/problem+json; charset=utf-8"}, msgspec.json.encode(document))
    assert type(error) is kind
    assert (error.detail, error.extra["request_id"], error.extra["more"]) == ("why", "r", 1)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequest), (401, Unauthorized), (403, Forbidden), (404, NotFound), (412, PreconditionFailed), (413, TooLarge), (418, BadRequest),
        (429, TooManyRequests), (500, MediaError), (502, Unavailable), (503, Unavailable), (504, Unavailable), (507, StorageFull), (599, MediaError),
    ],
)  # fmt: skip
def test_a_proxys_page_is_known_by_its_status(status: int, kind: type[MediaError]) -> None:
    assert type(error_from(status, {"Content-Type": "text/html"}, b"<h1>no</h1>")) is kind
    assert type(error_from(status, {"Content-Type": "application/json"}, b"{")) is kind
    assert type(error_from(status, {"Content-Type": "application/json"}, b"[1]")) is kind


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        ("7", 7, 7),  # RFC 9110 section 10.2.3: delay-seconds
        ("Wed, 01 Jan 2200 00:00:00 GMT", 1e9, 1e11),  # HTTP-date
        ("Wed, 01 Jan 2020 00:00:00 GMT", 0, 0),
        ("soon", 0, 0),
        ("-1", 0, 0),
        ("", 0, 0),
        ("٣", 0, 0),  # digits, but not ASCII's
    ],
)
def test_retry_after(value: str, low: float, high: float) -> None:
    assert low <= retry_after({"Retry-After": value}) <= high


@pytest.mark.parametrize(
    ("headers", "digest"),
    [
        ({"Repr-Digest": "sha-256=:RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o=:"}, "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"),
        ({"Repr-Digest": "sha-512=:YWJj:, sha-256=:RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o=:"}, "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"),
        ({"Repr-Digest": "sha-256=:YWJj:", "ETag": f'"sha256:{"a" * 64}"'}, "a" * 64),  # three bytes are no SHA-256
        ({"Repr-Digest": "sha-256=:%%:"}, None),
        ({"ETag": f'W/"sha256:{"a" * 64}"'}, None),
        ({"ETag": '"abc"'}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_where_the_digest_is_read(headers: dict[str, str], digest: str | None) -> None:
    assert digest_of(headers) == digest


@pytest.mark.parametrize("base", ["", "127.0.0.1:8400", "ftp://h", "http://", "http://h/?a=b"])
def test_a_base_that_is_no_url(base: str) -> None:
    with pytest.raises(InvalidParameter):
        Client(base)


async def pieces(*content: bytes) -> AsyncIterator[bytes]:
    for each in content:
        yield each


async def test_upload_of_every_kind_of_source(shelf: Shelf, media: Client, tmp_path: Path) -> None:
    file = tmp_path / "grüße \u2603.bin"
    file.write_bytes(BIG)
    seen: list[tuple[int, int | None]] = []
    record = await media.upload(
        file, public=True, title="Tïtle", tags=["a", "b"], metadata={"k": 1}, progress=lambda *each: seen.append(each)
    )
    assert (record.digest, record.duplicate) == (hashlib.sha256(BIG).hexdigest(), False)
    assert seen[0] == (0, len(BIG))
    assert seen[-1] == (len(BIG), len(BIG))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    request = shelf.seen[0]
    assert filename_of(request) == file.name
    assert request.headers["X-Media-Filename"].isascii()
    assert request.headers["Content-Length"] == str(len(BIG))
    assert "Content-Type" not in request.headers
    assert request.headers["X-Media-Title"] == "UTF-8''T%C3%AFtle"
    assert request.headers["X-Media-Tags"] == "UTF-8''a%2Cb"
    assert request.headers["X-Media-Metadata"] == "UTF-8''%7B%22k%22%3A1%7D"
    assert request.headers["X-Media-Public"] == "true"
    assert request.headers["Authorization"] == "Bearer t0ken"
    assert (await media.upload(BIG)).duplicate
    assert (await media.upload(pieces(b"one", b"two"))).size == 6
    assert (await media.upload(lambda: pieces(b"three"))).size == 5
    assert (await media.upload(b"")).size == 0
    assert shelf.bodies == [BIG, BIG, b"onetwo", b"three", b""]
    assert len({each.headers["Idempotency-Key"] for each in shelf.seen}) == 5


async def test_a_digest_declared_is_sent_and_a_wrong_answer_seen(shelf: Shelf, media: Client) -> None:
    await media.upload(b"{}", digest=hashlib.sha256(b"{}").hexdigest())
    assert shelf.seen[0].headers["Repr-Digest"] == "sha-256=:RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o=:"

    async def other(request: Any) -> Any:
        await request.read()
        shelf.add(ID, b"other bytes")
        return transport_json(shelf.record(ID))

    shelf.faults.append(other)
    with pytest.raises(DigestMismatch, match=ID):
        await media.upload(b"{}")


def transport_json(document: Any) -> Any:
    from aiohttp import web

    return web.json_response(document, status=201)


VERBS: dict[str, Callable[[Client], Any]] = {
    "record": lambda media: media.record(ID),
    "sign": lambda media: media.sign(ID),
    "delete": lambda media: media.delete(ID),
    "revoke": lambda media: media.revoke(ID),
    "quarantine": lambda media: media.quarantine(ID),
    "release": lambda media: media.release(ID),
    "explain": lambda media: media.explain(ID),
    "change": lambda media: media.change(ID, title="t"),
    "guarded": lambda media: media.change(ID, if_match='"r1"', title="t"),
    "upload": lambda media: media.upload(b"abc"),
    "stream": lambda media: media.upload(pieces(b"abc")),
}


@pytest.mark.parametrize(
    ("verb", "faults", "requests", "outcome"),
    [
        *[(verb, [refuse(503, "catalog_unavailable")], 2, None) for verb in VERBS if verb != "stream"],
        *[(verb, [reset], 2, None) for verb in VERBS if verb not in ("guarded", "stream")],
        ("record", [refuse(429, "too_many_requests", Retry_After="0")] * 3, 4, None),
        ("record", [refuse(503, "catalog_unavailable")] * 9, 4, CatalogUnavailable),  # bounded
        ("record", [refuse(503, "catalog_unavailable", Retry_After="3600")], 1, CatalogUnavailable),  # longer than patience
        ("record", [reset] * 9, 4, Unavailable),
        ("record", [refuse(404, "not_found")], 1, NotFound),
        ("record", [refuse(500, "internal_error")], 1, MediaError),
        ("record", [refuse(507, "insufficient_storage")], 1, StorageFull),
        ("guarded", [reset], 1, Unavailable),  # its own lost try may have moved the revision
        ("guarded", [refuse(429, "too_many_requests")], 2, None),
        ("stream", [reset], 1, Unavailable),  # its bytes are gone
        ("stream", [refuse_late(503, "catalog_unavailable")], 1, CatalogUnavailable),
        ("stream", [refuse(503, "catalog_unavailable")], 2, None),  # refused before they were asked for
        ("upload", [reset, refuse(409, "idempotency_in_flight"), refuse(409, "idempotency_in_flight")], 4, None),
        ("upload", [refuse(409, "idempotency_in_flight")], 1, Conflict),  # another's
        ("upload", [refuse(409, "duplicate_exists")], 1, Conflict),
        ("delete", [refuse(404, "not_found")], 1, NotFound),
    ],
)
async def test_what_is_repeated(
    shelf: Shelf, media: Client, verb: str, faults: list[Fault], requests: int, outcome: type[MediaError] | None
) -> None:
    shelf.add(ID, b"abc")
    shelf.faults.extend(faults)
    if outcome is None:
        await VERBS[verb](media)
    else:
        with pytest.raises(outcome):
            await VERBS[verb](media)
    assert len(shelf.seen) == requests
    assert len({each.headers.get("Idempotency-Key") for each in shelf.seen}) == 1


async def test_a_deletion_whose_answer_was_lost_is_done(shelf: Shelf, media: Client) -> None:
    async def done_and_lost(request: Any) -> Any:
        del shelf.media[ID]
        return await reset(request)

    shelf.add(ID, b"abc")
    shelf.faults.append(done_and_lost)
    await media.delete(ID)
    assert shelf.asked == [f"DELETE /v1/media/{ID}"] * 2


async def test_nobody_there() -> None:
    async with Client("http://127.0.0.1:9") as media:
        media._transport.pause = lambda failures: 0.0
        with pytest.raises(Unavailable, match="cannot connect: Connection refused"):
            await media.upload(pieces(b"abc"))


async def test_a_redirect_is_not_followed(shelf: Shelf, media: Client) -> None:
    shelf.add(ID, b"abc")
    shelf.faults.append(refuse(302, "", Location="http://127.0.0.1:9/"))
    with pytest.raises(BadRequest):
        await media.record(ID)
    assert len(shelf.seen) == 1


async def test_a_large_upload_refused_costs_no_body(shelf: Shelf, media: Client) -> None:
    """RFC 9110 section 10.1.1: the body waits for 100 (Continue)."""
    handed = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal handed
        for _ in range(64):
            handed += 1
            yield bytes(1 << 20)

    shelf.faults.append(refuse(413, "too_large"))
    with pytest.raises(TooLarge):
        await media.upload(body, size=64 << 20)
    assert handed == 0


async def test_a_server_that_never_says_continue_gets_the_body(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "CONNECT", 0.1)
    heads: list[bytes] = []
    digest = hashlib.sha256(BIG).hexdigest()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            if b"Expect" not in heads[-1]:
                await reader.readexactly(len(BIG))
                body = msgspec.json.encode({"id": ID, "digest": digest})
                writer.write(b"HTTP/1.1 201 Created\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            else:
                await reader.read()
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, Client(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as media:
        assert (await media.upload(BIG)).id == ID
    assert [b"100-continue" in head for head in heads] == [True, False]


async def test_a_file_that_changes_meanwhile_is_not_sent_whole(shelf: Shelf, media: Client, tmp_path: Path) -> None:
    file = tmp_path / "growing.bin"
    for change in (lambda: os.truncate(file, 1_500_000), lambda: os.truncate(file, 3_000_001), lambda: os.utime(file, (1, 1))):
        file.write_bytes(BIG)
        shelf.seen.clear()

        def disturb(done: int, total: int | None, change: Callable[[], Any] = change) -> None:
            if done == 1 << 20:
                change()

        with pytest.raises(Unprocessable, match="while it was being sent"):
            await media.upload(file, progress=disturb)
        assert shelf.bodies == []
        assert len(shelf.seen) == 1


async def test_what_the_source_raises_comes_out(shelf: Shelf, media: Client) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"abc"
        raise KeyError("of the source")

    with pytest.raises(KeyError, match="of the source"):
        await media.upload(body)
    assert (len(shelf.seen), shelf.bodies) == (1, [])


async def drain(download: Download) -> bytes:
    return b"".join([chunk async for chunk in download])


async def test_open_reads_whole_and_part(shelf: Shelf, media: Client) -> None:
    shelf.add(ID, BIG)
    async with media.open(ID) as download:
        assert (download.size, download.start, download.media_type) == (len(BIG), 0, "image/png")
        assert await drain(download) == BIG
    async with media.open(ID, start=1_000_000, stop=2_500_000) as download:
        assert (download.size, download.start) == (len(BIG), 1_000_000)
        assert await drain(download) == BIG[1_000_000:2_500_000]
    with pytest.raises(RangeNotSatisfiable):
        async with media.open(ID, start=len(BIG)):
            pass
    assert shelf.seen[0].headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("cuts", [[1], [1_000_000], [2_999_999], [1, 500_000, 1, 1, 1, 1, 1]])
async def test_a_broken_download_goes_on(shelf: Shelf, media: Client, cuts: list[int]) -> None:
    shelf.add(ID, BIG)
    shelf.cut_after.extend(cuts)
    async with media.open(ID) as download:
        assert await drain(download) == BIG
    at = 0
    for cut, request in zip(cuts, shelf.seen[1:], strict=True):
        at += cut
        assert request.headers["Range"] == f"bytes={at}-{len(BIG) - 1}"
        assert request.headers["If-Range"] == f'"sha256:{hashlib.sha256(BIG).hexdigest()}"'


async def test_a_broken_part_goes_on_within_its_range(shelf: Shelf, media: Client) -> None:
    shelf.add(ID, BIG)
    shelf.cut_after.append(100)
    async with media.open(ID, start=1000, stop=2000) as download:
        assert await drain(download) == BIG[1000:2000]
    assert shelf.seen[1].headers["Range"] == "bytes=1100-1999"


async def test_a_download_that_never_goes_on_ends(shelf: Shelf, media: Client) -> None:
    shelf.add(ID, BIG)
    shelf.cut_after.extend([1000, *[0] * 20])
    async with media.open(ID) as download:
        with pytest.raises(Unavailable, match="broke off at byte 1000"):
            await drain(download)
    assert len(shelf.seen) == 4


@pytest.mark.parametrize("honoured", [True, False])
async def test_two_versions_are_never_joined(shelf: Shelf, media: Client, honoured: bool) -> None:
    shelf.if_range = honoured
    shelf.add(ID, BIG)
    shelf.cut_after.append(1000)
    async with media.open(ID) as download:
        shelf.add(ID, BIG[::-1])
        with pytest.raises(Conflict, match="changed while"):
            await drain(download)


async def test_get_writes_the_file_whole(shelf: Shelf, media: Client, tmp_path: Path) -> None:
    shelf.add(ID, BIG)
    target = tmp_path / "copy.bin"
    target.write_bytes(b"older")
    seen: list[tuple[int, int | None]] = []
    shelf.cut_after.append(1_000_000)

    def progress(done: int, total: int | None) -> None:
        seen.append((done, total))
        assert target.read_bytes() == b"older"

    fetched = await media.get(ID, target, progress=progress)
    assert (fetched.size, fetched.digest, fetched.resumed_at) == (len(BIG), hashlib.sha256(BIG).hexdigest(), 0)
    assert target.read_bytes() == BIG
    assert seen[-1] == (len(BIG), len(BIG))
    assert os.listdir(tmp_path) == ["copy.bin"]


@pytest.mark.parametrize(
    ("part", "requests"),
    [
        (BIG[:1_000_000], ["HEAD", "GET"]),  # goes on
        (BIG, ["HEAD"]),  # was complete, only its name is missing
        (b"x" * 1_000_000, ["HEAD", "GET", "GET"]),  # of something else: noticed by its digest, fetched anew
        (b"x" * len(BIG), ["HEAD", "GET"]),
        (BIG + b"more", ["HEAD", "GET"]),
        (b"", ["GET"]),
    ],
    ids=["goes-on", "complete", "foreign", "foreign-complete", "too-long", "empty"],
)
async def test_get_goes_on_with_a_part(shelf: Shelf, media: Client, tmp_path: Path, part: bytes, requests: list[str]) -> None:
    shelf.add(ID, BIG)
    (tmp_path / "copy.bin.part").write_bytes(part)
    fetched = await media.get(ID, tmp_path / "copy.bin")
    assert (tmp_path / "copy.bin").read_bytes() == BIG
    assert [each.method for each in shelf.seen] == requests
    assert fetched.resumed_at == (len(part) if BIG.startswith(part) else 0)
    if len(part) == 1_000_000:
        assert shelf.seen[1].headers["Range"] == "bytes=1000000-"
        assert "If-Range" in shelf.seen[1].headers
    assert os.listdir(tmp_path) == ["copy.bin"]


async def test_get_keeps_nothing_wrong(shelf: Shelf, media: Client, tmp_path: Path) -> None:
    shelf.add(ID, BIG)
    shelf.lie = "0" * 64
    with pytest.raises(DigestMismatch):
        await media.get(ID, tmp_path / "copy.bin")
    assert os.listdir(tmp_path) == []


async def test_get_keeps_the_part_of_a_broken_download(shelf: Shelf, media: Client, tmp_path: Path) -> None:
    shelf.add(ID, BIG)
    shelf.cut_after.extend([1000, 0, 0, 0])
    with pytest.raises(Unavailable):
        await media.get(ID, tmp_path / "copy.bin")
    assert (tmp_path / "copy.bin.part").read_bytes() == BIG[:1000]


async def test_one_part_has_one_writer(shelf: Shelf, media: Client, tmp_path: Path) -> None:
    shelf.add(ID, BIG)
    with (tmp_path / "copy.bin.part").open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Conflict, match="another download"):
            await media.get(ID, tmp_path / "copy.bin")
    (tmp_path / "link.part").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        await media.get(ID, tmp_path / "link")


async def test_list_goes_through_the_pages(shelf: Shelf, media: Client) -> None:
    for number in range(7):
        shelf.add(f"{number}", b"%d" % number)
    assert [each.id async for each in media.list(page_size=3, type="image/*")] == list("0123456")
    assert [dict(each.query) for each in shelf.seen] == [
        {"type": "image/*", "limit": "3"},
        {"type": "image/*", "limit": "3", "cursor": "3"},
        {"type": "image/*", "limit": "3", "cursor": "6"},
    ]
    shelf.seen.clear()
    assert [each.id async for each in media.list(limit=4, page_size=3)] == list("0123")
    assert [each.query["limit"] for each in shelf.seen] == ["3", "1"]


async def test_a_server_of_another_kind(shelf: Shelf, media: Client) -> None:
    async def page(request: Any) -> Any:
        return transport_json(["hello"])

    shelf.faults.append(page)
    with pytest.raises(MediaError, match="does not answer as a mediacdn server"):
        await media.record(ID)


async def test_every_verb_with_the_real_server(tmp_path: Path) -> None:
    with served(tmp_path / "data") as server:
        await _every_verb(server, tmp_path)


async def _every_verb(server: Served, tmp_path: Path) -> None:
    content = png(8, 8, b"every verb")
    async with Client(server.url, server.token("admin", "admin")) as media, Client(server.url) as nobody:
        record = await media.upload(content, filename="ä.png", title="T", tags=["x"], metadata={"a": [1]}, expires_in=3600)
        assert (record.duplicate, record.filename, record.title, record.tags, record.metadata) == (False, "ä.png", "T", ("x",), {"a": [1]})
        assert record.expires_at is not None
        again = await media.upload(content, title="other")
        assert (again.id, again.duplicate, again.ignored) == (record.id, True, ("title", "expires_at"))
        found = await media.record(record.id)
        assert found.revision
        changed = await media.change(record.id, if_match=found.revision, title="U", expires_at=None)
        assert (changed.title, changed.expires_at) == ("U", None)
        with pytest.raises(PreconditionFailed):
            await media.change(record.id, if_match=found.revision, title="V")
        assert [each.id async for each in media.list(tag="x", limit=1)] == [record.id]
        assert await media.purge(tags=["x"]) == await media.purge(tags="x") == await media.purge(record.id) == 1
        with pytest.raises(Unauthorized):
            async with nobody.open(record.id):
                pass
        signed = await media.sign(record.id, expires=60)
        assert signed.url.startswith(f"{server.url}/v1/media/{record.id}?")
        path = re.sub(r"^http://[^/]+", "", signed.url)
        assert server.client.get(path).content == content
        fetched = await media.get(record.id, tmp_path / "copy.png")
        assert (fetched.path.read_bytes(), fetched.digest) == (content, record.digest)
        async with media.open(record.id, start=4, stop=9) as download:
            assert await drain(download) == content[4:9]
        await media.revoke(record.id)
        assert server.client.get(path).status_code == 403
        await media.quarantine(record.id, "reason")
        with pytest.raises(MediaError) as withheld:
            await media.get(record.id, tmp_path / "no.png")
        assert withheld.value.code == "quarantined"
        assert (await media.explain(record.id))["state"] == "quarantined"
        await media.release(record.id)
        await media.delete(record.id)
        with pytest.raises(NotFound):
            await media.record(record.id)
        large = b"BIG" * 4_000_000
        with pytest.raises(TooLarge):
            await media.upload(large)
        async with Client(server.url, server.token("bob", "read")) as reader:
            with pytest.raises(Forbidden):
                await reader.upload(large)
