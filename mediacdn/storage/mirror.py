"""A storage that is several: every object in each of them, read from the first that answers.

A member that lacks an object or holds it damaged is passed over for it, and mended from another in the background. A member that does not answer rests, so that
its failure is not waited for by each read. What these cannot see, such as damage that nobody reads, is the scrub's to find.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping, MutableSequence, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager, suppress
from typing import Any, NamedTuple, TypeVar, cast

import anyio

from mediacdn.errors import MediaError, NotFound, ObjectCorrupt, StorageFull, StorageUnavailable
from mediacdn.interfaces import LocalPaths, Room, Storage
from mediacdn.model import ByteRange, ObjectInfo
from mediacdn.storage.fanout import LeftBehind, Put, fan_out
from mediacdn.storage.health import Health
from mediacdn.storage.repairs import Repairs

T = TypeVar("T")


class _Begun(NamedTuple):
    """A member that has given its first chunk (None at the end of an empty object), and what must be left afterwards."""

    member: str
    first: bytes | None
    chunks: AsyncIterator[bytes]
    leaving: AsyncExitStack


class Mirror:
    """The mirror of `members`, by name, the first read first; they are to verify what is read whole, each by itself.

    `writes` "all": a put is durable in every member, or fails and leaves nothing. "any": it is durable in one at least; those that failed, or were `patience`
    seconds behind, get it later. A delete is done when it is done in all.
    It has LocalPaths and Room when all members have; presigning and parts never, since a client would write to one of them alone.
    """

    def __init__(
        self,
        name: str,
        members: Mapping[str, Storage],
        *,
        writes: str = "all",
        patience: float = 5.0,
        digest_of: Callable[[str], str | None] = lambda key: None,
        repaired: Callable[[str, str], None] = lambda member, outcome: None,
        health: Health | None = None,
    ) -> None:
        self.members = dict(members)
        self.health = health or Health(tuple(members))
        self.repairs = Repairs(name, self.members, digest_of, repaired)
        self._all = writes == "all"
        self._patience = patience
        if all(isinstance(each, LocalPaths) for each in self.members.values()):
            vars(self)["open_file"] = self._open_file
        if all(isinstance(each, Room) for each in self.members.values()):
            vars(self)["free"] = self._free

    def running(self) -> AbstractAsyncContextManager[None]:
        """Mend what is found to be wanting until the context is left."""
        return self.repairs.running()

    async def head(self, key: str) -> ObjectInfo:
        return await self._first(key, lambda member: member.head(key))

    @asynccontextmanager
    async def open(self, key: str, span: ByteRange | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        begun = [await self._begin(key, span)]  # the one that is read from is the last
        try:
            async with aclosing(self._read(begun, key, span)) as chunks:
                yield chunks
        finally:
            await begun[-1].leaving.aclose()

    async def put(self, key: str, chunks: AsyncIterable[bytes], *, size: int | None = None) -> ObjectInfo:
        names = list(self.members)
        if not self._all:
            names = [name for name in names if self.health.well(name)] or names

        def into(member: Storage) -> Put:
            return lambda fed: member.put(key, fed, size=size)

        puts = {name: into(self.members[name]) for name in names}
        results = await fan_out(chunks, puts, all_or_nothing=self._all, patience=self._patience)
        stored = {name: each for name, each in results.items() if isinstance(each, ObjectInfo)}
        failures = {name: each for name, each in results.items() if isinstance(each, Exception)}
        for name, error in failures.items():
            if isinstance(error, StorageUnavailable) and not (self._all and isinstance(error, LeftBehind)):
                self.health.failed(name)
        if (self._all and failures) or not stored:
            await self._take_back(key, stored)
            raise _worst(list(failures.values()))
        for name in self.members.keys() - stored.keys():
            self.repairs.ask(key, name)
        return next(iter(stored.values()))

    async def delete(self, key: str) -> None:
        self.repairs.forget(key)
        results = await asyncio.gather(*(each.delete(key) for each in self.members.values()), return_exceptions=True)
        for error in results:
            if error is not None:
                raise error

    async def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        """What any member has. A member that is away is passed over, as long as another lists all that it has."""
        seen: set[str] = set()
        complete, failure = False, None
        for name in self.health.ordered():
            try:
                async for info in self.members[name].list(prefix):
                    if info.key not in seen:
                        seen.add(info.key)
                        yield info
                complete = True
            except StorageUnavailable as error:
                self.health.failed(name)
                failure = error
        if failure is not None and not complete:
            raise failure

    def _order(self, key: str) -> Sequence[str]:
        return sorted(self.health.ordered(), key=lambda name: self.repairs.suspects(key, name))

    async def _first(self, key: str, call: Callable[[Storage], Awaitable[T]]) -> T:
        """The answer of the first member that has one. Raises: NotFound only when every member says so."""
        absent: list[str] = []
        names = self._order(key)
        for name in names:
            try:
                async with asyncio.timeout(None if name == names[-1] else self._patience):
                    found = await call(self.members[name])
            except NotFound:
                absent.append(name)
            except (StorageUnavailable, TimeoutError):
                self.health.failed(name)
            else:
                self._note(key, name, absent)
                return found
        raise NotFound() if len(absent) == len(names) else StorageUnavailable("No member of the mirror answers")

    async def _begin(self, key: str, span: ByteRange | None) -> _Begun:
        absent: list[str] = []
        damaged: list[str] = []
        names = self._order(key)
        for name in names:
            async with AsyncExitStack() as attempt:
                try:
                    async with asyncio.timeout(None if name == names[-1] else self._patience):
                        chunks = await attempt.enter_async_context(self.members[name].open(key, span))
                        first = await anext(chunks, None)
                except NotFound:
                    absent.append(name)
                except ObjectCorrupt:
                    damaged.append(name)
                    self.repairs.ask(key, name, damaged=True)
                except (StorageUnavailable, TimeoutError):
                    self.health.failed(name)
                else:
                    self._note(key, name, absent)
                    return _Begun(name, first, chunks, attempt.pop_all())
        if damaged:
            return _Begun(damaged[0], None, _Damage(), AsyncExitStack())
        raise NotFound() if len(absent) == len(names) else StorageUnavailable("No member of the mirror answers")

    async def _read(self, begun: MutableSequence[_Begun], key: str, span: ByteRange | None) -> AsyncGenerator[bytes, None]:
        """The object's bytes; when a member falls silent on the way, the rest of them from another: a key never gets other bytes."""
        done = 0
        while True:
            member, first, chunks, leaving = begun[-1]
            try:
                if first is not None:
                    done += len(first)
                    yield first
                async for chunk in chunks:
                    done += len(chunk)
                    yield chunk
                return
            except ObjectCorrupt:
                self.repairs.ask(key, member, damaged=True)
                raise
            except StorageUnavailable:
                self.health.failed(member)
                if len(begun) >= len(self.members):
                    raise
            await leaving.aclose()
            if span is None:
                span = ByteRange(0, (await self.head(key)).size)
            rest = ByteRange(span.start + done, span.stop)
            if rest.length <= 0:
                return
            begun.append(await self._begin(key, rest))
            span, done = rest, 0

    def _note(self, key: str, answered: str, absent: Sequence[str]) -> None:
        self.health.answered(answered)
        for name in absent:
            self.repairs.ask(key, name)

    async def _take_back(self, key: str, stored: Mapping[str, Any]) -> None:
        with anyio.CancelScope(shield=True), anyio.move_on_after(self._patience):
            for name in stored:
                with suppress(MediaError):
                    await self.members[name].delete(key)

    def _open_file(self, key: str) -> int:
        """The file of the first member that has it whole: nobody reads it through here, but one that was cut short shows beside the others."""
        absent: list[str] = []
        failure: MediaError = NotFound()
        found: dict[str, int] = {}
        for name in self._order(key):
            try:
                found[name] = cast(LocalPaths, self.members[name]).open_file(key)
            except NotFound:
                absent.append(name)
            except StorageUnavailable as error:
                self.health.failed(name)
                failure = error
        if not found:
            raise failure
        sizes = {name: os.fstat(descriptor).st_size for name, descriptor in found.items()}
        chosen = max(found, key=lambda name: sizes[name])  # of equals the first
        for name, descriptor in found.items():
            if name != chosen:
                os.close(descriptor)
            if sizes[name] < sizes[chosen]:
                self.repairs.ask(key, name, damaged=True, size=sizes[chosen])
        self._note(key, chosen, absent)
        return found[chosen]

    async def _free(self) -> int:
        return min([await cast(Room, each).free() for each in self.members.values()])


class _Damage(AsyncIterator[bytes]):
    """The bytes of what every member holds damaged."""

    async def __anext__(self) -> bytes:
        raise ObjectCorrupt("No member of the mirror has the object undamaged")


def _worst(failures: Sequence[Exception]) -> Exception:
    """The one to tell: why the first failed, not that others were stopped for it; no room is worth knowing."""
    causes = [each for each in failures if not isinstance(each, LeftBehind)] or failures
    return next((each for each in causes if isinstance(each, StorageFull)), causes[0])
