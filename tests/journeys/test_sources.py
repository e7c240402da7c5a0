"""Films of every kind, uploaded, streamed over real sockets, and played and sought through by hls.js in a browser and by ffmpeg without an error; and what is no film, refused."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.plugins.test_ffmpeg import FILMS, X264
from tests.services.chat import Chat, chat
from tests.services.command import within
from tests.services.films import ffmpeg
from tests.services.players import FLAGS, chromium, in_ffmpeg, in_hls_js
from tests.services.served import Served, served

TOML = """
plugins = ["local", "jwt", "ffmpeg"]
[limits]
uploads_per_second = 0
[jobs]
backoff_base = 0.1
[recipes]
plan = {film-look = [], poster = [], thumb-film = [], storyboard = [], preview = [], cover = [], loudness = [], waveform = [], waveform-picture = []}
[recipes.hls]
seconds = 1
preset = "superfast"
renditions = ["240p"]
"""
SOURCES = [
    "end.mp4", "fragments.mp4", "turned.mp4", "vp8.webm", "vp9.webm", "hevc10.mp4", "odd.mkv", "old.avi", "stream.ts", "frame.mp4", "silent.mov", "two.mp4",
    "uneven.mkv", "sound.mp3",
]  # fmt: skip
"""Index last, fragmented, turned, VP8, VP9, HEVC of 10 bits, Matroska of odd size, AVI, transport stream, one frame, silent, two tracks of sound, uneven times."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("sources"), TOML, arguments=()) as running:
        yield running


def film(folder: Path, name: str) -> bytes:
    path = folder / name
    if name == "turned.mp4":
        ffmpeg(*FILMS["first.mp4"], str(folder / "lying.mp4"))
        ffmpeg("-display_rotation", "90", "-i", str(folder / "lying.mp4"), "-c", "copy", str(path))
    else:
        ffmpeg(*FILMS[name], str(path))
    return path.read_bytes()


@pytest.fixture(scope="module")
def uploaded(server: Served, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Ids by name, of all of them at once: they are transcoded while the first are played."""
    folder = tmp_path_factory.mktemp("films")
    return {name: server.upload(film(folder, name), public="true")["id"] for name in SOURCES}


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    found = chromium()
    if found is None:
        pytest.fail("Chromium is missing; as root: apt-get install -y --no-install-recommends chromium-headless-shell")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        opened = browser.new_page()
        opened.set_default_timeout(30_000)
        yield opened
        browser.close()


@pytest.fixture(scope="module")
def site() -> Iterator[Chat]:
    with chat() as running:
        yield running


@pytest.mark.parametrize("name", SOURCES)
def test_it_plays_and_seeks(server: Served, uploaded: dict[str, str], page: Page, site: Chat, name: str) -> None:
    manifest = f"{server.url}/v1/media/{uploaded[name]}/hls/master.m3u8"
    within(60, lambda: server.client.get(manifest).status_code == 200)
    seen = in_hls_js(page, site, server.url, manifest)
    assert seen["errors"] == []
    assert seen["duration"] == pytest.approx(0.04 if name == "frame.mp4" else 2.4 if name == "uneven.mkv" else 2, abs=0.25)
    if name != "sound.mp3":
        assert (seen["width"] < seen["height"]) == (name in ("turned.mp4", "odd.mkv")), "upright films are upright"
        assert seen["frames"] > 0
    assert (seen["heard"] > 0) == (name not in ("odd.mkv", "vp9.webm", "hevc10.mp4", "frame.mp4", "silent.mov"))
    assert in_ffmpeg(manifest) == ""


BAD = {
    "half": "damaged or cut short", "flipped": "damaged, cut short", "a playlist behind the head of a film": "No picture", "noise behind the head of a film": "No picture",
    "8K": "7680 by 4320",
}  # fmt: skip


@pytest.fixture(scope="module")
def bad(server: Served, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[bytes, str]]:
    """What they are, and the ids that they got."""
    folder = tmp_path_factory.mktemp("bad")
    whole = film(folder, "first.mp4")
    flipped = bytearray(whole)
    for at in range(3000, len(whole), 150):
        flipped[at] ^= 0x55
    ffmpeg("-f", "lavfi", "-i", "color=size=7680x4320:rate=1:duration=1", *X264, str(folder / "8k.mp4"))
    playlist = b"#EXTM3U\n#EXTINF:10.0,\nhttp://127.0.0.1:9/x\n#EXTINF:10.0,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n" * 20
    contents = [
        whole[: len(whole) // 3],
        bytes(flipped),
        whole[:3000] + playlist,
        whole[:3000] + bytes(range(256)) * 100,
        (folder / "8k.mp4").read_bytes(),
    ]
    return {name: (content, server.upload(content, filename="film.mp4")["id"]) for name, content in zip(BAD, contents, strict=True)}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_film_fails_with_a_sentence_and_is_kept(server: Served, bad: dict[str, tuple[bytes, str]], name: str) -> None:
    content, media = bad[name]

    def settled() -> Any:
        found = server.client.get(f"/v1/media/{media}/record", headers=server.auth()).json()
        return found["status"] in ("READY", "FAILED") and found

    found = within(60, settled)
    assert found["status"] == "FAILED"
    assert BAD[name] in found["error_message"]
    assert found["error_message"][0].isupper()
    assert not re.search(r"/[a-z]+/|0x[0-9a-f]{6}|root:", found["error_message"])
    assert server.client.get(f"/v1/media/{media}", headers=server.auth()).content == content
    assert server.client.get(f"/v1/media/{media}/hls/master.m3u8", headers=server.auth()).status_code == 404


@pytest.mark.parametrize(
    ("content", "media_type"), [(b"hello world\n" * 100, "text/plain"), (b"", None), (b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x\n", None)]
)
def test_what_only_has_the_name_of_a_film_is_kept_as_what_it_is(server: Served, content: bytes, media_type: str | None) -> None:
    """And called a film by who uploads it, it is refused, for the bytes tell."""
    told = server.upload(content, filename="film.mp4")
    assert (told["status"], told["kind"] == "video") == ("READY", False)
    assert media_type in (None, told["media_type"])
    assert server.client.get(f"/v1/media/{told['id']}", headers=server.auth()).content == content
    if content:
        answer = server.client.post("/v1/media", content=content, headers={**server.auth(), "Content-Type": "video/mp4"})
        assert answer.status_code == 415
