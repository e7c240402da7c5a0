"""Media, their objects, owners' use, idempotent requests and refused content."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Create every table of the first release."""
    op.create_table(
        "media",
        sa.Column("id", NAME, primary_key=True),
        sa.Column("owner", NAME, nullable=False),
        sa.Column("title", sa.Text),
        sa.Column("filename", sa.Text),
        sa.Column("public", sa.Boolean, nullable=False),
        sa.Column("status", NAME, nullable=False),
        sa.Column("error_message", sa.Text),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("media_type", NAME, nullable=False),
        sa.Column("family", NAME, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("digest", NAME, nullable=False),
        sa.Column("width", sa.Integer),
        sa.Column("height", sa.Integer),
        sa.Column("duration", sa.Double),
        sa.Column("frame_rate", sa.Double),
        sa.Column("codecs", sa.Text),
        sa.Column("placeholder", sa.Text),
        sa.Column("tags", sa.Text, nullable=False),
        sa.Column("metadata", sa.Text, nullable=False),
        sa.Column("storage", NAME, nullable=False),
        sa.Column("storage_key", NAME, nullable=False),
        sa.Column("storage_etag", sa.Text, nullable=False),
        sa.Column("source_id", NAME),
        sa.Column("derivation_key", NAME),
        sa.Column("relationship", sa.Text),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("state", NAME, nullable=False),
        sa.Column("quarantine_reason", sa.Text),
        sa.Column("quarantined_by", NAME),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("links_valid_from", sa.BigInteger, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("dedupe_key", NAME),
    )
    op.create_index("media_dedupe", "media", ["dedupe_key"], unique=True)
    here = sa.text("state <> 'deleted'")
    for name, columns in {
        "media_here": ["id"],
        "media_owner": ["owner", "id"],
        "media_type": ["media_type", "id"],
        "media_family": ["family", "id"],
        "media_status": ["status", "id"],
        "media_public": ["public", "id"],
        "media_created": ["created_at", "id"],
        "media_expires": ["expires_at"],
    }.items():
        op.create_index(name, "media", columns, sqlite_where=here, postgresql_where=here)
    op.create_index("media_digest", "media", ["digest"])
    op.create_index("media_source", "media", ["source_id"])
    op.create_index("media_quarantined_by", "media", ["quarantined_by"])

    op.create_table(
        "media_tags",
        sa.Column("tag", NAME, nullable=False),
        sa.Column("media_id", NAME, sa.ForeignKey("media.id", ondelete="CASCADE", name="media_tags_media"), nullable=False),
        sa.PrimaryKeyConstraint("tag", "media_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("media_tags_media_id", "media_tags", ["media_id"])

    op.create_table(
        "objects",
        sa.Column("storage", NAME, nullable=False),
        sa.Column("key", NAME, nullable=False),
        sa.Column("digest", NAME),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("refcount", sa.BigInteger, nullable=False),
        sa.Column("state", NAME, nullable=False),
        sa.Column("touched_at", sa.BigInteger, nullable=False),
        sa.Column("etag", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("storage", "key"),
        sqlite_with_rowid=False,
    )
    live, not_live = sa.text("state = 'live'"), sa.text("state <> 'live'")
    op.create_index("objects_digest", "objects", ["storage", "digest"], unique=True, sqlite_where=live, postgresql_where=live)
    op.create_index("objects_unsettled", "objects", ["state", "touched_at"], sqlite_where=not_live, postgresql_where=not_live)

    op.create_table(
        "owners",
        sa.Column("owner", NAME, primary_key=True),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
    )

    op.create_table(
        "idempotency",
        sa.Column("principal", NAME, nullable=False),
        sa.Column("route", NAME, nullable=False),
        sa.Column("key", NAME, nullable=False),
        sa.Column("token", NAME, nullable=False, unique=True),
        sa.Column("lease", sa.BigInteger, nullable=False),
        sa.Column("lease_until", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("media_id", sa.Text),
        sa.Column("fingerprint", sa.Text),
        sa.PrimaryKeyConstraint("principal", "route", "key"),
    )
    op.create_index("idempotency_created", "idempotency", ["created_at"])

    op.create_table(
        "refusals",
        sa.Column("digest", NAME, primary_key=True),
        sa.Column("reason", sa.Text),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
