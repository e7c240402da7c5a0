"""Packages: derivatives of many files, and where below a media what streams begins."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Create the tables with their indexes."""
    op.add_column("media", sa.Column("manifest", sa.Text))
    op.create_table(
        "packages",
        sa.Column("media_id", NAME, primary_key=True),
        sa.Column("source_id", NAME, nullable=False),
        sa.Column("mount", NAME, nullable=False),
        sa.Column("replaced_at", sa.BigInteger),
    )
    op.create_index("packages_source", "packages", ["source_id", "mount"])
    op.execute("CREATE INDEX packages_replaced ON packages (replaced_at) WHERE replaced_at IS NOT NULL")
    op.create_table(
        "package_files",
        sa.Column("media_id", NAME, nullable=False),
        sa.Column("path", NAME, nullable=False),
        sa.Column("key", NAME, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("digest", NAME, nullable=False),
        sa.Column("media_type", NAME, nullable=False),
        sa.PrimaryKeyConstraint("media_id", "path"),
        sqlite_with_rowid=False,
    )
