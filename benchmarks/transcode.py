"""What the whole of `hls` costs beside ffmpeg alone: the processor and wall time of the action (looking, transcoding, checking, naming) over those of one plain command.

    python -m benchmarks.transcode [FILM.mp4] [--runs 3] [--chunk 60] [--box 1080] [--seconds 20]

The plain command makes the same ladder of the same film, with x264's own choice of threads; without FILM a noisy one of so many seconds, of that box of 16:9, is made. With
`--chunk` the action makes it in parts of so many seconds, one after the other, as one worker would. For a quiet machine.
"""

import argparse
import asyncio
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from mediacdn.testing import kit
from mediacdn_ffmpeg import HlsConfig, command
from mediacdn_ffmpeg.chunked import open_chunked
from mediacdn_ffmpeg.ladder import ladder
from mediacdn_ffmpeg.looking import open_looking
from mediacdn_ffmpeg.program import find
from mediacdn_ffmpeg.streams import open_hls
from tests.plugins.reels import Maker, opened, run, taken
from tests.services.films import ffmpeg

SPENT = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


def measured(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of processor time, children's included, and of the clock."""

    def spent() -> float:
        return sum(each.ru_utime + each.ru_stime for each in map(resource.getrusage, SPENT))

    before, began = spent(), time.monotonic()
    work()
    return spent() - before, time.monotonic() - began


def job(film: Path, chunk: int | None) -> None:
    """The action, as a worker calls it; its children end with it, and are counted."""

    async def once() -> None:
        if chunk:
            async with opened(open_chunked, HlsConfig(nice=0, chunk=chunk, whole=0)) as hls:
                maker = Maker(hls, film)
                for unit in sorted(await maker.units(), key=lambda unit: -unit.priority):
                    await maker.make(unit)
                assert await maker.joined(whole=True)
            return
        async with opened(open_hls, HlsConfig(nice=0)) as hls:
            with taken() as sink:
                await run(hls, film, sink)

    asyncio.run(once())


async def arguments(film: Path) -> list[str]:
    """The plain command's: the action's own, without its child around it, and with as many threads as x264 likes."""
    config, program = HlsConfig(), await find("")
    async with open_looking(config, kit("")) as looking:
        descriptor = os.open(film, os.O_RDONLY)
        try:
            found = await looking.film("video/mp4", descriptor)
        finally:
            os.close(descriptor)
    how = command.How(
        program=program.path, tonemaps=program.tonemaps, demuxer="mov", crf=config.crf, preset=config.preset, threads=config.threads, pixels=1 << 30
    )  # fmt: skip
    assert found.video is not None
    rungs = ladder(found.video.width, found.video.height, [int(each[:-1]) for each in config.renditions])
    made, _ = command.hls(found, rungs, how, container=config.container, seconds=config.seconds)
    made[made.index("-threads:v") + 1] = "0"
    return made


def plain(words: list[str], film: Path) -> None:
    with tempfile.TemporaryDirectory() as folder, film.open("rb") as source, open(os.devnull, "wb") as progress:
        told = [each.replace("{source}", str(source.fileno())).replace("{progress}", str(progress.fileno())) for each in words]
        subprocess.run(told, cwd=folder, pass_fds=(source.fileno(), progress.fileno()), check=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.transcode")
    parser.add_argument("film", nargs="?", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--chunk", type=int)
    parser.add_argument("--box", type=int, default=1080)
    parser.add_argument("--seconds", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        film = options.film or Path(folder) / "film.mp4"
        if options.film is None:
            noise = f"testsrc2=size={options.box * 16 // 9}x{options.box}:rate=25:duration={options.seconds},noise=alls=8:allf=t"
            sound = ("-f", "lavfi", "-i", f"sine=duration={options.seconds}", "-c:a", "aac")
            ffmpeg(
                "-f", "lavfi", "-i", noise, *sound, "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", str(film), timeout=300
            )
        words = asyncio.run(arguments(film))
        pairs = [(measured(lambda: job(film, options.chunk)), measured(lambda: plain(words, film))) for _ in range(options.runs)]
    for number, what in enumerate(("processor", "wall")):
        ours, theirs = (statistics.median(pair[which][number] for pair in pairs) for which in (0, 1))
        sys.stdout.write(f"{what}: the action {ours:.1f} s, ffmpeg {theirs:.1f} s, ratio {ours / theirs:.3f}\n")


if __name__ == "__main__":
    main()
