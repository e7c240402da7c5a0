"""The disk tier's folder: private to its owner, bound to a nonce, and holding one shelf at a time, which is a folder of a new name whenever the tier begins anew.

Processes agree by the file `state` (the nonce and the shelf's name), written by rename under a lock and looked at before every use: whoever finds it changed
follows. So a shelf can be given up while others still read it, and what they leave behind in it is swept away.
"""

import fcntl
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_SHELF = re.compile(r"shelf-[0-9a-f]{16}")
_LOCK_PATIENCE = 2.0
_LONGEST = 256  # bytes of the file `state`

Mark = tuple[int, ...]


class ForeignFolder(OSError):
    """Another generation of processes has taken the folder over, under its own nonce."""


class Folder:
    """A folder and the nonce under which its content is worth something, which may change. All methods block; errors of the file system are OSError."""

    def __init__(self, path: Path, nonce: Callable[[], str]) -> None:
        self.path = path
        self._nonce = nonce
        self._taken: str | None = None

    def prepare(self) -> None:
        """Make the folder, or its rights, as they must be. Raises: OSError when it is a link, no folder or somebody else's."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            os.mkdir(self.path, 0o700)
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            found = os.fstat(fd)
            if found.st_uid != os.geteuid():
                raise PermissionError(f"{self.path} belongs to another user")
            if stat.S_IMODE(found.st_mode) != 0o700:
                os.fchmod(fd, 0o700)
        finally:
            os.close(fd)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Alone among all processes. Raises: TimeoutError after two seconds."""
        fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + _LOCK_PATIENCE
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise TimeoutError(f"{self.path} is locked") from None
                    time.sleep(0.005)
            yield
        finally:
            os.close(fd)

    def shelf(self) -> Path | None:
        """The present shelf; None when there is none to go on with. Raises: ForeignFolder when it was ours and now is not."""
        try:
            nonce, name = _text(self.path / "state").split("\n")
        except (FileNotFoundError, ValueError):  # ValueError: not two lines, not text, or no file
            return None
        own = self._nonce()
        if nonce != own:
            if self._taken == own:  # a successor's: to empty it would be a fight
                raise ForeignFolder(f"{self.path} now belongs to processes with another nonce")
            return None
        shelf = self.path / name
        if not _SHELF.fullmatch(name) or not stat.S_ISDIR(_mode(shelf)) or not stat.S_ISREG(_mode(shelf / "cache.db")):
            return None
        if (journal := _mode(shelf / "cache.db-journal")) and not stat.S_ISREG(journal):  # SQLite would wait at a pipe for ever
            return None
        self._taken = own
        return shelf

    def new_shelf(self) -> Path:
        """A new empty shelf, which nobody knows of yet."""
        shelf = self.path / f"shelf-{secrets.token_hex(8)}"
        os.mkdir(shelf, 0o700)
        return shelf

    def announce(self, shelf: Path) -> None:
        """Make it the present one."""
        draft = self.path / f"state-{secrets.token_hex(8)}"
        own = self._nonce()
        try:
            draft.write_text(f"{own}\n{shelf.name}", "utf-8")
            draft.replace(self.path / "state")
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        self._taken = own

    def mark(self, shelf: Path) -> Mark | None:
        """What changes when another shelf is announced or this one's index is replaced; None when either is gone."""
        try:
            state, index = os.stat(self.path / "state"), os.stat(shelf / "cache.db")
        except OSError:
            return None
        return (state.st_ino, state.st_mtime_ns, index.st_dev, index.st_ino)

    def sweep(self) -> None:
        """Delete the shelves that are not the present one."""
        with suppress(OSError):
            with self.locked():  # whoever makes a shelf announces it before the lock is free: no unannounced one is seen here
                present = self.shelf()
                old = [each.path for each in os.scandir(self.path) if _SHELF.fullmatch(each.name) and present and each.name != present.name]
            for each in old:
                shutil.rmtree(each, ignore_errors=True)


def _text(path: Path) -> str:
    """The beginning of a small file, by whatever stands in its place not made to wait. Raises: OSError, ValueError when that is no file or not text."""
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise ValueError(f"{path} is no file")
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.read(fd, _LONGEST).decode()
    finally:
        os.close(fd)


def _mode(path: Path) -> int:
    try:
        return os.lstat(path).st_mode
    except OSError:
        return 0
