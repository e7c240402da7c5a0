"""Storing the many files of one derivative: before their first byte the catalog knows of all of them, and they become readable together with it or are swept."""

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

import anyio

from mediacdn.catalog.database import Catalog
from mediacdn.catalog.packages import Package
from mediacdn.derivation.files import Output
from mediacdn.derivation.units import Stored
from mediacdn.errors import MediaError
from mediacdn.interfaces import Storage
from mediacdn.model import Made, MadeFile, Media, PackageFile

AT_ONCE = 4
"""Files that are stored at once; each row of them ends before the next begins, so that what refers to others is stored behind them."""
HEARTBEAT = 60.0
MOST = 100_000
PATH = re.compile(r"(?=.{1,200}\Z)[A-Za-z0-9_][A-Za-z0-9._-]*(?:/[A-Za-z0-9_][A-Za-z0-9._-]*){0,7}")


class Packer:
    """Stores packages, bound to the catalog and the storages."""

    def __init__(self, catalog: Catalog, storages: Mapping[str, Storage]) -> None:
        self._packages = catalog.packages
        self._storages = storages

    @asynccontextmanager
    async def packed(
        self, new: Media, made: Made, output: Output, below: str, units: Mapping[str, Stored] = {}, *, growing: bool = False
    ) -> AsyncIterator[Package | None]:
        """Have what `made` names of the output's folder durable below the path `below`, and give it to be recorded, with the files of `units` that it names;
        None where it names nothing."""
        if not made.files:
            yield None
            return
        _check(new, made)
        prefix = f"{below}/"
        own = [each for each in made.files if not each.unit]
        taken = {each.path: _of(units[each.unit], each) for each in made.files if each.unit}
        await self._packages.intend(new.storage, [prefix + each.path for each in own])
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._alive, new.storage, prefix)
                stored = {each.path: each for each in await self._stored(new.storage, prefix, own, output)}
                files = [taken.get(each.path) or stored[each.path] for each in made.files]
                joined = () if growing else tuple(each.id for each in units.values())
                yield Package(prefix, files, made.manifest, growing, joined)
                group.cancel_scope.cancel()
        except BaseException as error:
            with anyio.CancelScope(shield=True), anyio.move_on_after(5), suppress(MediaError):
                await self._packages.abandon(new.storage, prefix)
            raise _only(error) from None

    async def _stored(self, storage: str, prefix: str, files: Sequence[MadeFile], output: Output) -> list[PackageFile]:
        stored: dict[int, PackageFile] = {}

        async def store(number: int) -> None:
            each = files[number]
            async with output.named(each.name) as piece:
                size, digest = await piece.measured()
                await self._storages[storage].put(prefix + each.path, piece.chunks(), size=size)
            stored[number] = PackageFile(path=each.path, key=prefix + each.path, size=size, digest=digest, media_type=each.media_type)

        for at in range(0, len(files), AT_ONCE):
            async with anyio.create_task_group() as group:
                for number in range(at, min(at + AT_ONCE, len(files))):
                    group.start_soon(store, number)
        return [stored[number] for number in range(len(files))]

    async def _alive(self, storage: str, prefix: str) -> None:
        while True:
            await anyio.sleep(HEARTBEAT)
            with suppress(MediaError):
                await self._packages.touch(storage, prefix)


def _of(unit: Stored, file: MadeFile) -> PackageFile:
    """The file of a unit, as one of what is joined."""
    there = unit.named(file.name)
    return PackageFile(path=file.path, key=there.key, size=there.size, digest=there.digest, media_type=file.media_type)


def _check(new: Media, made: Made) -> None:
    """Raises: ValueError, for what an action must not say."""
    paths = [each.path for each in made.files]
    if not (0 < len(paths) <= MOST) or len(set(paths)) < len(paths) or not all(map(PATH.fullmatch, paths)):
        raise ValueError("the paths of a package are up to 100,000 different ones of A-Z a-z 0-9 . _ - and /")
    if new.relationship is None or not re.fullmatch(r"[a-z][a-z0-9-]{0,31}", new.relationship):
        raise ValueError("a package's step names a relationship of a-z, 0-9 and -, by which it is read")
    if made.manifest is not None and made.manifest not in paths:
        raise ValueError("the manifest is none of the files")


def _only(error: BaseException) -> BaseException:
    """The one error of a group of one."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
