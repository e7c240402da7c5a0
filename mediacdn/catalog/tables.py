"""The tables, declared once for both databases, and the column types that carry times and JSON. Which indexes there are, and why, is told here."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    false,
    text,
    true,
)
from sqlalchemy.types import TypeDecorator

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def moment_of(micros: int) -> datetime:
    """Tell the aware datetime of microseconds since 1970 UTC."""
    return EPOCH + timedelta(microseconds=micros)


class Micros(TypeDecorator[datetime]):
    """An aware datetime as microseconds since 1970 UTC: one order and one precision on both databases, and none of their time zone rules."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else (value - EPOCH) // MICROSECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        return None if value is None else moment_of(value)


class Json(TypeDecorator[Any]):
    """A JSON value as text: it is stored and shown, never searched, so neither database needs to parse it."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else msgspec.json.encode(value).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else msgspec.json.decode(value)


class Day(TypeDecorator[date]):
    """A calendar day as YYYY-MM-DD, which both databases compare as text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: date | None, dialect: Dialect) -> str | None:
        return None if value is None else value.isoformat()

    def process_result_value(self, value: str | None, dialect: Dialect) -> date | None:
        return None if value is None else date.fromisoformat(value)


Name = Text().with_variant(Text(collation="C"), "postgresql")
"""Text compared byte by byte, as SQLite does by itself: the order of ids is then the order of their times, whatever the server's locale."""

HERE = text("state <> 'deleted'")
WITHHELD = text("state = 'quarantined'")
"""The predicate of the list indexes. Queries must carry it literally, or neither planner may use a partial index."""

DERIVED = text("source_id IS NOT NULL")
"""Not an index of everything that was not derived, which a planner would walk in place of a list's own."""

metadata = MetaData()

media = Table(
    "media",
    metadata,
    Column("id", Name, primary_key=True),
    Column("owner", Name, nullable=False),
    Column("title", Text),
    Column("filename", Text),
    Column("public", Boolean, nullable=False),
    Column("status", Name, nullable=False),
    Column("error_message", Text),
    Column("kind", Text, nullable=False),
    Column("media_type", Name, nullable=False),
    Column("family", Name, nullable=False),  # media_type before the slash, so that "image/*" is an equality and keeps the order of ids
    Column("size", BigInteger, nullable=False),
    Column("digest", Name, nullable=False),
    Column("width", Integer),
    Column("height", Integer),
    Column("duration", Double),
    Column("frame_rate", Double),
    Column("codecs", Text),
    Column("placeholder", Text),
    Column("tags", Json, nullable=False),  # a copy of media_tags, so that a record or a page is one statement
    Column("metadata", Json, nullable=False),
    Column("storage", Name, nullable=False),
    Column("storage_key", Name, nullable=False),
    Column("storage_etag", Text, nullable=False),
    Column("source_id", Name),
    Column("derivation_key", Name),
    Column("relationship", Text),
    Column("created_at", Micros, nullable=False),
    Column("updated_at", Micros, nullable=False),
    Column("expires_at", Micros),
    Column("state", Name, nullable=False),
    Column("quarantine_reason", Text),
    Column("quarantined_by", Name),  # the id whose quarantine withheld this row, so that its release lifts the same rows and no others
    Column("generation", BigInteger, nullable=False),
    Column("links_valid_from", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("dedupe_key", Name),
    Column("facts", Json, nullable=False, server_default="{}"),
    Column("manifest", Text),
    Column("held_by", Name),  # the table and id of the movie or episode: whoever sets it where it was null has the media
)

# Every list is "the newest ids of a filter": an index on (filter, id) answers a page by walking back from the cursor, whatever the table's size.
Index("media_dedupe", media.c.dedupe_key, unique=True)
for name, columns in {
    "media_here": (media.c.id,),
    "media_owner": (media.c.owner, media.c.id),
    "media_type": (media.c.media_type, media.c.id),
    "media_family": (media.c.family, media.c.id),
    "media_status": (media.c.status, media.c.id),
    "media_public": (media.c.public, media.c.id),
    "media_created": (media.c.created_at, media.c.id),
}.items():
    Index(name, *columns, sqlite_where=HERE, postgresql_where=HERE)
Index("media_digest", media.c.digest)
Index("media_source", media.c.source_id, sqlite_where=DERIVED, postgresql_where=DERIVED)
Index("media_expires", media.c.expires_at, sqlite_where=HERE, postgresql_where=HERE)
Index("media_quarantined_by", media.c.quarantined_by)
Index("media_withheld", media.c.id, sqlite_where=WITHHELD, postgresql_where=WITHHELD)

media_tags = Table(
    "media_tags",
    metadata,
    Column("tag", Name, nullable=False),
    Column("media_id", Name, ForeignKey("media.id", ondelete="CASCADE", name="media_tags_media"), nullable=False),
    PrimaryKeyConstraint("tag", "media_id"),
    Index("media_tags_media_id", "media_id"),
    sqlite_with_rowid=False,
)

objects = Table(
    "objects",
    metadata,
    Column("storage", Name, nullable=False),
    Column("key", Name, nullable=False),
    Column("digest", Name),
    Column("size", BigInteger, nullable=False),
    Column("refcount", BigInteger, nullable=False),
    Column("state", Name, nullable=False),
    Column("touched_at", Micros, nullable=False),
    Column("etag", Text, nullable=False),
    PrimaryKeyConstraint("storage", "key"),
    sqlite_with_rowid=False,
)

LIVE = text("state = 'live'")
NOT_LIVE = text("state <> 'live'")

# One live object for a digest in a storage: two uploads that race to be the first of their content cannot both win.
Index("objects_digest", objects.c.storage, objects.c.digest, unique=True, sqlite_where=LIVE, postgresql_where=LIVE)
Index("objects_unsettled", objects.c.state, objects.c.touched_at, sqlite_where=NOT_LIVE, postgresql_where=NOT_LIVE)

owners = Table(
    "owners",
    metadata,
    Column("owner", Name, primary_key=True),
    Column("bytes", BigInteger, nullable=False),
    Column("count", BigInteger, nullable=False),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("principal", Name, nullable=False),
    Column("route", Name, nullable=False),
    Column("key", Name, nullable=False),
    Column("token", Name, nullable=False, unique=True),
    Column("lease", BigInteger, nullable=False),  # microseconds that a heartbeat adds
    Column("lease_until", Micros, nullable=False),
    Column("created_at", Micros, nullable=False),
    Column("status", Integer),  # null while the request runs
    Column("media_id", Text),
    Column("fingerprint", Text),
    PrimaryKeyConstraint("principal", "route", "key"),
    Index("idempotency_created", "created_at"),
)

refusals = Table(
    "refusals",
    metadata,
    Column("digest", Name, primary_key=True),
    Column("reason", Text),
    Column("created_at", Micros, nullable=False),
)

variants = Table(
    "variants",
    metadata,
    Column("media_id", Name, nullable=False),
    Column("text", Name, nullable=False),
    Column("storage", Name, nullable=False),
    Column("key", Name, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("digest", Name, nullable=False),
    Column("media_type", Name, nullable=False),
    Column("width", Integer),
    Column("height", Integer),
    Column("made_at", Micros, nullable=False),
    Column("used_at", Micros, nullable=False),  # to the hour: who makes room asks no more of it
    PrimaryKeyConstraint("media_id", "text"),
    Index("variants_object", "storage", "key"),
    sqlite_with_rowid=False,
)

# What a recipe made, for as long as it is there: tasks are removed by age, and what is stale must be known without them.
derivations = Table(
    "derivations",
    metadata,
    Column("made", Name, ForeignKey("media.id", ondelete="CASCADE", name="derivations_made"), nullable=False),
    Column("fingerprint", Name, nullable=False),
    Column("media_id", Name, nullable=False),  # what the recipe was asked for; not always the source of what one of its steps made
    Column("code", Name, nullable=False),
    Column("version", Integer, nullable=False),
    Column("arguments", Json, nullable=False),
    Column("step", Name, nullable=False),
    PrimaryKeyConstraint("made", "fingerprint"),
    Index("derivations_recipe", "code", "version", "made"),
    Index("derivations_fingerprint", "fingerprint"),
    sqlite_with_rowid=False,
)

packages = Table(
    "packages",
    metadata,
    Column("media_id", Name, primary_key=True),
    Column("source_id", Name, nullable=False),
    Column("mount", Name, nullable=False),  # the segment of the path below the source
    Column("replaced_at", Micros),  # when another began to be served in its place; it stays for those who read it then
    Column("growing", Boolean, nullable=False, server_default=false()),  # more is coming, and what its manifests say is soon not all
)
Index("packages_source", packages.c.source_id, packages.c.mount)
REPLACED = text("replaced_at IS NOT NULL")
Index("packages_replaced", packages.c.replaced_at, sqlite_where=REPLACED, postgresql_where=REPLACED)
PARTIAL = text("(growing OR mount = 'unit')")
Index("packages_partial", packages.c.media_id, sqlite_where=PARTIAL, postgresql_where=PARTIAL)

package_files = Table(
    "package_files",
    metadata,
    Column("media_id", Name, nullable=False),
    Column("path", Name, nullable=False),
    Column("key", Name, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("digest", Name, nullable=False),
    Column("media_type", Name, nullable=False),
    PrimaryKeyConstraint("media_id", "path"),
    sqlite_with_rowid=False,
)

# Titles. A media that is gone keeps its row, and what holds it stays: so there is no foreign key to it, but media.held_by.
movies = Table(
    "movies",
    metadata,
    Column("id", Name, primary_key=True),
    Column("owner", Name, nullable=False),
    Column("title", Text, nullable=False),
    Column("description", Text),
    Column("release_date", Day),
    Column("media_id", Name, nullable=False),
    Column("created_at", Micros, nullable=False),
    Column("updated_at", Micros, nullable=False),
)
Index("movies_media", movies.c.media_id, unique=True)

series = Table(
    "series",
    metadata,
    Column("id", Name, primary_key=True),
    Column("owner", Name, nullable=False),
    Column("public", Boolean, nullable=False),
    Column("title", Text, nullable=False),
    Column("description", Text),
    Column("created_at", Micros, nullable=False),
    Column("updated_at", Micros, nullable=False),
)

seasons = Table(
    "seasons",
    metadata,
    Column("id", Name, primary_key=True),
    Column("series_id", Name, ForeignKey("series.id", ondelete="CASCADE", name="seasons_series"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("created_at", Micros, nullable=False),
    Column("updated_at", Micros, nullable=False),
)
Index("seasons_number", seasons.c.series_id, seasons.c.number, unique=True)

episodes = Table(
    "episodes",
    metadata,
    Column("id", Name, primary_key=True),
    Column("season_id", Name, ForeignKey("seasons.id", ondelete="CASCADE", name="episodes_season"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("title", Text),
    Column("media_id", Name, nullable=False),
    Column("created_at", Micros, nullable=False),
    Column("updated_at", Micros, nullable=False),
)
Index("episodes_media", episodes.c.media_id, unique=True)
Index("episodes_number", episodes.c.season_id, episodes.c.number, unique=True)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Name, primary_key=True),
    Column("kind", Name, nullable=False),
    Column("lane", Name, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("state", Name, nullable=False),
    Column("media_id", Name),
    Column("code", Name),
    Column("arguments", Json, nullable=False),
    Column("fingerprint", Name, unique=True),
    Column("required", Boolean, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("max_attempts", Integer, nullable=False),
    Column("run_at", Micros, nullable=False),
    Column("lease_until", Micros),
    Column("fence", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("progress", Double, nullable=False),
    Column("steps", Json, nullable=False),
    Column("error_code", Text),
    Column("error_message", Text),
    Column("created_by", Name),
    Column("created_at", Micros, nullable=False),
    Column("started_at", Micros),
    Column("ended_at", Micros),
    Column("tracked", Boolean, nullable=False, server_default=true()),
    Column("parent", Name),  # the job whose unit it is
    Column("division", Json),  # of a job that is divided: into what
)

PENDING, PROCESSING = text("state = 'Pending'"), text("state = 'Processing'")
ENDED = text("ended_at IS NOT NULL")

# The queue of a lane in the order in which it is worked off, without what is done; and the leases that may have run out.
Index("jobs_due", jobs.c.lane, jobs.c.priority.desc(), jobs.c.run_at, jobs.c.id, sqlite_where=PENDING, postgresql_where=PENDING)
Index("jobs_leased", jobs.c.lease_until, sqlite_where=PROCESSING, postgresql_where=PROCESSING)
Index("jobs_ended", jobs.c.state, jobs.c.ended_at, sqlite_where=ENDED, postgresql_where=ENDED)
Index("jobs_media", jobs.c.media_id, jobs.c.id)
OF_ANOTHER = text("parent IS NOT NULL")
Index("jobs_parent", jobs.c.parent, sqlite_where=OF_ANOTHER, postgresql_where=OF_ANOTHER)

ASKED = text("created_by IS NOT NULL AND ended_at IS NULL")
Index("jobs_asked", jobs.c.created_by, sqlite_where=ASKED, postgresql_where=ASKED)

uploads = Table(
    "uploads",
    metadata,
    Column("id", Name, primary_key=True),
    Column("secret", Name, nullable=False),  # the SHA-256 of what stands in the upload's URL
    Column("owner", Name, nullable=False),
    Column("role", Name, nullable=False),
    Column("state", Name, nullable=False),
    Column("size", BigInteger),
    Column("metered", Boolean, nullable=False),
    Column("received", BigInteger, nullable=False),
    Column("intake", Json, nullable=False),
    Column("told", Text, nullable=False),
    Column("concat", Text, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("held", Boolean, nullable=False),
    Column("lease_until", Micros),
    Column("storage", Name, nullable=False),
    Column("key", Name, nullable=False),
    Column("parts", Text, nullable=False),
    Column("part_size", BigInteger, nullable=False),
    Column("next_number", Integer, nullable=False),
    Column("tail", Name, nullable=False),
    Column("tail_size", BigInteger, nullable=False),
    Column("mark", Text, nullable=False),
    Column("staged", Boolean, nullable=False),
    Column("media_id", Name),
    Column("created", Boolean),
    Column("error", Json),
    Column("created_at", Micros, nullable=False),
    Column("expires_at", Micros, nullable=False),
)

UNFINISHED = text("state IN ('open', 'complete')")
Index("uploads_owner", uploads.c.owner, sqlite_where=UNFINISHED, postgresql_where=UNFINISHED)
Index("uploads_unfinished", uploads.c.storage, uploads.c.key, sqlite_where=UNFINISHED, postgresql_where=UNFINISHED)
Index("uploads_expires", uploads.c.expires_at)

upload_pieces = Table(
    "upload_pieces",
    metadata,
    Column("upload_id", Name, ForeignKey("uploads.id", ondelete="CASCADE", name="upload_pieces_upload"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("start", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("mark", Text, nullable=False),
    PrimaryKeyConstraint("upload_id", "number"),
    sqlite_with_rowid=False,
)

changes = Table(
    "changes",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("media_id", Name),  # null: every media
    Column("at", Micros, nullable=False),
)

# One row. Whoever appends changes increments it and holds its lock until the commit, so changes become visible in the order of their numbers.
change_counters = Table(
    "change_counters",
    metadata,
    Column("name", Name, primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
)
