"""The disk tier's index on diskcache: which bodies there are, in files beside it, and which go first. It blocks, and is for threads.

It has a rollback journal, not a write-ahead log, and no memory map: a mapped file that somebody truncates kills the process with SIGBUS. Its rows hold the sealed
headers. Nothing is synced: the nonce changes when the machine starts anew, and the checksums tell the rest. Of diskcache, which is pinned and no longer changes,
also inner parts are used: its connections obey what stands in the file and wait a minute for a lock, its transactions hide why they failed, and its orders of
eviction know no pinned entries.
"""

import errno
import os
import re
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import diskcache
from diskcache.core import MODE_BINARY

from mediacdn.edge import seal
from mediacdn.edge.entries import Key
from mediacdn.edge.shelf import Verdict

BLOCK = 4096
ROW = 512  # bytes of index an entry takes, about

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_EXHAUSTED = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.EINTR, errno.EACCES}
)  # these do not say that the file is not there
_MISFORTUNES = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_AUTH,
        sqlite3.SQLITE_INTERRUPT,
    }
)
_OLDEST = "SELECT rowid, filename, size FROM Cache WHERE tag IS {} ORDER BY store_time LIMIT 64"
_FILE = re.compile(r"[0-9a-f]{2}/[0-9a-f]{30}\.val")


def footprint(length: int) -> int:
    """Bytes of disk that a body of this length takes with its row."""
    return -(-length // BLOCK) * BLOCK + ROW


def _read(fd: int, length: int) -> bytes:
    parts = []
    while length and (part := os.read(fd, length)):
        parts.append(part)
        length -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


class Parcel:
    """A header and body on their way in; `filename` is known as soon as there is a file, so that who fails can remove it."""

    def __init__(self, header: bytes, body: bytes) -> None:
        self.header = header
        self.body = body
        self.filename: str | None = None


class Held(NamedTuple):
    """What the index and the file say; None where that is not to be believed."""

    filename: object
    header: bytes | None
    body: bytes | None


class BytesDisk(diskcache.Disk):  # type: ignore[misc]
    """Text keys, sealed headers, bodies as files. It never pickles and never unpickles, and it touches no file whose name it would not have given."""

    def put(self, key: object) -> tuple[str, bool]:
        if type(key) is not str:
            raise TypeError("keys are text")
        return key, True

    def get(self, key: object, raw: object) -> str:
        if not raw or type(key) is not str:
            raise TypeError("keys are text")
        return key

    def filename(self, key: object = None, value: object = None) -> tuple[str, str]:
        name = os.urandom(16).hex()
        filename = f"{name[:2]}/{name[2:]}.val"
        return filename, os.path.join(self._directory, filename)

    def store(self, value: object, read: bool, key: object = None) -> tuple[int, int, str, bytes]:
        if not isinstance(value, Parcel):
            raise TypeError("values are parcels")
        filename, path = self.filename()
        try:
            fd = os.open(path, _NEW, 0o600)
        except FileNotFoundError:
            with suppress(FileExistsError):
                os.mkdir(os.path.dirname(path), 0o700)
            fd = os.open(path, _NEW, 0o600)
        value.filename = filename
        try:
            rest = memoryview(value.body)
            while rest:
                rest = rest[os.write(fd, rest) :]
        finally:
            os.close(fd)
        return footprint(len(value.body)), MODE_BINARY, filename, value.header

    def fetch(self, mode: object, filename: object, value: object, read: bool) -> Held:
        if mode != MODE_BINARY or type(filename) is not str or not _FILE.fullmatch(filename) or type(value) is not bytes:
            return Held(filename, None, None)
        length = seal.length(value)
        if length is None:
            return Held(filename, None, None)
        try:
            fd = os.open(os.path.join(self._directory, filename), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            if error.errno in _EXHAUSTED:
                raise
            return Held(filename, value, None)
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode) or found.st_size != length:  # before reading: it may have become anything
                return Held(filename, value, None)
            return Held(filename, value, _read(fd, length))
        finally:
            os.close(fd)

    def remove(self, file_path: object) -> None:
        if type(file_path) is str and _FILE.fullmatch(file_path):
            with suppress(OSError):
                os.unlink(os.path.join(self._directory, file_path))


class Index(diskcache.Cache):  # type: ignore[misc]
    """diskcache's table and files, with connections, order of eviction and changes of our own. Blocks; raises what `judge` knows."""

    def __init__(self, shelf: Path, patience: threading.local) -> None:
        self._patience = patience
        self._connections: list[sqlite3.Connection] = []
        try:
            super().__init__(str(shelf), disk=BytesDisk, eviction_policy="none", cull_limit=0, statistics=0, tag_index=0)
            self._sql("CREATE INDEX IF NOT EXISTS Cache_tag_store_time ON Cache(tag, store_time)")
        except BaseException:
            self.shut()
            raise

    @property
    def _con(self) -> sqlite3.Connection:
        # In place of diskcache's: its own obeys the pragmas that stand in the file, and retries each for a minute while the index is locked.
        con: sqlite3.Connection | None = getattr(self._local, "con", None)
        if con is None:
            con = sqlite3.connect(
                os.path.join(self._directory, "cache.db"), timeout=self._patience.seconds, isolation_level=None, check_same_thread=False
            )
            try:
                for pragma in ("mmap_size = 0", "synchronous = OFF", "cell_size_check = ON", "trusted_schema = OFF"):
                    con.execute(f"PRAGMA {pragma}")
                if con.execute("PRAGMA journal_mode = TRUNCATE").fetchall() != [("truncate",)]:
                    raise ValueError("the index keeps another journal")
            except BaseException:
                con.close()
                raise
            self._connections.append(con)
            self._local.con = con
        return con

    @property
    def _sql_retry(self) -> Callable[..., sqlite3.Cursor]:
        return self._con.execute

    def reset(self, key: str, value: Any = diskcache.core.ENOVAL, update: bool = True) -> Any:
        return value if key.startswith("sqlite_") else super().reset(key, value, update)

    def close(self) -> None:
        """Leave connections as they are: `shut` closes those of all threads."""

    def shut(self) -> None:
        for con in self._connections:
            con.close()

    @contextmanager
    def _transact(
        self, retry: bool = False, filename: object = None
    ) -> Iterator[tuple[Callable[..., sqlite3.Cursor], Callable[[object], None]]]:
        # In place of diskcache's: its own calls every failure to begin a time-out, leaves the transaction open when the commit fails, and rolls back what SQLite
        # has rolled back by itself for a full disk, which hides that.
        con, removed = self._con, list[object]()
        try:
            con.execute("BEGIN IMMEDIATE")
            yield con.execute, removed.append
            con.execute("COMMIT")
        except BaseException as error:
            if con.in_transaction:
                con.rollback()
            if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_READONLY:
                self._forget(con)
            raise
        for each in removed:
            self.disk.remove(each)

    def _forget(self, con: sqlite3.Connection) -> None:
        """Let this thread connect again: a connection made while the file could not be written never writes."""
        self._connections.remove(con)
        del self._local.con
        con.close()

    def keep(self, key: str, parcel: Parcel, pinned: bool) -> None:
        """Store it in place of what was there."""
        try:
            self.set(key, parcel, tag="pinned" if pinned else None)
        except BaseException:
            if parcel.filename is not None:
                self.disk.remove(parcel.filename)
            raise

    def discard(self, key: str, filename: object) -> bool:
        """Delete the row if it still names this file: whether it did."""
        with self._transact() as (sql, cleanup):
            gone = sql("DELETE FROM Cache WHERE key = ? AND raw = 1 AND filename IS ?", (key, filename)).rowcount > 0
            if gone:
                cleanup(filename)
        return gone

    def totals(self) -> tuple[int, int]:
        """Entries and bytes."""
        found = dict(self._sql("SELECT key, value FROM Settings WHERE key IN ('count', 'size')").fetchall())
        return int(found["count"]), int(found["size"])

    def beneath(self, prefix: str) -> int:
        """Entries whose keys begin so. (Not `count`: diskcache sets an attribute of that name on each cache.)"""
        query = "SELECT COUNT(*) FROM Cache WHERE raw = 1 AND key >= ? AND key < ?"
        return int(self._sql(query, (prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1))).fetchone()[0])

    def make_room(self, limit: int, *, pinned: bool) -> tuple[bool, int, int]:
        """Evict the oldest until no more than this is held, pinned ones only for a pinned one: (whether that was reached, entries, bytes)."""
        entries = gone = 0
        while True:
            with self._transact() as (sql, cleanup):
                excess = self.totals()[1] - limit
                if excess <= 0:
                    return True, entries, gone
                rows = sql(_OLDEST.format("NULL")).fetchall()
                if not rows:
                    rows = sql(_OLDEST.format("NOT NULL")).fetchall()
                    if not rows:
                        raise ValueError("the index counts bytes that it does not have")
                    if not pinned:
                        return False, entries, gone
                for rowid, filename, size in rows:
                    sql("DELETE FROM Cache WHERE rowid = ?", (rowid,))
                    cleanup(filename)
                    entries, gone, excess = entries + 1, gone + size, excess - size
                    if excess <= 0:
                        break

    def restamp(self, key: Key, stored: float) -> bool:
        """Give an entry another time of storing: False when there was one and it is damaged, which deletes it."""
        text = str(key)
        with self._transact() as (sql, cleanup):
            for filename, value in sql("SELECT filename, value FROM Cache WHERE key = ? AND raw = 1", (text,)).fetchall():
                header = seal.restamp(key, value, stored) if type(value) is bytes else None
                if header is None:
                    sql("DELETE FROM Cache WHERE key = ? AND raw = 1", (text,))
                    cleanup(filename)
                    return False
                sql("UPDATE Cache SET value = ? WHERE key = ? AND raw = 1", (header, text))
        return True

    def make_newest(self, key: str) -> None:
        with self._transact() as (sql, _):
            sql("UPDATE Cache SET store_time = ? WHERE key = ? AND raw = 1", (time.time(), key))


def judge(error: Exception) -> Verdict:
    """What an error says of the index."""
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", None)
        if code is None:
            return Verdict.BROKEN
        if code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return Verdict.LOCKED
        return Verdict.FAILED if code & 0xFF in _MISFORTUNES else Verdict.BROKEN
    return Verdict.FAILED if isinstance(error, OSError | MemoryError) else Verdict.BROKEN
