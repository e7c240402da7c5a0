"""Jobs, ad-hoc variants, and what was found out about a media besides its dimensions."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Create the table with its indexes; give media their facts."""
    op.add_column("media", sa.Column("facts", sa.Text, nullable=False, server_default="{}"))
    op.drop_index("media_source", "media")
    op.execute("CREATE INDEX media_source ON media (source_id) WHERE source_id IS NOT NULL")
    op.create_table(
        "variants",
        sa.Column("media_id", NAME, nullable=False),
        sa.Column("text", NAME, nullable=False),
        sa.Column("storage", NAME, nullable=False),
        sa.Column("key", NAME, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("digest", NAME, nullable=False),
        sa.Column("media_type", NAME, nullable=False),
        sa.Column("width", sa.Integer),
        sa.Column("height", sa.Integer),
        sa.Column("made_at", sa.BigInteger, nullable=False),
        sa.Column("used_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("media_id", "text"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "jobs",
        sa.Column("id", NAME, primary_key=True),
        sa.Column("kind", NAME, nullable=False),
        sa.Column("lane", NAME, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("state", NAME, nullable=False),
        sa.Column("media_id", NAME),
        sa.Column("code", NAME),
        sa.Column("arguments", sa.Text, nullable=False),
        sa.Column("fingerprint", NAME, unique=True),
        sa.Column("required", sa.Boolean, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("max_attempts", sa.Integer, nullable=False),
        sa.Column("run_at", sa.BigInteger, nullable=False),
        sa.Column("lease_until", sa.BigInteger),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("progress", sa.Double, nullable=False),
        sa.Column("steps", sa.Text, nullable=False),
        sa.Column("error_code", sa.Text),
        sa.Column("error_message", sa.Text),
        sa.Column("created_by", NAME),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("ended_at", sa.BigInteger),
    )
    for name, columns, where in (
        ("jobs_due", "lane, priority DESC, run_at, id", "state = 'Pending'"),
        ("jobs_leased", "lease_until", "state = 'Processing'"),
        ("jobs_ended", "state, ended_at", "ended_at IS NOT NULL"),
    ):
        op.execute(f"CREATE INDEX {name} ON jobs ({columns}) WHERE {where}")
    op.create_index("jobs_media", "jobs", ["media_id", "id"])
