"""Renewals: a stale copy is served while its origin is asked, once an object at a time and in the background, whether the object is still there (RFC 5861)."""

import asyncio
from collections.abc import Callable, Mapping

from mediacdn.edge.entries import Entry, Key
from mediacdn.edge.metrics import EdgeMetrics
from mediacdn.edge.origin import PATIENCE, Origin
from mediacdn.edge.tier import Disk, Memory
from mediacdn.errors import NotFound
from mediacdn.interfaces import Storage

Name = tuple[str, str, int]
"""An object's name in the tiers: a key without its number."""

FIRST = 1.0
LONGEST = 30.0
"""Seconds before an origin that did not answer is asked again about an object; they double from the first to the longest."""

_KNOWN = 10_000


class _Renewal:
    """What is known of one stale object: the copies that wait for the answer, and after a failure when to ask again."""

    __slots__ = ("asked", "due", "pause", "task")

    def __init__(self) -> None:
        self.asked: dict[Key, Entry] = {}
        self.due = 0.0
        self.pause = 0.0
        self.task: asyncio.Task[None] | None = None


class Renewals:
    """At most `limit` questions at once. `gone` hears of objects that their origin does not have any more."""

    def __init__(
        self,
        storages: Mapping[str, Storage],
        memory: Memory | None,
        disk: Disk | None,
        clock: Callable[[], float],
        metrics: EdgeMetrics,
        gone: Callable[[Name], None],
        limit: int,
    ) -> None:
        self._storages = storages
        self._memory = memory
        self._disk = disk
        self._clock = clock
        self._metrics = metrics
        self._gone = gone
        self._room = asyncio.Semaphore(limit)
        self._known: dict[Name, _Renewal] = {}

    def ask(self, key: Key, entry: Entry, origin: Origin) -> None:
        """See to it that the copy is renewed or dropped; nothing happens while it is too early to ask again."""
        name = key[:3]
        renewal = self._known.get(name)
        if renewal is None:
            if len(self._known) >= _KNOWN:
                self._make_room()
            renewal = self._known[name] = _Renewal()
        if renewal.task is not None:
            renewal.asked[key] = entry
        elif self._clock() >= renewal.due:
            renewal.asked[key] = entry
            renewal.task = asyncio.create_task(self._run(name, renewal, origin))

    def forget(self, media: str | None = None) -> None:
        """Forget what failed before: of one media, or of all."""
        for name in [name for name, each in self._known.items() if each.task is None and (media is None or name[0] == media)]:
            del self._known[name]

    async def close(self) -> None:
        """Cancel every question and wait until they have ended."""
        tasks = [each.task for each in self._known.values() if each.task is not None]
        self._known.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _run(self, name: Name, renewal: _Renewal, origin: Origin) -> None:
        try:
            async with self._room:
                present = await self._present(name, origin)
            while renewal.asked:
                await self._settle(*renewal.asked.popitem(), present)
            self._known.pop(name, None)
        except Exception:  # whatever the driver raises, an origin that cannot tell leaves the copy stale
            renewal.pause = min(LONGEST, renewal.pause * 2 or FIRST)
            renewal.due = self._clock() + renewal.pause
        finally:
            renewal.asked.clear()
            renewal.task = None

    async def _present(self, name: Name, origin: Origin) -> bool:
        self._metrics.renewals += 1
        try:
            async with asyncio.timeout(PATIENCE):
                return (await self._storages[origin.storage].head(origin.key)).size == origin.size
        except NotFound:
            self._gone(name)
            return False

    async def _settle(self, key: Key, entry: Entry, present: bool) -> None:
        if present:
            now = entry.stored = self._clock()
            held = self._memory.peek(key) if self._memory is not None else None
            if held is not None:
                held.stored = now
            if self._disk is not None:
                await self._disk.renew(key, now)
            return
        if self._memory is not None:
            self._memory.drop(key)
        if self._disk is not None:
            await self._disk.drop(key)

    def _make_room(self) -> None:
        for name in [name for name, each in self._known.items() if each.task is None][: _KNOWN // 10]:
            del self._known[name]
