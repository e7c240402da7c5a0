"""One object on its way in: a locked file in the staging folder that becomes the object in one rename, or nothing; synchronous, for threads, one call at a time.

The order is write, fsync(file), rename, fsync(folder). The writer holds an flock on its staging file for as long as it lives, so whatever file there can be
locked belongs to a dead writer; several processes may share the folder.
"""

import fcntl
import os
from collections.abc import Sequence
from contextlib import suppress
from secrets import token_hex

from mediacdn import ObjectInfo, StorageFull, start_writeback
from mediacdn_local.layout import Place
from mediacdn_local.tree import Tree, info_of

_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SWEEP = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_WRITEBACK_WINDOW = 8 * 1024 * 1024
_ROOM_WINDOW = 64 * 1024 * 1024
_IOV_MAX = 1024


class Staging:
    """The file of one put. `begin`, `write`… and `finish` in this order; `abandon` at any point afterwards takes everything back."""

    def __init__(self, tree: Tree, place: Place, reserve: int) -> None:
        self._tree = tree
        self._place = place
        self._reserve = reserve
        self._name = ""
        self._spare = ""
        self._fd = -1
        self._first = False
        self._published = False
        self._written = 0
        self._handed_to_disk = 0
        self._checked_room_at = 0

    def begin(self, size: int | None) -> None:
        """Check the room for `size` bytes and create the staging file. Raises: StorageFull, OSError."""
        self._check_room(size or 0)
        while True:
            self._name = f"{os.getpid()}-{token_hex(12)}"
            self._fd = os.open(self._name, _CREATE, 0o600, dir_fd=self._tree.staging)
            with suppress(BlockingIOError):
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(self._fd).st_nlink:
                    return
            self._close()  # another process's sweep came between our calls and unlinks it: take another

    def write(self, parts: Sequence[bytes]) -> None:
        """Append the parts. Raises: StorageFull, OSError."""
        left = [memoryview(part) for part in parts]
        while left:
            count = os.writev(self._fd, left[:_IOV_MAX])
            self._written += count
            while left and count >= len(left[0]):
                count -= len(left.pop(0))
            if count:
                left[0] = left[0][count:]
        if self._tree.sync and self._written - self._handed_to_disk >= _WRITEBACK_WINDOW:
            start_writeback(self._fd, self._handed_to_disk, self._written - self._handed_to_disk)
            self._handed_to_disk = self._written
        if self._written - self._checked_room_at >= _ROOM_WINDOW:
            self._checked_room_at = self._written
            self._check_room(0)

    def finish(self, parts: Sequence[bytes]) -> ObjectInfo:
        """Append the last parts, make them durable and publish them at the key. Raises: StorageFull, OSError; `abandon` is still due then."""
        self.write(parts)
        self._tree.settle(self._fd)
        status = os.fstat(self._fd)
        with self._tree.folder(self._place.folders, make=True) as folder:
            _take_turns(folder)
            self._keep_spare(folder)
            os.rename(self._name, self._place.name, src_dir_fd=self._tree.staging, dst_dir_fd=folder)
            self._published = True
            self._tree.settle(folder)
        return info_of(self._place.key, status)

    def commit(self) -> None:
        """Let go of what only `abandon` would have needed."""
        if self._spare:
            with suppress(OSError):  # a sweep may have been faster, and will be at the next start
                os.unlink(self._spare, dir_fd=self._tree.staging)
        self._close()

    def abandon(self) -> None:
        """Leave nothing: neither a staging file nor, after a late failure, the new object; an object that it replaced stands again."""
        try:
            if self._published:
                self._take_back()
            elif self._fd >= 0:
                os.unlink(self._name, dir_fd=self._tree.staging)
            if self._spare:
                with suppress(FileNotFoundError):
                    os.unlink(self._spare, dir_fd=self._tree.staging)
        finally:
            self._close()

    def _keep_spare(self, folder: int) -> None:
        spare = f"{self._name}.replaced"
        try:
            os.link(self._place.name, spare, src_dir_fd=folder, dst_dir_fd=self._tree.staging, follow_symlinks=False)
            self._spare = spare
        except FileNotFoundError:
            self._first = True
        except OSError:
            pass  # no hard links here: after a late failure the new object stays, whole

    def _take_back(self) -> None:
        with self._tree.folder(self._place.folders) as folder:
            _take_turns(folder)
            try:
                ours = os.stat(self._place.name, dir_fd=folder, follow_symlinks=False).st_ino == os.fstat(self._fd).st_ino
            except FileNotFoundError:
                return
            if not ours:
                return
            if self._spare:
                os.rename(self._spare, self._place.name, src_dir_fd=self._tree.staging, dst_dir_fd=folder)
                self._spare = ""
            elif self._first:
                os.unlink(self._place.name, dir_fd=folder)
            self._tree.settle(folder)

    def _check_room(self, size: int) -> None:
        available, _ = self._tree.available()
        if available < size + self._reserve:
            raise StorageFull()

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _take_turns(folder: int) -> None:
    """Let publications into one folder, of all processes, wait for each other, so that taking one back never hits another's."""
    with suppress(OSError):  # network file systems refuse to lock a folder; there only two failing puts of one key at once would meet
        fcntl.flock(folder, fcntl.LOCK_EX)


def sweep(tree: Tree) -> int:
    """Unlink the staging files of dead writers; answer how many."""
    swept = 0
    for name in os.listdir(tree.staging):
        try:
            fd = os.open(name, _SWEEP, dir_fd=tree.staging)
        except OSError:  # renamed or unlinked since, or no file of ours
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Under the lock: its writer, if it was only just created, finds it unlinked and takes another.
            os.unlink(name, dir_fd=tree.staging)
            swept += 1
        except (BlockingIOError, FileNotFoundError):
            pass
        finally:
            os.close(fd)
    return swept
