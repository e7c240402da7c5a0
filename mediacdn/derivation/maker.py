"""One step: an action run on a media, and its output kept as a media of its own. The derivation key makes it one, however often and by however many it is made."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from anyio import to_thread

from mediacdn.catalog.database import Catalog
from mediacdn.catalog.derivatives import dedupe_key
from mediacdn.catalog.leases import Held
from mediacdn.catalog.packages import UNIT
from mediacdn.derivation.files import Given, Original, Output, Scratch, write_all
from mediacdn.derivation.packer import Packer
from mediacdn.derivation.units import Stored, unit_step
from mediacdn.errors import NotFound, StorageUnavailable, UnsupportedType
from mediacdn.http.media_types import matches
from mediacdn.intents import Intents
from mediacdn.interfaces import Action, Clock, Divisible, Storage
from mediacdn.model import ByteRange, Card, Change, Derivation, Event, Kept, Made, Media, Status, Unit
from mediacdn.recipes.registry import SettledStep
from mediacdn.sniff import extension, kind
from mediacdn.storage.placement import Routing, Subject


def _unheard(share: float) -> None:
    pass


class Maker:
    """Runs steps, bound to the actions, the catalog and the storages. `told` hears of changes to what it described."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        storages: Mapping[str, Storage],
        intents: Intents,
        routing: Routing,
        actions: Mapping[str, Action],
        scratch: Scratch,
        remember: Callable[[str, str], None],
        clock: Clock,
        new_id: Callable[[], str],
        emit: Callable[[Event], None],
        told: Callable[[Sequence[Change]], Awaitable[None]],
    ) -> None:
        self._catalog = catalog
        self._storages = storages
        self._intents = intents
        self._routing = routing
        self._actions = actions
        self._scratch = scratch
        self._remember = remember
        self._clock = clock
        self._new_id = new_id
        self._emit = emit
        self._told = told
        self._packer = Packer(catalog, storages)

    async def run(
        self,
        source: Media,
        step: SettledStep,
        progress: Callable[[float], None] = _unheard,
        held: Held | None = None,
        by: Derivation | None = None,
    ) -> tuple[Made, Media | None]:
        """Do a step to a media: give what the action says, and the derivative, None when it only looked.

        `held` is the lease this happens under, `by` the recipe whose step this is, which is kept with the derivative.

        Raises: UnsupportedType, Undecodable, OverLimits, Gone, LeaseLost, StorageFull, Unavailable.
        """
        async with self._made(source, step.action, step.spec, progress) as (made, output):
            if made.media_type:
                return made, await self._derivative(source, step, made, output, held, by)
        if held is not None:
            await self._told(await self._catalog.derivatives.describe(source.id, made, held))
        return made, None

    async def units(self, source: Media, step: SettledStep) -> tuple[Unit, ...]:
        """Into what the step divides, none where it is to be done by `run`. Raises: as `run`."""
        does, storage = self._does(source, step.action)
        if not isinstance(does, Divisible):
            return ()
        return tuple(await does.units(Original(source, storage, self._scratch, self._remember, again=True), step.spec))

    async def made(self, source: Media, step: SettledStep, units: Sequence[Unit]) -> dict[str, Stored]:
        """Those of the units that are made, by name."""
        keys = {unit.name: unit_step(step, unit).derivation_key(source.id) for unit in units}
        found = await self._catalog.derivatives.found(list(keys.values()))
        files = await self._catalog.packages.files_of([each.id for each in found.values()])
        there = {name: found[key] for name, key in keys.items() if key in found and found[key].storage in self._storages}
        return {
            name: Stored(each, files[each.id], self._storages[each.storage], self._scratch, self._remember) for name, each in there.items()
        }

    async def unit(
        self, source: Media, step: SettledStep, unit: Unit, made: Mapping[str, Stored], progress: Callable[[float], None], held: Held
    ) -> None:
        """Do a unit of the step to a media. Raises: as `run`."""
        does, storage = self._does(source, step.action)
        assert isinstance(does, Divisible)
        async with Output(self._scratch, progress) as output:
            new = await does.make(Original(source, storage, self._scratch, self._remember, again=True), step.spec, unit, made, output)
            await self._derivative(source, unit_step(step, unit), new, output, held, None, below=str(step.relationship))

    async def join(self, source: Media, step: SettledStep, made: Mapping[str, Stored], held: Held, by: Derivation) -> tuple[Made, Media]:
        """Make the whole of its units. Raises: as `run`."""
        does, storage = self._does(source, step.action)
        assert isinstance(does, Divisible)
        async with Output(self._scratch, _unheard) as output:
            new = await does.join(Original(source, storage, self._scratch, self._remember), step.spec, made, output, whole=True)
            assert new is not None
            return new, await self._derivative(source, step, new, output, held, by, made)

    async def grow(self, source: Media, step: SettledStep, made: Mapping[str, Stored], held: Held) -> None:
        """Have what is there of the whole read already, if nothing that is whole is. Raises: as `run`."""
        does, storage = self._does(source, step.action)
        assert isinstance(does, Divisible)
        if not made or await self._catalog.packages.serves(source.id, str(step.relationship)):
            return
        async with Output(self._scratch, _unheard) as output:
            new = await does.join(Original(source, storage, self._scratch, self._remember), step.spec, made, output, whole=False)
            if new is None:
                return
            growing = await self._catalog.derivatives.find(_growing(step, source))
            if growing is None:
                await self._derivative(source, step, new, output, held, None, made, growing=True)
                return
            below = f"{step.relationship}/{source.id}/{growing.id}/{self._new_id()}"
            async with self._packer.packed(growing, new, output, below, made, growing=True) as package:
                assert package is not None
                await self._told(await self._catalog.packages.grow(growing, package, held))

    async def withdraw(self, source: Media, step: SettledStep) -> None:
        """Have nothing read of what will never be whole."""
        growing = await self._catalog.derivatives.find(_growing(step, source))
        if growing is not None:
            await self._told((await self._catalog.media.delete(growing.id))[1])

    async def head(self, source: Media, most: int) -> bytes:
        """The first bytes of a media. Raises: NotFound, ObjectCorrupt, StorageUnavailable."""
        storage, size = self._storages.get(source.storage), min(most, source.size)
        if storage is None or not size:
            return b""
        async with storage.open(source.storage_key, ByteRange(0, size)) as chunks:
            return b"".join([chunk async for chunk in chunks])

    async def variant(self, source: Media, action: str, spec: Mapping[str, Any], text: str, most: int, *, of: str) -> Kept:
        """Make an ad-hoc variant of the media `of`, which `source` is or shows; known by `text`, of which a media has at most `most`. Raises: as `run`."""
        async with self._made(source, action, spec, _unheard) as (made, output):
            return await self._kept(source, of, made, output, text, most)

    async def composed(self, card: Card, text: str, content: bytes, media_type: str, most: int) -> Kept:
        """Keep what was written of others as an ad-hoc variant of the media is kept. Raises: Gone, StorageFull, Unavailable."""
        async with self._written(content) as output:
            return await self._kept(card, card.id, Made(media_type=media_type), output, text, most)

    async def attach(self, source: Media, content: bytes, action: str, spec: Mapping[str, Any], relationship: str, quota: int) -> Media:
        """Have what somebody gives to a media, such as subtitles, read by an action, and keep that as its derivative.

        Raises: NotFound for an action that is not here, Undecodable, OverLimits, ContentRefused, Quarantined, QuotaExceeded, Gone, StorageFull, Unavailable.
        """
        does = self._actions.get(action)
        if does is None:
            raise NotFound(f"No plugin of this process brings the action {action!r}")
        async with Output(self._scratch, _unheard) as output:
            made = await does.run(Given(source, content), spec, output)
            _, digest = await output.measured()
            step = SettledStep(name=action, action=action, spec={**spec, "digest": digest}, relationship=relationship)
            there = await self._catalog.derivatives.find(step.derivation_key(source.id))
            return there or await self._derivative(source, step, made, output, None, None, quota=quota)

    async def _kept(self, like: Media | Card, of: str, made: Made, output: Output, text: str, most: int) -> Kept:
        size, digest = await output.measured()
        storage, now = self._place(like, made, size, text), self._clock.now()
        new = Kept(
            media_id=of,
            text=text,
            storage=storage,
            key=f"variants/{self._new_id()}.{extension(made.media_type)}",
            size=size,
            digest=digest,
            media_type=made.media_type,
            width=made.width,
            height=made.height,
            made_at=now,
        )
        async with self._intents.before(storage, new.key):
            info = await self._storages[storage].put(new.key, output.chunks(), size=size)
            kept, own = await self._catalog.variants.keep(new, info.etag, most)
            if not own:
                await self._intents.drop(storage, new.key)
        return kept

    @asynccontextmanager
    async def _written(self, content: bytes) -> AsyncIterator[Output]:
        async with Output(self._scratch, _unheard) as output:
            await to_thread.run_sync(write_all, output.file(), content)
            yield output

    @asynccontextmanager
    async def _made(
        self, source: Media, action: str, spec: Mapping[str, Any], progress: Callable[[float], None]
    ) -> AsyncIterator[tuple[Made, Output]]:
        does, storage = self._does(source, action)
        async with Output(self._scratch, progress) as output:
            yield await does.run(Original(source, storage, self._scratch, self._remember), spec, output), output

    def _does(self, source: Media, action: str) -> tuple[Action, Storage]:
        """The action that is to read the media, and where that is. Raises: NotFound, UnsupportedType, StorageUnavailable."""
        does = self._actions.get(action)
        if does is None:
            raise NotFound(f"No plugin of this process brings the action {action!r}")
        if not any(matches(each, source.media_type) for each in does.accepts):
            raise UnsupportedType(f"{action} does not read {source.media_type}")
        storage = self._storages.get(source.storage)
        if storage is None:
            raise StorageUnavailable("The storage of this object is not configured")
        return does, storage

    async def _derivative(
        self, source: Media, step: SettledStep, made: Made, output: Output, held: Held | None, by: Derivation | None,
        units: Mapping[str, Stored] = {}, *, below: str | None = None, growing: bool = False, quota: int = 0,
    ) -> Media:  # fmt: skip
        derivation_key = _growing(step, source) if growing else step.derivation_key(source.id)
        size, digest = await output.measured()
        new = self._record(source, step, made, size, digest, derivation_key)
        storage = self._storages[new.storage]
        async with (
            self._intents.before(new.storage, new.storage_key),
            self._packer.packed(new, made, output, f"{below or new.relationship}/{source.id}/{new.id}", units, growing=growing) as package,
        ):
            info = await storage.put(new.storage_key, output.chunks(), size=size)
            key = dedupe_key(derivation_key)
            settled = await self._catalog.objects.commit(
                new, dedupe_key=key, quota=quota, etag=info.etag, held=held, by=by, package=package
            )
            await self._told(settled.changes)
            if settled.kind != "new":  # the same bytes are there, or the same derivative is
                await self._intents.drop(new.storage, new.storage_key)
        if settled.kind != "duplicate" and step.relationship != UNIT and not growing:
            detail = {"media_type": new.media_type, "size": size, "source_id": source.id, "relationship": step.relationship}
            self._emit(Event("media.derived", settled.media.id, self._clock.now(), detail))
        return settled.media

    def _place(self, source: Media | Card, made: Made, size: int, variant: str) -> str:
        of = Subject(media_type=made.media_type, size=size, tags=source.tags, owner=source.owner, public=source.public, variant=variant)
        return self._routing.place(of).storage

    def _record(self, source: Media, step: SettledStep, made: Made, size: int, digest: str, derivation_key: str) -> Media:
        name = self._new_id()
        storage = step.saves_to or self._place(source, made, size, step.relationship or step.name)
        now = self._clock.now()
        return Media(
            id=name,
            owner=source.owner,
            public=source.public,
            status=Status.READY,
            kind=kind(made.media_type),
            media_type=made.media_type,
            size=size,
            digest=digest,
            width=made.width,
            height=made.height,
            duration=made.duration,
            frame_rate=made.frame_rate,
            codecs=made.codecs,
            placeholder=made.placeholder,
            facts=made.facts,
            storage=storage,
            storage_key=f"derivatives/{name}.{extension(made.media_type)}",
            source_id=source.id,
            derivation_key=derivation_key,
            relationship=step.relationship,
            created_at=now,
            updated_at=now,
        )


def _growing(step: SettledStep, source: Media) -> str:
    """What the step's output is known by while there is not all of it."""
    return f"{step.derivation_key(source.id)}/growing"
