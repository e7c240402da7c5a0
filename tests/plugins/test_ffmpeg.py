"""Films of every kind made to stream, and hostile ones refused with a sentence: the actions of the plugin `ffmpeg`, on real films, by the real ffmpeg."""

import asyncio
import json
import os
import random
import re
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import ValidationError, convert

from mediacdn.errors import ConfigError, OverLimits, Undecodable
from mediacdn.model import Made, Media
from mediacdn_ffmpeg import EncodeConfig, HlsConfig, LookConfig, mediacdn_plan_jobs, playlists, program
from mediacdn_ffmpeg.codecs import name as codec_name
from mediacdn_ffmpeg.ladder import fitted, ladder
from mediacdn_ffmpeg.looking import open_facts, open_poster, open_storyboard, open_waveform
from mediacdn_ffmpeg.making import open_mp4
from mediacdn_ffmpeg.streams import Hls, open_hls
from tests.plugins.reels import Given, Taken, opened, run, taken
from tests.services.films import ffmpeg

pytestmark = pytest.mark.anyio

SIZE = "320x180"
X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "25")


def pictures(size: str = SIZE, rate: int = 25, seconds: float = 2) -> tuple[str, ...]:
    return ("-f", "lavfi", "-i", f"testsrc2=size={size}:rate={rate}:duration={seconds}")


def tone(frequency: int = 440, seconds: float = 2) -> tuple[str, ...]:
    return ("-f", "lavfi", "-i", f"sine=frequency={frequency}:duration={seconds}")


FILMS: dict[str, tuple[str, ...]] = {
    "end.mp4": (*pictures("640x360"), *tone(), *X264, "-c:a", "aac"),
    "first.mp4": (*pictures(), *tone(), *X264, "-c:a", "aac", "-movflags", "+faststart"),
    "fragments.mp4": (*pictures(), *tone(), *X264, "-c:a", "aac", "-movflags", "frag_keyframe+empty_moov"),
    "odd.mkv": (*pictures("181x321"), *X264[:4], "-pix_fmt", "yuv444p"),
    "vp8.webm": (*pictures(), *tone(), "-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libvorbis"),
    "vp9.webm": (*pictures(), "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"),
    "hevc10.mp4": (*pictures(), "-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p10le", "-x265-params", "log-level=error"),
    "bright.mp4": (
        *pictures(), "-vf", "setparams=color_trc=smpte2084", "-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p10le",
        "-color_trc", "smpte2084", "-x265-params", "log-level=error:transfer=smpte2084",
    ),
    "old.avi": (*pictures(), *tone(), "-c:v", "mpeg4", "-c:a", "libmp3lame"),
    "stream.ts": (*pictures(), *tone(), *X264, "-c:a", "aac"),
    "old.flv": (*pictures(), *tone(), "-c:v", "flv1", "-c:a", "libmp3lame", "-ar", "44100"),
    "frame.mp4": (*pictures(seconds=0.04), *X264),
    "silent.mov": (*pictures(), *X264),
    "two.mp4": (
        *pictures(), *tone(), *tone(880), "-map", "0", "-map", "1", "-map", "2", "-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=deu",
        *X264, "-c:a", "aac",
    ),
    "uneven.mkv": (
        *pictures(), *tone(seconds=2.5), "-filter:v", "setpts='if(lt(N,25),N/25/TB,(1+(N-25)/16)/TB)'", "-fps_mode", "vfr", *X264, "-c:a", "aac",
    ),
    "fast.mp4": (*pictures(rate=120), *X264),
    "oblong.mp4": (*pictures("240x180"), *X264, "-vf", "setsar=4/3"),
    "sound.mp3": (*tone(), "-c:a", "libmp3lame"),
    "sound.flac": (*tone(), "-c:a", "flac"),
}  # fmt: skip
SHOWN = {
    "end.mp4": ["640x360", "426x240"], "odd.mkv": ["180x320"], "oblong.mp4": ["320x180"], "turned.mp4": ["180x320"],
    "sound.mp3": [], "sound.flac": [],
}  # fmt: skip


@pytest.fixture(scope="module")
def reel(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A film by its name, made once."""
    folder = tmp_path_factory.mktemp("reels")

    def made(name: str) -> Path:
        path = folder / name
        if not path.exists() and name == "turned.mp4":
            ffmpeg("-display_rotation", "90", "-i", str(made("first.mp4")), "-c", "copy", str(path))
        elif not path.exists():
            ffmpeg(*FILMS[name], str(path))
        return path

    return made


@pytest.fixture(scope="module")
async def hls() -> AsyncIterator[Hls]:
    async with opened(open_hls, HlsConfig(seconds=1, preset="ultrafast")) as action:
        yield action


@pytest.fixture
def sink() -> Iterator[Taken]:
    with taken() as made:
        yield made


def attributes(line: str) -> dict[str, str]:
    return {name: value.strip('"') for name, value in re.findall(r'([A-Z-]+)=("[^"]*"|[^,]*)', line)}


def lengths(playlist: str) -> list[float]:
    return [float(each) for each in re.findall(r"#EXTINF:([0-9.]+),", playlist)]


@pytest.mark.parametrize("name", [*FILMS, "turned.mp4"])
async def test_a_film_of_any_kind_streams(hls: Hls, reel: Any, sink: Taken, name: str, tmp_path: Path) -> None:
    made = await run(hls, reel(name), sink)
    assert made.media_type == "application/vnd.apple.mpegurl"
    files = sink.published(made)
    order = list(files)
    assert order[-1] == made.manifest == "master.m3u8"
    assert [path.startswith("segments/") for path in order] == sorted((path.startswith("segments/") for path in order), reverse=True)
    master = files["master.m3u8"].decode()
    assert sink.body() == files["master.m3u8"]
    lines = master.splitlines()
    streams = [(attributes(line), lines[at + 1]) for at, line in enumerate(lines) if line.startswith("#EXT-X-STREAM-INF:")]
    assert streams
    for told, playlist in streams:
        assert int(told["BANDWIDTH"]) >= int(told["AVERAGE-BANDWIDTH"]) > 1000
        assert re.fullmatch(r"(avc1\.(?:42|4d|64)[0-9a-f]{4},?)?(mp4a\.40\.2)?", told["CODECS"])
        text = files[playlist].decode()
        assert text.splitlines()[-1] == "#EXT-X-ENDLIST"
        referred = re.findall(r'URI="([^"]+)"', text) + [line for line in text.splitlines() if line and not line.startswith("#")]
        assert set(referred) <= set(files), "what is listed is there"
        assert max(lengths(text)) <= int(re.findall(r"TARGETDURATION:(\d+)", text)[0]) + 0.5
    if "FRAME-RATE" in streams[0][0]:
        assert float(streams[0][0]["FRAME-RATE"]) <= 60
        assert [told["RESOLUTION"] for told, _ in streams] == SHOWN.get(name, [SIZE])
        assert len({tuple(lengths(files[playlist].decode())) for _, playlist in streams}) == 1, "segments are aligned across renditions"
        assert sum(lengths(files[streams[0][1]].decode())) == pytest.approx(2.36 if name == "uneven.mkv" else made.duration, abs=0.15)
    for told in [attributes(line) for line in lines if line.startswith("#EXT-X-I-FRAME-STREAM-INF:")]:
        text = files[told["URI"]].decode()
        assert told["CODECS"].startswith("avc1.")
        init = files[re.findall(r'URI="([^"]+)"', text)[0]]
        ranges = re.findall(r"#EXT-X-BYTERANGE:(\d+)@0\n(.+)", text)
        assert len(ranges) == len(lengths(text))
        for number, (stop, segment) in enumerate(ranges):
            assert 0 < int(stop) <= len(files[segment])
            if number == 0:
                key = tmp_path / "key.mp4"
                key.write_bytes(init + files[segment][: int(stop)])
                assert ffmpeg("-v", "fatal", "-i", str(key), "-frames:v", "1", "-f", "rawvideo", "-")
    assert sink.shares == sorted(sink.shares)
    for path, content in files.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content)
    ffmpeg("-xerror", "-i", str(tmp_path / "master.m3u8"), "-map", "0", "-f", "null", "-")


async def test_two_tracks_of_sound(hls: Hls, reel: Any, sink: Taken) -> None:
    """They stand beside the renditions, in which there is no sound; the first is played until another is asked for."""
    made = await run(hls, reel("two.mp4"), sink)
    master = sink.published(made)["master.m3u8"].decode()
    media = [attributes(line) for line in master.splitlines() if line.startswith("#EXT-X-MEDIA:")]
    assert [(each["LANGUAGE"], each["DEFAULT"], each.get("URI")) for each in media] == [
        ("eng", "YES", "audio.m3u8"),
        ("deu", "NO", "audio2.m3u8"),
    ]


async def test_the_same_film_gives_the_same_bytes(hls: Hls, reel: Any) -> None:
    runs = []
    for _ in range(2):
        with taken() as sink:
            runs.append(sink.published(await run(hls, reel("end.mp4"), sink)))
    assert runs[0] == runs[1]


async def test_transport_streams_by_choice(hls: Hls, reel: Any, sink: Taken, tmp_path: Path) -> None:
    made = await run(hls, reel("end.mp4"), sink, container="mpegts", renditions="240p")
    files = sink.published(made)
    assert {each.media_type for each in made.files} == {"video/mp2t", "application/vnd.apple.mpegurl"}
    assert "#EXT-X-VERSION:3" in files["240p.m3u8"].decode()
    assert 'CODECS="avc1.' in files["master.m3u8"].decode()
    for path, content in files.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content)
    ffmpeg("-xerror", "-i", str(tmp_path / "master.m3u8"), "-f", "null", "-")


# Bad input


def hostile(reel: Any, name: str) -> tuple[bytes, str]:
    film, noise = reel("first.mp4").read_bytes(), random.Random(7)
    flipped = bytearray(film)
    for at in range(3000, len(film), 150):
        flipped[at] ^= 1 << noise.randrange(8)
    playlist = (
        b"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:10.0,\nhttp://127.0.0.1:PORT/ssrf\n#EXTINF:10.0,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"
    )
    referring = b"ffconcat version 1.0\nfile /etc/passwd\n"
    return {
        "half": (film[: len(film) // 2], "video/mp4"),
        "half, index last": (reel("end.mp4").read_bytes()[:90_000], "video/mp4"),
        "half a webm": (reel("vp8.webm").read_bytes()[:20_000], "video/webm"),
        "flipped": (bytes(flipped), "video/mp4"),
        "nothing": (b"", "video/mp4"),
        "text": (b"hello world\n" * 100, "video/mp4"),
        "playlist": (playlist, "video/mp4"),
        "playlist behind a head": (film[:32] + playlist * 20, "video/mp4"),
        "playlist as sound": (playlist, "audio/mpeg"),
        "playlist as ts": (playlist * 20, "video/mp2t"),
        "concat as matroska": (referring, "video/x-matroska"),
    }[name]


@pytest.mark.parametrize(
    "name",
    [
        "half", "half, index last", "half a webm", "flipped", "nothing", "text", "playlist", "playlist behind a head", "playlist as sound",
        "playlist as ts", "concat as matroska",
    ],
)  # fmt: skip
async def test_what_is_no_film_is_refused_with_a_sentence(hls: Hls, reel: Any, sink: Taken, name: str, tmp_path: Path) -> None:
    content, media_type = hostile(reel, name)
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0)
        film = tmp_path / "film"
        film.write_bytes(content.replace(b"PORT", str(trap.getsockname()[1]).encode()))
        with pytest.raises(Undecodable) as refused:
            await run(hls, film, sink, media_type)
        with pytest.raises(BlockingIOError):  # it asked nobody
            trap.accept()
    told = refused.value.detail
    assert told[:1].isupper()
    assert len(told) < 400
    assert not re.search(r"/[a-z]+/|0x[0-9a-f]{6}|root:", told)
    made = await run(hls, reel("frame.mp4"), sink)
    assert made.files, "and the next film is made"


async def test_one_picture_that_is_said_to_last(hls: Hls, sink: Taken, tmp_path: Path) -> None:
    """It has no frame rate that anybody could know, and nothing comes after it."""
    still, film = tmp_path / "still.webm", tmp_path / "film.webm"
    ffmpeg("-f", "lavfi", "-i", "color=size=16x16:duration=1:rate=1000", "-c:v", "libvpx", "-frames:v", "1", str(still))
    content = still.read_bytes()
    at = content.index(b"\x44\x89\x88") + 3  # its duration, in milliseconds
    film.write_bytes(content[:at] + struct.pack(">d", 7000.0) + content[at + 8 :])
    with pytest.raises(Undecodable, match=r"says that it is 7.0 s long, and ends after 0.0 s"):
        await run(hls, film, sink)


async def test_reference_movies_lead_nowhere(hls: Hls, reel: Any, sink: Taken, tmp_path: Path) -> None:
    """A QuickTime film whose data is said to be in another file (dref, `alis` and `url `)."""
    film = bytearray(reel("silent.mov").read_bytes())
    at = film.index(b"dref")
    entry = film.index(b"url ", at)
    film[entry + 7] = 0  # not in this file
    path = tmp_path / "film.mov"
    path.write_bytes(film)
    try:
        made: Made | None = await run(hls, path, sink, "video/quicktime")
    except Undecodable:
        made = None
    assert made is None or made.duration == 2.0  # its own data, at most


async def test_a_bomb_is_refused_by_its_head(reel: Any, sink: Taken, tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.mp4"
    ffmpeg("-f", "lavfi", "-i", "color=size=7680x4320:rate=1:duration=1", *X264, str(bomb))
    async with opened(open_hls, HlsConfig()) as hls:
        with pytest.raises(OverLimits, match="7680 by 4320"):
            await run(hls, bomb, sink)


LIMITS: list[tuple[dict[str, Any], str]] = [
    ({"max_duration": 1.0}, "more than 1 s"),
    ({"max_streams": 1}, "streams"),
    ({"max_output": 1}, "bytes"),
    ({"encode_deadline": 0.2}, "longer than"),
    ({"encode_processor": 1}, "processor time"),
    ({"encode_memory": 250 << 20}, "memory|damaged"),
    ({"output": 1000}, "room|damaged"),
]


@pytest.mark.parametrize(("limit", "told"), LIMITS, ids=[next(iter(limit)) for limit, _ in LIMITS])
async def test_limits_hold(limit: dict[str, Any], told: str, sink: Taken, tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    slow = limit.keys() & {"encode_processor", "encode_deadline"}
    ffmpeg(*pictures(rate=25, seconds=12 if slow else 2), *tone(), *X264, "-c:a", "aac", str(film))
    async with opened(open_hls, HlsConfig(preset="veryslow" if slow else "ultrafast", **limit)) as hls:
        with pytest.raises((OverLimits, Undecodable), match=told):
            await run(hls, film, sink)


NO_MEMORY = "echo 'Decoding error: Cannot allocate memory' >&2; "


@pytest.mark.parametrize(
    ("does", "told"),
    [
        ("exec yes 'Decoding error: Cannot allocate memory' >&2", "memory"),
        (NO_MEMORY + "exec sleep 600", "memory"),
        ("exec sleep 600", "standstill"),
    ],
    ids=["tries", "waits", "says nothing"],
)
def test_who_finds_no_memory_and_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str, told: str) -> None:
    """As ffmpeg's decoders do, and as it does itself where it could not start a thread."""
    from mediacdn_ffmpeg import running as child

    monkeypatch.setattr(child, "TO_END", 0.3)
    monkeypatch.setattr(child, "STANDSTILL", 1.5)
    (tmp_path / "source").touch()
    descriptors = [os.open(tmp_path / "source", os.O_RDONLY), os.open(tmp_path, os.O_RDONLY), os.open(os.devnull, os.O_WRONLY)]
    try:
        with pytest.raises(OverLimits, match=told):
            child.run(
                {"arguments": ["sh", "-c", does], "nice": 0, "fence": {"mode": "off"}},
                descriptors,
            )
    finally:
        for each in descriptors:
            os.close(each)


def running(folder: Path) -> list[str]:
    """The processes whose working directory is the folder."""
    found = []
    for each in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{each}/cwd") == str(folder):
                found.append(each)
        except OSError:
            continue
    return found


async def until(true: Callable[[], bool]) -> None:
    for _ in range(1000):
        if true():
            return
        await asyncio.sleep(0.02)
    pytest.fail("it did not come true")


async def test_cancelled_it_leaves_no_process(sink: Taken, tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    ffmpeg(*pictures(seconds=30), *X264, str(film))
    async with opened(open_hls, HlsConfig(preset="veryslow")) as hls:
        task = asyncio.ensure_future(run(hls, film, sink))
        folder = sink.path / "folder"
        await until(lambda: bool(running(folder)) and any(share > 0 for share in sink.shares))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: not running(folder))


# The smaller actions


async def test_facts(reel: Any, sink: Taken) -> None:
    async with opened(open_facts, LookConfig()) as facts:
        turned = await run(facts, reel("turned.mp4"), sink)
        deep, bright = [await run(facts, reel(name), sink) for name in ("hevc10.mp4", "bright.mp4")]
        sound = await run(facts, reel("sound.mp3"), sink)
    assert (turned.width, turned.height, turned.duration, turned.frame_rate, turned.codecs) == (180, 320, 2.0, 25.0, "h264, aac")
    assert (turned.media_type, turned.facts["rotation"], turned.facts["hdr"]) == ("", 90, False)
    assert turned.facts["audio"] == [{"codec": "aac", "channels": 1, "rate": 44100}]
    assert (deep.facts["bits"], deep.facts["hdr"], bright.facts["hdr"], deep.facts["audio"]) == (10, False, True, [])
    assert (sound.width, sound.codecs, sound.duration) == (None, "mp3", pytest.approx(2.0, abs=0.06))


async def test_the_poster_is_upright_and_not_black(reel: Any, sink: Taken, tmp_path: Path) -> None:
    from PIL import Image, ImageStat

    film = tmp_path / "film.mp4"
    ffmpeg(
        "-f", "lavfi", "-i", f"color=black:size={SIZE}:rate=25:duration=2", *pictures(), "-filter_complex", "[0][1]concat", *X264, str(film)
    )
    async with opened(open_poster, LookConfig()) as poster:
        made = await run(poster, film, sink)
        assert (made.media_type, made.width, made.height) == ("image/jpeg", 320, 180)
        picture = Image.open(sink.path / "file").convert("L")
        assert ImageStat.Stat(picture).mean[0] > 40
        made = await run(poster, reel("turned.mp4"), sink, edge=160)
        upright = Image.open(sink.path / "file").convert("L")
        assert (made.width, made.height) == upright.size == (90, 160)
    ffmpeg("-y", "-i", str(reel("turned.mp4")), "-frames:v", "1", "-vf", "scale=90:160", str(tmp_path / "by.png"))
    by_ffmpeg = Image.open(tmp_path / "by.png").convert("L")
    same, turned = (
        sum(abs(a - b) for a, b in zip(upright.tobytes(), each.tobytes(), strict=True)) for each in (by_ffmpeg, by_ffmpeg.rotate(180))
    )
    assert same < turned


async def test_the_storyboard(reel: Any, sink: Taken, tmp_path: Path) -> None:
    from PIL import Image, ImageStat

    film = tmp_path / "film.mp4"
    colours = ["red", "lime", "blue"]
    inputs = [each for colour in colours for each in ("-f", "lavfi", "-i", f"color={colour}:size=320x180:rate=25:duration=4")]
    ffmpeg(*inputs, "-filter_complex", "[0][1][2]concat=n=3", *X264, str(film))
    async with opened(open_storyboard, LookConfig()) as storyboard:
        made = await run(storyboard, film, sink, tiles=12, width=64)
    cues = re.findall(r"(\S+) --> (\S+)\nstoryboard/(\S+)#xywh=(\d+),(\d+),64,36", sink.body().decode())
    assert [cue[0] for cue in cues] == [f"00:00:{second:02d}.000" for second in range(12)]
    assert cues[-1][1] == "00:00:12.000"
    [path] = sink.published(made)
    assert {cue[2] for cue in cues} == {path}
    sheet = Image.open(sink.path / "folder" / "sheet").convert("RGB")
    assert sheet.size == (640, 72)
    for number, (_, _, _, x, y) in enumerate(cues):
        mean = ImageStat.Stat(sheet.crop((int(x), int(y), int(x) + 64, int(y) + 36))).mean
        assert mean.index(max(mean)) == number // 4


async def test_the_outline_of_the_sound(reel: Any, sink: Taken) -> None:
    async with opened(open_waveform, LookConfig()) as waveform:
        made = await run(waveform, reel("sound.flac"), sink, points=50)
    told = json.loads(sink.body())
    assert (made.media_type, told["length"], len(told["data"]), told["bits"]) == ("application/json", 50, 100, 8)
    assert told["duration"] == pytest.approx(2.0, abs=0.01)
    assert all(low < -10 and high > 10 for low, high in zip(told["data"][2:-2:2], told["data"][3:-2:2], strict=True))


async def test_one_file_for_download(reel: Any, sink: Taken) -> None:
    async with opened(open_mp4, EncodeConfig(preset="ultrafast")) as mp4:
        made = await run(mp4, reel("end.mp4"), sink, box=240)
    body = sink.body()
    assert (made.media_type, made.width, made.height, made.codecs) == ("video/mp4", 426, 240, "h264, aac")
    assert body.index(b"moov") < body.index(b"mdat")
    ffmpeg("-xerror", "-i", str(sink.path / "file"), "-f", "null", "-")


# Pure


SIZES: list[tuple[tuple[int, int], list[str]]] = [
    ((1920, 1080), ["1080p 1920x1080", "720p 1280x720", "480p 854x480", "240p 426x240"]),
    ((1080, 1920), ["1080p 1080x1920", "720p 720x1280", "480p 480x854", "240p 240x426"]),
    ((3840, 2160), ["1080p 1920x1080", "720p 1280x720", "480p 854x480", "240p 426x240"]),
    ((1920, 800), ["1080p 1920x800", "720p 1280x534", "480p 854x356", "240p 426x178"]),
    ((320, 180), ["240p 320x180"]),
    ((640, 361), ["480p 640x360", "240p 426x240"]),
    ((2, 2), ["240p 2x2"]),
    ((10_000, 2), ["1080p 1920x2", "720p 1280x2", "480p 854x2", "240p 426x2"]),
]


@pytest.mark.parametrize(("size", "rungs"), SIZES, ids=[f"{width}x{height}" for (width, height), _ in SIZES])
def test_the_ladder(size: tuple[int, int], rungs: list[str]) -> None:
    found = ladder(*size, [240, 480, 720, 1080])
    assert [f"{each.name} {each.width}x{each.height}" for each in found] == rungs
    assert [each.rate for each in found] == sorted((each.rate for each in found), reverse=True)
    assert all(each.width % 2 == each.height % 2 == 0 for each in found)
    assert max(fitted(*size, 4320)) <= 7680


@pytest.mark.parametrize(
    "text",
    [
        "", "#EXTM3U", "#EXTM3U\n#EXT-X-ENDLIST", "#EXTM3U\na_00000.m4s\n#EXT-X-ENDLIST", "#EXTM3U\n#EXTINF:1.0,\n../a_00000.m4s\n#EXT-X-ENDLIST",
        "#EXTM3U\n#EXTINF:1.0,\nhttp://x/a_00000.m4s\n#EXT-X-ENDLIST", "#EXTM3U\n#EXTINF:1.0,\na_00001.m4s\n#EXT-X-ENDLIST",
        "#EXTM3U\n#EXTINF:1.0,\na_00000.m4s",
    ],
)  # fmt: skip
def test_a_playlist_that_is_not_as_it_should_be(text: str) -> None:
    with pytest.raises(ValueError):
        playlists.read(text, "a", "m4s")


def test_codecs_have_their_names() -> None:
    assert codec_name("h264", bytes.fromhex("0164001fffe1")) == "avc1.64001f"
    assert codec_name("h264", bytes.fromhex("00000001096000000001674d401e")) == "avc1.4d401e"
    assert codec_name("aac", bytes.fromhex("1190")) == "mp4a.40.2"
    with pytest.raises(ValueError):
        codec_name("h264", b"")


@pytest.mark.parametrize("wrong", [{"renditions": []}, {"renditions": ["big"]}, {"container": "flash"}, {"seconds": 0}, {"unknown": 1}])
def test_a_configuration_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        convert(wrong, HlsConfig)


async def test_an_ffmpeg_that_cannot_be_used(tmp_path: Path) -> None:
    for name, told in (("/nowhere/ffmpeg", "does not run"), ("/bin/true", "lacks libx264")):
        with pytest.raises(ConfigError, match=told):
            await program.find(name)
    found = await program.find("")
    assert found.version
    assert os.access(found.path, os.X_OK)


def test_what_is_planned(tmp_path: Path) -> None:
    def plans(media_type: str, **fields: Any) -> list[tuple[str, bool]]:
        path = tmp_path / "x"
        path.write_bytes(b"")
        given = Given(path, media_type).media
        media = Media(**{**{name: getattr(given, name) for name in given.__struct_fields__}, "kind": media_type.split("/")[0], **fields})
        return [(each.recipe, each.required) for each in mediacdn_plan_jobs(media)]

    assert plans("video/mp4") == [
        ("film-look", False),
        ("hls", True),
        ("poster", False),
        ("thumb-film", False),
        ("storyboard", False),
        ("preview", False),
    ]
    heard = ("film-look", "hls", "cover", "loudness", "waveform", "waveform-picture")
    assert plans("audio/mpeg") == [(each, False) for each in heard]
    assert plans("image/png") == plans("video/x-unknown") == plans("video/mp4", source_id="x") == []
