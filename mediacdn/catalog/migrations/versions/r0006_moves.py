"""The variants of an object, for who moves it."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Create the index."""
    op.create_index("variants_object", "variants", ["storage", "key"])
