"""What is written of a stream when it is asked for: subtitles in its manifests, and DASH over the same segments; and what shows it before it is played. Over real sockets."""

import io
import re
import shutil
import subprocess
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import av
import imageio_ffmpeg
import pytest
from PIL import Image
from playwright.sync_api import sync_playwright

from tests.services.command import within
from tests.services.films import ffmpeg
from tests.services.players import in_ffmpeg
from tests.services.served import Served, served

TOML = """
plugins = ["local", "jwt", "vips", "ffmpeg"]
[limits]
uploads_per_second = 0
max_subtitles_size = 5000
max_subtitles = 3
[jobs]
backoff_base = 0.1
[recipes.hls]
seconds = 1
preset = "superfast"
"""
VTT = "WEBVTT\n\n00:01.000 --> 00:02.000\nhi\n"
SRT = "1\n00:00:00,500 --> 00:00:01,500\n<font color='red'>ol\u00e1</font>\n"
SPACE = {"": "urn:mpeg:dash:schema:mpd:2011"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("manifests"), TOML, arguments=()) as running:
        yield running


def _film(folder: Path, codec: str) -> bytes:
    """Pictures, and two tracks of sound."""
    path = folder / "film.mp4"
    ffmpeg(
        "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25:duration=3", "-f", "lavfi", "-i", "sine=duration=3", "-f", "lavfi", "-i", "sine=880:duration=3",
        "-map", "0", "-map", "1", "-map", "2", "-metadata:s:a:1", "language=deu", "-c:v", codec, "-pix_fmt", "yuv420p", "-c:a", "aac",
        str(path),
    )  # fmt: skip
    return path.read_bytes()


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """One that nothing is copied of."""
    return _film(tmp_path_factory.mktemp("films"), "mpeg4")


def settled(server: Served, content: bytes, **parameters: str) -> str:
    """The id of a film that streams."""
    media = str(server.upload(content, **parameters)["id"])
    within(30, lambda: server.client.get(f"/v1/media/{media}/record", headers=server.auth()).json()["status"] == "READY")
    return media


@pytest.fixture(scope="module")
def private(server: Served, film: bytes) -> str:
    return settled(server, film)


@pytest.fixture(scope="module")
def link(server: Served, private: str) -> str:
    answer = server.client.post(f"/v1/media/{private}/sign", json={"prefix": True}, headers=server.auth())
    return str(answer.json()["url"])


def given(server: Served, media: str, language: str, text: str | bytes = VTT, **parameters: str) -> Any:
    return server.client.put(f"/v1/media/{media}/subtitles/{language}", content=text, params=parameters, headers=server.auth())


def played(url: str, *more: str) -> subprocess.CompletedProcess[str]:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-xerror", "-nostdin", "-i", url, *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_subtitles_come_and_go(server: Served, film: bytes) -> None:
    """Of a public film, whose copies may be kept for long: every change is true for the next reader, whoever has read before."""
    media, get = settled(server, film + b"\0\0\0\x08free", public="true"), server.client.get
    below = f"/v1/media/{media}"

    def master() -> str:
        return str([get(f"{below}/hls/master.m3u8").text for _ in range(2)][1])

    plain = master()
    assert "SUBTITLES" not in plain
    first = given(server, media, "EN", VTT)
    assert (first.status_code, first.headers["location"]) == (201, f"{below}/subtitles/en")
    told = first.json()
    assert (told["media_type"], told["relationship"], told["source_id"], told["public"]) == ("text/vtt", "subtitles:en", media, True)
    assert told["facts"] == {"language": "en", "label": "en", "cues": 1}
    assert master().count("TYPE=SUBTITLES") == 1
    assert given(server, media, "pt-br", SRT, label="Portugu\u00eas").status_code == 201
    told_of = get(f"{below}/subtitles", headers=server.auth("bob", "read")).json()["items"]
    assert [(each["language"], each["label"], each["url"], each["media_type"]) for each in told_of] == [
        ("en", "en", f"{below}/subtitles/en", "text/vtt"),
        ("pt-BR", "Portugu\u00eas", f"{below}/subtitles/pt-BR", "text/vtt"),
    ]
    for each in told_of:
        text = get(each["url"]).content
        assert (each["size"], each["digest"]) == (len(text), sha256(text).hexdigest())
    listed = master()
    assert re.findall(r'TYPE=SUBTITLES,.*NAME="([^"]*)".*URI="([^"]*)"', listed) == [
        ("en", "subtitles/en.m3u8"),
        ("Portugu\u00eas", "subtitles/pt-BR.m3u8"),
    ]
    assert listed.count(',SUBTITLES="subtitles"') == plain.count("#EXT-X-STREAM-INF")
    assert get(f"{below}/subtitles/PT-BR").text == "WEBVTT\n\n00:00:00.500 --> 00:00:01.500\nol\u00e1\n"
    again = given(server, media, "en", VTT)
    assert (again.status_code, again.json()["id"]) == (200, told["id"])
    other = given(server, media, "en", VTT.replace("hi", "ho"))
    assert (other.status_code, other.json()["id"] != told["id"]) == (200, True)
    assert get(f"{below}/subtitles/en").text.endswith("ho\n")
    assert get(f"{below}/hls/subtitles/en.vtt").text.endswith("ho\n")
    assert get(f"/v1/media/{told['id']}").status_code == 404, "those before are gone"
    back = given(server, media, "en", VTT)
    assert (back.status_code, get(f"{below}/subtitles/en").text.endswith("hi\n")) == (200, True)
    assert server.client.delete(f"{below}/subtitles/en", headers=server.auth()).status_code == 204
    assert re.findall(r'LANGUAGE="([^"]*)"', "".join(line for line in master().splitlines() if "SUBTITLES," in line)) == ["pt-BR"]
    assert [get(f"{below}/{path}").status_code for path in ("subtitles/en", "hls/subtitles/en.m3u8", "hls/subtitles/en.vtt")] == [404] * 3
    assert server.client.delete(f"{below}/subtitles/en", headers=server.auth()).status_code == 404
    # By the derivative's own id too.
    [child] = server.client.get(f"{below}/derivatives", params={"relationship": "subtitles:pt-BR"}, headers=server.auth()).json()["items"]
    server.client.delete(f"/v1/media/{child['id']}", headers=server.auth("root", "admin")).raise_for_status()
    assert master() == plain
    assert get(f"{below}/subtitles", headers=server.auth()).json() == {"items": []}


def test_made_anew_the_stream_lists_them_still(server: Served, film: bytes) -> None:
    media = settled(server, film + b"\0\0\0\x0cfree1234")
    assert given(server, media, "en").status_code == 201

    def read(path: str) -> str:
        return str(server.client.get(f"/v1/media/{media}/{path}", headers=server.auth()).text)

    before, mapped = read("hls/master.m3u8"), read("hls/subtitles/en.vtt")
    assert "X-TIMESTAMP-MAP=MPEGTS:0,LOCAL:00:00:00.000\n" in mapped
    arguments = {"args": {"renditions": "240p", "container": "mpegts"}}
    server.client.post(f"/v1/media/{media}/tasks/hls", json=arguments, headers=server.auth()).raise_for_status()
    within(20, lambda: read("hls/master.m3u8") != before)
    assert read("hls/master.m3u8").count("TYPE=SUBTITLES") == 1
    assert read("hls/master.m3u8").count("#EXT-X-STREAM-INF") == 1
    assert "X-TIMESTAMP-MAP=MPEGTS:133200,LOCAL:00:00:00.000\n" in read("hls/subtitles/en.vtt"), "transport streams begin later"
    assert server.client.get(f"/v1/media/{media}/dash/manifest.mpd", headers=server.auth()).status_code == 404


REFUSED: list[tuple[str, str, bytes, int, str]] = [
    ("no tag", "english-", VTT.encode(), 400, "invalid_parameter"),
    ("no subtitles", "en", b"hello", 422, "undecodable"),
    ("a script", "en", VTT.replace("hi", "<script>").encode(), 422, "undecodable"),
    ("not UTF-8", "en", VTT.replace("hi", "\u00e9").encode("latin-1"), 422, "undecodable"),
    ("too long", "en", VTT.encode() + b"\n" * 5000, 413, "too_large"),
]


@pytest.mark.parametrize(("language", "content", "status", "code"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_is_refused(server: Served, private: str, language: str, content: bytes, status: int, code: str) -> None:
    answer = given(server, private, language, content)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert server.client.get(f"/v1/media/{private}/subtitles/en", headers=server.auth()).status_code == 404


def test_who_may_not_gives_none(server: Served, private: str) -> None:
    path, put = f"/v1/media/{private}/subtitles/xh", server.client.put
    assert put(path, content=VTT).status_code == 401
    assert put(path, content=VTT, headers=server.auth("bob", "write")).status_code in (403, 404)
    assert put(path, content=VTT, headers=server.auth("alice", "read")).status_code == 403
    assert server.client.delete(path, headers=server.auth("bob", "write")).status_code in (403, 404)
    picture = server.upload(b"\x89PNG\r\n\x1a\n" + b"x" * 20)["id"]
    assert given(server, picture, "en").status_code == 422  # 415 would speak of the subtitles that were sent
    assert server.client.get(f"/v1/media/{private}/subtitles/xh").status_code == 401
    assert server.client.get(f"/v1/media/{private}/subtitles").status_code == 401
    unknown = f"/v1/media/{'0' * 26}/subtitles"
    assert server.client.get(unknown, headers=server.auth()).status_code == 404


def test_there_is_an_end_to_languages(server: Served, film: bytes) -> None:
    media = settled(server, film + b"\0\0\0\x0dfree12345")
    assert [given(server, media, language).status_code for language in ("en", "de", "fr", "it", "fr")] == [201, 201, 201, 409, 200]


def test_withheld_they_are_read_by_nobody(server: Served, film: bytes) -> None:
    media, admin = settled(server, film + b"\0\0\0\x0efree123456", public="true"), server.auth("root", "admin")
    child = given(server, media, "en").json()["id"]
    paths = [f"/v1/media/{media}/{path}" for path in ("subtitles/en", "hls/subtitles/en.vtt", "hls/subtitles/en.m3u8")]
    assert [server.client.get(path).status_code for path in paths * 2] == [200] * 6
    server.client.post(f"/v1/media/{child}/quarantine", json={"scope": "media"}, headers=admin).raise_for_status()
    assert all(server.client.get(path).status_code in (404, 451) for path in paths)
    assert given(server, media, "en").status_code == 451, "nor given once more"
    server.client.delete(f"/v1/media/{child}/quarantine", headers=admin).raise_for_status()
    server.client.post(f"/v1/media/{media}/quarantine", json={"scope": "media"}, headers=admin).raise_for_status()
    everything = [*paths, f"/v1/media/{media}/hls/master.m3u8", f"/v1/media/{media}/dash/manifest.mpd"]
    assert [server.client.get(path).status_code for path in everything] == [451] * 5
    assert server.client.get(f"/v1/media/{media}/subtitles", headers=server.auth()).status_code == 451


def test_dash_is_the_same_segments(server: Served, private: str, link: str) -> None:
    """Each segment of the manifest is one of HLS, begins where the timeline says, and is as long."""
    get = server.client.get
    answer = get(f"{link}/dash/manifest.mpd")
    assert answer.headers["content-type"] == "application/dash+xml"
    assert get(f"/v1/media/{private}/dash/manifest.mpd").status_code == 401
    root = ElementTree.fromstring(answer.content)
    shown = root.findall("Period/AdaptationSet/Representation", SPACE)
    assert [each.get("id") for each in shown] == ["480p", "240p", "audio", "audio2"]
    for each in shown:
        playlist = get(f"{link}/hls/{each.get('id')}.m3u8").text
        names = [line for line in playlist.splitlines() if line and not line.startswith("#")]
        listed = each.find("SegmentList", SPACE)
        assert listed is not None
        assert [segment.get("media") for segment in listed.findall("SegmentURL", SPACE)] == names
        scale, offset = int(listed.get("timescale", "")), int(listed.get("presentationTimeOffset", ""))
        nominal = int(listed.get("duration", ""))
        times = [offset + number * nominal for number in range(len(names))]
        initialization = listed.find("Initialization", SPACE)
        assert initialization is not None
        init = get(f"{link}/hls/{initialization.get('sourceURL')}").content
        last = 0.0
        for name, begins in zip(names, times, strict=True):
            with av.open(io.BytesIO(init + get(f"{link}/hls/{name}").content)) as container:
                stream = [*container.streams.video, *container.streams.audio][0]
                packets = [packet for packet in container.demux(stream) if packet.pts is not None]
            found = [float(packet.pts * packet.time_base) for packet in packets]
            assert min(found) == pytest.approx(begins / scale, abs=0.1), "what the encoders begin with, at most"
            last = max(last, *(at + float(packet.duration * packet.time_base) for at, packet in zip(found, packets, strict=True)))
        assert last - offset / scale == pytest.approx(3.0, abs=0.15)
        assert nominal == pytest.approx(scale, rel=0.025), "of a second each, and of whole packets of sound"


def test_what_is_copied_has_segments_of_its_own_lengths(server: Served, tmp_path: Path) -> None:
    media = settled(server, _film(tmp_path, "libx264"), public="true")
    manifest = server.client.get(f"/v1/media/{media}/dash/manifest.mpd")
    assert "SegmentList" in manifest.text
    for path in ("hls/master.m3u8", "dash/manifest.mpd"):
        done = played(f"{server.url}/v1/media/{media}/{path}", "-map", "0:v", "-map", "0:a", "-f", "null", "-")
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("manifest", ["hls/master.m3u8", "dash/manifest.mpd"])
def test_another_player_decodes_every_rendition(server: Served, link: str, private: str, manifest: str) -> None:
    first = "00:00.000 --> 00:00.500\nho\n\n00:01"  # ahead of it, ffmpeg seeks nowhere in DASH
    given(server, private, "de", VTT.replace("00:01", first)).raise_for_status()
    url = f"{server.url}{link}/{manifest}"
    looked = subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostdin", "-i", url], capture_output=True, text=True, timeout=60
    ).stderr
    streams = dict(re.findall(r"Stream #0:(\d+).*?: ((?:Video|Audio|Subtitle): \w+)", looked))
    assert sorted(streams.values()) == ["Audio: aac"] * 2 + ["Subtitle: webvtt"] + ["Video: h264"] * 2
    done = played(url, "-map", "0:v", "-map", "0:a", "-f", "null", "-")
    assert (done.returncode, done.stderr) == (0, "")
    text = played(url, "-copyts", "-map", "0:s", "-f", "webvtt", "-")
    assert (text.returncode, text.stderr) == (0, "")
    assert "00:01.000 --> 00:02.000\nhi" in text.stdout
    assert in_ffmpeg(url) == "", "sought through as well"


def test_the_player_shows_subtitles(server: Served, link: str, private: str) -> None:
    given(server, private, "de", label="Deutsch").raise_for_status()
    found = next((path for path in map(shutil.which, ("chromium-headless-shell", "chromium")) if path), None)
    if found is None:
        pytest.fail("Chromium is missing; as root: apt-get install -y --no-install-recommends chromium-headless-shell")
    faults: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu", "--no-first-run"])
        page = browser.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.goto(f"{server.url}{link}/player")
        page.locator("track").wait_for(state="attached")
        seen = page.locator("video").evaluate(
            """async video => {
                const track = video.textTracks[0], line = video.querySelector('track');
                if (video.readyState < 1) await new Promise(done => video.addEventListener('loadedmetadata', done, {once: true}));
                const loaded = new Promise(done => line.addEventListener('load', done, {once: true}));
                track.mode = 'showing';
                if (line.readyState < 2) await loaded;
                const sought = new Promise(done => video.addEventListener('seeked', done, {once: true}));
                video.currentTime = 1.5;
                await sought;
                await new Promise(done => setTimeout(done, 300));
                return [track.label, track.language, Array.from(track.activeCues).map(cue => cue.text)];
            }"""
        )
        browser.close()
    assert seen == ["Deutsch", "de", ["hi"]]
    assert faults == []


def test_a_film_has_a_preview(server: Served, private: str, link: str) -> None:
    answer = within(20, lambda: (got := server.client.get(f"{link}/preview")).status_code == 200 and got)
    assert answer.headers["content-type"] == "image/webp"
    assert server.client.get(f"/v1/media/{private}/preview").status_code == 401
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert picture.size == (320, 180)
        assert picture.n_frames > 5  # type: ignore[attr-defined]


def test_sound_has_a_cover_a_loudness_a_picture_and_opus(server: Served, tmp_path: Path) -> None:
    Image.new("RGB", (600, 600), "lime").save(tmp_path / "cover.png")
    ffmpeg(
        "-f", "lavfi", "-i", "sine=duration=2", "-i", str(tmp_path / "cover.png"), "-map", "0", "-map", "1", "-c:a", "libmp3lame", "-c:v", "mjpeg",
        "-disposition:v", "attached_pic", str(tmp_path / "song.mp3"),
    )  # fmt: skip
    uploaded = server.upload((tmp_path / "song.mp3").read_bytes(), public="true")
    below, get = f"/v1/media/{uploaded['id']}", server.client.get
    sizes = {"poster": (600, 600), "waveform.png": (1200, 200), "thumb": None}
    for path, size in sizes.items():
        answer = within(20, lambda path=path: (got := get(f"{below}/{path}")).status_code == 200 and got)  # type: ignore[misc]
        with Image.open(io.BytesIO(answer.content)) as picture:
            assert size in (None, picture.size)
    told = within(20, lambda: get(f"{below}/record", headers=server.auth()).json()["facts"].get("loudness"))
    assert told["integrated"] == pytest.approx(-21.5, abs=1.5)
    assert told["true_peak"] == pytest.approx(-18, abs=1)
    server.client.post(f"{below}/tasks/opus", json={}, headers=server.auth()).raise_for_status()
    answer = within(20, lambda: (got := get(f"{below}/opus")).status_code == 200 and got)
    assert (answer.headers["content-type"], answer.content[:4]) == ("audio/ogg", b"OggS")
    within(20, lambda: get(f"{below}/hls/master.m3u8").status_code == 200)
    done = played(f"{server.url}{below}/hls/master.m3u8", "-f", "null", "-")
    assert (done.returncode, done.stderr) == (0, "")
    assert 'CODECS="mp4a.40.2"' in get(f"{below}/hls/master.m3u8").text
    dash = played(f"{server.url}{below}/dash/manifest.mpd", "-f", "null", "-")
    assert (dash.returncode, dash.stderr) == (0, "")
