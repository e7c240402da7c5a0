"""What `local` does beneath its promises, seen from the system calls: the order that durability needs, and every failure of them, one after the other."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from mediacdn import StorageFull
from mediacdn.testing import kit
from mediacdn_local import LocalConfig, open_local

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
PUTS = Path(__file__).with_name("local_puts.py")
SIZE = 700_000
"""Bytes an object of PUTS: more than one batch, so that one is written while the rest arrives."""
_CAP_SYS_ADMIN = 21


def puts(folder: Path, count: int, *, under: list[str]) -> list[str]:
    """Put objects `originals/0`… in a process of their own, run by the command `under`; answer what each was told: "ok" or an error's code."""
    command = [*under, sys.executable, str(PUTS), str(folder), str(count), str(SIZE)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert finished.returncode == 0, finished.stderr
    return [json.loads(line)["outcome"] for line in finished.stdout.splitlines()]


@pytest.fixture(scope="module")
def strace() -> list[str]:
    found = shutil.which("strace")
    if found is None:
        pytest.fail("strace is missing; as root: apt-get install strace")
    # The filter stops the process at the watched calls only; without it the imports alone take seconds.
    return [found, "-f", "--seccomp-bpf"]


def staged(folder: Path) -> list[str]:
    return os.listdir(folder / "staging")


async def survivors(folder: Path) -> dict[str, int]:
    """Open what a run left, check that each object is whole, and answer their sizes."""
    sizes = {}
    async with open_local(LocalConfig(path=str(folder), reserve=0), kit(str(folder))) as storage:
        async for info in storage.list():
            async with storage.open(info.key) as chunks:
                content = b"".join([chunk async for chunk in chunks])
            assert content == b"x" * info.size
            sizes[info.key] = info.size
    return sizes


# Order


_CALL = re.compile(r"^\d+ +(?P<call>\w+)\((?P<rest>.*)\) += (?P<result>-?\d+)", re.MULTILINE)


def test_write_then_fsync_then_rename_then_fsync_of_the_folder(strace: list[str], tmp_path: Path) -> None:
    folder, log = tmp_path / "objects", tmp_path / "trace"
    folder.mkdir()
    watched = "trace=writev,write,pwrite64,fsync,fdatasync,rename,renameat,renameat2,mkdirat"
    assert puts(folder, 2, under=[*strace, "-y", "-o", str(log), "-e", watched, "-e", "signal=none"]) == ["ok", "ok"]
    steps = []
    for found in _CALL.finditer(log.read_text()):
        if str(folder) not in found["rest"]:
            continue
        assert int(found["result"]) >= 0
        path = re.findall(rf"<{re.escape(str(folder))}(/[^>]*)?>", found["rest"])[-1]
        what = "staging file" if path.startswith("/staging/") else {"": "root", "/staging": "staging"}.get(path, "folder")
        call = "write" if found["call"] in ("write", "writev") else found["call"].replace("renameat2", "renameat")
        if not (steps and steps[-1] == (call, what)):
            steps.append((call, what))
    opening = [("mkdirat", "root")]
    first_in_its_folder = [
        ("write", "staging file"),
        ("fsync", "staging file"),
        ("mkdirat", "root"),
        ("fsync", "root"),
        ("renameat", "folder"),
        ("fsync", "folder"),
    ]
    assert steps == opening + first_in_its_folder * 2


# Failures


UNAVAILABLE, FULL = "storage_unavailable", "insufficient_storage"


@pytest.mark.parametrize(
    ("call", "error", "which", "told"),
    [
        ("fsync", "EIO", 1, [UNAVAILABLE, "ok", "ok"]),  # of the file
        ("fsync", "EIO", 2, [UNAVAILABLE, "ok", "ok"]),  # of the root, in which its folder is new
        ("fsync", "EIO", 3, [UNAVAILABLE, "ok", "ok"]),  # of its folder, after the rename
        ("fsync", "EIO", 4, ["ok", UNAVAILABLE, "ok"]),
        ("fsync", "EIO", 5, ["ok", UNAVAILABLE, "ok"]),
        ("fsync", "EIO", 6, ["ok", UNAVAILABLE, "ok"]),
        ("fsync", "ENOSPC", 1, [FULL, "ok", "ok"]),
        ("fsync", "EDQUOT", 1, [FULL, "ok", "ok"]),
        ("fsync", "EIO", "1+", [UNAVAILABLE] * 3),
        ("writev", "EIO", 1, [UNAVAILABLE, "ok", "ok"]),
        ("writev", "ENOSPC", 2, [FULL, "ok", "ok"]),
        ("writev", "EIO", 3, ["ok", UNAVAILABLE, "ok"]),
        ("writev", "ENOSPC", "1+", [FULL] * 3),
        ("renameat", "EIO", 1, [UNAVAILABLE, "ok", "ok"]),
        ("renameat", "EIO", "1+", [UNAVAILABLE] * 3),
        ("flock", "EIO", 1, [UNAVAILABLE, "ok", "ok"]),
    ],
)
async def test_a_failing_call_leaves_nothing(
    strace: list[str], tmp_path: Path, call: str, error: str, which: int | str, told: list[str]
) -> None:
    folder = tmp_path / "objects"
    assert (
        puts(folder, 3, under=[*strace, "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={which}"])
        == told
    )
    assert staged(folder) == []
    assert await survivors(folder) == {f"originals/{n}": SIZE for n, outcome in enumerate(told) if outcome == "ok"}


async def test_what_could_not_even_be_unlinked_is_swept_at_the_next_start(strace: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "objects"
    inject = ["-e", "trace=writev,unlinkat", "-e", "inject=writev,unlinkat:error=EIO:when=1+"]
    assert puts(folder, 3, under=[*strace, "-o", "/dev/null", *inject]) == [UNAVAILABLE] * 3
    assert len(staged(folder)) == 3
    assert await survivors(folder) == {}
    assert staged(folder) == []


# A device that is full


async def test_a_file_larger_than_the_process_may_write(tmp_path: Path) -> None:
    folder = tmp_path / "objects"
    assert puts(folder, 2, under=["sh", "-c", 'ulimit -f 512; exec "$@"', "sh"]) == [FULL, FULL]
    assert staged(folder) == []
    assert await survivors(folder) == {}


def may_mount() -> bool:
    effective = re.search(r"CapEff:\s*([0-9a-f]+)", Path("/proc/self/status").read_text())
    return effective is not None and bool(int(effective[1], 16) >> _CAP_SYS_ADMIN & 1)


@pytest.fixture
def small_device(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    path = tmp_path / "small"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(path)], check=True)
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


async def blocks(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield bytes(MIB)


if may_mount():  # where nobody may, the limit of the process above stands for the device

    async def test_a_full_device_takes_nothing_and_loses_nothing(small_device: Path) -> None:
        async with open_local(LocalConfig(path=str(small_device), reserve=0), kit(str(small_device))) as storage:
            await storage.put("kept", blocks(2))
            for size in (None, 20 * MIB):
                with pytest.raises(StorageFull):
                    await storage.put("a", blocks(20), size=size)
                assert staged(small_device) == []
            assert [info.key async for info in storage.list()] == ["kept"]
            async with storage.open("kept") as chunks:
                assert sum([len(chunk) async for chunk in chunks]) == 2 * MIB
            assert (await storage.put("b", blocks(3))).size == 3 * MIB
