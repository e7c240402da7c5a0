"""What every storage with the power MultipartUpload promises of it, as tests: subclass PartsConformance beside StorageConformance and override `storage`."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

import anyio
import pytest

from mediacdn.errors import Conflict, InvalidParameter, NotFound
from mediacdn.interfaces import MultipartUpload, Storage
from mediacdn.model import Part

KEY = "conformance/parts/whole"
UNKNOWN = "00000000-0000-4000-8000-000000000000"


class PartsStorage(Storage, MultipartUpload, Protocol):
    """A storage that has the power."""


class PartsConformance:
    """The tests. `storage` must be overridden. `unknown_upload` is an id in the driver's own form that no upload has."""

    pytestmark = pytest.mark.anyio

    unknown_upload = UNKNOWN

    @pytest.fixture
    async def storage(self) -> PartsStorage:
        """The storage under test, opened, without objects and uploads beneath `conformance/`; an override may be an async generator that closes it."""
        raise NotImplementedError("override the async fixture `storage`")

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    async def test_it_has_the_power(self, storage: PartsStorage) -> None:
        assert isinstance(storage, MultipartUpload)
        least, largest, most = storage.part_sizes
        assert 0 <= least <= largest
        assert most >= 100

    async def test_parts_in_any_order_become_the_object(self, storage: PartsStorage) -> None:
        contents = _contents(storage, 3)
        upload = await storage.begin_parts(KEY)
        for number in (3, 1, 2):
            await _put(storage, upload, number, contents[number - 1])
        await _assert_absent(storage)
        info = await storage.complete_parts(KEY, upload, await storage.list_parts(KEY, upload))
        assert (info.key, info.size) == (KEY, sum(map(len, contents)))
        head = await storage.head(KEY)
        assert (head.size, head.etag) == (info.size, info.etag)
        assert await _read(storage) == b"".join(contents)
        assert await _uploads(storage) == []

    async def test_a_part_is_listed_and_replaced(self, storage: PartsStorage) -> None:
        upload = await storage.begin_parts(KEY)
        assert list(await storage.list_parts(KEY, upload)) == []
        first = await _put(storage, upload, 2, b"first")
        assert list(await storage.list_parts(KEY, upload)) == [Part(2, first, 5)]
        second = await _put(storage, upload, 2, b"the second")
        assert second != first
        other = await _put(storage, upload, 1, b"before it")
        assert list(await storage.list_parts(KEY, upload)) == [Part(1, other, 9), Part(2, second, 10)]
        await storage.abort_parts(KEY, upload)

    async def test_completing_again_answers_the_same(self, storage: PartsStorage) -> None:
        upload, parts = await self._begun(storage)
        once = await storage.complete_parts(KEY, upload, parts)
        again = await storage.complete_parts(KEY, upload, parts)
        assert (again.key, again.size, again.etag) == (once.key, once.size, once.etag)

    @pytest.mark.parametrize("wrong", ["missing", "tag"])
    async def test_what_is_not_there_is_not_completed(self, storage: PartsStorage, wrong: str) -> None:
        upload, parts = await self._begun(storage)
        named = [*parts, Part(9, parts[0].tag)] if wrong == "missing" else [Part(1, parts[1].tag), *parts[1:]]
        with pytest.raises(Conflict):
            await storage.complete_parts(KEY, upload, named)
        await _assert_absent(storage)
        await storage.complete_parts(KEY, upload, parts)  # nothing is lost by the attempt
        assert (await storage.head(KEY)).size == sum(part.size for part in parts)

    async def test_a_small_part_before_the_last_is_refused_or_honoured(self, storage: PartsStorage) -> None:
        upload = await storage.begin_parts(KEY)
        parts = [Part(number, await _put(storage, upload, number, b"small")) for number in (1, 2)]
        try:
            await storage.complete_parts(KEY, upload, parts)
        except Conflict:
            await _assert_absent(storage)
        else:
            assert await _read(storage) == b"smallsmall"

    async def test_the_object_is_the_old_one_until_then(self, storage: PartsStorage) -> None:
        old = await storage.put(KEY, _given(b"old"))
        upload, parts = await self._begun(storage)
        assert await _read(storage) == b"old"
        assert (await storage.head(KEY)).etag == old.etag
        await storage.complete_parts(KEY, upload, parts)
        assert (await storage.head(KEY)).size == sum(part.size for part in parts)

    async def test_two_uploads_of_one_key_do_not_mix(self, storage: PartsStorage) -> None:
        one, two = await storage.begin_parts(KEY), await storage.begin_parts(KEY)
        assert one != two
        tags = [await _put(storage, upload, 1, content) for upload, content in ((one, b"one"), (two, b"two"))]
        assert sorted(await _uploads(storage)) == sorted([one, two])
        await storage.complete_parts(KEY, one, [Part(1, tags[0])])
        assert await _uploads(storage) == [two]
        await storage.abort_parts(KEY, two)
        assert await _read(storage) == b"one"

    async def test_aborting_is_idempotent_and_final(self, storage: PartsStorage) -> None:
        upload, parts = await self._begun(storage)
        for _ in range(2):
            await storage.abort_parts(KEY, upload)
        assert await _uploads(storage) == []
        await self._assert_unknown(storage, upload, parts)
        await _assert_absent(storage)

    async def test_an_unknown_upload_is_not_found(self, storage: PartsStorage) -> None:
        await storage.abort_parts(KEY, self.unknown_upload)
        await self._assert_unknown(storage, self.unknown_upload, [Part(1, "0" * 32)])

    @pytest.mark.parametrize("existing", [False, True], ids=["new part", "replacing"])
    @pytest.mark.parametrize("how", ["raises", "cancelled"])
    async def test_a_part_whose_stream_ends_badly_is_as_it_was(self, storage: PartsStorage, how: str, existing: bool) -> None:
        upload = await storage.begin_parts(KEY)
        if existing:
            await _put(storage, upload, 1, b"as it was")
        before = list(await storage.list_parts(KEY, upload))
        failure, half = _StreamBroke("half-way"), anyio.Event()

        async def breaking() -> AsyncIterator[bytes]:
            yield b"x" * 1000
            half.set()
            if how == "raises":
                raise failure
            await anyio.sleep_forever()

        if how == "raises":
            with pytest.raises(_StreamBroke) as raised:
                await storage.put_part(KEY, upload, 1, breaking(), size=2000)
            assert raised.value is failure
        else:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_put_stream, storage, upload, breaking())
                await half.wait()
                tasks.cancel_scope.cancel()
        assert list(await storage.list_parts(KEY, upload)) == before
        await storage.abort_parts(KEY, upload)

    async def test_uploads_are_listed_by_prefix(self, storage: PartsStorage) -> None:
        before = datetime.now(UTC) - timedelta(minutes=2)
        keys = ["conformance/parts/a/1", "conformance/parts/a/2", "conformance/parts/b"]
        begun = {key: await storage.begin_parts(key) for key in keys}
        listed = {each.key: each async for each in storage.list_uploads("conformance/parts/a/")}
        assert {key: each.upload for key, each in listed.items()} == {key: begun[key] for key in keys[:2]}
        assert all(before < each.begun < datetime.now(UTC) + timedelta(minutes=2) for each in listed.values())
        assert {each.key async for each in storage.list_uploads("conformance/parts/")} == set(keys)
        assert [each async for each in storage.list_uploads("conformance/none/")] == []
        for key, upload in begun.items():
            await storage.abort_parts(key, upload)

    @pytest.mark.parametrize("key", ["", "../outside", "/etc/passwd", "conformance//x", "conformance/x\0", "conformance/é"])
    async def test_refuses_hostile_keys(self, storage: PartsStorage, key: str) -> None:
        with pytest.raises(InvalidParameter):
            await storage.begin_parts(key)
        with pytest.raises(InvalidParameter):
            await storage.put_part(key, self.unknown_upload, 1, _given(b"x"), size=1)
        with pytest.raises(InvalidParameter):
            await storage.complete_parts(key, self.unknown_upload, [Part(1, "x")])

    async def _begun(self, storage: PartsStorage) -> tuple[str, Sequence[Part]]:
        upload = await storage.begin_parts(KEY)
        contents = _contents(storage, 2)
        return upload, [
            Part(number, await _put(storage, upload, number, content), len(content)) for number, content in enumerate(contents, 1)
        ]

    async def _assert_unknown(self, storage: PartsStorage, upload: str, parts: Sequence[Part]) -> None:
        with pytest.raises(NotFound):
            await _put(storage, upload, 1, b"x")
        with pytest.raises(NotFound):
            await storage.list_parts(KEY, upload)
        with pytest.raises(NotFound):
            await storage.complete_parts(KEY, upload, parts)


class _StreamBroke(Exception):
    """What a test's stream raises; no driver may swallow or wrap it."""


def _contents(storage: PartsStorage, count: int) -> list[bytes]:
    """Contents of parts, all different; only the last is shorter than the least size."""
    least = max(storage.part_sizes[0], 10)
    return [*(bytes([65 + number]) * least for number in range(count - 1)), b"the last one"]


async def _put(storage: PartsStorage, upload: str, number: int, content: bytes) -> str:
    pieces = [content[at : at + 100_000] for at in range(0, len(content), 100_000)]
    return await storage.put_part(KEY, upload, number, _given(*pieces), size=len(content))


async def _put_stream(storage: PartsStorage, upload: str, chunks: AsyncIterator[bytes]) -> None:
    await storage.put_part(KEY, upload, 1, chunks, size=2000)


async def _given(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def _read(storage: PartsStorage) -> bytes:
    async with storage.open(KEY) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def _uploads(storage: PartsStorage) -> list[str]:
    return [each.upload async for each in storage.list_uploads("conformance/") if each.key == KEY]


async def _assert_absent(storage: PartsStorage) -> None:
    with pytest.raises(NotFound):
        await storage.head(KEY)
    assert [info.key async for info in storage.list("conformance/parts/")] == []
