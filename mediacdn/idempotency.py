"""Idempotency keys whose requests are under way in this process: kept theirs while they run, and given free when they fail, later where the catalog is away."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import anyio

from mediacdn.catalog.idempotency import IdempotencyRows
from mediacdn.errors import MediaError
from mediacdn.tidying import Tidying

LEASE = timedelta(seconds=10)
"""How long a key stays its request's when nobody prolongs that."""
EVERY = 3.0
"""Seconds between two calls of `keep`."""
OWED = 10_000
"""Keys at most that wait to be given free."""


class Keys:
    """The keys, by the tokens under which they are held."""

    def __init__(self, rows: IdempotencyRows) -> None:
        self._rows = rows
        self._held: set[str] = set()
        self._owed: set[str] = set()
        self._tidying = Tidying()

    def close(self) -> None:
        self._tidying.close()

    @asynccontextmanager
    async def held(self, token: str) -> AsyncIterator[None]:
        """Keep a key its request's while that runs; a failure gives it free, so that a retry runs anew."""
        self._held.add(token)
        try:
            yield
        except BaseException:
            self._held.discard(token)
            await self.release(token)
            raise
        self._held.discard(token)

    async def keep(self) -> None:
        """Prolong what is held, and give free what an outage kept. Raises: CatalogUnavailable, after which it is called again."""
        for token in list(self._owed):
            await self._rows.drop(token)
            self._owed.discard(token)
        for token in list(self._held):
            await self._rows.touch(token)

    async def release(self, token: str) -> None:
        """Give a key free, later when the catalog is away; best effort, its lease ends by itself."""
        if len(self._owed) < OWED:
            self._owed.add(token)
        await self._tidying(self._drop(token))

    async def _drop(self, token: str) -> None:
        with anyio.move_on_after(5), suppress(MediaError):
            await self._rows.drop(token)
            self._owed.discard(token)
