"""The driver `local` against the seam's conformance tests, and its own promises: room, links, damage, sweeping, configuration."""

import errno
import fcntl
import os
import shutil
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from anyio import from_thread, to_thread
from anyio.lowlevel import current_token

from mediacdn import ByteRange, NotFound, ObjectCorrupt, StorageFull, StorageUnavailable
from mediacdn.testing import StorageConformance, kit, opened
from mediacdn_local import LocalConfig, LocalStorage, mediacdn_drivers, open_local
from mediacdn_local.layout import key_of, place_of
from mediacdn_local.staging import Staging
from mediacdn_local.tree import Tree
from tests.services import memory

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024


def opener(path: Path, **config: object) -> Callable[[], AbstractAsyncContextManager[LocalStorage]]:
    return partial(opened, open_local, msgspec.convert({"path": "objects", "reserve": 0, **config}, LocalConfig), str(path))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "objects"


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[LocalStorage]:
    async with opener(tmp_path)() as storage:
        yield storage


async def given(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def read(storage: LocalStorage, key: str, span: ByteRange | None = None) -> bytes:
    async with storage.open(key, span) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def drain(chunks: AsyncIterator[bytes], into: list[bytes]) -> None:
    async for chunk in chunks:
        into.append(chunk)  # noqa: PERF401 - what came before the error counts


def failing(number: int) -> Callable[..., object]:
    def call(*args: object, **kwargs: object) -> object:
        raise OSError(number, os.strerror(number))

    return call


def staged(root: Path) -> list[str]:
    return sorted(os.listdir(root / "staging"))


def file_of(root: Path, key: str) -> Path:
    place = place_of(key)
    return root.joinpath(*place.folders, place.name)


class TestLocal(StorageConformance):
    big_object_size = 256 * MIB

    @pytest.fixture
    async def storage(self, tmp_path: Path) -> AsyncIterator[LocalStorage]:
        async with opener(tmp_path)() as storage:
            yield storage
        assert staged(tmp_path / "objects") == []

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Callable[[], AbstractAsyncContextManager[LocalStorage]]:
        return opener(tmp_path)


class TestLocalWithoutSync(StorageConformance):
    """The same, where nothing waits for the disk: here the big object has its full size, more than 4 GiB."""

    @pytest.fixture
    async def storage(self) -> AsyncIterator[LocalStorage]:
        folder = memory.folder("mediacdn-local-", self.big_object_size)
        async with opener(folder, fsync=False)() as storage:
            yield storage
        assert staged(folder / "objects") == []
        shutil.rmtree(folder)


# Configuration


def test_the_driver_is_named() -> None:
    (driver,) = mediacdn_drivers()
    assert (driver.seam, driver.name, driver.config) == ("storage", "local", LocalConfig)


@pytest.mark.parametrize("table", [{"pth": "x"}, {"reserve": "much"}, {"fsync": "maybe"}])
def test_a_wrong_key_or_value_is_refused(table: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(table, LocalConfig)


@pytest.mark.parametrize(("path", "folder"), [("", "data/objects"), ("other", "data/other"), ("a/b", "data/a/b"), ("{tmp}/far", "far")])
async def test_the_path_is_beneath_the_data_directory(tmp_path: Path, path: str, folder: str) -> None:
    async with open_local(LocalConfig(path=path.format(tmp=tmp_path)), kit(str(tmp_path / "data"))):
        assert (tmp_path / folder / "staging").is_dir()
        assert (tmp_path / folder).stat().st_mode & 0o777 == 0o700


async def test_what_cannot_be_opened_says_so(tmp_path: Path) -> None:
    (tmp_path / "objects").write_text("a file")
    with pytest.raises(StorageUnavailable):
        async with opener(tmp_path)():
            pytest.fail("opened a file as a folder")


async def test_objects_outlive_the_process_and_their_files_are_private(tmp_path: Path, root: Path) -> None:
    async with opener(tmp_path)() as storage:
        await storage.put("originals/a.jpg", given(b"abc"))
    async with opener(tmp_path)() as storage:
        assert await read(storage, "originals/a.jpg") == b"abc"
    assert file_of(root, "originals/a.jpg").stat().st_mode & 0o777 == 0o600


# Layout


@pytest.mark.parametrize(
    "key", ["a", "originals/01ARZ3NDEKTSV4RRFFQ69G5FAV.jpg", ".a", "..a", "a/.b", "x" * 240, "x" * 241, "x/" * 255 + "x", "x" * 512]
)
def test_a_place_tells_its_key(key: str) -> None:
    place = place_of(key)
    assert key_of(place.folders, place.name) == key
    for part in (*place.folders, place.name):
        assert part not in ("", ".", "..", "staging")
        assert "/" not in part
        assert len(part) <= 255


@pytest.mark.parametrize(("folders", "name"), [(("000",), "originals+a"), (("ca9",), "a b"), (("ca9",), "a="), (("ca9", "x="), "a")])
def test_a_file_in_the_wrong_place_is_nobodys(folders: tuple[str, ...], name: str) -> None:
    assert key_of(folders, name) is None


async def test_strangers_in_the_tree_are_not_listed(storage: LocalStorage, root: Path) -> None:
    await storage.put("a", given(b"x"))
    (root / "README").write_text("hello")
    (root / "fff").mkdir(exist_ok=True)
    (root / "fff" / "stranger").write_text("hello")
    os.mkfifo(file_of(root, "a").with_name("fifo"))
    (root / "staging" / "half").write_text("half")
    assert [info.key async for info in storage.list()] == ["a"]


# Links: nothing in the tree is followed


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "originals+a").write_text("secret")
    return secret


async def test_a_link_in_place_of_an_object_is_not_followed(storage: LocalStorage, root: Path, secret: Path) -> None:
    file = file_of(root, "originals/a")
    file.parent.mkdir()
    file.symlink_to(secret / "originals+a")
    with pytest.raises(NotFound):
        await storage.head("originals/a")
    with pytest.raises(NotFound):
        await read(storage, "originals/a")
    with pytest.raises(NotFound):
        await to_thread.run_sync(storage.open_file, "originals/a")
    assert [info async for info in storage.list()] == []
    await storage.put("originals/a", given(b"ours"))
    assert await read(storage, "originals/a") == b"ours"
    assert (secret / "originals+a").read_text() == "secret"
    await storage.delete("originals/a")
    file.symlink_to(secret / "originals+a")
    await storage.delete("originals/a")
    assert not file.is_symlink()
    assert (secret / "originals+a").read_text() == "secret"


async def test_a_link_in_place_of_a_folder_is_not_followed(storage: LocalStorage, root: Path, secret: Path) -> None:
    file_of(root, "originals/a").parent.symlink_to(secret)
    with pytest.raises(NotFound):
        await read(storage, "originals/a")
    with pytest.raises(NotFound):
        await to_thread.run_sync(storage.open_file, "originals/a")
    assert [info async for info in storage.list()] == []
    await storage.delete("originals/a")
    with pytest.raises(StorageUnavailable):
        await storage.put("originals/a", given(b"ours"))
    assert os.listdir(secret) == ["originals+a"]
    assert (secret / "originals+a").read_text() == "secret"
    assert staged(root) == []


async def test_a_link_in_place_of_staging_is_refused(tmp_path: Path, root: Path, secret: Path) -> None:
    os.mkdir(root)
    (root / "staging").symlink_to(secret)
    with pytest.raises(StorageUnavailable):
        async with opener(tmp_path)():
            pytest.fail("staged through a link")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["fifo", "folder"])
async def test_what_is_no_file_is_no_object(storage: LocalStorage, root: Path, make: Callable[[Path], None]) -> None:
    file = file_of(root, "a")
    file.parent.mkdir()
    make(file)
    with anyio.fail_after(5):
        with pytest.raises(NotFound):
            await read(storage, "a")
        with pytest.raises(NotFound):
            await storage.head("a")


# Damage


@pytest.mark.parametrize("left", [0, 100, 256 * 1024, MIB, 3 * MIB - 1])
async def test_an_object_that_shrinks_never_ends_clean(storage: LocalStorage, root: Path, left: int) -> None:
    await storage.put("a", given(bytes(3 * MIB)))
    got: list[bytes] = []
    async with storage.open("a", ByteRange(0, 3 * MIB)) as chunks:
        os.truncate(file_of(root, "a"), left)
        with pytest.raises(ObjectCorrupt):
            await drain(chunks, got)
    assert len(b"".join(got)) < 3 * MIB
    with pytest.raises(ObjectCorrupt):
        await read(storage, "a", ByteRange(left, 3 * MIB))


async def test_a_folder_that_vanished_is_made_again(storage: LocalStorage, root: Path) -> None:
    await storage.put("a", given(b"x"))
    file_of(root, "a").unlink()
    file_of(root, "a").parent.rmdir()
    await storage.put("a", given(b"y"))
    assert await read(storage, "a") == b"y"


# Room


async def test_the_reserve_is_kept(tmp_path: Path, root: Path) -> None:
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    touched = False

    async def touching() -> AsyncIterator[bytes]:
        nonlocal touched
        touched = True
        yield b"x"

    async with opener(tmp_path, reserve=free * 2)() as storage:
        assert await storage.free() == 0
        with pytest.raises(StorageFull):
            await storage.put("a", touching())
    async with opener(tmp_path, reserve=free // 2)() as storage:
        assert 0 < await storage.free() <= free
        with pytest.raises(StorageFull):
            await storage.put("a", touching(), size=free)
        assert not touched
        await storage.put("a", touching(), size=1)
    assert staged(root) == []


async def test_by_default_a_twentieth_or_a_gigabyte_stays_free(tmp_path: Path) -> None:
    async with open_local(LocalConfig(), kit(str(tmp_path))) as storage:
        status = os.statvfs(tmp_path)
        reserve = min(status.f_blocks * status.f_frsize // 20, 1_000_000_000)
        assert abs(await storage.free() - max(0, status.f_bavail * status.f_frsize - reserve)) < 2_000_000_000
    assert storage._reserve == reserve


async def test_a_disk_that_fills_up_meanwhile_is_noticed(storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fstatvfs
    looks = 0

    def shrinking(fd: int) -> os.statvfs_result:
        nonlocal looks
        looks += 1
        status = list(real(fd))
        status[4] = status[4] if looks == 1 else 0  # f_bavail
        return os.statvfs_result(status)

    storage._reserve = 1
    monkeypatch.setattr(os, "fstatvfs", shrinking)
    fed = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal fed
        block = bytes(MIB)
        while fed < 200:
            fed += 1
            yield block

    with pytest.raises(StorageFull):
        await storage.put("a", endless())
    assert 64 <= fed <= 70
    assert staged(root) == []


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (errno.ENOSPC, StorageFull),
        (errno.EDQUOT, StorageFull),
        (errno.EFBIG, StorageFull),
        (errno.EIO, StorageUnavailable),
        (errno.EROFS, StorageUnavailable),
    ],
    ids=["ENOSPC", "EDQUOT", "EFBIG", "EIO", "EROFS"],
)
@pytest.mark.parametrize("call", ["writev", "fsync", "rename", "open"])
async def test_an_error_of_the_system_leaves_nothing(
    storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, error: type[Exception]
) -> None:
    await storage.put("kept", given(b"kept"))
    real = getattr(os, call)
    with monkeypatch.context() as patched:
        broken = False

        def breaking(*args: object, **kwargs: object) -> object:
            nonlocal broken
            if call == "writev":
                real(args[0], [bytes(10)])  # a torn write first, as a disk that fills up makes it
            if not broken:
                broken = True
                raise OSError(number, os.strerror(number))
            return real(*args, **kwargs)

        patched.setattr(os, call, breaking)
        with pytest.raises(error):
            await storage.put("a", given(bytes(MIB), bytes(MIB)))
    assert staged(root) == []
    assert [info.key async for info in storage.list()] == ["kept"]
    assert await read(storage, "kept") == b"kept"
    await storage.put("a", given(b"again"))
    assert await read(storage, "a") == b"again"


@pytest.mark.parametrize("existing", [False, True], ids=["new key", "replacing"])
async def test_a_rename_that_is_not_durable_is_taken_back(
    storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch, existing: bool
) -> None:
    if existing:
        await storage.put("a", given(b"old"))
    else:
        await storage.put("a", given(b"old"))
        await storage.delete("a")
    real, syncs = os.fsync, 0

    def second_fails(fd: int) -> None:
        nonlocal syncs
        syncs += 1
        if syncs == 2:
            raise OSError(errno.EIO, "injected")
        real(fd)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", second_fails)
        with pytest.raises(StorageUnavailable):
            await storage.put("a", given(b"new"))
    assert syncs >= 2
    assert staged(root) == []
    if existing:
        assert await read(storage, "a") == b"old"
    else:
        with pytest.raises(NotFound):
            await storage.head("a")


async def test_a_put_cancelled_while_it_is_published_is_taken_back(
    storage: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await storage.put("a", given(b"old"))
    renamed, go_on = anyio.Event(), threading.Event()
    real, token = os.rename, current_token()

    def slow(*args: object, **kwargs: object) -> None:
        real(*args, **kwargs)  # type: ignore[arg-type]
        from_thread.run_sync(renamed.set, token=token)
        go_on.wait(10)

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", slow)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(storage.put, "a", given(b"new"))
            await renamed.wait()
            patched.setattr(os, "rename", real)
            tasks.cancel_scope.cancel()
            go_on.set()
    assert await read(storage, "a") == b"old"
    assert staged(root) == []


async def test_taking_back_never_hits_anothers_object(tmp_path: Path) -> None:
    tree = Tree(str(tmp_path), sync=True)
    place = place_of("a")
    ours, theirs = Staging(tree, place, 0), Staging(tree, place, 0)
    for staging, content in ((ours, b"ours"), (theirs, b"theirs")):
        staging.begin(None)
        staging.finish([content])
    theirs.commit()
    ours.abandon()
    fd = tree.open_file(place)
    assert os.read(fd, 10) == b"theirs"
    os.close(fd)
    tree.close()


async def test_a_delete_that_is_not_durable_says_so(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    await storage.put("a", given(b"x"))
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", failing(errno.EIO))
        with pytest.raises(StorageUnavailable):
            await storage.delete("a")
    await storage.delete("a")


@pytest.mark.parametrize("call", ["open", "pread", "fstat"])
async def test_a_disk_that_cannot_be_read_says_so_and_keeps_no_descriptor(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    await storage.put("a", given(bytes(3 * MIB)))
    await storage.head("a")
    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patched:
        patched.setattr(os, call, failing(errno.EIO))
        for _ in range(5):
            with pytest.raises(StorageUnavailable):
                await read(storage, "a")
    assert len(os.listdir("/proc/self/fd")) <= before
    assert await read(storage, "a") == bytes(3 * MIB)


# Sweeping


async def test_only_dead_writers_are_swept(tmp_path: Path, storage: LocalStorage, root: Path) -> None:
    (root / "staging" / "1-dead").write_bytes(b"half")
    living = os.open(root / "staging" / "2-living", os.O_RDWR | os.O_CREAT)
    fcntl.flock(living, fcntl.LOCK_EX)
    try:
        assert await storage.sweep() == 1
        async with opener(tmp_path)():
            assert staged(root) == ["2-living"]
    finally:
        os.close(living)
    assert await storage.sweep() == 1
    assert staged(root) == []


async def test_another_process_does_not_sweep_a_living_put(tmp_path: Path, storage: LocalStorage, root: Path) -> None:
    async def sweeping() -> AsyncIterator[bytes]:
        yield bytes(MIB)
        async with opener(tmp_path)() as other:
            assert await other.sweep() == 0
        assert len(staged(root)) == 1
        yield bytes(MIB)

    assert (await storage.put("a", sweeping())).size == 2 * MIB
    assert await read(storage, "a") == bytes(2 * MIB)


async def test_uploads_that_wait_for_the_disk_leave_reads_their_threads(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    await storage.put("a", given(b"x"))
    go_on, real = threading.Event(), os.fsync

    def hanging(fd: int) -> None:
        go_on.wait(20)
        real(fd)

    monkeypatch.setattr(os, "fsync", hanging)
    try:
        async with anyio.create_task_group() as tasks:
            for n in range(64):
                tasks.start_soon(storage.put, f"b{n}", given(b"x"))
            await anyio.sleep(0.05)
            with anyio.fail_after(5):
                assert await read(storage, "a") == b"x"
            go_on.set()
    finally:
        go_on.set()
    assert len([info async for info in storage.list("b")]) == 64


async def test_relative_paths_are_those_of_the_files(storage: LocalStorage, root: Path) -> None:
    for key in ("originals/a.png", f"derived/{'x' * 300}.webp"):
        await storage.put(key, _bytes(key.encode()))
        assert (root / storage.relative_path(key)).read_bytes() == key.encode()


async def _bytes(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def test_a_finished_file_is_adopted(storage: LocalStorage, tmp_path: Path) -> None:
    """Its bytes are the object's and its old name is gone; asked again there is no such file, and the object stays."""
    file = tmp_path / "staged"
    file.write_bytes(b"finished")
    info = await storage.adopt("originals/a.bin", str(file))
    assert info is not None
    assert (info.size, await storage.head("originals/a.bin")) == (8, info)
    assert not file.exists()
    with pytest.raises(NotFound):
        await storage.adopt("originals/a.bin", str(file))
    assert (await storage.head("originals/a.bin")).etag == info.etag


async def test_a_file_of_another_file_system_is_left_alone(storage: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "staged"
    file.write_bytes(b"finished")

    def rename(*given: Any, **more: Any) -> None:
        raise OSError(errno.EXDEV, "crossed")

    monkeypatch.setattr(os, "rename", rename)
    assert await storage.adopt("originals/a.bin", str(file)) is None
    assert file.read_bytes() == b"finished"
