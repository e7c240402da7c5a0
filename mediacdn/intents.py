"""The intents behind bytes that are being written: a row says so before they can be there, this process keeps saying so while they arrive, and what comes to nothing is
taken back. Bytes without a row are always found by their intent and swept."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress

import anyio

from mediacdn.catalog.objects import ObjectRows
from mediacdn.catalog.uploads import Ending
from mediacdn.errors import MediaError, TakenOver
from mediacdn.interfaces import Storage
from mediacdn.jobs.backoff import hopeless
from mediacdn.tidying import Tidying

BEAT = 15.0
"""Seconds between two signs of life of all that is being written."""
MOST = 5.0
"""Seconds that taking back may take: what stays is swept by age."""


class Intents:
    """The keys at which this process writes, over the catalog and the storages."""

    def __init__(self, rows: ObjectRows, storages: Mapping[str, Storage]) -> None:
        self._rows = rows
        self._storages = storages
        self._flying: set[tuple[str, str]] = set()
        self._beating: asyncio.Task[None] | None = None
        self._tidying = Tidying()

    def close(self) -> None:
        self._tidying.close()
        if self._beating is not None:
            self._beating.cancel()

    @asynccontextmanager
    async def beside(self, storage: str, key: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """Write the intent while the bytes already arrive, and give a function that waits for it: it must stand before they are committed.

        A failure takes it back, for which nobody is kept waiting long. Raises: CatalogUnavailable, from that function.
        """
        with self._alive(storage, key):
            writing = asyncio.create_task(self._rows.intend(storage, key))
            try:
                yield lambda: asyncio.shield(writing)
            except BaseException:
                await self._tidying(self._take_back(storage, key, writing))
                raise

    @asynccontextmanager
    async def before(self, storage: str, key: str) -> AsyncIterator[None]:
        """Write the intent before the first byte; a failure takes it back. Raises: CatalogUnavailable."""
        await self._rows.intend(storage, key)
        with self._alive(storage, key):
            try:
                yield
            except BaseException:
                with anyio.CancelScope(shield=True), anyio.move_on_after(MOST), suppress(MediaError):
                    await self._give_back(storage, key)
                raise

    @asynccontextmanager
    async def again(self, storage: str, key: str, ending: Ending) -> AsyncIterator[None]:
        """As `before`, at an end that can be tried again: what fails for a fault of the moment leaves all in place, and so does whoever has taken it over.

        Raises: CatalogUnavailable, TakenOver.
        """
        await self._rows.intend(storage, key, ending)
        with self._alive(storage, key):
            try:
                yield
            except MediaError as error:
                if hopeless(error) and not isinstance(error, TakenOver):  # then the bytes are needed by whoever ends it now
                    with anyio.CancelScope(shield=True), anyio.move_on_after(MOST):
                        await self._give_back(storage, key)
                raise

    async def drop(self, storage: str, key: str) -> None:
        """Delete bytes that are no media's; until then their row says that they are to go, so the sweep finds them. Raises: StorageUnavailable, CatalogUnavailable."""
        await self._storages[storage].delete(key)
        await self._rows.forget(storage, key)

    @contextmanager
    def _alive(self, storage: str, key: str) -> Iterator[None]:
        """Have no sweeper take the key for abandoned."""
        self._flying.add((storage, key))
        if self._beating is None or self._beating.done():
            self._beating = asyncio.create_task(self._beat())
        try:
            yield
        finally:
            self._flying.discard((storage, key))

    async def _beat(self) -> None:
        while self._flying:
            await asyncio.sleep(BEAT)
            with suppress(MediaError):  # a catalog that is away for a moment costs a beat, not the work
                await self._rows.touch(list(self._flying))

    async def _take_back(self, storage: str, key: str, writing: "asyncio.Task[None]") -> None:
        with anyio.move_on_after(MOST), suppress(MediaError):
            await asyncio.wait([writing])
            if writing.exception() is None:
                await self._give_back(storage, key)

    async def _give_back(self, storage: str, key: str) -> None:
        """Only a row that is still an intent is taken back: a lost answer to a commit may hide its success."""
        if await self._rows.abandon(storage, key):
            await self.drop(storage, key)
