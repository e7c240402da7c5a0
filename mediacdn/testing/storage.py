"""What every storage driver promises, as tests: subclass StorageConformance in a test file and override its `storage` fixture.

    from mediacdn.testing import StorageConformance

    class TestMine(StorageConformance):
        @pytest.fixture
        async def storage(self, tmp_path):
            async with open_mine(MineConfig(...), kit) as storage:
                yield storage

The storage may hold other objects; every key here begins with `conformance/`. It needs anyio's pytest plugin, which mediacdn installs.
"""

import asyncio
import hashlib
import multiprocessing
import os
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path

import anyio
import pytest
from anyio import to_thread
from anyio.lowlevel import checkpoint

from mediacdn.errors import InvalidParameter, NotFound
from mediacdn.interfaces import LocalPaths, RelativePaths, Room, Storage
from mediacdn.model import ByteRange, ObjectInfo

Reopen = Callable[[], AbstractAsyncContextManager[Storage]]

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

HOSTILE_KEYS = {
    "empty": "",
    "dot": ".",
    "dot dot": "..",
    "absolute": "/etc/passwd",
    "traversal": "../outside",
    "traversal inside": "conformance/../../outside",
    "traversal at the end": "conformance/..",
    "dot inside": "conformance/./x",
    "empty part": "conformance//x",
    "trailing slash": "conformance/x/",
    "NUL": "conformance/x\0.jpg",
    "newline": "conformance/x\n",
    "space": "conformance/x y",
    "backslash": "conformance\\..\\x",
    "percent": "conformance/%2e%2e/x",
    "plus": "conformance/x+y",
    "equals": "conformance/x=",
    "unicode": "conformance/é",
    "unicode digit": "conformance/\u0661",
    "full-width dots": "conformance/\uff0e\uff0e/x",
    "lone surrogate": "conformance/\udc80",
    "513 characters": "c" * 513,
}

SPANS = {
    "whole": (0, 3 * MIB + 7),
    "first byte": (0, 1),
    "last byte": (3 * MIB + 6, 3 * MIB + 7),
    "middle": (1000, 2000),
    "one chunk exactly": (0, MIB),
    "across the first MiB": (MIB - 1, MIB + 1),
    "across two borders": (MIB - 10, 2 * MIB + 10),
    "across 256 KiB": (256 * KIB - 1, 256 * KIB + 1),
    "to the end": (2 * MIB, 3 * MIB + 7),
    "nothing at the start": (0, 0),
    "nothing in the middle": (12345, 12345),
    "nothing at the end": (3 * MIB + 7, 3 * MIB + 7),
}


class StorageConformance:
    """The tests. `storage` must be overridden; the rest may be.

    `big_object_size` is the size, in bytes, of the object that stands for those larger than memory and than 32 bits; a fake that keeps objects in memory sets it
    to a few MiB. `memory_allowance` is how much the process may grow while that object goes in and out. `many` is how many objects a long listing has:
    more than the driver asks for at a time.
    """

    pytestmark = pytest.mark.anyio

    big_object_size = 4 * GIB + 5 * MIB
    memory_allowance = 64 * MIB
    many = 600

    @pytest.fixture
    async def storage(self) -> Storage:
        """The storage under test, opened, and without objects beneath `conformance/`; an override may be an async generator that closes it."""
        raise NotImplementedError("override the async fixture `storage`")

    @pytest.fixture
    def reopen(self) -> Reopen | None:
        """A picklable callable without arguments (such as functools.partial of an importable function) that opens `storage`'s objects again, from another
        process too; None, the default, where they live in one process only: then nobody can be killed in the middle of a put and survive to look."""
        return None

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    # What a put makes

    @pytest.mark.parametrize("size", [0, 1, 65536, MIB, MIB + 1, 3 * MIB + 7])
    async def test_reads_back_what_was_put(self, storage: Storage, size: int) -> None:
        content = _pattern(size)
        before = datetime.now(UTC) - timedelta(minutes=2)
        info = await storage.put("conformance/one.bin", _pieces(content), size=size)
        assert (info.key, info.size) == ("conformance/one.bin", size)
        assert info.modified.utcoffset() == timedelta(0)
        assert before < info.modified < datetime.now(UTC) + timedelta(minutes=2)
        assert _mark(await _read(storage, "conformance/one.bin")) == _mark(content)
        head = await storage.head("conformance/one.bin")
        assert (head.key, head.size, head.etag) == (info.key, info.size, info.etag)

    @pytest.mark.parametrize(
        "pieces", [[], [b""], [b"", b"a", b"", b"bc", b""], [b"x"] * 3000], ids=["none", "empty", "empty between", "single bytes"]
    )
    async def test_takes_chunks_of_any_length(self, storage: Storage, pieces: list[bytes]) -> None:
        info = await storage.put("conformance/pieces", _given(pieces))
        assert info.size == len(b"".join(pieces))
        assert _mark(await _read(storage, "conformance/pieces")) == _mark(b"".join(pieces))

    @pytest.mark.parametrize("hint", [0, 1, 10 * MIB])
    async def test_size_is_only_a_hint(self, storage: Storage, hint: int) -> None:
        assert (await storage.put("conformance/hinted", _given([b"hello"]), size=hint)).size == 5
        assert await _read(storage, "conformance/hinted") == b"hello"

    async def test_keys_do_not_collide(self, storage: Storage) -> None:
        keys = [
            "conformance/a/b",
            "conformance/a.b",
            "conformance/a-b",
            "conformance/a_b",
            "conformance/A/b",
            "conformance/a/B",
            "conformance/a/b.b",
        ]
        keys += ["conformance/.a", "conformance/..a", "conformance/a..", "conformance/...", "conformance/-a", "conformance/ab/cd"]
        keys += [
            f"conformance/{'k' * 500}",
            f"conformance/{'k' * 499}K",
            f"conformance/{'k/' * 200}k",
            f"conformance/{'k' * 228}",
            f"conformance/{'k' * 229}",
        ]
        for key in keys:
            await storage.put(key, _given([key.encode()]))
        assert {key: await _read(storage, key) for key in keys} == {key: key.encode() for key in keys}
        assert sorted(await _keys(storage)) == sorted(keys)
        for key in keys:
            await storage.delete(key)
        assert await _keys(storage) == []

    async def test_a_key_may_be_512_characters(self, storage: Storage) -> None:
        key = "conformance/" + "k" * 500
        await storage.put(key, _given([b"x"]))
        assert (await storage.head(key)).key == key

    # Atomic

    async def test_readers_see_the_old_or_the_whole_new(self, storage: Storage) -> None:
        old, new = _pattern(2 * MIB, 1), _pattern(3 * MIB, 2)
        replaced = await storage.put("conformance/replaced", _pieces(old))
        half, release = anyio.Event(), anyio.Event()

        async def halting() -> AsyncIterator[bytes]:
            yield new[: 2 * MIB]
            half.set()
            await release.wait()
            yield new[2 * MIB :]

        async with storage.open("conformance/replaced") as early:
            first = await anext(early)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(storage.put, "conformance/replaced", halting())
                await half.wait()
                assert _mark(await _read(storage, "conformance/replaced")) == _mark(old)
                assert (await storage.head("conformance/replaced")).etag == replaced.etag
                assert await _keys(storage) == ["conformance/replaced"]
                release.set()
            assert _mark(await _read(storage, "conformance/replaced")) == _mark(new)
            assert _mark(first + b"".join([chunk async for chunk in early])) in (_mark(old), _mark(new))
        head = await storage.head("conformance/replaced")
        assert head.size == len(new)
        assert head.etag != replaced.etag or not head.etag

    async def test_a_new_object_is_invisible_until_it_is_whole(self, storage: Storage) -> None:
        seen: list[object] = []

        async def peeking() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield _pattern(MIB)
                seen.extend(await _keys(storage))
                with pytest.raises(NotFound):
                    await storage.head("conformance/new")

        await storage.put("conformance/new", peeking())
        assert seen == []
        assert await _keys(storage) == ["conformance/new"]

    async def test_of_puts_at_once_one_wins_whole(self, storage: Storage) -> None:
        contents = [_pattern(MIB + 100_000 * n, n) for n in range(8)]
        read: list[bytes] = []
        async with anyio.create_task_group() as readers:

            async def look() -> None:
                while True:
                    try:
                        read.append(await _read(storage, "conformance/raced"))
                    except NotFound:
                        await anyio.sleep(0.001)

            readers.start_soon(look)
            async with anyio.create_task_group() as writers:
                for content in contents:
                    writers.start_soon(storage.put, "conformance/raced", _pieces(content, 50_000))
            readers.cancel_scope.cancel()
        assert _mark(await _read(storage, "conformance/raced")) in [_mark(each) for each in contents]
        assert {_mark(content) for content in read} <= {_mark(content) for content in contents}
        assert await _keys(storage) == ["conformance/raced"]

    # Killed

    @pytest.mark.parametrize("existing", [False, True], ids=["new key", "replacing"])
    @pytest.mark.parametrize("given", [0, 1, 5 * MIB])
    async def test_a_put_whose_stream_raises_leaves_nothing(self, storage: Storage, given: int, existing: bool) -> None:
        if existing:
            await storage.put("conformance/killed", _given([b"old"]))
        failure = _StreamBroke("half-way")

        async def breaking() -> AsyncIterator[bytes]:
            if given:
                async for piece in _pieces(_pattern(given)):
                    yield piece
            raise failure

        with pytest.raises(_StreamBroke) as raised:
            await storage.put("conformance/killed", breaking(), size=10 * MIB)
        assert raised.value is failure
        await self._assert_untouched(storage, existing)

    @pytest.mark.parametrize("existing", [False, True], ids=["new key", "replacing"])
    @pytest.mark.parametrize("native", [False, True], ids=["cancel scope", "task.cancel"])
    async def test_a_cancelled_put_leaves_nothing(self, storage: Storage, native: bool, existing: bool) -> None:
        if existing:
            await storage.put("conformance/killed", _given([b"old"]))
        half = anyio.Event()

        async def hanging() -> AsyncIterator[bytes]:
            for _ in range(5):
                yield _pattern(MIB)
            half.set()
            await anyio.sleep_forever()

        if native:
            task = asyncio.create_task(storage.put("conformance/killed", hanging()))
            await half.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(storage.put, "conformance/killed", hanging())
                await half.wait()
                tasks.cancel_scope.cancel()
        await self._assert_untouched(storage, existing)

    @pytest.mark.parametrize("after", [0, 1, 20], ids=["before the first chunk", "after a chunk", "after 20 MiB"])
    async def test_a_put_whose_process_is_killed_leaves_nothing(self, storage: Storage, reopen: Reopen | None, after: int) -> None:
        if reopen is None:
            return
        await storage.put("conformance/old", _given([b"old"]))
        spawn = multiprocessing.get_context("spawn")
        ours, theirs = spawn.Pipe()
        child = spawn.Process(target=_put_for_ever, args=(reopen, after, theirs), daemon=True)
        await to_thread.run_sync(child.start)
        theirs.close()
        try:
            assert await to_thread.run_sync(ours.recv) == "half-way"
        finally:
            child.kill()
            await to_thread.run_sync(child.join)
            child.close()
            ours.close()
        async with reopen() as again:
            for survivor in (storage, again):
                assert await _keys(survivor) == ["conformance/old"]
                assert await _read(survivor, "conformance/old") == b"old"
                with pytest.raises(NotFound):
                    await survivor.head("conformance/killed")
            assert (await again.put("conformance/killed", _given([b"anew"]))).size == 4

    async def _assert_untouched(self, storage: Storage, existing: bool) -> None:
        if existing:
            assert await _read(storage, "conformance/killed") == b"old"
            assert await _keys(storage) == ["conformance/killed"]
        else:
            with pytest.raises(NotFound):
                await storage.head("conformance/killed")
            with pytest.raises(NotFound):
                await _read(storage, "conformance/killed")
            assert await _keys(storage) == []

    # Reading

    @pytest.mark.parametrize(("start", "stop"), SPANS.values(), ids=SPANS.keys())
    async def test_opens_a_range(self, storage: Storage, start: int, stop: int) -> None:
        content = _pattern(3 * MIB + 7)
        await storage.put("conformance/ranges", _pieces(content))
        async with storage.open("conformance/ranges", ByteRange(start, stop)) as chunks:
            read = [chunk async for chunk in chunks]
        assert _mark(b"".join(read)) == _mark(content[start:stop])
        assert all(0 < len(chunk) <= MIB and isinstance(chunk, bytes) for chunk in read)

    async def test_chunks_are_at_most_a_mebibyte(self, storage: Storage) -> None:
        await storage.put("conformance/chunks", _given([_pattern(5 * MIB)]))
        async with storage.open("conformance/chunks") as chunks:
            lengths = [len(chunk) async for chunk in chunks]
        assert sum(lengths) == 5 * MIB
        assert max(lengths) <= MIB

    async def test_readers_of_one_object_do_not_disturb_each_other(self, storage: Storage) -> None:
        content = _pattern(3 * MIB)
        await storage.put("conformance/shared", _pieces(content))
        async with storage.open("conformance/shared") as one, storage.open("conformance/shared") as two:
            read_one, read_two = [await anext(one)], [await anext(two)]
            read_one += [chunk async for chunk in one]
            read_two += [chunk async for chunk in two]
        assert _mark(b"".join(read_one)) == _mark(b"".join(read_two)) == _mark(content)

    async def test_leaving_early_releases_descriptors(self, storage: Storage) -> None:
        await storage.put("conformance/left", _pieces(_pattern(5 * MIB)))
        await _read(storage, "conformance/left")
        await anyio.sleep(0.05)
        before = _descriptors()
        for taken in (0, 1, 2):
            for _ in range(20):
                async with storage.open("conformance/left") as chunks:
                    for _ in range(taken):
                        await anext(chunks)
        for _ in range(20):
            with pytest.raises(_StreamBroke):
                await _read_and_fail(storage, "conformance/left")
        await _settled(lambda: _descriptors() < before + 10)
        assert _descriptors() < before + 10

    @pytest.mark.parametrize("span", [None, ByteRange(0, 1)], ids=["whole", "range"])
    async def test_what_is_absent_is_not_found(self, storage: Storage, span: ByteRange | None) -> None:
        with pytest.raises(NotFound):
            await storage.head("conformance/absent")
        with pytest.raises(NotFound):
            async with storage.open("conformance/absent", span):
                pytest.fail("entered an object that is not there")

    # Deleting and listing

    async def test_delete_is_idempotent(self, storage: Storage) -> None:
        await storage.delete("conformance/never")
        await storage.put("conformance/deleted", _given([b"x"]))
        await storage.delete("conformance/deleted")
        await storage.delete("conformance/deleted")
        with pytest.raises(NotFound):
            await storage.head("conformance/deleted")
        assert await _keys(storage) == []
        await storage.put("conformance/deleted", _given([b"y"]))
        assert await _read(storage, "conformance/deleted") == b"y"

    async def test_lists_by_prefix(self, storage: Storage) -> None:
        for key in ("conformance/a/1", "conformance/a/2", "conformance/ab", "conformance/b"):
            await storage.put(key, _given([key.encode()]))
        assert sorted(await _keys(storage, "conformance/a")) == ["conformance/a/1", "conformance/a/2", "conformance/ab"]
        assert sorted(await _keys(storage, "conformance/a/")) == ["conformance/a/1", "conformance/a/2"]
        assert await _keys(storage, "conformance/a/2") == ["conformance/a/2"]
        assert await _keys(storage, "conformance/c") == []
        assert {info.key async for info in storage.list()} >= {"conformance/a/1", "conformance/b"}
        infos = {info.key: info async for info in storage.list("conformance/")}
        assert infos["conformance/ab"].size == len("conformance/ab")
        assert infos["conformance/ab"] == await storage.head("conformance/ab")

    async def test_lists_many(self, storage: Storage) -> None:
        keys = {f"conformance/many/{n:04}" for n in range(self.many)}
        for key in keys:
            await storage.put(key, _given([b"x"]))
        listed = await _keys(storage, "conformance/many/")
        assert len(listed) == len(keys)
        assert set(listed) == keys
        taken: list[ObjectInfo] = []
        async with aclosing(storage.list("conformance/many/")) as objects:  # type: ignore[type-var]
            taken.append(await anext(objects))
        assert taken[0].key in keys

    # Hostile keys

    @pytest.mark.parametrize("key", HOSTILE_KEYS.values(), ids=HOSTILE_KEYS.keys())
    async def test_refuses_hostile_keys(self, storage: Storage, key: str) -> None:
        with pytest.raises(InvalidParameter):
            await storage.put(key, _given([b"x"]))
        with pytest.raises(InvalidParameter):
            await storage.head(key)
        with pytest.raises(InvalidParameter):
            await storage.delete(key)
        with pytest.raises(InvalidParameter):
            async with storage.open(key):
                pytest.fail("opened a hostile key")
        if isinstance(storage, LocalPaths):
            with pytest.raises(InvalidParameter):
                await to_thread.run_sync(storage.open_file, key)
        assert await _keys(storage) == []

    @pytest.mark.parametrize("prefix", ["..", "../", "/", "conformance/../", "\0", "é", "*", "conformance/%"])
    async def test_a_hostile_prefix_lists_nothing(self, storage: Storage, prefix: str) -> None:
        await storage.put("conformance/kept", _given([b"x"]))
        assert await _keys(storage, prefix) == []

    # Large

    async def test_a_big_object_goes_in_and_out_of_flat_memory(self, storage: Storage) -> None:
        size = self.big_object_size
        zeros, mark = bytes(MIB), b"the last word"
        before = _resident()

        async def blocks() -> AsyncIterator[bytes]:
            left = size - len(mark)
            while left:
                block = zeros if left >= MIB else zeros[:left]
                left -= len(block)
                yield block
            yield mark

        info = await storage.put("conformance/big", blocks(), size=size)
        try:
            assert info.size == size
            assert (await storage.head("conformance/big")).size == size
            end = ByteRange(size - len(mark) - 5, size)
            assert await _read(storage, "conformance/big", end) == b"\0" * 5 + mark
            assert await _read(storage, "conformance/big", ByteRange(size - 1, size)) == b"d"
            read = 0
            async with storage.open("conformance/big", ByteRange(size // 2, size)) as chunks:
                async for chunk in chunks:
                    read += len(chunk)
            assert read == size - size // 2
            assert _resident() - before <= self.memory_allowance
        finally:
            await storage.delete("conformance/big")

    # Powers

    async def test_local_paths_tell_the_truth(self, storage: Storage) -> None:
        if not isinstance(storage, LocalPaths):
            assert not hasattr(storage, "open_file")
            return
        content = _pattern(MIB + 3)
        await storage.put("conformance/mapped", _pieces(content))
        fd = await to_thread.run_sync(storage.open_file, "conformance/mapped")
        try:
            assert not os.get_inheritable(fd)
            assert os.fstat(fd).st_size == len(content)
            assert _mark(os.pread(fd, len(content), 0)) == _mark(content)
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.pwrite(fd, b"x", 0)
            await storage.delete("conformance/mapped")
            assert _mark(os.pread(fd, 3, MIB)) == _mark(content[MIB:])
        finally:
            os.close(fd)
        with pytest.raises(NotFound):
            await to_thread.run_sync(storage.open_file, "conformance/mapped")

    async def test_relative_paths_stay_beneath_the_folder_and_apart(self, storage: Storage) -> None:
        if not isinstance(storage, RelativePaths):
            assert not hasattr(storage, "relative_path")
            return
        keys = [f"originals/{name}.{end}" for name in ("a", "b", "a.b", "x" * 480) for end in ("png", "jpg")]
        paths = [storage.relative_path(key) for key in keys]
        assert len(set(paths)) == len(keys)
        for each in paths:
            assert not each.startswith("/")
            assert not {"", ".", ".."} & set(each.split("/"))
        assert paths == [storage.relative_path(key) for key in keys]
        for hostile in HOSTILE_KEYS.values():
            with pytest.raises(InvalidParameter):
                storage.relative_path(hostile)

    async def test_room_tells_the_truth(self, storage: Storage) -> None:
        if not isinstance(storage, Room):
            assert not hasattr(storage, "free")
            return
        free = await storage.free()
        assert isinstance(free, int)
        assert free >= 0


class _StreamBroke(Exception):
    """What a test's stream raises; no driver may swallow or wrap it."""


def _mark(content: bytes) -> tuple[int, str]:
    """Length and digest stand for bytes in assertions: pytest would spend minutes on the difference of two megabytes, and where it does not cut, print it."""
    return len(content), hashlib.sha256(content).hexdigest()


def _pattern(size: int, seed: int = 0) -> bytes:
    """Bytes in which a shifted, repeated or missing part shows: 251 is prime to every chunk size."""
    unit = bytes((n * (2 * seed + 1) + seed) % 251 for n in range(251))
    return (unit * (size // 251 + 1))[:size]


async def _pieces(content: bytes, length: int = 65536) -> AsyncIterator[bytes]:
    for at in range(0, len(content), length):
        yield content[at : at + length]
        await checkpoint()


async def _given(pieces: list[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def _read(storage: Storage, key: str, span: ByteRange | None = None) -> bytes:
    async with storage.open(key, span) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def _read_and_fail(storage: Storage, key: str) -> None:
    async with storage.open(key) as chunks:
        await anext(chunks)
        raise _StreamBroke


async def _keys(storage: Storage, prefix: str = "conformance/") -> list[str]:
    return [info.key async for info in storage.list(prefix)]


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def _resident() -> int:
    """Resident memory of this process in bytes, from proc(5)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def _settled(done: Callable[[], bool]) -> None:
    """Give clean-up that runs in the background up to two seconds."""
    for _ in range(200):
        if done():
            return
        await anyio.sleep(0.01)


def _put_for_ever(reopen: Reopen, chunks: int, parent: Connection) -> None:
    """In a child process: put, tell the parent half-way, and never finish."""

    async def endless() -> AsyncIterable[bytes]:
        for _ in range(chunks):
            yield _pattern(MIB)
        parent.send("half-way")
        await anyio.sleep_forever()

    async def run() -> None:
        async with reopen() as storage:
            await storage.put("conformance/killed", endless())

    asyncio.run(run())
