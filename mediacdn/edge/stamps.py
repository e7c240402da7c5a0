"""The node's shared table: a memory-mapped file of counters that every process of this machine checks its cards against on each hit.

Media ids share 65,536 slots by their hash; a collision costs a re-read and no more. Writers hold a file lock, readers hold nothing: an aligned 8-byte load.
A table that is missing, short, of another version, damaged, or of before the machine started is replaced by one with a new nonce and other counters, so
whatever was checked against the old one is untrue at once; it is opened once in each process, after any fork. What a change is, and when it is committed,
is the callers' business.
"""

import errno
import fcntl
import mmap
import os
import secrets
import stat
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mediacdn.errors import StartupError, Unavailable

SLOTS = 65_536
HEADER_WORDS = 512
"""4 KiB, so that the counters begin on a page of their own."""

FORMAT = struct.Struct("=8sII16s16sI")
"""Magic, version, slots, the nonce, the machine's start, and a checksum of these."""
MAGIC = b"mdcstamp"
VERSION = 1

# Words of the header that change; each on a cache line of its own, away from what never changes.
EPOCH, SEEN, SWEPT, DEAD = 16, 24, 32, 40
LOST, RENEWED = 1, 2

NAME = "stamps"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

PATIENCE = 2.0
"""Seconds that a writer waits for another; each holds the lock for microseconds, unless its process is stopped there."""


class _Map:
    """One mapped file; closed when nobody reads it any more."""

    def __init__(self, fd: int, slots: int, nonce: str) -> None:
        self.fd = fd
        self.nonce = nonce
        found = os.fstat(fd)
        self.identity = (found.st_dev, found.st_ino)
        self.size = (HEADER_WORDS + slots) * 8
        self._mmap = mmap.mmap(fd, self.size)
        self.words: memoryview[int] = memoryview(self._mmap).cast("B").cast("Q")
        self.header = bytes(self._mmap[: FORMAT.size])

    def intact(self) -> bool:
        return bytes(self._mmap[: FORMAT.size]) == self.header

    def __del__(self) -> None:
        # The memory stays mapped as long as a view of it lives.
        with suppress(OSError, AttributeError):
            os.close(self.fd)


class Stamps:
    """The table as one process holds it. `words` is all of it, for readers that cannot afford a call; it becomes another object when the file was replaced."""

    def __init__(self, directory: Path, slots: int = SLOTS) -> None:
        """Open the table in `directory`, made 0700 where it is not there. Raises: StartupError when that cannot be."""
        self._directory = directory
        self._path = directory / NAME
        self._slots = slots
        self._threads = threading.RLock()
        try:
            self._map = self._opened()
        except OSError as error:
            raise StartupError(f"The edge directory {directory} cannot hold the shared table: {error.strerror}") from error
        self.words: memoryview[int] = self._map.words

    @property
    def nonce(self) -> str:
        """Names this table among all that ever were; copies kept under another one are not to be trusted."""
        return self._map.nonce

    def slot(self, media_id: str) -> int:
        """Tell which of `words` stands for a media: the same in every process. A table that another process has replaced is left for the new one first."""
        if self.words[DEAD]:
            self.refresh()
        return HEADER_WORDS + zlib.crc32(media_id.encode()) % self._slots

    def read(self, slot: int) -> int:
        """Read a counter: an aligned 8-byte load, whole even while a writer is at it."""
        return self.words[slot]

    @property
    def epoch(self) -> int:
        """How often everything was purged."""
        return self.words[EPOCH]

    @property
    def seen(self) -> int:
        """The number up to which every change of the sequence has been bumped on this node."""
        return self.words[SEEN]

    def refresh(self) -> bool:
        """Leave a table that is no longer the one on disk, or that was damaged, for the one that is; tell whether that was so. Raises: Unavailable."""
        with self._threads:
            if self._current():
                return False
            self._replace(LOST)
            return True

    def renew(self, epoch: int, seen: int) -> None:
        """Begin anew with these, whatever the old table said: for a catalog that went back in time. Raises: Unavailable."""
        with self._threads:
            self._replace(RENEWED, epoch, seen)

    def bump(self, media_ids: Iterable[str]) -> None:
        """Make every card of these media untrue in all processes. Raises: Unavailable."""
        slots = {HEADER_WORDS + zlib.crc32(each.encode()) % self._slots for each in media_ids}
        with self._locked() as words:
            for slot in slots:
                words[slot] += 1

    def bump_all(self) -> None:
        """Make every card untrue in all processes. Raises: Unavailable."""
        with self._locked() as words:
            _bump_all(words)

    def set_epoch(self, epoch: int) -> bool:
        """Raise the epoch; it never goes back. Tell whether it moved. Raises: Unavailable."""
        with self._locked() as words:
            moved = epoch > words[EPOCH]
            if moved:
                words[EPOCH] = epoch
            return moved

    def advance(self, seq: int, *, after: int | None = None) -> None:
        """Say that all up to `seq` is bumped; only from `after` or above, where given: else there is a gap that the sweep has still to read. Raises: Unavailable."""
        with self._locked() as words:
            if words[SEEN] < seq and (after is None or words[SEEN] >= after):
                words[SEEN] = seq

    def claim(self, every: int, clock: Callable[[], int] = time.monotonic_ns) -> bool:
        """Take this turn of the node's sweep, unless another process took one less than `every` nanoseconds ago. Raises: Unavailable."""
        with self._locked() as words:
            now = clock()  # under the lock: a time read before another process's turn would look like one of before the machine started
            free = not 0 <= now - words[SWEPT] < every  # a time to come is of before the machine started
            if free:
                words[SWEPT] = now
            return free

    @contextmanager
    def _locked(self) -> "Iterator[memoryview[int]]":
        """Hold the table that is on disk now, alone among all processes and threads."""
        with self._threads:
            while True:
                held = self._map
                _lock(held.fd)
                try:
                    if self._current():
                        yield held.words
                        return
                finally:
                    fcntl.flock(held.fd, fcntl.LOCK_UN)
                self._replace(LOST)

    def _current(self) -> bool:
        try:
            found = os.stat(self._path, follow_symlinks=False)
        except OSError:
            return False
        mine = self._map
        return (found.st_dev, found.st_ino) == mine.identity and found.st_size >= mine.size and not mine.words[DEAD] and mine.intact()

    def _replace(self, why: int, epoch: int = 0, seen: int = 0) -> None:
        """Go over to the table on disk, or to a new one; those who still map the old one find every counter changed, and its mark."""
        old = self._map
        readable = os.fstat(old.fd).st_size >= old.size  # reading what was cut off would be a bus error
        bad = not readable or not old.intact()
        if why == LOST and readable and old.words[DEAD] != RENEWED:
            # Damage may have spoiled these too: too high a one is found out by the sweep, too low a one costs it a longer read.
            epoch, seen = old.words[EPOCH], 0 if bad else old.words[SEEN]
        try:
            new = self._opened(epoch, seen, instead_of=old if bad or why == RENEWED else None)
        except OSError as error:
            raise Unavailable("The edge directory cannot hold the shared table") from error
        if readable and not old.words[DEAD]:
            old.words[DEAD] = why
            _bump_all(old.words)
        self._map, self.words = new, new.words
        if why == LOST:
            self.set_epoch(epoch)

    def _opened(self, epoch: int = 0, seen: int = 0, *, instead_of: _Map | None = None) -> _Map:
        """Map the table on disk where it is good and not the one to replace; else put a new one in its place, whole or not at all."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _lock(folder)  # two that find a bad table must not replace each other's good one
            if stat.S_IMODE(os.fstat(folder).st_mode) != 0o700:
                os.fchmod(folder, 0o700)
            found = self._found()
            if found is not None and (instead_of is None or found.identity != instead_of.identity):
                return found
            return self._created(folder, epoch, seen)
        finally:
            os.close(folder)

    def _found(self) -> _Map | None:
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:  # missing, a symbolic link, a folder, another user's
            return None
        size = (HEADER_WORDS + self._slots) * 8
        status = os.fstat(fd)
        header = os.pread(fd, FORMAT.size, 0) if stat.S_ISREG(status.st_mode) and status.st_size == size else b""
        if len(header) == FORMAT.size:
            magic, version, slots, nonce, boot, check = FORMAT.unpack(header)
            if (magic, version, slots, boot, check) == (MAGIC, VERSION, self._slots, _boot(), zlib.crc32(header[:-4])):
                found = _Map(fd, slots, nonce.hex())
                if not found.words[DEAD]:
                    return found
                return None
        os.close(fd)
        return None

    def _created(self, folder: int, epoch: int, seen: int) -> _Map:
        nonce = secrets.token_bytes(16)
        header = struct.pack("=8sII16s16s", MAGIC, VERSION, self._slots, nonce, _boot())
        header += struct.pack("=I", zlib.crc32(header))
        # Counters that no older table had: what was remembered of one cannot be right by chance. 62 bits leave room for ever.
        start = struct.pack("=Q", secrets.randbits(62))
        body = bytearray(HEADER_WORDS * 8) + start * self._slots
        body[: len(header)] = header
        body[EPOCH * 8 : EPOCH * 8 + 8] = struct.pack("=Q", epoch)
        body[SEEN * 8 : SEEN * 8 + 8] = struct.pack("=Q", seen)
        fresh = f".{NAME}.{nonce.hex()}"
        fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600, dir_fd=folder)
        try:
            # Every byte is written: a hole would be a bus error in whoever touches it when the disk is full.
            if os.write(fd, body) != len(body):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if self._path.is_dir() and not self._path.is_symlink():
                os.rmdir(NAME, dir_fd=folder)
            os.rename(fresh, NAME, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            os.close(fd)
            with suppress(OSError):
                os.unlink(fresh, dir_fd=folder)
            raise
        return _Map(fd, self._slots, nonce.hex())


def _boot() -> bytes:
    """Name this run of the machine: nothing here is synced to the disk, so what a power cut left of an earlier one is not to be trusted."""
    try:
        return bytes.fromhex(BOOT_ID.read_text().strip().replace("-", ""))
    except OSError:  # not Linux, or hidden: then only the header tells
        return bytes(16)


def _lock(fd: int) -> None:
    """Lock a file alone among all processes; the kernel frees it when its holder dies. Raises: Unavailable after PATIENCE."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Unavailable("Another process holds the edge's shared table") from None
            time.sleep(0.0005)
        else:
            return


def _bump_all(words: "memoryview[int]") -> None:
    """Add one to every counter as one long number: a hundred times quicker than one by one, and none is near its carry."""
    counters = words[HEADER_WORDS:].cast("B")
    ones = int.from_bytes(b"\1\0\0\0\0\0\0\0" * (len(counters) // 8), "little")
    counters[:] = (int.from_bytes(counters, "little") + ones).to_bytes(len(counters), "little")
