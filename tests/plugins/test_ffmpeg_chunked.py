"""Long films made in parts: what is joined plays as if it had been made in one go, whoever made which part in which order."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mediacdn.model import Made, Unit
from mediacdn.recipes.arguments import normalise
from mediacdn_ffmpeg import HlsConfig
from mediacdn_ffmpeg.chunked import ChunkedHls, open_chunked
from tests.plugins.reels import Given, Taken, opened, taken
from tests.services.films import ffmpeg

pytestmark = pytest.mark.anyio


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

    def __init__(self, hls: ChunkedHls, film: Path, **given: Any) -> None:
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


@pytest.fixture(scope="module")
async def hls() -> AsyncIterator[ChunkedHls]:
    async with opened(open_chunked, HlsConfig(seconds=1, chunk=4, whole=0, preset="ultrafast", renditions=("360p", "240p"))) as action:
        yield action


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """18.5 s of 29.97 frames a second, with B-frames, key frames where they fall, and two tracks of sound."""
    path = tmp_path_factory.mktemp("films") / "film.mp4"
    ffmpeg(
        "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=30000/1001:duration=18.5", "-f", "lavfi", "-i", "sine=441:duration=18.5:sample_rate=44100",
        "-f", "lavfi", "-i", "sine=880:duration=18.5", "-map", "0", "-map", "1", "-map", "2", "-c:v", "libx264", "-preset", "veryfast",
        "-pix_fmt", "yuv420p", "-g", "77", "-c:a", "aac", "-metadata:s:a:1", "language=deu", str(path),
    )  # fmt: skip
    return path


def written(files: dict[str, bytes], folder: Path) -> Path:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder / "master.m3u8"


async def test_it_plays(hls: ChunkedHls, film: Path, tmp_path: Path) -> None:
    maker = Maker(hls, film)
    units = await maker.units()
    print([u.name for u in units])
    for each in units:
        await maker.make(each)
        print(each.name, msgspec.json.encode(maker.made[each.name].facts)[:600])
    files = await maker.joined(whole=True)
    assert files
    master = written(files, tmp_path)
    print(files["360p.m3u8"].decode(), files["master.m3u8"].decode())
    ffmpeg("-xerror", "-i", str(master), "-map", "0", "-f", "null", "-")
