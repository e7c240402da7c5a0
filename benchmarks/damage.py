"""Cache files that are cut short, changed and removed while they are served from: how many answers had wrong bytes.

Objects come from a storage that is not local and live in the disk tier alone (no memory tier). A vandal works through the files of the cache while clients read and compare.
"""

import asyncio
import hashlib
import os
import random
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.machine import progress
from benchmarks.origin import Origin
from benchmarks.results import table
from benchmarks.server import Mediacdn
from benchmarks.wire import Wire, opened, run

TITLE = "A damaged cache"
SIZES = (10_240, 100_000, 1_000_000, 6_000_000)
READERS = 8
TOML = "[edge]\nmemory = 0\n"


def _truncated(file: Path, chance: random.Random) -> None:
    os.truncate(file, chance.randrange(file.stat().st_size))


def _flipped(file: Path, chance: random.Random) -> None:
    with file.open("r+b") as opened_file:
        at = chance.randrange(file.stat().st_size)
        opened_file.seek(at)
        byte = opened_file.read(1)
        opened_file.seek(at)
        opened_file.write(bytes([byte[0] ^ 0x40]))


def _grown(file: Path, chance: random.Random) -> None:
    with file.open("ab") as opened_file:
        opened_file.write(chance.randbytes(100))


def _removed(file: Path, chance: random.Random) -> None:
    file.unlink()


DEEDS: dict[str, Callable[[Path, random.Random], None]] = {
    "truncated": _truncated,
    "flipped": _flipped,
    "grown": _grown,
    "removed": _removed,
}


class Vandal(threading.Thread):
    """Damages a file of the cache every so often; the index (cache.db and what belongs to it) only where `index` says so. `deeds` counts."""

    def __init__(self, cache: Path, pause: float, *, index: bool = False) -> None:
        super().__init__(daemon=True)
        self.deeds: Counter[str] = Counter()
        self._cache, self._pause, self._index = cache, pause, index
        self._ending = threading.Event()
        self.start()

    def run(self) -> None:
        chance = random.Random(3)
        while not self._ending.wait(self._pause):
            try:
                files = [
                    file for file in self._cache.rglob("*") if file.suffix == ".val" or (self._index and file.name.startswith("cache.db"))
                ]
                if not files:
                    continue
                deed, file = chance.choice(list(DEEDS)), chance.choice(files)
                DEEDS[deed](file, chance)
            except (FileNotFoundError, ValueError, IndexError):
                continue  # evicted, replaced, or empty already
            self.deeds[("index " if file.suffix != ".val" else "") + deed] += 1

    def done(self) -> None:
        self._ending.set()
        self.join()


def measure(*, full: bool) -> dict[str, Any]:
    """The run of `python -m benchmarks damage`. Raises: RuntimeError when there were no cache files to damage."""
    seconds = 60.0 if full else 5.0
    return {"results": [_damaged("bodies", seconds, index=False), _damaged("bodies and index", seconds, index=True)]}


def _damaged(name: str, seconds: float, *, index: bool) -> dict[str, Any]:
    answers: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="mediacdn-bench-") as folder:
        root = Path(folder)
        origin = Origin(root, delay=0.001)
        server = Mediacdn(root / "data", toml=TOML + origin.toml, plugins=origin.plugins, environ=origin.environ)
        try:
            objects: dict[str, bytes] = {}
            for number in range(40):
                body = b"\x00\x01" + os.urandom(SIZES[number % len(SIZES)] - 2)
                (root / "source").write_bytes(body)
                objects[server.signed(server.upload(root / "source"))] = body
            origin.forget()
            run(lambda: _read(server.url, objects, 2.0, Counter()))
            vandal = Vandal(root / "data" / "edge", 0.01, index=index)
            try:
                run(lambda: _read(server.url, objects, seconds, answers))
            finally:
                vandal.done()
            reads = origin.counted()["open"]
        finally:
            server.stop()
    if not vandal.deeds:
        raise RuntimeError("there were no cache files to damage: the disk tier kept nothing")
    progress(f"{name}: {dict(answers)} with {dict(vandal.deeds)}, {reads} reads of the origin")
    return {"name": name, "answers": dict(answers), "deeds": dict(vandal.deeds), "reads": reads}


async def _read(url: str, objects: dict[str, bytes], seconds: float, answers: "Counter[str]") -> None:
    """Read whole objects and spans of them for so long, and count what came."""
    loop = asyncio.get_running_loop()
    until, numbers = loop.time() + seconds, count()
    digests = {path: hashlib.sha256(body).digest() for path, body in objects.items()}

    async def reader(seed: int) -> None:
        chance = random.Random(seed)
        wire: Wire | None = None
        while loop.time() < until:
            path = chance.choice(list(objects))
            body, span = objects[path], ""
            if chance.random() < 0.5:
                start = chance.randrange(len(body))
                stop = min(len(body), start + chance.randrange(1, 500_000))
                body, span = body[start:stop], f"Range: bytes={start}-{stop - 1}"
            try:
                wire = wire or (await opened(url, 1, numbers))[0]
                answer = await asyncio.wait_for(wire.ask(path, span), 30)
            except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
                answers["cut" if not isinstance(error, TimeoutError) else "timed out"] += 1
                wire = None
                continue
            if answer.status != (206 if span else 200):
                answers[f"{answer.status}"] += 1
            elif (span and answer.body != body) or (not span and hashlib.sha256(answer.body).digest() != digests[path]):
                answers["wrong"] += 1
            else:
                answers["right"] += 1
        if wire is not None:
            wire.close()

    await asyncio.gather(*(reader(number) for number in range(READERS)))


def section(outcome: dict[str, Any]) -> str:
    """The outcome for RESULTS.md."""
    rows = []
    for each in outcome["results"]:
        answers = each["answers"]
        errors = sum(number for what, number in answers.items() if what.isdigit())
        deeds = ", ".join(f"{number:,} {what}" for what, number in sorted(each["deeds"].items()))
        cut = answers.get("cut", 0) + answers.get("timed out", 0)
        rows.append(
            (
                each["name"],
                f"{answers.get('right', 0):,}",
                f"**{answers.get('wrong', 0)}**",
                f"{cut}",
                f"{errors}",
                f"{each['reads']:,}",
                deeds,
            )
        )
    heads = ("damaged", "right answers", "wrong bodies", "cut short", "errors", "reads of the origin", "deeds")
    return f"""{table(heads, rows)}

{READERS} clients read 40 objects of 10 KB to 6 MB, whole and in spans at random, and compare every answer; the cache is on disk alone. Meanwhile a file of it is damaged every 10 ms. An answer that has
begun when its file is damaged may be cut short, which a client sees; it must never be whole and wrong."""
