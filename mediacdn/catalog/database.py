"""The catalog as its users hold it: one object a noun over one database, opened for the life of the process."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from mediacdn.catalog.ancestry import AncestryRows
from mediacdn.catalog.changes import ChangeRows
from mediacdn.catalog.derivatives import DerivativeRows
from mediacdn.catalog.engine import create_engine, sqlite_path
from mediacdn.catalog.idempotency import IdempotencyRows
from mediacdn.catalog.jobs import JobRows
from mediacdn.catalog.leases import LeaseRows
from mediacdn.catalog.media import MediaRows
from mediacdn.catalog.migrate import pending
from mediacdn.catalog.moves import MoveRows
from mediacdn.catalog.objects import ObjectRows
from mediacdn.catalog.outward import Outward
from mediacdn.catalog.packages import PackageRows
from mediacdn.catalog.refusals import RefusalRows
from mediacdn.catalog.titles import TitleRows
from mediacdn.catalog.transactions import Transactions
from mediacdn.catalog.uploads import UploadRows
from mediacdn.catalog.variants import VariantRows
from mediacdn.config import Database, Purge
from mediacdn.errors import StartupError
from mediacdn.interfaces import Clock


class Catalog:
    """Every record of this installation. All methods of its parts raise CatalogUnavailable within the configured timeout when the database is out."""

    def __init__(self, transactions: Transactions, clock: Clock, outward: Outward) -> None:
        self._transactions = transactions
        self.dialect = transactions.dialect
        self.media = MediaRows(transactions, clock, outward)
        self.ancestry = AncestryRows(transactions, clock)
        self.changes = ChangeRows(transactions, clock, outward)
        self.objects = ObjectRows(transactions, clock, outward)
        self.moves = MoveRows(transactions, clock)
        self.idempotency = IdempotencyRows(transactions, clock)
        self.derivatives = DerivativeRows(transactions, clock)
        self.jobs = JobRows(transactions, clock)
        self.leases = LeaseRows(transactions, clock)
        self.uploads = UploadRows(transactions, clock)
        self.variants = VariantRows(transactions, clock)
        self.packages = PackageRows(transactions, clock)
        self.refusals = RefusalRows(transactions, clock)
        self.titles = TitleRows(transactions, clock)

    async def check(self) -> None:
        """Prove that the database answers. Raises: CatalogUnavailable."""

        async def ask(connection: AsyncConnection) -> None:
            await connection.execute(text("SELECT 1"))

        await self._transactions.read(ask)


@asynccontextmanager
async def open_catalog(config: Database, data: Path, clock: Clock, purges: Sequence[Purge] = ()) -> AsyncIterator[Catalog]:
    """Open the catalog until the context is left; what makes public copies untrue plans calls of `purges`. Raises: CatalogUnavailable, ConfigError; StartupError when migrations are pending."""
    if await pending(config, data):
        if not config.url and not await anyio.Path(sqlite_path(data)).exists():
            raise StartupError(
                f"There is no catalog in the data directory {data}: is it another (--data, --config)? mediacdn migrate, or serve, makes one"
            )
        raise StartupError("The catalog's tables are not up to date; run: mediacdn migrate")
    engine = create_engine(config, data)
    transactions = Transactions(engine, pool_size=config.pool_size, timeout=config.deadline)
    try:
        yield Catalog(transactions, clock, Outward(purges))
    finally:
        await transactions.close()
        await engine.dispose()
