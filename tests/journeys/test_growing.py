"""A long film plays before all of it is made: from its first segments, through the playlist that grows, to the stream that is whole, in a browser that began early."""

import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import sync_playwright

from tests.services.command import within
from tests.services.films import ffmpeg
from tests.services.served import served

TOML = """
plugins = ["local", "jwt", "ffmpeg"]
[limits]
uploads_per_second = 0
[lifecycle]
sweep_every = 0.5
keep_replaced = 2
[recipes]
plan = {poster = [], thumb-film = [], storyboard = []}
[recipes.hls]
seconds = 1
chunk = 4
whole = 0
preset = "superfast"
renditions = ["360p", "240p"]
"""
LENGTH = 14
CUES = b"WEBVTT\n\n00:01.000 --> 00:03.000\nhello\n"
WATCH = """async () => {
    const video = document.getElementById('video');
    const until = name => new Promise((done, fail) => {
        video.addEventListener(name, done, {once: true});
        setTimeout(() => fail(new Error('no ' + name + ' at ' + video.currentTime + ' of ' + video.duration)), 60000);
    });
    video.muted = true;
    if (video.readyState < 1) await until('loadedmetadata');
    const early = video.seekable.end(0);
    video.playbackRate = 1.5;
    const ended = until('ended');
    const playing = until('timeupdate');
    await video.play();
    await playing;
    const from = video.currentTime;
    await ended;
    return {early, from, at: video.currentTime, duration: video.duration, told: document.getElementById('told').textContent};
}"""


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


@pytest.mark.timeout(150)
def test_it_plays_while_it_grows(tmp_path: Path) -> None:
    chromium = next((path for path in map(shutil.which, ("chromium-headless-shell", "chromium")) if path), None)
    assert chromium is not None, "Chromium is missing; as root: apt-get install -y --no-install-recommends chromium-headless-shell"
    path = tmp_path / "film.mp4"
    ffmpeg(
        "-f", "lavfi", "-i", f"testsrc2=size=640x360:rate=25:duration={LENGTH}", "-f", "lavfi", "-i", f"sine=duration={LENGTH}",
        "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac", str(path),
    )  # fmt: skip
    faults: list[str] = []
    with served(tmp_path / "data", TOML, arguments=()) as server, sync_playwright() as playwright:
        media = server.upload(path.read_bytes())["id"]
        link = str(server.client.post(f"/v1/media/{media}/sign", json={"prefix": True}, headers=server.auth()).json()["url"])
        seen: list[dict[str, Any]] = []

        def plays() -> bool:
            seen.append(server.client.get(f"/v1/media/{media}/record", headers=server.auth()).json())
            return seen[-1]["urls"]["manifest"] is not None

        within(60, plays)
        assert seen[-1]["status"] == "PROCESSING"
        first = server.client.get(f"{link}/hls/240p.m3u8")
        assert "#EXT-X-PLAYLIST-TYPE:EVENT" in first.text
        assert re.fullmatch(r"private, max-age=[0-9]", first.headers["cache-control"]), "kept briefly while it grows"
        assert server.client.put(f"/v1/media/{media}/subtitles/en", content=CUES, headers=server.auth()).status_code in (200, 201)
        listing = server.client.get(f"{link}/hls/master.m3u8")
        assert "TYPE=SUBTITLES" in listing.text
        assert re.fullmatch(r"private, max-age=[01]", listing.headers["cache-control"]), "and so is what is composed of it"
        assert server.client.get(f"{link}/dash/manifest.mpd").status_code == 404, "which would be taken for all of it"
        segments = lines(first.text)
        sound = server.client.get(f"{link}/hls/audio.m3u8")
        assert "#EXT-X-PLAYLIST-TYPE:EVENT" in sound.text
        assert len(lines(sound.text)) == len(segments), "there is sound as soon as there are pictures"
        assert server.client.get(f"{link}/hls/{segments[0]}").status_code == 200
        assert server.client.get(f"{link}/hls/360p-keys.m3u8").status_code == 404
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu", "--no-first-run"])
        page = browser.new_page()
        # There may be no poster yet, and the console says of what is not there only that it is not.
        page.on(
            "response", lambda answer: faults.append(answer.url) if answer.status >= 400 and not answer.url.endswith("/poster") else None
        )
        page.on("requestfailed", lambda request: faults.append(request.url))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(f"{server.url}{link}/player")
        watched = page.evaluate(WATCH)
        browser.close()
        assert watched["early"] < LENGTH - 1, "it began before all was there"
        assert watched["from"] < 1, "and at the film's beginning, not at the end of what there was"
        assert watched["duration"] == pytest.approx(LENGTH, abs=0.2)
        assert watched["at"] == pytest.approx(LENGTH, abs=0.2)
        assert (watched["told"], faults) == ("", [])
        record = within(
            60, lambda: (now := server.client.get(f"/v1/media/{media}/record", headers=server.auth()).json())["status"] == "READY" and now
        )
        assert record["error_message"] is None
        whole = server.client.get(f"{link}/hls/240p.m3u8")
        assert "#EXT-X-PLAYLIST-TYPE:VOD" in whole.text
        assert lines(whole.text)[: len(segments)] == segments
        assert server.client.get(f"{link}/dash/manifest.mpd").status_code == 200
        assert int(server.client.get(f"{link}/hls/master.m3u8").headers["cache-control"].rpartition("=")[2]) >= 30
        assert int(whole.headers["cache-control"].rpartition("=")[2]) >= 30
        time.sleep(3)  # what grew is gone by now, and the units with it
        for each in lines(whole.text):
            assert server.client.get(f"{link}/hls/{each}").status_code == 200
        made = server.client.get(f"/v1/media/{media}/derivatives", headers=server.auth()).json()["items"]
        kinds = [each["relationship"] for each in made]
        assert kinds.count("hls") == 1
        assert "unit" not in kinds
