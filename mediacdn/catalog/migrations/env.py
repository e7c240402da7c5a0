"""What alembic runs to bring one branch forward, inside the transaction that the caller has begun and will commit."""

from alembic import context

from mediacdn.catalog.tables import metadata

given = context.config.attributes
context.configure(
    connection=given["connection"],
    target_metadata=metadata,
    version_table=given["version_table"],
    on_version_apply=given["on_apply"],
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
