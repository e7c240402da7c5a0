"""Which recipe made what, with which arguments, as far as tasks that are still kept can tell of what was made before; and which tasks leave no record."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Create the table with its indexes, and fill it from the steps of completed tasks."""
    op.add_column("jobs", sa.Column("tracked", sa.Boolean, nullable=False, server_default=sa.true()))
    table = op.create_table(
        "derivations",
        sa.Column("made", NAME, sa.ForeignKey("media.id", ondelete="CASCADE", name="derivations_made"), nullable=False),
        sa.Column("fingerprint", NAME, nullable=False),
        sa.Column("media_id", NAME, nullable=False),
        sa.Column("code", NAME, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("arguments", sa.Text, nullable=False),
        sa.Column("step", NAME, nullable=False),
        sa.PrimaryKeyConstraint("made", "fingerprint"),
        sqlite_with_rowid=False,
    )
    op.create_index("derivations_recipe", "derivations", ["code", "version", "made"])
    op.create_index("derivations_fingerprint", "derivations", ["fingerprint"])
    connection = op.get_bind()
    there = set(connection.scalars(sa.text("SELECT id FROM media WHERE source_id IS NOT NULL")))
    tasks = sa.text("SELECT media_id, code, arguments, fingerprint, steps FROM jobs WHERE kind = 'recipe' AND fingerprint IS NOT NULL")
    rows: dict[tuple[str, str], dict[str, object]] = {}
    for media_id, name, arguments, fingerprint, steps in connection.execute(tasks):
        code, _, version = name.partition("@")
        for step in json.loads(steps):
            if step.get("output") in there:
                rows[step["output"], fingerprint] = {
                    "made": step["output"], "fingerprint": fingerprint, "media_id": media_id, "code": code,
                    "version": int(version), "arguments": arguments, "step": step["name"],
                }  # fmt: skip
    if rows:
        op.bulk_insert(table, list(rows.values()))
