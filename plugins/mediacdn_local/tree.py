"""The folder of objects, beneath descriptors opened at the start: everything that touches its names, synchronous, for threads.

No open follows a symbolic link: each folder on the way is opened by itself with O_NOFOLLOW beneath its parent's descriptor. What is not a regular
file is not an object.
"""

import errno
import os
import stat
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from mediacdn import NotFound, ObjectInfo
from mediacdn_local.faults import ABSENT
from mediacdn_local.layout import FAN, Place, key_of

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK means nothing to a regular file, and keeps the open of a FIFO that somebody put in its place from waiting for ever.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class Tree:
    """The root's and the staging folder's descriptors, and which fan-out folders are known to outlive a power cut."""

    def __init__(self, path: str, *, sync: bool) -> None:
        self.sync = sync
        _make_durably(path, sync)
        # The configured path may be a link of the operator's; nothing beneath it may.
        self.root = os.open(path, _FOLDER & ~os.O_NOFOLLOW)
        try:
            with suppress(FileExistsError):
                os.mkdir("staging", 0o700, dir_fd=self.root)
            # Listed before the sync, so whatever is in the set was in the root when it became durable.
            self._durable = {name for name in os.listdir(self.root) if FAN.fullmatch(name)}
            self.settle(self.root)
            self.staging = os.open("staging", _FOLDER, dir_fd=self.root)
        except BaseException:
            os.close(self.root)
            raise

    def close(self) -> None:
        os.close(self.staging)
        os.close(self.root)

    def settle(self, fd: int) -> None:
        """Make what `fd` names outlive a power cut, unless the configuration waives it."""
        if self.sync:
            os.fsync(fd)

    @contextmanager
    def folder(self, folders: tuple[str, ...], *, make: bool = False) -> Iterator[int]:
        """Open the folder of an object for the block's time, with `make` creating it durably first."""
        fd = os.dup(self.root)
        try:
            for depth, name in enumerate(folders):
                deeper = self._made(fd, name, fan=depth == 0) if make else os.open(name, _FOLDER, dir_fd=fd)
                os.close(fd)
                fd = deeper
            yield fd
        finally:
            os.close(fd)

    def _made(self, parent: int, name: str, *, fan: bool) -> int:
        """Open the folder `name`, creating it if need be; its own name outlives a power cut afterwards."""
        known = fan and name in self._durable
        try:
            folder = os.open(name, _FOLDER, dir_fd=parent)
        except FileNotFoundError:
            known = False
            with suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=parent)
            folder = os.open(name, _FOLDER, dir_fd=parent)
        if not known:
            # Also when it was there: whoever made it may have died before the sync.
            try:
                self.settle(parent)
            except BaseException:
                os.close(folder)
                raise
            if fan:
                self._durable.add(name)
        return folder

    @contextmanager
    def _holding(self, place: Place) -> Iterator[int]:
        """Open the folder in which the object must be. Raises: NotFound, also when the block finds nothing."""
        try:
            with self.folder(place.folders) as folder:
                yield folder
        except OSError as error:
            if error.errno in ABSENT:
                raise NotFound("The storage holds no object at this key") from error
            raise

    def open_file(self, place: Place) -> int:
        """Open the object for reading. Raises: NotFound, OSError."""
        with self._holding(place) as folder:
            fd = os.open(place.name, _READ, dir_fd=folder)
            try:
                if not stat.S_ISREG(os.fstat(fd).st_mode):
                    raise FileNotFoundError(errno.ENOENT, "not a regular file")
            except BaseException:
                os.close(fd)
                raise
            return fd

    def head(self, place: Place) -> ObjectInfo:
        """Describe the object. Raises: NotFound, OSError."""
        with self._holding(place) as folder:
            status = os.stat(place.name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISREG(status.st_mode):
                return info_of(place.key, status)
            raise FileNotFoundError(errno.ENOENT, "not a regular file")

    def adopt(self, place: Place, path: str) -> ObjectInfo | None:
        """Rename the file at `path` to the object; None where it lies on another file system. Raises: NotFound when there is none, OSError."""
        try:
            with self.folder(place.folders, make=True) as folder:
                os.rename(path, place.name, dst_dir_fd=folder)
                self.settle(folder)
        except FileNotFoundError as error:
            raise NotFound("There is no such file") from error
        except OSError as error:
            if error.errno == errno.EXDEV:
                return None
            raise
        return self.head(place)

    def remove(self, place: Place) -> None:
        """Unlink the object durably; one that is absent is gone already. Raises: OSError."""
        with suppress(NotFound), self._holding(place) as folder:
            os.unlink(place.name, dir_fd=folder)
            self.settle(folder)

    def walk(self, prefix: str) -> Generator[ObjectInfo, None, None]:
        """Give the committed objects whose key starts with `prefix`, reading folders as it goes."""
        for name in sorted(name for name in os.listdir(self.root) if FAN.fullmatch(name)):
            yield from self._walk((name,), prefix)

    def _walk(self, folders: tuple[str, ...], prefix: str) -> Iterator[ObjectInfo]:
        deeper = []
        # A folder that vanished, or is a link: nothing of ours is there.
        with suppress(NotFound), self._holding(Place("", folders, "")) as folder, os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    deeper.append(entry.name)
                elif entry.is_file(follow_symlinks=False) and (key := key_of(folders, entry.name)) is not None and key.startswith(prefix):
                    with suppress(FileNotFoundError):  # deleted since
                        yield info_of(key, entry.stat(follow_symlinks=False))
        for name in deeper:
            yield from self._walk((*folders, name), prefix)

    def available(self) -> tuple[int, int]:
        """Answer the file system's bytes: those this process may still write, and all."""
        room = os.fstatvfs(self.root)
        return room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize


def info_of(key: str, status: os.stat_result) -> ObjectInfo:
    # A replaced object is another inode; the times tell apart an inode number that came back.
    etag = f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"
    return ObjectInfo(key, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC), etag)


def _make_durably(path: str, sync: bool) -> None:
    """Create the folders of `path` that are missing, each one's name settled in its parent."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(os.path.abspath(path))
    _make_durably(parent, sync)
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
    if sync:
        fd = os.open(parent, _FOLDER & ~os.O_NOFOLLOW)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
