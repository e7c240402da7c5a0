"""What every storage with the power Presigner promises of it, as tests over HTTP: subclass PresignerConformance beside StorageConformance and override `storage`."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Protocol

import aiohttp
import anyio
import pytest

from mediacdn.errors import InvalidParameter, NotFound
from mediacdn.interfaces import MultipartUpload, Presigner, Storage

KEY = "conformance/presigned"
HOUR = timedelta(hours=1)
PLAIN = {"media_type": "text/plain", "disposition": "inline"}


class PresigningStorage(Storage, Presigner, Protocol):
    """A storage that has the power."""


class PresignerConformance:
    """The tests. `storage` must be overridden; its URLs are asked by a client of this process."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    async def storage(self) -> PresigningStorage:
        """The storage under test, opened, without objects beneath `conformance/`; an override may be an async generator that closes it."""
        raise NotImplementedError("override the async fixture `storage`")

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture
    async def client(self) -> AsyncIterator[aiohttp.ClientSession]:
        async with aiohttp.ClientSession(skip_auto_headers=("Content-Type",)) as client:
            yield client

    async def test_a_get_answers_as_it_was_signed(self, storage: PresigningStorage, client: aiohttp.ClientSession) -> None:
        assert isinstance(storage, Presigner)
        await storage.put(KEY, _given(b"hello world"))
        disposition = "attachment; filename=\"a b.txt\"; filename*=UTF-8''%C3%A4%20b.txt"
        url = await storage.presign_get(KEY, HOUR, media_type="text/x-own; charset=utf-8", disposition=disposition)
        async with client.get(url) as answer:
            assert (answer.status, await answer.read()) == (200, b"hello world")
            assert answer.headers["Content-Type"] == "text/x-own; charset=utf-8"
            assert answer.headers["Content-Disposition"] == disposition
        async with client.get(url, headers={"Range": "bytes=6-8"}) as answer:
            assert (await answer.read(), answer.headers["Content-Range"]) == (b"wor", "bytes 6-8/11")

    async def test_nothing_but_what_was_signed(self, storage: PresigningStorage, client: aiohttp.ClientSession) -> None:
        for key in (KEY, f"{KEY}2"):
            await storage.put(key, _given(b"hello"))
        url = await storage.presign_get(KEY, HOUR, **PLAIN)
        for other in (url.replace(KEY, f"{KEY}2"), url.replace("text", "test"), url[:-1] + ("0" if url[-1] != "0" else "1")):
            assert other != url
            async with client.get(other) as answer:
                assert answer.status >= 400, other
        for method in ("PUT", "DELETE"):
            async with client.request(method, url, data=b"other" if method == "PUT" else None) as answer:
                assert answer.status >= 400, method
        assert await _read(storage) == b"hello"

    async def test_it_ends(self, storage: PresigningStorage, client: aiohttp.ClientSession) -> None:
        await storage.put(KEY, _given(b"hello"))
        second = timedelta(seconds=1)
        get, put = await storage.presign_get(KEY, second, **PLAIN), await storage.presign_put(f"{KEY}2", second)
        await anyio.sleep(2.1)
        async with client.get(get) as answer:
            assert answer.status >= 400
        async with client.put(put, data=b"x") as answer:
            assert answer.status >= 400
        with pytest.raises(NotFound):
            await storage.head(f"{KEY}2")

    async def test_a_put_is_taken(self, storage: PresigningStorage, client: aiohttp.ClientSession) -> None:
        url = await storage.presign_put(KEY, HOUR, size=5, media_type="text/plain")
        async with client.put(url, data=b"hello", headers={"Content-Type": "text/plain"}) as answer:
            assert answer.status < 300, await answer.text()
        assert await _read(storage) == b"hello"
        url = await storage.presign_put(KEY, HOUR)
        async with client.put(url, data=b"any length") as answer:
            assert answer.status < 300, await answer.text()
        assert await _read(storage) == b"any length"

    @pytest.mark.parametrize(
        ("content", "media_type"), [(b"longer than that", "text/plain"), (b"less", "text/plain"), (b"hello", "text/html"), (b"hello", None)]
    )
    async def test_another_size_or_type_is_not(
        self, storage: PresigningStorage, client: aiohttp.ClientSession, content: bytes, media_type: str | None
    ) -> None:
        url = await storage.presign_put(KEY, HOUR, size=5, media_type="text/plain")
        async with client.put(url, data=content, headers={"Content-Type": media_type} if media_type else {}) as answer:
            assert answer.status >= 400
        with pytest.raises(NotFound):
            await storage.head(KEY)

    async def test_a_part_is_taken(self, storage: PresigningStorage, client: aiohttp.ClientSession) -> None:
        if not isinstance(storage, MultipartUpload):
            return
        upload = await storage.begin_parts(KEY)
        url = await storage.presign_part(KEY, upload, 1, HOUR, size=5)
        async with client.put(url, data=b"hell") as answer:
            assert answer.status >= 400
        async with client.put(url.replace("partNumber=1", "partNumber=2"), data=b"hello") as answer:
            assert answer.status >= 400
        assert list(await storage.list_parts(KEY, upload)) == []
        async with client.put(url, data=b"hello") as answer:
            assert answer.status < 300, await answer.text()
        parts = await storage.list_parts(KEY, upload)
        assert [(part.number, part.size) for part in parts] == [(1, 5)]
        await storage.complete_parts(KEY, upload, parts)
        assert await _read(storage) == b"hello"

    @pytest.mark.parametrize("key", ["", "../outside", "/etc/passwd", "conformance//x", "conformance/é"])
    async def test_refuses_hostile_keys(self, storage: PresigningStorage, key: str) -> None:
        with pytest.raises(InvalidParameter):
            await storage.presign_get(key, HOUR, **PLAIN)
        with pytest.raises(InvalidParameter):
            await storage.presign_put(key, HOUR)


async def _given(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def _read(storage: PresigningStorage) -> bytes:
    async with storage.open(KEY) as chunks:
        return b"".join([chunk async for chunk in chunks])
