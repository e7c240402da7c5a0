"""Which index the disk tier uses now: found, followed when another process began anew, given up when it is broken, and made again without a restart.

It knows nothing of indexes but how to open and shut one and how to judge what one raises.
"""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import structlog

from mediacdn.edge.folder import Folder, Mark

log = structlog.get_logger("mediacdn.edge.disk")

LOCKED_PAUSE = 0.5  # seconds in which nothing is tried after the index was found locked
LOST_PAUSE = 1.0  # and after none could be opened


class Verdict(Enum):
    """What an error says of the index that raised it."""

    LOCKED = "locked"
    BROKEN = "broken"
    FAILED = "failed"  # the operation's misfortune, such as a full disk


class Away(Exception):
    """There is no index that could be asked now, or it did not answer."""


class Closable(Protocol):
    def shut(self) -> None: ...


IndexT = TypeVar("IndexT", bound=Closable)


class _Present(Generic[IndexT]):
    def __init__(self, path: Path, index: IndexT, mark: Mark) -> None:
        self.path = path
        self.index = index
        self.mark = mark
        self.users = 0
        self.retired = False


class Shelf(Generic[IndexT]):
    """The present index, for the threads of one process. Readers use what is there; writers, who may take their time, enter a new one where none is."""

    def __init__(self, folder: Folder, open_index: Callable[[Path], IndexT], judge: Callable[[Exception], Verdict]) -> None:
        self._folder = folder
        self._open = open_index
        self._judge = judge
        self._lock = threading.Lock()
        self._entering = threading.Lock()
        self._present: _Present[IndexT] | None = None
        self._broken: Path | None = None
        self._closed = False
        self._reason = ""
        self._unswept = True
        # Apart, so that a folder that cannot be written can still be read.
        self._readers_pause = self._writers_pause = 0.0

    def paused(self, *, writer: bool) -> bool:
        """Whether it is not worth asking for now."""
        return time.monotonic() < (self._writers_pause if writer else self._readers_pause)

    def pause(self, seconds: float, *, writer: bool) -> None:
        until = time.monotonic() + seconds
        if writer:
            self._writers_pause = until
        else:
            self._readers_pause = until

    @contextmanager
    def using(self, *, writer: bool) -> Iterator[IndexT]:
        """The index, for one operation. Raises: Away, also in place of whatever the operation raises."""
        if self.paused(writer=writer):
            raise Away
        present = self._take() or (self._enter() if writer else None)
        if present is None:
            raise Away
        try:
            yield present.index
        except Away:
            raise
        except Exception as error:
            verdict = self._judge(error)
            if verdict is Verdict.LOCKED:
                self.pause(LOCKED_PAUSE, writer=writer)
            elif verdict is Verdict.BROKEN:
                self._broken = present.path
                self._retire(present)
                log.warning("disk_tier_broken", folder=str(self._folder.path), error=f"{type(error).__name__}: {error}")
            raise Away from error
        finally:
            with self._lock:
                present.users -= 1
                over = present.retired and present.users == 0
            if over:
                present.index.shut()

    def lost(self) -> bool:
        """Whether a writer has to enter before readers can read; looks at the file system."""
        with self._lock:
            present = self._present
        return present is None or self._folder.mark(present.path) != present.mark

    def renew(self) -> None:
        """Begin anew, with nothing. Raises: Away."""
        with self.using(writer=True):
            present = self._present
        if present is not None:
            self._broken = present.path
            self._retire(present)
        with self.using(writer=True):
            pass

    @property
    def unswept(self) -> bool:
        """Whether earlier shelves may be there beside the present one."""
        return self._unswept and self._present is not None

    def sweep(self) -> None:
        """Delete what earlier shelves left; may take long."""
        self._unswept = False
        self._folder.sweep()

    def close(self) -> None:
        self._closed = True
        with self._lock:
            present = self._present
        if present is not None:
            self._retire(present)

    def _take(self) -> "_Present[IndexT] | None":
        with self._lock:
            present = self._present
            if present is None or self._closed:
                return None
            if self._folder.mark(present.path) == present.mark:
                present.users += 1
                return present
        self._retire(present)
        return None

    def _retire(self, present: "_Present[IndexT]") -> None:
        with self._lock:
            if self._present is present:
                self._present = None
            over = not present.retired and present.users == 0
            present.retired = True
        if over:
            present.index.shut()

    def _enter(self) -> "_Present[IndexT]":
        with self._entering:
            present = self._take()  # another thread was here first
            if present is not None:
                return present
            if self._closed or self.paused(writer=True):
                raise Away
            try:
                present = self._find_or_make()
            except Exception as error:
                for writer in (True, False):
                    self.pause(LOST_PAUSE, writer=writer)
                reason = f"{type(error).__name__}: {error}"
                if reason != self._reason:  # once, not every second
                    self._reason = reason
                    log.warning("disk_tier_away", folder=str(self._folder.path), error=reason)
                raise Away from error
            self._reason = ""
            present.users = 1
            with self._lock:
                self._present = present
            return present

    def _find_or_make(self) -> "_Present[IndexT]":
        self._folder.prepare()
        with self._folder.locked():
            path = self._folder.shelf()
            if path is not None and path != self._broken:
                try:
                    return self._opened(path)
                except Exception as error:
                    if self._judge(error) is not Verdict.BROKEN:
                        raise
            path = self._folder.new_shelf()
            try:
                index = self._open(path)
            except BaseException:
                shutil.rmtree(path, ignore_errors=True)
                raise
            self._unswept = True
            try:
                self._folder.announce(path)
                return self._marked(path, index)
            except BaseException:
                index.shut()
                raise

    def _opened(self, path: Path) -> "_Present[IndexT]":
        return self._marked(path, self._open(path))

    def _marked(self, path: Path, index: IndexT) -> "_Present[IndexT]":
        mark = self._folder.mark(path)
        if mark is None:
            index.shut()
            raise FileNotFoundError(str(path))
        return _Present(path, index, mark)
