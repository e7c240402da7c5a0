"""What waits: for one who asked for it, of which there is an end; and for somebody who decides about what is withheld."""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add the indexes by which the one is counted and the other listed."""
    op.execute("CREATE INDEX jobs_asked ON jobs (created_by) WHERE created_by IS NOT NULL AND ended_at IS NULL")
    op.execute("CREATE INDEX media_withheld ON media (id) WHERE state = 'quarantined'")
