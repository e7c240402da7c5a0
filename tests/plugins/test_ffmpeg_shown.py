"""What shows a film or a piece of sound before it is played, and Opus: the actions of the plugin `ffmpeg` that make something small, on real films."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageStat

from mediacdn.errors import OverLimits, Undecodable
from mediacdn_ffmpeg import EncodeConfig, LookConfig
from mediacdn_ffmpeg.showing import LoudnessConfig, PreviewConfig, open_cover, open_drawing, open_loudness, open_opus, open_preview
from tests.plugins.reels import Taken, opened, run, taken
from tests.services.films import ffmpeg

pytestmark = pytest.mark.anyio

X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "25")


@pytest.fixture
def sink() -> Iterator[Taken]:
    with taken() as made:
        yield made


def film(path: Path, *colours: str, each: int = 4, size: str = "320x180") -> Path:
    inputs = [word for colour in colours for word in ("-f", "lavfi", "-i", f"color={colour}:size={size}:rate=25:duration={each}")]
    ffmpeg(*inputs, "-filter_complex", f"concat=n={len(colours)}", *X264, str(path))
    return path


def sound(path: Path, *more: str, volume: str = "0dB", seconds: float = 4) -> Path:
    ffmpeg("-f", "lavfi", "-i", f"sine=frequency=997:duration={seconds}:sample_rate=48000", *more, "-af", f"volume={volume}", str(path))
    return path


def colour(picture: Any) -> int:
    mean = ImageStat.Stat(picture.convert("RGB")).mean
    return mean.index(max(mean))


async def test_a_preview_is_of_all_the_film(sink: Taken, tmp_path: Path) -> None:
    """Red, green and blue for four seconds each: it moves through all three, and ends where it began."""
    async with opened(open_preview, PreviewConfig()) as preview:
        made = await run(preview, film(tmp_path / "film.mp4", "red", "lime", "blue"), sink, edge=64, clips=6)
        first = sink.body()
        with taken() as again:
            await run(preview, tmp_path / "film.mp4", again, edge=64, clips=6)
            assert again.body() == first
    with Image.open(sink.path / "file") as picture:
        assert (made.media_type, picture.format, picture.size, picture.info["loop"]) == ("image/webp", "WEBP", (64, 36), 0)
        seen = []
        for number in range(picture.n_frames):  # type: ignore[attr-defined]
            picture.seek(number)
            picture.load()
            seen.append((colour(picture), picture.info["duration"]))
    assert seen == [(0, 1250), (1, 1250), (2, 1250)], "what stands still is one picture"
    assert made.duration == 3.75


async def test_a_preview_moves_and_is_upright(sink: Taken, tmp_path: Path) -> None:
    lying = tmp_path / "lying.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25:duration=2", *X264, str(lying))
    ffmpeg("-display_rotation", "90", "-i", str(lying), "-c", "copy", str(tmp_path / "turned.mp4"))
    async with opened(open_preview, PreviewConfig()) as preview:
        made = await run(preview, tmp_path / "turned.mp4", sink, edge=160)
    different = set()
    with Image.open(sink.path / "file") as picture:
        assert (made.width, made.height) == picture.size == (90, 160)
        for number in range(picture.n_frames):  # type: ignore[attr-defined]
            picture.seek(number)
            different.add(picture.convert("L").tobytes())
    assert len(different) >= 5
    assert made.duration is not None
    assert made.duration <= 5


async def test_a_preview_has_its_bytes(sink: Taken, tmp_path: Path) -> None:
    """Of noise, which nothing makes small: less of it, then none."""
    noise = tmp_path / "noise.mp4"
    ffmpeg("-f", "lavfi", "-i", "nullsrc=size=320x180:rate=25:duration=3,geq=random(1)*255:128:128", *X264, "-crf", "10", str(noise))
    async with opened(open_preview, PreviewConfig(most=150_000)) as preview:
        await run(preview, noise, sink)
        assert 10_000 < len(sink.body()) <= 150_000
    async with opened(open_preview, PreviewConfig(most=1000)) as preview:
        with pytest.raises(OverLimits):
            await run(preview, noise, sink)


async def test_one_frame_is_a_preview_of_itself(sink: Taken, tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25:duration=0.04", *X264, str(tmp_path / "frame.mp4"))
    async with opened(open_preview, PreviewConfig()) as preview:
        made = await run(preview, tmp_path / "frame.mp4", sink)
    with Image.open(sink.path / "file") as picture:
        assert (made.width, picture.size) == (320, (320, 180))


@pytest.mark.parametrize(("name", "codec"), [("song.mp3", "libmp3lame"), ("song.flac", "flac"), ("song.m4a", "aac")])
async def test_a_cover_is_the_picture_that_comes_with_it(sink: Taken, tmp_path: Path, name: str, codec: str) -> None:
    Image.new("RGB", (500, 400), "lime").save(tmp_path / "cover.png")
    ffmpeg(
        "-f", "lavfi", "-i", "sine=duration=1", "-i", str(tmp_path / "cover.png"), "-map", "0", "-map", "1", "-c:a", codec, "-c:v", "mjpeg",
        "-disposition:v", "attached_pic", str(tmp_path / name),
    )  # fmt: skip
    async with opened(open_cover, LookConfig()) as cover:
        made = await run(cover, tmp_path / name, sink, media_type=None if name != "song.m4a" else "audio/mp4", edge=250)
        with Image.open(sink.path / "file") as picture:
            assert (made.media_type, (made.width, made.height), picture.format) == ("image/jpeg", (250, 200), "JPEG")
            assert picture.size == (250, 200)
            assert colour(picture) == 1


async def test_sound_without_a_cover_has_none(sink: Taken, tmp_path: Path) -> None:
    async with opened(open_cover, LookConfig()) as cover:
        made = await run(cover, sound(tmp_path / "song.mp3"), sink)
    assert made.media_type == ""
    assert sink.body() == b""


LOUD: list[tuple[str, str, float, float]] = [("wav", "0dB", -21.0, -18.06), ("mp3", "-10dB", -31.5, -28.06), ("flac", "10dB", -11.0, -8.06)]


@pytest.mark.parametrize(("ending", "volume", "integrated", "peak"), LOUD, ids=[row[0] for row in LOUD])
async def test_loudness_is_as_the_recommendation_has_it(
    sink: Taken, tmp_path: Path, ending: str, volume: str, integrated: float, peak: float
) -> None:
    """A tone of 997 Hz at -18 dBFS in one channel is -21 LUFS (EBU Tech 3341 has it at full scale: -3.01 LUFS)."""
    async with opened(open_loudness, LoudnessConfig()) as loudness:
        made = await run(loudness, sound(tmp_path / f"tone.{ending}", volume=volume), sink)
    told = made.facts["loudness"]
    assert told["integrated"] == pytest.approx(integrated, abs=0.4)
    assert told["true_peak"] == pytest.approx(peak, abs=0.4)
    assert 0 <= told["range"] < 1
    assert sink.body() == b""


async def test_silence_has_no_loudness(sink: Taken, tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "anullsrc=duration=1", str(tmp_path / "silence.wav"))
    async with opened(open_loudness, LoudnessConfig()) as loudness:
        made = await run(loudness, tmp_path / "silence.wav", sink)
        assert made.facts["loudness"] == {"integrated": None, "range": None, "true_peak": None}
        with pytest.raises(Undecodable):
            await run(loudness, film(tmp_path / "film.mp4", "red"), sink)


async def test_the_outline_as_a_picture(sink: Taken, tmp_path: Path) -> None:
    """Two seconds of a tone, then two of silence: high on the left, a line on the right, nothing between."""
    ffmpeg("-f", "lavfi", "-i", "aevalsrc=if(lt(t\\,2)\\,0.5*sin(2*PI*440*t)\\,0):d=4:s=48000", str(tmp_path / "half.wav"))
    async with opened(open_drawing, LoudnessConfig()) as drawing:
        made = await run(drawing, tmp_path / "half.wav", sink, width=400, height=101)
    with Image.open(sink.path / "file") as found:
        picture = found.convert("RGBA")
    assert (made.media_type, made.width, made.height, picture.size) == ("image/png", 400, 101, (400, 101))
    alpha = picture.getchannel("A")
    heights = [sum(alpha.getpixel((x, y)) == 255 for y in range(101)) for x in (50, 150, 250, 350)]  # type: ignore[misc]
    assert heights[0] == pytest.approx(51, abs=3)
    assert heights[1] == pytest.approx(51, abs=3)
    assert heights[2:] == [1, 1]


@pytest.mark.parametrize("channels", [1, 2, 6])
async def test_opus(sink: Taken, tmp_path: Path, channels: int) -> None:
    path = sound(tmp_path / "song.flac", "-ac", str(channels))
    async with opened(open_opus, EncodeConfig()) as opus:
        made = await run(opus, path, sink, rate=64)
        first = sink.body()
        with taken() as again:
            await run(opus, path, again, rate=64)
            assert again.body() == first
    assert (made.media_type, made.codecs) == ("audio/ogg", "opus")
    assert made.duration == pytest.approx(4, abs=0.1)
    assert 10_000 < len(first) < 60_000
    assert b"OpusHead" in first[:60]
    ffmpeg("-xerror", "-i", str(sink.path / "file"), "-f", "null", "-")


async def test_what_has_no_sound_is_no_opus(sink: Taken, tmp_path: Path) -> None:
    async with opened(open_opus, EncodeConfig()) as opus:
        with pytest.raises(Undecodable, match="no sound"):
            await run(opus, film(tmp_path / "film.mp4", "red"), sink)
