"""Storage driver `sqlite`: objects in one SQLite file, which is easy to carry away.

An object is a row that names a body, and a body is a sequence of blocks. A put writes a new body block by block and shows it by pointing the row at it, so that
readers see the old object or the whole new one. A reader holds a read transaction, so that the body it reads stays until it is done (write-ahead log).
"""

import re
import sqlite3
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from anyio import CancelScope, to_thread
from msgspec import Struct

from mediacdn import ByteRange, InvalidParameter, Kit, NotFound, ObjectCorrupt, ObjectInfo, StorageFull, StorageUnavailable

BLOCK = 256 * 1024
PAGE = 500
ABANDONED = 3600.0
KEY = re.compile(r"(?!.{513})(?!\.{1,2}(/|\Z))[A-Za-z0-9._-]+(/(?!\.{1,2}(/|\Z))[A-Za-z0-9._-]+)*", re.ASCII)
PREFIX = re.compile(r"[A-Za-z0-9._/-]*", re.ASCII)
TABLES = """
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS bodies (id INTEGER PRIMARY KEY AUTOINCREMENT, touched REAL NOT NULL);
CREATE TABLE IF NOT EXISTS blocks (body INTEGER NOT NULL, number INTEGER NOT NULL, bytes BLOB NOT NULL, UNIQUE (body, number));
CREATE TABLE IF NOT EXISTS objects (key TEXT PRIMARY KEY, body INTEGER NOT NULL, size INTEGER NOT NULL, modified REAL NOT NULL);
"""
FIND = "SELECT key, body, size, modified FROM objects WHERE key = ?"
Rows = list[tuple[Any, ...]]
T = TypeVar("T")


class SqliteConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the objects lie."""

    path: str = ""
    """The file; empty is `example/objects.sqlite` beneath the data directory."""


class SqliteStorage:
    """See `mediacdn.Storage`. One connection writes, each reader has its own."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._writer = self._connect()
        self._writer.executescript(TABLES)
        # The bodies of uploads whose process died; one that is being written was touched a moment ago.
        self._write(self._sweep)

    def close(self) -> None:
        with self._lock:
            self._writer.close()

    async def head(self, key: str) -> ObjectInfo:
        rows = await self._threaded(partial(self._asked, FIND, (_checked(key),)))
        return _found(rows)[1]

    @asynccontextmanager
    async def open(self, key: str, span: ByteRange | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        reader: sqlite3.Connection | None = None

        def begin() -> tuple[int, int]:
            nonlocal reader
            _checked(key)
            reader = self._connect()
            reader.execute("BEGIN")
            body, info = _found(reader.execute(FIND, (key,)).fetchall())
            return body, info.size

        try:
            body, size = await self._threaded(begin)
            assert reader is not None
            yield self._blocks(reader, body, span or ByteRange(0, size))
        finally:
            if reader is not None:
                with CancelScope(shield=True):
                    await to_thread.run_sync(reader.close)

    async def put(self, key: str, chunks: AsyncIterable[bytes], *, size: int | None = None) -> ObjectInfo:
        _checked(key)
        body: int | None = None
        written = number = 0
        given_up = False
        pending = bytearray()

        def append(length: int, *, last: bool = False) -> ObjectInfo | None:
            nonlocal body, number
            block = bytes(pending[:length])

            def blocks(db: sqlite3.Connection) -> tuple[int, ObjectInfo | None]:
                if given_up:
                    raise StorageUnavailable("the upload was cancelled")
                into = _appended(db, body, number, block)
                return into, _shown(db, key, into, written, number + 1) if last else None

            body, info = self._write(blocks)
            number += 1
            del pending[:length]
            return info

        def give_up() -> None:
            nonlocal given_up
            with self._lock:  # a task that is cancelled may leave its thread at work: what has not begun by now never will
                given_up = True
            if body is not None:
                self._drop(key, body)

        try:
            async for chunk in chunks:
                written += len(chunk)
                pending += chunk
                while len(pending) > BLOCK:
                    await self._threaded(partial(append, BLOCK))
            info = await self._threaded(partial(append, len(pending), last=True))
            assert info is not None
            return info
        except BaseException:
            with CancelScope(shield=True):
                await to_thread.run_sync(give_up)
            raise

    async def delete(self, key: str) -> None:
        def remove(db: sqlite3.Connection) -> None:
            for (body,) in db.execute("DELETE FROM objects WHERE key = ? RETURNING body", (key,)).fetchall():
                _remove(db, body)

        _checked(key)
        await self._threaded(lambda: self._write(remove))

    async def list(self, prefix: str = "") -> AsyncGenerator[ObjectInfo, None]:
        if not PREFIX.fullmatch(prefix):
            return
        query = "SELECT key, body, size, modified FROM objects WHERE key > ? AND substr(key, 1, ?) = ? ORDER BY key LIMIT ?"
        last = ""
        while page := await self._threaded(partial(self._asked, query, (last, len(prefix), prefix, PAGE))):
            for row in page:
                yield _info(*row)
            last = page[-1][0]

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._file, timeout=10.0, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA synchronous = FULL")
        return db

    async def _threaded(self, work: Callable[[], T]) -> T:
        """Run on a thread, and translate what SQLite says."""
        try:
            return await to_thread.run_sync(work)
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                raise StorageFull() from error
            raise StorageUnavailable() from error

    def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run in one transaction of the writing connection, on a thread."""
        with self._lock:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                done = work(self._writer)
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise
            return done

    def _asked(self, query: str, parameters: tuple[object, ...]) -> Rows:
        with self._lock:
            return self._writer.execute(query, parameters).fetchall()

    def _drop(self, key: str, body: int) -> None:
        """Remove the body of a put that failed, unless it was cancelled so late that its object is already shown."""

        def unless_shown(db: sqlite3.Connection) -> None:
            if not db.execute("SELECT 1 FROM objects WHERE key = ? AND body = ?", (key, body)).fetchone():
                _remove(db, body)

        try:
            self._write(unless_shown)
        except sqlite3.Error:
            return  # swept at the next start

    def _sweep(self, db: sqlite3.Connection) -> None:
        old = "SELECT id FROM bodies WHERE touched < ? AND id NOT IN (SELECT body FROM objects)"
        for (body,) in db.execute(old, (time.time() - ABANDONED,)).fetchall():
            _remove(db, body)

    async def _blocks(self, reader: sqlite3.Connection, body: int, span: ByteRange) -> AsyncIterator[bytes]:
        for number in range(span.start // BLOCK, -(-span.stop // BLOCK) if span.length else 0):
            query = "SELECT bytes FROM blocks WHERE body = ? AND number = ?"
            row = await self._threaded(lambda: reader.execute(query, (body, number)).fetchone())  # noqa: B023
            start = number * BLOCK
            piece = row[0][max(0, span.start - start) : span.stop - start] if row else b""
            if len(piece) != min(span.stop, start + BLOCK) - max(span.start, start):
                raise ObjectCorrupt()
            yield piece


def _checked(key: str) -> str:
    if not KEY.fullmatch(key):
        raise InvalidParameter("a key is a path of A-Z a-z 0-9 . _ - and /, at most 512 characters")
    return key


def _appended(db: sqlite3.Connection, body: int | None, number: int, block: bytes) -> int:
    """Write the next block, making the body with the first one."""
    into = int(db.execute("INSERT INTO bodies (touched) VALUES (0) RETURNING id").fetchone()[0]) if body is None else body
    db.execute("INSERT INTO blocks VALUES (?, ?, ?)", (into, number, block))
    db.execute("UPDATE bodies SET touched = ? WHERE id = ?", (time.time(), into))
    return into


def _shown(db: sqlite3.Connection, key: str, body: int, size: int, blocks: int) -> ObjectInfo:
    """Point the object at its new body; readers of the old one keep it until they are done."""
    if db.execute("SELECT count(*) FROM blocks WHERE body = ?", (body,)).fetchone()[0] != blocks:
        raise StorageUnavailable("the upload took so long that it was swept")
    old = db.execute("SELECT body FROM objects WHERE key = ?", (key,)).fetchone()
    modified = time.time()
    db.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)", (key, body, size, modified))
    if old:
        _remove(db, old[0])
    return _info(key, body, size, modified)


def _remove(db: sqlite3.Connection, body: int) -> None:
    db.execute("DELETE FROM blocks WHERE body = ?", (body,))
    db.execute("DELETE FROM bodies WHERE id = ?", (body,))


def _found(rows: Rows) -> tuple[int, ObjectInfo]:
    if not rows:
        raise NotFound()
    return int(rows[0][1]), _info(*rows[0])


def _info(key: str, body: int, size: int, modified: float) -> ObjectInfo:
    return ObjectInfo(key, size, datetime.fromtimestamp(modified, UTC), f"{body}")


@asynccontextmanager
async def open_sqlite(config: SqliteConfig, kit: Kit) -> AsyncIterator[SqliteStorage]:
    """Open the storage, making its file and folder where they are missing. Raises: StorageUnavailable."""

    def opened() -> SqliteStorage:
        file = Path(config.path) if config.path else Path(kit.data) / "example" / "objects.sqlite"
        file.parent.mkdir(parents=True, exist_ok=True)
        return SqliteStorage(file)

    try:
        storage = await to_thread.run_sync(opened)
    except (sqlite3.Error, OSError) as error:
        raise StorageUnavailable(f"the storage's file cannot be opened: {error}") from error
    try:
        yield storage
    finally:
        with CancelScope(shield=True):
            await to_thread.run_sync(storage.close)
