"""Titles: movies, series with seasons and episodes, and the column by which a media belongs to one of them."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Create the tables with their indexes."""
    op.add_column("media", sa.Column("held_by", NAME))
    op.create_table(
        "movies",
        sa.Column("id", NAME, primary_key=True),
        sa.Column("owner", NAME, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("description", sa.Text),
        sa.Column("release_date", sa.Text),
        sa.Column("media_id", NAME, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
    )
    op.create_index("movies_media", "movies", ["media_id"], unique=True)
    op.create_table(
        "series",
        sa.Column("id", NAME, primary_key=True),
        sa.Column("owner", NAME, nullable=False),
        sa.Column("public", sa.Boolean, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("description", sa.Text),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "seasons",
        sa.Column("id", NAME, primary_key=True),
        sa.Column("series_id", NAME, sa.ForeignKey("series.id", ondelete="CASCADE", name="seasons_series"), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
    )
    op.create_index("seasons_number", "seasons", ["series_id", "number"], unique=True)
    op.create_table(
        "episodes",
        sa.Column("id", NAME, primary_key=True),
        sa.Column("season_id", NAME, sa.ForeignKey("seasons.id", ondelete="CASCADE", name="episodes_season"), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("title", sa.Text),
        sa.Column("media_id", NAME, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
    )
    op.create_index("episodes_media", "episodes", ["media_id"], unique=True)
    op.create_index("episodes_number", "episodes", ["season_id", "number"], unique=True)
