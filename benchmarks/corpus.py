"""What every server of a comparison serves: ten thousand pictures of 10 KB, sixteen files of 1 MB and one of 256 MB, made once and kept, and their ids at ours.

The folder is `.test/bench` beneath the repository (`make clean` takes it away) or BENCH_FOLDER. Bytes are a pure function of a file's number; they begin as no format does, so that nothing
is decoded, and compress to nothing less.
"""

import json
import os
import random
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

from benchmarks.machine import REPOSITORY, progress
from benchmarks.server import Mediacdn
from mediacdn.config import Signing
from mediacdn.keyring import open_keyring
from mediacdn.signing import sign_query

PICTURES = 10_000
PICTURE = 10_240
LINKS = 100_000
LARGE = 16
FILM = 268_435_456
DAY = 86_400


def folder() -> Path:
    """Where files, data directories and reports are kept between runs."""
    place = Path(os.environ.get("BENCH_FOLDER", REPOSITORY / ".test" / "bench"))
    place.mkdir(parents=True, exist_ok=True)
    return place


class Corpus:
    """The files by name, and their ids at our server: `private` pictures, and what is `public` (the first pictures again, the large files and the film)."""

    def __init__(self, pictures: int = PICTURES) -> None:
        self.root = folder() / f"corpus-{pictures}"
        self.files = self.root / "files"
        self.pictures = [f"p{number:05}.bin" for number in range(pictures)]
        self.large = [f"m{number:02}.bin" for number in range(LARGE)]
        self.film = "film.bin"
        self.files.mkdir(parents=True, exist_ok=True)
        for number, name in enumerate([*self.pictures, *self.large, self.film]):
            self._write(number, name)

    @property
    def data(self) -> Path:
        """Our server's data directory."""
        return self.root / "data"

    def stored(self, server: Mediacdn) -> tuple[dict[str, str], dict[str, str]]:
        """Store what is not there yet; gives the ids of private pictures and of public files by name."""
        known = self.root / "ids.json"
        ids: dict[str, dict[str, str]] = json.loads(known.read_text()) if known.exists() else {"private": {}, "public": {}}
        wanted = {"private": self.pictures, "public": [*self.pictures, *self.large, self.film]}
        began, missing = time.monotonic(), sum(len(set(wanted[which]) - set(ids[which])) for which in wanted)
        for which, names in wanted.items():
            for name in names:
                if name not in ids[which]:
                    ids[which][name] = server.upload(self.files / name, public="true" if which == "public" else "false")
        if missing:
            known.write_text(json.dumps(ids))
            progress(f"stored {missing:,} files in {time.monotonic() - began:.0f} s")
        return ids["private"], ids["public"]

    def links(self, private: dict[str, str], links: int = LINKS) -> list[tuple[str, str]]:
        """Sign links of two days over the private pictures, each of its own viewer, with the key of the data directory; gives names and paths."""
        ring, now = open_keyring(Signing(), self.data).ring(), int(time.time())
        made = []
        for number in range(links):
            name = self.pictures[number % len(self.pictures)]
            path = sign_query(ring, f"/v1/media/{private[name]}", exp=now + 2 * DAY, iat=now, sub=f"viewer{number // len(self.pictures)}")
            made.append((name, path))
        return made

    def body(self, name: str, start: int = 0, stop: int | None = None) -> Callable[[], bytes]:
        """What gives the bytes of a file, or of a span of it, when asked."""
        return partial(_bytes, self.files / name, start, stop)

    def _write(self, number: int, name: str) -> None:
        size = {"p": PICTURE, "m": 1_048_576, "f": FILM}[name[0]]
        file = self.files / name
        if file.exists() and file.stat().st_size == size:
            return
        chance = random.Random(number)
        with file.open("wb") as out:
            out.write(b"\x00\x01")
            for at in range(2, size, 1_048_576):
                out.write(chance.randbytes(min(1_048_576, size - at)))


def _bytes(file: Path, start: int, stop: int | None) -> bytes:
    if start == 0 and stop is None:
        return _whole(file)
    with file.open("rb") as opened:
        opened.seek(start)
        return opened.read() if stop is None else opened.read(stop - start)


@cache
def _whole(file: Path) -> bytes:
    return file.read_bytes()
