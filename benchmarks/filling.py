"""A catalog full of plausible records, written straight into the tables: a million in about a minute, where uploads would take hours.

Records are a pure function of their number, so that any of them can be asked for without keeping a list. Indexes are taken away for a large growth and
built again after it, as their own definitions in the database say.
"""

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy.dialects import sqlite
from sqlalchemy.types import TypeDecorator
from ulid import ULID

from mediacdn.catalog.engine import sqlite_path
from mediacdn.catalog.rows import row_of
from mediacdn.catalog.tables import media, media_tags, objects
from mediacdn.model import Media

BEGAN = 1_700_000_000
OWNERS = 20
TAGS = 20
AT_ONCE = 20_000
FIXED = {table: [column.name for column in table.columns] for table in (media, media_tags, objects)}


def id_of(number: int) -> str:
    """The id of a record; ids grow with their numbers."""
    noise = hashlib.blake2b(number.to_bytes(8, "big"), digest_size=10).digest()
    return str(ULID.from_bytes((BEGAN * 1000 + number * 250).to_bytes(6, "big") + noise))


def record(number: int) -> Media:
    """A record of an image, a sound or a video: of one owner in twenty, with a tag that half of all have and one that one in twenty has: a page of each is full from 1,000 records on."""
    name, digest = id_of(number), hashlib.sha256(number.to_bytes(8, "big")).hexdigest()
    kind = ("image/jpeg", "image/jpeg", "image/webp", "audio/mpeg", "video/mp4")[number % 5]
    at = datetime.fromtimestamp(BEGAN + number / 4, UTC)
    return Media(
        id=name, owner=owner_of(number), title=f"Holiday {number}", filename=f"IMG_{number:07}.jpg", public=number % 3 == 0, kind=kind.partition("/")[0],
        media_type=kind, size=1000 + number % 5_000_000, digest=digest, width=1920, height=1080, tags=("all" if number % 2 else "some", tag_of(number)),
        metadata={"camera": "X100", "n": number}, storage_key=f"originals/{name}.bin", storage_etag=digest[:16], created_at=at, updated_at=at,
    )  # fmt: skip


def owner_of(number: int) -> str:
    return f"user-{number * 7919 % OWNERS:02}"


def tag_of(number: int) -> str:
    return f"tag-{number * 31 % TAGS:02}"


def fill_sqlite(data: Path, start: int, stop: int) -> None:
    """Add the records `start` up to `stop` to a migrated catalog that nobody has open."""
    with closing(sqlite3.connect(sqlite_path(data), isolation_level=None)) as database:
        database.execute("PRAGMA synchronous = OFF")
        dropped = (
            dict(database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"))
            if _large(start, stop)
            else {}
        )
        database.execute("BEGIN")
        for name in dropped:
            database.execute(f'DROP INDEX "{name}"')
        for batch in _batches(start, stop):
            for table, rows in batch.items():
                names = FIXED[table]
                marks = ", ".join("?" * len(names))
                database.executemany(f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({marks})", rows)
        for definition in dropped.values():
            database.execute(definition)
        database.execute("COMMIT")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


async def fill_postgresql(url: str, start: int, stop: int) -> None:
    """The same through COPY; then the statistics that autovacuum would have gathered."""
    database = await asyncpg.connect(url, command_timeout=600)
    try:
        # Those of constraints stay: a primary key cannot be taken away without what refers to it.
        query = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND indexname NOT IN (SELECT conname FROM pg_constraint)"
        dropped = {row["indexname"]: row["indexdef"] for row in await database.fetch(query)} if _large(start, stop) else {}
        for name in dropped:
            await database.execute(f'DROP INDEX "{name}"')
        await database.execute(
            "SET session_replication_role = replica"
        )  # the tags' references are right; looking each up takes longer than the rest
        for batch in _batches(start, stop):
            for table, rows in batch.items():
                await database.copy_records_to_table(table.name, records=rows, columns=FIXED[table])
        for definition in dropped.values():
            await database.execute(definition)
        await database.execute("VACUUM ANALYZE")
    finally:
        await database.close()


def _large(start: int, stop: int) -> bool:
    return stop - start > 50_000


def _batches(start: int, stop: int) -> Iterator[dict[Any, list[tuple[Any, ...]]]]:
    numbers = iter(range(start, stop))
    while some := list(islice(numbers, AT_ONCE)):
        records = [record(number) for number in some]
        yield {
            media: [_stored(each) for each in records],
            media_tags: [(tag, each.id) for each in records for tag in each.tags],
            objects: [
                ("default", each.storage_key, each.digest, each.size, 1, "live", _micros(each.created_at), each.storage_etag)
                for each in records
            ],
        }


DIALECT = sqlite.dialect()
"""The columns' own types write alike for both databases, but must be told one."""
BOUND = [(column.name, column.type.process_bind_param if isinstance(column.type, TypeDecorator) else None) for column in media.columns]


def _stored(each: Media) -> tuple[Any, ...]:
    """A media's column values as the database keeps them; the deduplication key is made of what an upload's is made of."""
    values = row_of(each, f"{each.digest}:{'public' if each.public else 'private'}:{each.storage}:")
    return tuple(values.get(name) if bind is None else bind(values.get(name), DIALECT) for name, bind in BOUND)


def _micros(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000)
