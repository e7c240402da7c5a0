"""Uncached ad-hoc variants beside thumbor, on the same bytes, settings and core, and what our pipeline adds to libvips's own call in the same child.

No variant is asked for twice: a background that an opaque picture never shows tells ours apart, and thumbor keeps nothing. Ours is stored before it is answered, as in production.
Both sides have one core, children included; who asks has the other, over one connection, and sides take turns.
"""

import asyncio
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
from PIL import Image

from benchmarks import cores
from benchmarks.jobs import _jpeg
from benchmarks.machine import progress
from benchmarks.peers.thumbor import Thumbor
from benchmarks.results import table
from benchmarks.server import Mediacdn
from mediacdn import open_sandbox
from mediacdn_vips.actions import _ENVIRONMENT
from mediacdn_vips.config import ImageConfig
from mediacdn_vips.request import Limits, Spec, Work

TITLE = "Uncached variants"
WIDTH = 512
TOML = """
[variants]
unsigned = true
[recipes.image]
children = 1
"""


class Case(msgspec.Struct, frozen=True):
    """A picture, the format that is asked for, and the ratio to reach."""

    name: str
    size: tuple[int, int]
    format: str
    goal: float


CASES = (
    Case("2 MP JPEG to JPEG", (1632, 1224), "jpeg", 1.15),
    Case("12 MP JPEG to JPEG", (4000, 3000), "jpeg", 0.95),
    Case("2 MP JPEG to WebP", (1632, 1224), "webp", 0.95),
    Case("12 MP JPEG to WebP", (4000, 3000), "webp", 0.95),
)


def beside(folder: Path, rounds: int, asked: int) -> list[dict[str, Any]]:
    """Variants a second of both, and the ratio, by case."""
    files = folder / "files"
    files.mkdir()
    server_core, load_core = cores.pair()
    with cores.pinned(server_core):
        ours, thumbor = Mediacdn(folder / "data", toml=TOML, plugins=("vips",)), Thumbor(folder, files)
    found = []
    try:
        with cores.pinned(load_core), httpx.Client(timeout=60, trust_env=False) as client:
            for number, case in enumerate(CASES):
                file = files / f"{number}.jpg"
                file.write_bytes(_jpeg(*case.size, number))
                media = ours.upload(file, public="true")
                count = iter(range(1, 1 << 24))

                def mine(media: str = media, case: Case = case, count: Any = count) -> str:
                    return f"{ours.url}/v1/media/{media}/v/w={WIDTH},format={case.format},quality=80,background={next(count):06x}"

                def theirs(file: Path = file, case: Case = case) -> str:
                    return f"{thumbor.url}/unsafe/{WIDTH}x0/filters:format({case.format}):quality(80)/{file.name}"

                for ask in (mine, theirs):
                    _check(client.get(ask()), case)
                rates: dict[Any, list[float]] = {mine: [], theirs: []}
                for turn in range(rounds):
                    for ask in (mine, theirs) if turn % 2 else (theirs, mine):
                        rates[ask].append(_rate(client, ask, asked))
                ratio = statistics.median(a / b for a, b in zip(rates[mine], rates[theirs], strict=True))
                found.append({"case": case.name, "goal": case.goal, "ours": statistics.median(rates[mine]), "thumbor": statistics.median(rates[theirs]), "ratio": ratio})  # fmt: skip
                progress(f"{case.name}: {ratio:.2f} of thumbor, goal {case.goal}")
    finally:
        ours.stop()
        thumbor.stop()
    return found


def _rate(client: httpx.Client, ask: Callable[[], str], asked: int) -> float:
    began = time.perf_counter()
    for _ in range(asked):
        client.get(ask()).raise_for_status()
    return asked / (time.perf_counter() - began)


def _check(answer: httpx.Response, case: Case) -> None:
    answer.raise_for_status()
    picture = Image.open(io.BytesIO(answer.content))
    if (picture.format or "").lower() != case.format or picture.width != WIDTH:
        raise RuntimeError(f"{answer.url} is a {picture.format} of {picture.size}")


async def _added(times: int) -> list[dict[str, Any]]:
    """Milliseconds of libvips's own call, and of a request to the child that makes the same, by case."""
    config, found = ImageConfig(), []
    limits = Limits(config.max_bytes, config.max_pixels, config.max_frames, config.max_edge, config.resident)
    async with open_sandbox(call="benchmarks.variants_child:run", children=1, jobs=1 << 30, environment=_ENVIRONMENT) as box:
        for name, size, w in (("12 MP JPEG to 320 px", (4000, 3000), 320), ("2 MP JPEG to 512 px", (1632, 1224), 512)):
            with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as output:
                source.write(_jpeg(*size, 1))
                source.flush()
                work = msgspec.to_builtins(Work(limits=limits, spec=Spec(w=w, format="jpeg", quality=80)))
                bare, whole = [], []
                for number in range(times + 3):
                    for own in (number % 2, 1 - number % 2):
                        began = time.perf_counter()
                        request = {"bare": bool(own), "w": w, "format": "jpeg", "work": work}
                        inside = (await box.run(request, [source.fileno(), output.fileno()], deadline=30))["seconds"]
                        if number >= 3:
                            (bare if own else whole).append(inside if own else time.perf_counter() - began)
            own_time, all_time = (statistics.median(each) * 1000 for each in (bare, whole))
            found.append({"case": name, "libvips": own_time, "request": all_time, "added": all_time / own_time - 1})
            progress(f"{name}: libvips {own_time:.1f} ms, our request {all_time:.1f} ms, {all_time / own_time - 1:+.0%}")
    return found


def measure(*, full: bool) -> dict[str, Any]:
    """Both comparisons."""
    os.environ.setdefault("VIPS_CONCURRENCY", "1")
    added = asyncio.run(_added(200 if full else 20))
    with tempfile.TemporaryDirectory(prefix="mediacdn-bench-") as place:
        return {"added": added, "beside": beside(Path(place), 11 if full else 3, 60 if full else 8)}


def section(outcome: dict[str, Any]) -> str:
    """The outcome for RESULTS.md."""
    beside_thumbor = table(
        ["512 px wide, per second on one core", "mediacdn", "thumbor", "ratio", "goal"],
        [
            [each["case"], f"{each['ours']:.1f}", f"{each['thumbor']:.1f}", f"{each['ratio']:.2f}", each["goal"]]
            for each in outcome["beside"]
        ],
    )
    added = table(
        ["in one child", "libvips's own call, ms", "a request to the child, ms", "added", "goal"],
        [[each["case"], f"{each['libvips']:.1f}", f"{each['request']:.1f}", f"{each['added']:+.0%}", "+15%"] for each in outcome["added"]],
    )
    return f"""{beside_thumbor}

Ratios are medians of neighbouring turns. thumbor stores nothing; ours stores each variant, durably, before it answers.

{added}"""


if __name__ == "__main__":
    print(section(measure(full=False)))
