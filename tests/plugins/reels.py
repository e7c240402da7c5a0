"""The film actions called as the core calls them, on files; and what they made, read back."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import structlog
from prometheus_client import CollectorRegistry

from mediacdn.drivers import SystemClock
from mediacdn.hookspecs import Kit
from mediacdn.interfaces import Action
from mediacdn.model import Made, Media, Unit
from mediacdn.recipes.arguments import normalise
from mediacdn.sniff import sniff


class Given:
    """A file as an action's Source."""

    def __init__(self, path: Path, media_type: str | None = None) -> None:
        now = datetime.now(UTC)
        kind = media_type or sniff(path.read_bytes()[:8192])
        self._path = path
        self.media = Media(id="", owner="", media_type=kind, size=path.stat().st_size, created_at=now, updated_at=now)

    @asynccontextmanager
    async def file(self) -> AsyncIterator[int]:
        descriptor = os.open(self._path, os.O_RDONLY)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


class Taken:
    """A file and a folder as an action's Sink."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp())
        (self.path / "folder").mkdir()
        self._file = os.open(self.path / "file", os.O_RDWR | os.O_CREAT)
        self._folder = os.open(self.path / "folder", os.O_RDONLY)
        self.shares: list[float] = []

    def file(self) -> int:
        return self._file

    async def folder(self) -> int:
        return self._folder

    async def progress(self, share: float) -> None:
        self.shares.append(share)

    def body(self) -> bytes:
        return (self.path / "file").read_bytes()

    def published(self, made: Made) -> dict[str, bytes]:
        """What would be published, by path."""
        return {each.path: (self.path / "folder" / each.name).read_bytes() for each in made.files}

    def close(self) -> None:
        os.close(self._file)
        os.close(self._folder)
        shutil.rmtree(self.path)


@contextmanager
def taken() -> Iterator[Taken]:
    sink = Taken()
    try:
        yield sink
    finally:
        sink.close()


@asynccontextmanager
async def opened(open: Any, config: Any) -> AsyncIterator[Any]:
    """An action, open."""
    kit = Kit("", structlog.get_logger("test"), CollectorRegistry(), SystemClock(), True)
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(open(config, kit))


async def run(action: Action, path: Path, sink: Taken, media_type: str | None = None, **spec: Any) -> Made:
    return await action.run(Given(path, media_type), normalise(action.arguments, spec), sink)


class Kept:
    """What a unit has made, as the next one reads it."""

    def __init__(self, made: Made, sink: Taken) -> None:
        self.facts = msgspec.json.decode(msgspec.json.encode(made.facts))
        self.files = sink.published(made)

    @asynccontextmanager
    async def file(self, path: str) -> AsyncIterator[int]:
        descriptor = os.memfd_create("unit")
        os.write(descriptor, self.files[path])
        try:
            yield descriptor
        finally:
            os.close(descriptor)


class Maker:
    """Makes a film's units as the core does."""

    def __init__(self, hls: Any, film: Path, **given: Any) -> None:
        self.hls = hls
        self.source = Given(film)
        self.spec = normalise(hls.arguments, given)
        self.made: dict[str, Kept] = {}

    async def units(self) -> list[Unit]:
        return list(await self.hls.units(self.source, self.spec))

    async def make(self, unit: Unit) -> None:
        with taken() as sink:
            own = {name: self.made[name] for name in unit.after}
            self.made[unit.name] = Kept(await self.hls.make(self.source, self.spec, unit, own, sink), sink)

    async def joined(self, *, whole: bool) -> dict[str, bytes] | None:
        with taken() as sink:
            made = await self.hls.join(self.source, self.spec, self.made, sink, whole=whole)
            if made is None:
                return None
            own = sink.path / "folder"
            return {
                each.path: self.made[each.unit].files[each.name] if each.unit else (own / each.name).read_bytes() for each in made.files
            }
