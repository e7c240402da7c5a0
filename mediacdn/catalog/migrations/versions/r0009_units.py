"""Jobs that are divided into units, each a job of its own; packages that grow while they are read."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the columns, and the indexes by which a job's units are found, and what is part of a whole."""
    op.add_column("jobs", sa.Column("parent", NAME))
    op.add_column("jobs", sa.Column("division", sa.Text))
    op.execute("CREATE INDEX jobs_parent ON jobs (parent) WHERE parent IS NOT NULL")
    op.add_column("packages", sa.Column("growing", sa.Boolean, nullable=False, server_default=sa.false()))
    op.execute("CREATE INDEX packages_partial ON packages (media_id) WHERE (growing OR mount = 'unit')")
