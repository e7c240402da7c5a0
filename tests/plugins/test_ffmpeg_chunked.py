"""Long films made in parts: what is joined plays as if it had been made in one go, whoever made which part in which order."""

import math
import re
from array import array
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import av
import pytest

from mediacdn.errors import Undecodable
from mediacdn.model import Unit
from mediacdn_ffmpeg import HlsConfig, plan
from mediacdn_ffmpeg.chunked import ChunkedHls, open_chunked
from mediacdn_ffmpeg.ladder import ladder
from tests.plugins.reels import Maker, opened
from tests.services.films import ffmpeg

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def hls() -> AsyncIterator[ChunkedHls]:
    async with opened(open_chunked, HlsConfig(seconds=1, chunk=4, whole=0, preset="superfast", renditions=("360p", "240p"))) as action:
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


def names(playlist: bytes) -> list[str]:
    return [line for line in playlist.decode().splitlines() if line and not line.startswith("#")]


def spent(playlist: bytes) -> float:
    return sum(float(each) for each in re.findall(r"#EXTINF:([0-9.]+),", playlist.decode()))


def samples(path: Path, stream: str = "a:0") -> "array[int]":
    found = array("h")
    found.frombytes(ffmpeg("-i", str(path), "-map", f"0:{stream}", "-ac", "1", "-ar", "48000", "-f", "s16le", "-"))
    return found


def frames(path: Path) -> list[tuple[float, float, bool]]:
    """Of each packet of pictures when it is decoded, when it is shown, and whether it is a key frame."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [
            (float(each.dts * each.time_base), float(each.pts * each.time_base), each.is_keyframe)
            for each in container.demux(stream) if each.pts is not None and each.dts is not None
        ]  # fmt: skip


@pytest.fixture(scope="module")
async def made(hls: ChunkedHls, film: Path) -> tuple[Maker, list[Unit]]:
    """All units, made the last one first where that can be."""
    maker = Maker(hls, film)
    units = await maker.units()
    for each in sorted(units, key=lambda unit: (bool(unit.after), -units.index(unit))):
        await maker.make(each)
    return maker, units


async def test_what_is_joined_plays_without_a_seam(made: tuple[Maker, list[Unit]], film: Path, tmp_path: Path) -> None:
    maker, _ = made
    files = await maker.joined(whole=True)
    assert files is not None
    master = written(files, tmp_path)
    text = files["master.m3u8"].decode()
    assert names(files["master.m3u8"]) == ["360p.m3u8", "240p.m3u8"]
    assert re.findall(r'TYPE=AUDIO.*URI="(.*?)"', text) == ["audio.m3u8", "audio2.m3u8"]
    assert re.findall(r'CODECS="(.*?)"', text)[:2] == ["avc1.64001e,mp4a.40.2", "avc1.640015,mp4a.40.2"]
    ffmpeg("-xerror", "-i", str(master), "-map", "0", "-f", "null", "-")
    for each in ("360p", "240p", "audio", "audio2"):
        playlist = files[f"{each}.m3u8"]
        assert "#EXT-X-PLAYLIST-TYPE:VOD" in playlist.decode()
        assert playlist.endswith(b"#EXT-X-ENDLIST\n")
        assert playlist.count(b"EXT-X-MAP") == 1, "one initialization for all parts"
        assert set(names(playlist)) <= set(files)
        assert spent(playlist) == pytest.approx(18.5, abs=0.1)
        if each.startswith("audio"):
            continue
        told = frames(tmp_path / f"{each}.m3u8")
        decoded, shown = [dts for dts, _, _ in told], sorted(pts for _, pts, _ in told)
        assert decoded == sorted(set(decoded)), "time never goes back"
        assert len(told) == len(frames(film)), "no picture is lost, none is there twice"
        assert {round((b - a) * 30000) for a, b in pairwise(shown)} == {1001}
    keys = [[round(pts, 3) for _, pts, key in frames(tmp_path / f"{each}.m3u8") if key] for each in ("360p", "240p")]
    assert keys[0] == keys[1], "segments are aligned"


async def test_no_seam_is_heard(made: tuple[Maker, list[Unit]], tmp_path: Path) -> None:
    """A pure tone has no jump in it: the second difference of its samples is bound by its frequency, wherever a part ends."""
    files = await made[0].joined(whole=True)
    assert files is not None
    written(files, tmp_path)
    heard = samples(tmp_path / "audio.m3u8")
    assert len(heard) / 48000 == pytest.approx(18.5, abs=0.1)
    inner = heard[4800:-4800]
    loudest = max(map(abs, inner))
    most = max(abs(a - 2 * b + c) for a, b, c in zip(inner, inner[1:], inner[2:], strict=False))
    assert most < loudest * (2 * math.pi * 441 / 48000) ** 2 * 2 + 30
    quiet = min(max(map(abs, inner[at : at + 480])) for at in range(0, len(inner) - 480, 480))
    assert quiet > loudest * 0.8, "and no gap"


async def test_it_grows_by_its_end_alone(hls: ChunkedHls, film: Path, made: tuple[Maker, list[Unit]]) -> None:
    full, units = made
    growing = Maker(hls, film)
    assert await growing.joined(whole=False) is None
    shown: list[list[str]] = []
    before: dict[str, list[str]] = {}
    for unit in units:
        growing.made[unit.name] = full.made[unit.name]
        files = await growing.joined(whole=False)
        assert files is not None, "the first unit plays"
        shown.append(names(files["master.m3u8"]))
        sounds = re.findall(r'TYPE=AUDIO.*URI="(.*?)"', files["master.m3u8"].decode())
        assert sounds == ["audio.m3u8", "audio2.m3u8"]
        assert len({len(names(files[each])) for each in (*shown[-1], *sounds)}) == 1, "who changes over finds as much of the other"
        for each in (*shown[-1], *sounds):
            text = files[each].decode()
            assert "#EXT-X-PLAYLIST-TYPE:EVENT" in text
            assert "ENDLIST" not in text
            lines = text.splitlines()
            assert lines[: len(before.get(each, []))] == before.get(each, []), "what was told stays true"
            before[each] = lines
            assert set(names(files[each])) <= set(files)
    assert shown[0] == ["240p.m3u8"]
    assert shown[-1] == ["360p.m3u8", "240p.m3u8"]
    whole = await growing.joined(whole=True)
    assert whole is not None
    for each, lines in before.items():
        told = [line for line in lines if "TYPE" not in line and "START" not in line]
        assert [line for line in whole[each].decode().splitlines() if "TYPE" not in line][: len(told)] == told


async def test_the_same_units_have_the_same_bytes(hls: ChunkedHls, film: Path, made: tuple[Maker, list[Unit]]) -> None:
    full, units = made
    assert await full.units() == units
    again = Maker(hls, film)
    for each in (units[0], next(unit for unit in units if unit.name == "sound"), units[-1]):
        await again.make(each)
        assert again.made[each.name].files == full.made[each.name].files
        assert again.made[each.name].facts == full.made[each.name].facts


OTHERS: dict[str, tuple[str, ...]] = {
    "silent.mkv": ("-an", "-c:v", "libx264", "-preset", "ultrafast"),
    "short sound.mp4": ("-af", "atrim=end=5", "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac"),
    "vp9.webm": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libvorbis"),
    "late.mp4": ("-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac", "-output_ts_offset", "1.5"),
    "fragments.mp4": ("-c:v", "libx264", "-bf", "2", "-preset", "ultrafast", "-c:a", "aac", "-movflags", "frag_keyframe+empty_moov"),
}


@pytest.mark.parametrize("name", OTHERS)
async def test_other_films(hls: ChunkedHls, name: str, tmp_path: Path) -> None:
    film = tmp_path / name
    ffmpeg(
        "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25:duration=9.4", "-f", "lavfi", "-i", "sine=441:duration=9.4",
        "-pix_fmt", "yuv420p", "-g", "30", *OTHERS[name], str(film),
    )  # fmt: skip
    maker = Maker(hls, film)
    units = await maker.units()
    assert len(units) > 2
    for each in units:
        await maker.make(each)
    files = await maker.joined(whole=True)
    assert files is not None
    master = written(files, tmp_path / "out")
    ffmpeg("-xerror", "-i", str(master), "-map", "0", "-f", "null", "-")
    assert spent(files["240p.m3u8"]) == pytest.approx(9.4, abs=0.1)
    shown = sorted(pts for _, pts, _ in frames(tmp_path / "out/240p.m3u8"))
    assert len(shown) == 235
    assert {round((b - a) * 100) for a, b in pairwise(shown)} == {4}


async def test_a_film_that_ends_early_is_refused_by_the_unit_that_finds_out(
    hls: ChunkedHls, film: Path, made: tuple[Maker, list[Unit]], tmp_path: Path
) -> None:
    whole = tmp_path / "whole.mp4"
    ffmpeg("-i", str(film), "-map", "0:0", "-map", "0:1", "-c", "copy", "-movflags", "faststart", str(whole))
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    maker = Maker(hls, cut)
    units = await maker.units()
    await maker.make(units[0])
    assert await maker.joined(whole=False) is not None
    maker.made["sound"] = made[0].made["sound"]
    with pytest.raises(Undecodable, match=r"damaged|cut short"):
        await maker.make(units[-1])


async def test_what_is_made_in_one_piece(hls: ChunkedHls, film: Path, tmp_path: Path) -> None:
    def copied(name: str, *words: str) -> Path:
        ffmpeg("-i", str(film), *words, str(tmp_path / name))
        return tmp_path / name

    assert await Maker(hls, film, container="mpegts").units() == []
    assert await Maker(hls, film, whole=20).units() == []
    assert await Maker(hls, copied("film.ts", "-c", "copy", "-t", "10")).units() == []
    assert await Maker(hls, copied("slides.mp4", "-an", "-r", "2", "-c:v", "libx264", "-preset", "ultrafast")).units() == []
    assert await Maker(hls, copied("sound.m4a", "-vn", "-c:a", "copy")).units() == []


CUTS = [
    (600.0, 4, 60, [0, 12, 60, 120, 180, 240, 300, 360, 420, 480, 540]), (131.0, 4, 60, [0, 12, 60]), (155.0, 4, 60, [0, 12, 60, 120]),
    (100.0, 7, 30, [0, 21, 28, 56, 84]), (20.0, 10, 10, [0, 10]), (7.0, 1, 2, [0, 2, 4]),
]  # fmt: skip


@pytest.mark.parametrize(("duration", "seconds", "chunk", "starts"), CUTS)
def test_where_films_are_cut(duration: float, seconds: int, chunk: int, starts: list[int]) -> None:
    found = plan.spans(duration, seconds, chunk)
    assert [each.start for each in found] == starts
    assert [each.stop for each in found] == [*starts[1:], 0]
    assert all(each.start % seconds == 0 for each in found)


def test_in_which_order() -> None:
    rungs = ladder(1920, 1080, [1080, 720, 480, 240])
    found = plan.units(plan.spans(300.0, 4, 60), rungs, 4, 60, heard=True)
    assert [each.name for each in sorted(found, key=lambda each: -each.priority)] == [
        "0000-first", "0001-first", "0002-first", "0000-rest", "0001-rest", "0002-rest", "sound", "0003-all", "0004-all", "0005-all",
    ]  # fmt: skip
    assert found[0].spec["rungs"] == "480p"
    assert {each.name: each.spec["heard"] for each in found if each.spec.get("heard")} == {"0000-first": 1, "0001-first": 2}
    assert not [each for each in found if each.after]
    assert [each.name for each in plan.units(plan.spans(130.0, 4, 60), rungs[:1], 4, 60, heard=False)] == [
        "0000-first",
        "0001-first",
        "0002-first",
    ]
