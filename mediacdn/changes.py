"""The journey of a change, from its commit to everybody who keeps what it made untrue: commit, bump the node's table, publish on the bus, acknowledge.

Other nodes, and whatever a crash or a lost message left untold, are reached by the sweep of the catalog's sequence, which every process of a node follows
and one at a time reads. What is kept where, the given callbacks know.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence

import anyio
import anyio.to_thread
import structlog

from mediacdn.catalog.changes import ChangeRows
from mediacdn.edge.stamps import Stamps
from mediacdn.errors import MediaError
from mediacdn.interfaces import Bus
from mediacdn.model import Change

AT_ONCE = 1000
"""Changes read in one go."""

FAR = 20_000
"""Beyond so many changes at once, everything counts as changed: the slots would nearly all be bumped anyway."""

WAITING = 1000
"""Publications that wait for a slow bus before the next are left to the sweeps of the others."""

PUBLISH_WITHIN = 2.0
AGAIN_AFTER = 1.0

log = structlog.get_logger("mediacdn.changes")


class Changes:
    """Tells and hears of changes. `every` is the seconds between sweeps.

    `on_change(ids)` and `on_purge_all()` are called on the event loop when copies of these, or of everything, are dead: to make room, since nobody serves them.
    They may be called more than once for one change.
    """

    def __init__(
        self,
        *,
        rows: ChangeRows,
        stamps: Stamps,
        every: float,
        bus: Bus | None = None,
        on_change: Callable[[Collection[str]], None] = lambda ids: None,
        on_purge_all: Callable[[], None] = lambda: None,
    ) -> None:
        self._rows = rows
        self._stamps = stamps
        self._every = every
        self._bus = bus
        self._on_change = on_change
        self._on_purge_all = on_purge_all
        self._heard = stamps.seen
        """Up to where this process's own callbacks have been called, under the table of this nonce."""
        self._nonce = stamps.nonce
        self._outbox: asyncio.Queue[Sequence[Change]] = asyncio.Queue(WAITING)
        self._rung = asyncio.Event()
        self._silent: set[str] = set()
        self._writers = anyio.CapacityLimiter(1)  # a thread of its own: others may all be waiting for a disk

    async def told(self, changes: Sequence[Change]) -> None:
        """Make committed changes true in every process of this node before this returns, and soon on the others.

        `changes` are of one transaction, in order. Raises: Unavailable when the table cannot be had.
        """
        if not changes:
            return
        await self._in_thread(self._bump, changes, 0, changes[0].seq - 1)
        if any(each.media_id is None for each in changes):
            await self.sweep()  # which finds the new epoch
        if self._heard == changes[0].seq - 1:
            self._heard = changes[-1].seq
        self._call(changes)
        if self._bus is not None:
            try:
                self._outbox.put_nowait(changes)
            except asyncio.QueueFull:
                self._fails("publish", "the bus is too slow")

    async def sweep(self) -> None:
        """Bring this node's table up to the catalog's sequence. Called once before anything is served, and then by `follow`. Raises: CatalogUnavailable, Unavailable."""
        await self._in_thread(self._stamps.refresh)
        seen, epoch = self._stamps.seen, self._stamps.epoch  # before the look at the catalog: other processes move them meanwhile
        position = await self._rows.position()
        if seen > position.seq or epoch > position.epoch:
            log.warning("the catalog went back in time; everything kept at the edge is forgotten", had=seen, has=position.seq)
            await self._in_thread(self._stamps.renew, position.epoch, position.seq)
            return
        if position.seq - seen > FAR:
            await self._in_thread(self._all, position.seq, position.epoch)
        while (seen := self._stamps.seen) < position.seq:
            found = await self._rows.since(seen, AT_ONCE)
            if not found or found[0].seq != seen + 1:  # pruned away while nobody looked
                await self._in_thread(self._all, position.seq, position.epoch)
            else:
                await self._in_thread(self._bump, found, position.epoch, seen)
        if position.epoch > self._stamps.epoch:
            await self._in_thread(self._stamps.set_epoch, position.epoch)

    async def follow(self) -> None:
        """Sweep, publish and listen until cancelled."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._sweeps)
            if self._bus is not None:
                group.start_soon(self._publishes, self._bus)
                group.start_soon(self._listens, self._bus)

    async def _sweeps(self) -> None:
        every = int(self._every * 0.9e9)  # a little less than the pace of each process, so that one that comes early is not a turn late
        while True:
            rung = self._rung.is_set()
            self._rung.clear()
            try:
                if await self._in_thread(self._stamps.claim, 0 if rung else every):
                    await self.sweep()
                await self._hear()
            except Exception as error:
                self._fails("sweep", error)
            else:
                self._works("sweep")
            with anyio.move_on_after(self._every):
                await self._rung.wait()

    async def _hear(self) -> None:
        """Call this process's callbacks for what any process of the node has bumped meanwhile."""
        await self._in_thread(self._stamps.refresh)
        if self._nonce != self._stamps.nonce:
            self._nonce, self._heard = self._stamps.nonce, self._stamps.seen
            self._on_purge_all()
        while self._heard < (seen := self._stamps.seen):
            found = await self._rows.since(self._heard, AT_ONCE) if seen - self._heard <= FAR else []
            if not found or found[0].seq != self._heard + 1:
                self._heard = seen
                self._on_purge_all()
            else:
                self._heard = found[-1].seq
                self._call(found)

    async def _publishes(self, bus: Bus) -> None:
        while True:
            changes = await self._outbox.get()
            try:
                async with asyncio.timeout(PUBLISH_WITHIN):
                    await bus.publish(changes)
            except Exception as error:
                self._fails("publish", error)
            else:
                self._works("publish")

    async def _listens(self, bus: Bus) -> None:
        while True:
            try:
                async for changes in bus.listen():
                    self._works("listen")
                    # Numbers are not taken from the bus: who else speaks there, and what was lost, only the sequence knows.
                    if news := [each for each in changes if each.seq > self._stamps.seen]:
                        await self._in_thread(self._stamps.bump, [each.media_id for each in news if each.media_id is not None])
                    if news or not changes:
                        self._rung.set()
                self._fails("listen", "the bus ended")
            except Exception as error:
                self._fails("listen", error)
            await anyio.sleep(AGAIN_AFTER)

    def _bump(self, changes: Sequence[Change], epoch: int, after: int) -> None:
        stamps = self._stamps
        stamps.bump([each.media_id for each in changes if each.media_id is not None])
        if any(each.media_id is None for each in changes):
            stamps.bump_all()
        stamps.set_epoch(epoch)
        stamps.advance(changes[-1].seq, after=after)

    def _all(self, seq: int, epoch: int) -> None:
        self._stamps.bump_all()
        self._stamps.set_epoch(epoch)
        self._stamps.advance(seq)

    def _call(self, changes: Sequence[Change]) -> None:
        if any(each.media_id is None for each in changes):
            self._on_purge_all()
        elif changes:
            self._on_change([each.media_id for each in changes if each.media_id is not None])

    async def _in_thread(self, work: Callable[..., object], *arguments: object) -> bool:
        return bool(await anyio.to_thread.run_sync(work, *arguments, limiter=self._writers))

    def _fails(self, what: str, why: object) -> None:
        if what not in self._silent:
            self._silent.add(what)
            expected = not isinstance(why, Exception) or isinstance(why, MediaError | TimeoutError)
            log.warning("changes are not told", part=what, error=str(why) or type(why).__name__, exc_info=None if expected else why)

    def _works(self, what: str) -> None:
        if what in self._silent:
            self._silent.discard(what)
            log.info("changes are told again", part=what)
