"""What owners hold counts the files of their packages too."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Count those that are there."""
    op.execute(
        "UPDATE owners SET bytes = bytes + (SELECT COALESCE(SUM(package_files.size), 0) FROM package_files"
        " JOIN media ON media.id = package_files.media_id WHERE media.owner = owners.owner AND media.state <> 'deleted')"
    )
