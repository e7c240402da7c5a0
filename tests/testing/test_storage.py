"""The conformance class finds the faults it is there for: each row is a storage with one fault and the test that must not pass with it."""

import os
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mediacdn import ByteRange, NotFound, ObjectInfo, Storage, StorageUnavailable
from mediacdn.testing import MemoryStorage, StorageConformance

pytestmark = pytest.mark.anyio


async def given(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


class WritesInPlace(MemoryStorage):
    """Not atomic: what has arrived is visible."""

    async def put(self, key: str, chunks: AsyncIterable[bytes], *, size: int | None = None) -> ObjectInfo:
        content = b""
        info = await super().put(key, given(content))
        async for chunk in chunks:
            content += chunk
            info = await super().put(key, given(content))
        return info


class KeepsWhatCame(MemoryStorage):
    """A stream that breaks is kept as far as it came."""

    async def put(self, key: str, chunks: AsyncIterable[bytes], *, size: int | None = None) -> ObjectInfo:
        content = b""
        try:
            async for chunk in chunks:
                content += chunk
        finally:
            info = await super().put(key, given(content))
        return info


class WrapsErrors(MemoryStorage):
    async def put(self, key: str, chunks: AsyncIterable[bytes], *, size: int | None = None) -> ObjectInfo:
        try:
            return await super().put(key, chunks, size=size)
        except Exception as error:
            raise StorageUnavailable() from error


class TrustsTheHint(MemoryStorage):
    async def put(self, key: str, chunks: AsyncIterable[bytes], *, size: int | None = None) -> ObjectInfo:
        content = b"".join([chunk async for chunk in chunks])
        return await super().put(key, given(content[:size]), size=size)


class StopsAtAnEmptyChunk(MemoryStorage):
    async def put(self, key: str, chunks: AsyncIterable[bytes], *, size: int | None = None) -> ObjectInfo:
        async def until_empty() -> AsyncIterator[bytes]:
            async for chunk in chunks:
                if not chunk:
                    return
                yield chunk

        return await super().put(key, until_empty(), size=size)


class LocalTimes(MemoryStorage):
    async def put(self, key: str, chunks: AsyncIterable[bytes], *, size: int | None = None) -> ObjectInfo:
        info = await super().put(key, chunks, size=size)
        return ObjectInfo(key, info.size, datetime.fromtimestamp(0, UTC), info.etag)


class ConstantEtag(MemoryStorage):
    async def head(self, key: str) -> ObjectInfo:
        info = await super().head(key)
        return ObjectInfo(key, info.size, info.modified, "always the same")

    async def put(self, key: str, chunks: AsyncIterable[bytes], *, size: int | None = None) -> ObjectInfo:
        await super().put(key, chunks, size=size)
        return await self.head(key)


class Rereads(MemoryStorage):
    """Bytes read are of whatever version is there at the moment."""

    @asynccontextmanager
    async def open(self, key: str, span: ByteRange | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        async def chunks() -> AsyncIterator[bytes]:
            at, stop = (span.start, span.stop) if span else (0, (await self.head(key)).size)
            while at < stop:
                async with super(Rereads, self).open(key) as whole:
                    content = b"".join([chunk async for chunk in whole])
                yield content[at : min(at + 65536, stop)]
                at += 65536

        await self.head(key)
        yield chunks()


class IgnoresTheSpan(MemoryStorage):
    @asynccontextmanager
    async def open(self, key: str, span: ByteRange | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        async with super().open(key) as chunks:
            yield chunks


class OneTooMany(MemoryStorage):
    """An inclusive end."""

    @asynccontextmanager
    async def open(self, key: str, span: ByteRange | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        async with super().open(key, span and ByteRange(span.start, min(span.stop + 1, (await self.head(key)).size))) as chunks:
            yield chunks


class OneChunk(MemoryStorage):
    """However large."""

    @asynccontextmanager
    async def open(self, key: str, span: ByteRange | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        async with super().open(key, span) as chunks:
            yield given(b"".join([chunk async for chunk in chunks]))


class LeavesDescriptors(MemoryStorage):
    leaked: list[int]

    @asynccontextmanager
    async def open(self, key: str, span: ByteRange | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        async with super().open(key, span) as chunks:
            self.leaked.append(os.open("/dev/null", os.O_RDONLY))
            yield chunks


class EntersLate(MemoryStorage):
    """Absence shows at the first chunk only."""

    @asynccontextmanager
    async def open(self, key: str, span: ByteRange | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        async def chunks() -> AsyncIterator[bytes]:
            async with super(EntersLate, self).open(key, span) as inner:
                async for chunk in inner:
                    yield chunk

        yield chunks()


class DeletesOnce(MemoryStorage):
    async def delete(self, key: str) -> None:
        await self.head(key)
        await super().delete(key)


class ForgetsToDelete(MemoryStorage):
    async def delete(self, key: str) -> None:
        return None


class ListsByPart(MemoryStorage):
    """Prefixes end at a slash only."""

    async def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        async for info in super().list(prefix):
            if prefix.endswith("/") or not prefix or info.key[len(prefix) :][:1] in ("", "/"):
                yield info


class ListsAPage(MemoryStorage):
    async def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        left = 500
        async for info in super().list(prefix):
            if left:
                left -= 1
                yield info


class FoldsCase(MemoryStorage):
    async def put(self, key: str, chunks: AsyncIterable[bytes], *, size: int | None = None) -> ObjectInfo:
        return await super().put(key.lower(), chunks, size=size)


class ResolvesPaths(MemoryStorage):
    """Any key is normalised into the alphabet."""

    async def put(self, key: str, chunks: AsyncIterable[bytes], *, size: int | None = None) -> ObjectInfo:
        return await super().put("/".join(part for part in key.split("/") if part.strip(".")), chunks, size=size)


class HoardsMemory(MemoryStorage):
    async def put(self, key: str, chunks: AsyncIterable[bytes], *, size: int | None = None) -> ObjectInfo:
        self.hoard = bytearray(96 * 1024 * 1024)
        self.hoard[::4096] = b"x" * len(self.hoard[::4096])
        return await super().put(key, chunks, size=size)


class WritableFiles(MemoryStorage):
    folder: Path

    def open_file(self, key: str) -> int:
        if key not in self._objects:
            raise NotFound()
        (self.folder / "file").write_bytes(self._objects[key][1])
        return os.open(self.folder / "file", os.O_RDWR)


class Overdrawn(MemoryStorage):
    async def free(self) -> int:
        return -1


C = StorageConformance
FAULTS = [
    (WritesInPlace, C.test_readers_see_the_old_or_the_whole_new, ()),
    (WritesInPlace, C.test_a_new_object_is_invisible_until_it_is_whole, ()),
    (WritesInPlace, C.test_of_puts_at_once_one_wins_whole, ()),
    (KeepsWhatCame, C.test_a_put_whose_stream_raises_leaves_nothing, (1, False)),
    (KeepsWhatCame, C.test_a_put_whose_stream_raises_leaves_nothing, (1, True)),
    (KeepsWhatCame, C.test_a_cancelled_put_leaves_nothing, (True, False)),
    (WritesInPlace, C.test_a_cancelled_put_leaves_nothing, (False, True)),
    (WrapsErrors, C.test_a_put_whose_stream_raises_leaves_nothing, (1, False)),
    (TrustsTheHint, C.test_size_is_only_a_hint, (1,)),
    (StopsAtAnEmptyChunk, C.test_takes_chunks_of_any_length, ([b"", b"a"],)),
    (LocalTimes, C.test_reads_back_what_was_put, (1,)),
    (ConstantEtag, C.test_readers_see_the_old_or_the_whole_new, ()),
    (Rereads, C.test_readers_see_the_old_or_the_whole_new, ()),
    (IgnoresTheSpan, C.test_opens_a_range, (1000, 2000)),
    (OneTooMany, C.test_opens_a_range, (1000, 2000)),
    (OneTooMany, C.test_opens_a_range, (12345, 12345)),
    (OneChunk, C.test_chunks_are_at_most_a_mebibyte, ()),
    (LeavesDescriptors, C.test_leaving_early_releases_descriptors, ()),
    (EntersLate, C.test_what_is_absent_is_not_found, (None,)),
    (DeletesOnce, C.test_delete_is_idempotent, ()),
    (ForgetsToDelete, C.test_delete_is_idempotent, ()),
    (ListsByPart, C.test_lists_by_prefix, ()),
    (ListsAPage, C.test_lists_many, ()),
    (FoldsCase, C.test_keys_do_not_collide, ()),
    (ResolvesPaths, C.test_refuses_hostile_keys, ("conformance/../../outside",)),
    (ResolvesPaths, C.test_refuses_hostile_keys, ("conformance/x/",)),
    (HoardsMemory, C.test_a_big_object_goes_in_and_out_of_flat_memory, ()),
    (WritableFiles, C.test_local_paths_tell_the_truth, ()),
    (Overdrawn, C.test_room_tells_the_truth, ()),
]


class Small(StorageConformance):
    big_object_size = 1024 * 1024


@pytest.mark.parametrize(
    ("broken", "check", "arguments"), FAULTS, ids=[f"{broken.__name__}-{check.__name__}" for broken, check, _ in FAULTS]
)
async def test_a_fault_is_found(broken: type[MemoryStorage], check: object, arguments: tuple[object, ...], tmp_path: Path) -> None:
    storage: Storage = broken()
    vars(storage).update(leaked=[], folder=tmp_path)
    try:
        with pytest.raises((AssertionError, NotFound, ExceptionGroup, StorageUnavailable, pytest.fail.Exception)):
            await check(Small(), storage, *arguments)  # type: ignore[operator]
    finally:
        for fd in vars(storage)["leaked"]:
            os.close(fd)


Small.__test__ = False  # type: ignore[attr-defined] - it is run by the table only
