"""Files that are lent: what the child asks for by number, and nothing that is not on the list."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mediacdn_ffmpeg.lending import borrowed, lent, names
from mediacdn_ffmpeg.request import Piece

pytestmark = pytest.mark.anyio


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "secret").write_bytes(b"s3cr3t")
    (tmp_path / "made").mkdir()
    for name in ("240p_init.mp4", "240p_00000.m4s", "240p_00001.m4s"):
        (tmp_path / "made" / name).write_bytes(name.encode())
    (tmp_path / "made" / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "made" / "pipe")
    descriptor = os.open(tmp_path / "made", os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


async def test_what_is_lent_is_had_by_its_number(folder: int) -> None:
    listed = names(Piece("240p", 2, fmp4=True))
    async with lent(folder, listed) as line:
        for _ in range(2):
            assert [await asyncio.to_thread(borrowed, line, number) for number in (2, 0, 1)] == [listed[2].encode(), listed[0].encode(), listed[1].encode()]  # fmt: skip
    assert names(Piece("240p", 1, fmp4=False)) == ["240p_00000.ts"]


@pytest.mark.parametrize(("listed", "number"), [(["240p_00000.m4s"], 1), (["240p_00000.m4s"], 0xFFFFFFFF), (["link"], 0), (["none"], 0)])
async def test_what_is_not_lent_is_not_there(folder: int, listed: list[str], number: int) -> None:
    async with asyncio.timeout(5), lent(folder, listed) as line:
        for _ in range(2):
            with pytest.raises((FileNotFoundError, BrokenPipeError)):
                await asyncio.to_thread(borrowed, line, number)


async def test_it_is_lent_to_be_read(folder: int) -> None:
    async with lent(folder, ["240p_00000.m4s"]) as line, asyncio.timeout(5):
        with socket.socket(fileno=os.dup(line)) as asking:
            asking.sendall(bytes(4))
            _, [descriptor], _, _ = await asyncio.to_thread(socket.recv_fds, asking, 1, 1)
        try:
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.write(descriptor, b"taken")
        finally:
            os.close(descriptor)


@pytest.mark.parametrize("said", [b"", b"\0\0", b"\0\0\0\0" * 400])
async def test_a_child_that_asks_oddly_or_takes_nothing_holds_nobody_up(folder: int, said: bytes) -> None:
    before = len(os.listdir("/proc/self/fd"))
    async with asyncio.timeout(5):
        async with lent(folder, ["240p_00000.m4s", "pipe"]) as line:
            with socket.socket(fileno=os.dup(line)) as asking:
                asking.sendall(said)
            await asyncio.sleep(0.1)
    await asyncio.sleep(0.05)
    assert len(os.listdir("/proc/self/fd")) <= before
