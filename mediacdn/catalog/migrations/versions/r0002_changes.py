"""The sequence of changes that make cards untrue, its counter and the epoch of purges of all."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Create the sequence, empty, and its one counter."""
    op.create_table(
        "changes",
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("media_id", NAME),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "change_counters",
        sa.Column("name", NAME, primary_key=True),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
    )
    op.execute("INSERT INTO change_counters (name, seq, epoch) VALUES ('changes', 0, 0)")
