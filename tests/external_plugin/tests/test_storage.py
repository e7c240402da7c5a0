"""The driver `sqlite` keeps every promise of the seam, and sweeps what killed uploads leave."""

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from mediacdn_example import SqliteConfig, SqliteStorage, open_sqlite

from mediacdn import Kit, StorageUnavailable
from mediacdn.testing import StorageConformance

pytestmark = pytest.mark.anyio
Reopen = Callable[[], AbstractAsyncContextManager[SqliteStorage]]
NOTHING: Any = None


@pytest.fixture
def reopen(tmp_path: Path) -> Reopen:
    return partial(open_sqlite, SqliteConfig(), Kit(str(tmp_path), NOTHING, NOTHING, NOTHING))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class TestSqlite(StorageConformance):
    big_object_size = 32 * 1024 * 1024

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Reopen:
        return partial(open_sqlite, SqliteConfig(), Kit(str(tmp_path), NOTHING, NOTHING, NOTHING))

    @pytest.fixture
    async def storage(self, reopen: Reopen) -> AsyncIterator[SqliteStorage]:
        async with reopen() as storage:
            yield storage


async def _bytes() -> AsyncIterator[bytes]:
    yield b"x" * 300_000


async def test_what_a_killed_upload_left_is_swept_when_it_is_old(tmp_path: Path, reopen: Reopen) -> None:
    async with reopen() as storage:
        await storage.put("kept", _bytes())
    file = tmp_path / "example" / "objects.sqlite"
    with sqlite3.connect(file) as db:
        db.execute("INSERT INTO bodies VALUES (100, 0), (101, strftime('%s'))")
        db.execute("INSERT INTO blocks VALUES (100, 0, x'00'), (101, 0, x'00')")
    db.close()
    async with reopen() as storage:
        assert [info.key async for info in storage.list()] == ["kept"]
    left = sqlite3.connect(file)
    assert {row[0] for row in left.execute("SELECT DISTINCT body FROM blocks")} == {1, 101}
    left.close()


async def test_a_file_that_is_no_database_refuses_the_start(tmp_path: Path, reopen: Reopen) -> None:
    (tmp_path / "example").mkdir()
    (tmp_path / "example" / "objects.sqlite").write_bytes(b"not a database" * 1000)
    with pytest.raises(StorageUnavailable):
        async with reopen():
            pytest.fail("opened")
