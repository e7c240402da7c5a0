"""A storage far away, for benchmarks: objects in files, but no local paths, 50 ms before the first byte, and a line in a log for every read and every head.

It is a plugin like any other: `Origin.place` writes the distribution that makes mediacdn find it, into a folder that goes on the server's path.
"""

import os
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import anyio
from anyio import to_thread
from msgspec import Struct

from mediacdn import ByteRange, Driver, Kit, NotFound, ObjectCorrupt, ObjectInfo, hookimpl

CHUNK = 262_144
PLUGIN = "mediacdn_far"


class FarConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Where objects and the log of reads lie, and the seconds before a first byte."""

    path: str
    log: str
    delay: float = 0.05


class Far:
    """See `mediacdn.Storage`. Nothing is made durable: it is a benchmark's."""

    def __init__(self, config: FarConfig) -> None:
        self._root, self._delay = Path(config.path), config.delay
        self._log = os.open(config.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    async def head(self, key: str) -> ObjectInfo:
        self._note("head", key)
        await anyio.sleep(self._delay)
        return self._info(key)

    @asynccontextmanager
    async def open(self, key: str, span: ByteRange | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        self._note("open", f"{key} {span.start}-{span.stop}" if span else key)
        await anyio.sleep(self._delay)
        info = self._info(key)  # NotFound, where there is nothing
        yield self._read(key, span or ByteRange(0, info.size))

    async def put(self, key: str, chunks: AsyncIterable[bytes], *, size: int | None = None) -> ObjectInfo:
        file = self._file(key)
        fresh = file.with_name(f"{file.name}.{os.getpid()}.writing")
        fresh.parent.mkdir(parents=True, exist_ok=True)
        try:
            with fresh.open("wb") as out:
                async for chunk in chunks:
                    await to_thread.run_sync(out.write, bytes(chunk))
            fresh.replace(file)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        return self._info(key)

    async def delete(self, key: str) -> None:
        self._file(key).unlink(missing_ok=True)

    async def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        for file in sorted(self._root.rglob("*")):
            key = file.relative_to(self._root).as_posix()
            if file.is_file() and key.startswith(prefix) and not key.endswith(".writing"):
                yield self._info(key)

    def _file(self, key: str) -> Path:
        return self._root / key

    def _info(self, key: str) -> ObjectInfo:
        try:
            status = self._file(key).stat()
        except FileNotFoundError:
            raise NotFound() from None
        return ObjectInfo(key, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC), f"{status.st_mtime_ns}-{status.st_size}")

    def _note(self, what: str, about: str) -> None:
        os.write(self._log, f"{what} {about}\n".encode())

    async def _read(self, key: str, span: ByteRange) -> AsyncIterator[bytes]:
        with self._file(key).open("rb") as file:
            file.seek(span.start)
            left = span.length
            while left:
                piece = await to_thread.run_sync(file.read, min(CHUNK, left))
                if not piece:
                    raise ObjectCorrupt()
                left -= len(piece)
                yield piece


@asynccontextmanager
async def open_far(config: FarConfig, kit: Kit) -> AsyncIterator[Far]:
    """Open the storage, making its folder."""
    await anyio.Path(config.path).mkdir(parents=True, exist_ok=True)
    yield Far(config)


@hookimpl
def mediacdn_drivers() -> list[Driver]:
    return [Driver(seam="storage", name="far", config=FarConfig, open=open_far)]


class Origin:
    """The place of such a storage: what a server needs to use it, and what was read from it so far."""

    def __init__(self, root: Path, delay: float = 0.05) -> None:
        self._log = root / "origin.log"
        self.plugins = (PLUGIN.removeprefix("mediacdn_"),)
        self.environ = {"PYTHONPATH": os.pathsep.join(filter(None, [str(_placed(root)), os.environ.get("PYTHONPATH", "")]))}
        self.toml = f'[storage.default]\ndriver = "far"\npath = "{root}/origin"\nlog = "{self._log}"\ndelay = {delay}\n'

    def counted(self) -> Counter[str]:
        """How many reads ("open") and heads there were."""
        return Counter(line.split()[0] for line in self._log.read_text().splitlines()) if self._log.exists() else Counter()

    def forget(self) -> None:
        """Count from nothing again; writers append, so that cutting the file is enough."""
        os.truncate(self._log, 0)


def _placed(root: Path) -> Path:
    """Write an installed distribution by hand: a package that is this module, and the entry point that names it."""
    place = root / "site"
    about = place / f"{PLUGIN}-1.dist-info"
    about.mkdir(parents=True, exist_ok=True)
    (place / f"{PLUGIN}.py").write_text(Path(__file__).read_text())
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PLUGIN.replace('_', '-')}\nVersion: 1\n")
    (about / "entry_points.txt").write_text(f"[mediacdn]\n{PLUGIN.removeprefix('mediacdn_')} = {PLUGIN}\n")
    return place
