"""Lending a child the files of a folder that it cannot open: it asks for them by number, over a socket, one after the other."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from mediacdn_ffmpeg.request import Piece

_NUMBER = 4


def names(piece: Piece) -> list[str]:
    """What is lent of a piece: its initialization where there is one, then its segments."""
    return [*([piece.init] if piece.init else []), *piece.segments]


def borrowed(line: int, number: int) -> bytes:
    """What is in a file, as the child asks for it. Raises: OSError."""
    with socket.socket(fileno=os.dup(line)) as asking:
        asking.sendall(number.to_bytes(_NUMBER, "big"))
        _, descriptors, _, _ = socket.recv_fds(asking, 1, 1)
    if not descriptors:
        raise FileNotFoundError
    with os.fdopen(descriptors[0], "rb") as file:
        return file.read()


@asynccontextmanager
async def lent(folder: int, files: Sequence[str]) -> AsyncIterator[int]:
    """The child's end of the line, on which `files` of the folder are to be had, to be read, and nothing else."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        lending = asyncio.ensure_future(_lend(ours, folder, files))
        try:
            yield theirs.fileno()
        finally:
            lending.cancel()
            await asyncio.wait({lending})


async def _lend(line: socket.socket, folder: int, files: Sequence[str]) -> None:
    loop = asyncio.get_running_loop()
    with suppress(OSError):  # a file that is not there, and a child that does not take what it asked for
        while len(asked := await loop.sock_recv(line, _NUMBER)) == _NUMBER and (number := int.from_bytes(asked, "big")) < len(files):
            descriptor = await asyncio.to_thread(_opened, folder, files[number])
            try:
                socket.send_fds(line, [b"."], [descriptor])
            finally:
                os.close(descriptor)
    with suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)


def _opened(folder: int, name: str) -> int:
    return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
