"""Films that are fit for a rendition as they are: copied, not transcoded, and only then."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mediacdn_ffmpeg import HlsConfig
from mediacdn_ffmpeg.streams import Hls, open_hls
from tests.plugins.reels import opened, run, taken
from tests.services.films import ffmpeg

pytestmark = pytest.mark.anyio
B_FRAMES = ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-b:v", "600k")
AAC = ("-c:a", "aac", "-b:a", "96k")
EVERY = ("-g", "50", "-keyint_min", "50", "-sc_threshold", "0")


@pytest.fixture(scope="module")
async def hls() -> AsyncIterator[Hls]:
    async with opened(open_hls, HlsConfig(seconds=2, preset="ultrafast", renditions=("480p", "240p"))) as action:
        yield action


def packets(path: Path, kind: str) -> list[str]:
    """The digests of a stream's packets, as they are decoded."""
    told = ffmpeg("-i", str(path), "-map", f"0:{kind}:0", "-c", "copy", "-f", "framemd5", "-")
    return [line.split(",")[5].strip() for line in told.decode().splitlines() if line and not line.startswith("#")]


FITS: dict[str, tuple[tuple[str, ...], tuple[str, ...], bool, bool]] = {
    "fit.mp4": ((*B_FRAMES, *EVERY), AAC, True, True),
    "fit.mov": ((*B_FRAMES, *EVERY, "-profile:v", "main"), AAC, True, True),
    "seldom.mp4": ((*B_FRAMES, "-g", "1000", "-sc_threshold", "0"), AAC, False, True),
    "open.mp4": ((*B_FRAMES, *EVERY, "-x264-params", "open-gop=1"), AAC, False, False),
    "rich.mp4": ((*B_FRAMES[:-2], *EVERY, "-crf", "0", "-profile:v", "high444"), AAC, False, True),
    "loud.mp4": ((*B_FRAMES, *EVERY), (*AAC, "-ac", "6"), True, False),
    "mp3.mp4": ((*B_FRAMES, *EVERY), ("-c:a", "libmp3lame"), True, False),
    "oblong.mp4": ((*B_FRAMES, *EVERY, "-vf", "setsar=4/3"), AAC, False, True),
    "sound.m4a": (("-vn",), AAC, False, True),
}


@pytest.mark.parametrize("name", FITS)
async def test_what_fits_is_copied(hls: Hls, name: str, tmp_path: Path) -> None:
    video, audio, pictures, sound = FITS[name]
    film = tmp_path / name
    ffmpeg(
        "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25:duration=7", "-f", "lavfi", "-i", "sine=duration=7:sample_rate=48000",
        *video, *audio, str(film),
    )  # fmt: skip
    with taken() as sink:
        files = sink.published(await run(hls, film, sink))
    for path, content in files.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content)
    ffmpeg("-xerror", "-i", str(tmp_path / "master.m3u8"), "-map", "0", "-f", "null", "-")
    top = tmp_path / ("audio.m3u8" if name == "sound.m4a" else "480p.m3u8")
    if name != "sound.m4a":
        assert (packets(top, "v") == packets(film, "v")) == pictures
        segments = [line for line in files["480p.m3u8"].decode().splitlines() if line.startswith("#EXTINF")]
        assert len(segments) == len([line for line in files["240p.m3u8"].decode().splitlines() if line.startswith("#EXTINF")])
    known = set(packets(film, "a"))
    assert all(each in known for each in packets(tmp_path / "audio.m3u8", "a")) == sound
