"""Turns between the server processes of a node: who fills a key, by locks that the kernel takes back from the dead. Whatever is wrong with the lock file, everybody has a turn."""

import errno
import fcntl
import os
import random
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

PATIENCE = 5.0
"""Seconds after which who waits for a turn does without."""

_SHORTEST = 0.002
_LONGEST = 0.025
_TAKEN = frozenset({errno.EAGAIN, errno.EACCES})
_FLOCK = "@hhqqi0q"  # struct flock of fcntl(2); the pid is 0 for locks of an open file description


class Turn:
    """A turn that is held until its release."""

    __slots__ = ("_byte", "_turns")

    def __init__(self, turns: "Turns", byte: int) -> None:
        self._turns = turns
        self._byte = byte

    def release(self) -> None:
        self._turns.give_back(self._byte)


class Turns:
    """One lock file in the edge directory, a byte of it for each key. It is opened at the first use: a descriptor shared by a fork would be one holder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "turns.lock"
        self._fd = -1
        self._held: dict[int, int] = {}

    def take(self, key: str) -> Turn | None:
        """Take the key's turn; None while another process has it. A file system without locks gives everybody a turn."""
        # Any byte up to 2^63 can be locked, whatever the file's length: 62 bits make a collision, and its wait, a thing that does not happen.
        byte = int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big") >> 2
        if byte not in self._held:
            try:
                self._lock(fcntl.F_WRLCK, byte)
            except OSError as error:
                if error.errno in _TAKEN:
                    return None
        self._held[byte] = (
            self._held.get(byte, 0) + 1
        )  # one description holds all of this process's locks, so the kernel does not count for us
        return Turn(self, byte)

    def give_back(self, byte: int) -> None:
        """End one holding of a byte's lock; the last one lets the other processes have it."""
        count = self._held.pop(byte, 0)
        if count > 1:
            self._held[byte] = count - 1
        elif count and self._fd >= 0:
            with suppress(OSError):
                self._lock(fcntl.F_UNLCK, byte)

    def close(self) -> None:
        """Give every turn back."""
        self._held.clear()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _lock(self, kind: int, byte: int) -> None:
        if self._fd < 0:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, kind, os.SEEK_SET, byte, 1, 0))


def pauses(
    patience: float = PATIENCE, monotonic: Callable[[], float] = time.monotonic, share: Callable[[], float] = random.random
) -> Iterator[float]:
    """Seconds to sleep between tries, growing and jittered so that many who wait do not try together; ends when the patience does."""
    until = monotonic() + patience
    pause = _SHORTEST
    while monotonic() < until:
        yield pause * (0.5 + share() / 2)
        pause = min(_LONGEST, pause * 1.5)
