"""Uploads in more than one request, and the pieces of them that are staged."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Create both tables, empty."""
    op.create_table(
        "uploads",
        sa.Column("id", NAME, primary_key=True),
        sa.Column("secret", NAME, nullable=False),
        sa.Column("owner", NAME, nullable=False),
        sa.Column("role", NAME, nullable=False),
        sa.Column("state", NAME, nullable=False),
        sa.Column("size", sa.BigInteger),
        sa.Column("metered", sa.Boolean, nullable=False),
        sa.Column("received", sa.BigInteger, nullable=False),
        sa.Column("intake", sa.Text, nullable=False),
        sa.Column("told", sa.Text, nullable=False),
        sa.Column("concat", sa.Text, nullable=False),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("held", sa.Boolean, nullable=False),
        sa.Column("lease_until", sa.BigInteger),
        sa.Column("storage", NAME, nullable=False),
        sa.Column("key", NAME, nullable=False),
        sa.Column("parts", sa.Text, nullable=False),
        sa.Column("part_size", sa.BigInteger, nullable=False),
        sa.Column("next_number", sa.Integer, nullable=False),
        sa.Column("tail", NAME, nullable=False),
        sa.Column("tail_size", sa.BigInteger, nullable=False),
        sa.Column("mark", sa.Text, nullable=False),
        sa.Column("staged", sa.Boolean, nullable=False),
        sa.Column("media_id", NAME),
        sa.Column("created", sa.Boolean),
        sa.Column("error", sa.Text),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
    )
    for name, columns in (("uploads_owner", "owner"), ("uploads_unfinished", "storage, key")):
        op.execute(f"CREATE INDEX {name} ON uploads ({columns}) WHERE state IN ('open', 'complete')")
    op.create_index("uploads_expires", "uploads", ["expires_at"])
    op.create_table(
        "upload_pieces",
        sa.Column("upload_id", NAME, sa.ForeignKey("uploads.id", ondelete="CASCADE", name="upload_pieces_upload"), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("start", sa.BigInteger, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("mark", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("upload_id", "number"),
        sqlite_with_rowid=False,
    )
