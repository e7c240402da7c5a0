"""A film from its upload to a playing stream, over real sockets, with a real worker: public and private, whole and in ranges, made anew, withheld and deleted."""

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import imageio_ffmpeg
import pytest
from playwright.sync_api import sync_playwright

from tests.services.command import within
from tests.services.films import ffmpeg
from tests.services.served import Served, served

TOML = """
plugins = ["local", "jwt", "vips", "ffmpeg"]
[limits]
uploads_per_second = 0
[jobs]
backoff_base = 0.1
[lifecycle]
sweep_every = 0.5
abandoned_after = 30
keep_replaced = 3
[recipes.hls]
seconds = 1
preset = "ultrafast"
"""
X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "25", "-c:a", "aac")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("streams"), TOML, arguments=()) as running:
        yield running


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("films") / "film.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25:duration=3", "-f", "lavfi", "-i", "sine=duration=3", *X264, str(path))
    return path.read_bytes()


def record(server: Served, media: str) -> dict[str, Any]:
    found: dict[str, Any] = server.client.get(f"/v1/media/{media}/record", headers=server.auth()).json()
    return found


def settled(server: Served, media: str) -> dict[str, Any]:
    """The record, once the status is final."""
    return within(30, lambda: (found := record(server, media))["status"] in ("READY", "FAILED") and found)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def private(server: Served, film: bytes) -> dict[str, Any]:
    """A private film that streams."""
    began = time.monotonic()
    uploaded = server.upload(film, filename="holiday.mp4")
    answered = time.monotonic() - began
    assert uploaded["status"] == "UPLOADED"
    assert uploaded["urls"]["manifest"] is None
    early = server.client.get(f"/v1/media/{uploaded['id']}/hls/master.m3u8", headers=server.auth())
    assert (early.status_code, early.json()["detail"].partition(" of this media")[2]) == (404, " yet: it is being worked at")
    assert server.client.get(uploaded["urls"]["original"], headers=server.auth()).content == film, "readable from the first moment"
    found = settled(server, uploaded["id"])
    assert (found["status"], found["error_message"]) == ("READY", None)
    assert answered < 5
    return found


@pytest.fixture(scope="module")
def link(server: Served, private: dict[str, Any]) -> str:
    """The one link that opens all of it, without its last part."""
    answer = server.client.post(f"/v1/media/{private['id']}/sign", json={"prefix": True}, headers=server.auth())
    return str(answer.json()["url"])


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_the_record_tells_of_it(server: Served, private: dict[str, Any]) -> None:
    assert private["urls"]["manifest"] == f"/v1/media/{private['id']}/hls/master.m3u8"
    found = within(10, lambda: (now := record(server, private["id"]))["duration"] and now)
    assert (found["width"], found["height"], found["duration"], found["frame_rate"], found["codecs"]) == (640, 360, 3.0, 25.0, "h264, aac")
    head = server.client.head(f"/v1/media/{private['id']}", headers=server.auth())
    assert head.headers["x-media-duration"] == "3.0"


def test_another_player_plays_it_by_one_link(server: Served, link: str) -> None:
    done = subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-xerror", "-nostdin", "-i", f"{server.url}{link}/hls/master.m3u8", "-map", "0",
         "-f", "null", "-"], capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_every_file_is_an_object_like_any_other(server: Served, private: dict[str, Any], link: str) -> None:
    get = server.client.get
    master = get(f"{link}/hls/master.m3u8")
    assert master.headers["content-type"] == "application/vnd.apple.mpegurl"
    assert lines(master.text) == ["480p.m3u8", "240p.m3u8"]
    media = get(f"{link}/hls/480p.m3u8")
    init = re.findall(r'URI="([^"]+)"', media.text)[0]
    for name in (init, *lines(media.text)):
        whole = get(f"{link}/hls/{name}", headers={"Origin": "https://chat.example"})
        assert (whole.status_code, whole.headers["content-type"]) == (200, "video/mp4")
        assert whole.headers["access-control-allow-origin"] == "*"
        part = get(f"{link}/hls/{name}", headers={"Range": "bytes=8-19"})
        assert (part.status_code, part.content) == (206, whole.content[8:20])
        assert get(f"{link}/hls/{name}", headers={"If-None-Match": whole.headers["etag"]}).status_code == 304
        head = server.client.head(f"{link}/hls/{name}")
        assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(whole.content)), b"")
        assert private["id"] in str(whole.url)
    assert "/" not in init.removeprefix("segments/")


def test_the_lane_answers_what_is_known(server: Served, link: str) -> None:
    """The second request for a file never reaches the application."""
    told = [server.client.get(f"{link}/hls/master.m3u8").headers["server-timing"] for _ in range(3)]
    assert told[-1].startswith("edge;desc=hit")


def test_who_may_not_gets_nothing(server: Served, private: dict[str, Any], link: str) -> None:
    get, path = server.client.get, f"/v1/media/{private['id']}/hls/master.m3u8"
    assert get(path).status_code == 401
    assert get(path, headers=server.auth("bob", "read")).status_code == 200
    last = "B" if link[-40] == "A" else "A"
    assert get(f"{link.replace(link[40:50], last * 10)}/hls/master.m3u8").status_code in (401, 403)
    other = server.upload(b"another " * 10)["id"]
    assert get(f"{link.replace(private['id'], other)}/hls/master.m3u8").status_code == 403


@pytest.mark.parametrize(
    ("path", "status"),
    [("hls/none.m3u8", 404), ("hls/segments/none.m4s", 404), ("hls/../poster", 200), ("hls/%2e%2e/%2e%2e/record", 404), ("hls/", 404), ("hls", 404),
     ("waveform", 404), ("mp4", 404), ("storyboard/x", 404), ("storyboard.vtt", 200), ("poster", 200), ("thumb", 200)],
)  # fmt: skip
def test_what_there_is_below_it(server: Served, private: dict[str, Any], path: str, status: int) -> None:
    url = f"/v1/media/{private['id']}/{path}"
    answer = within(10, lambda: (got := server.client.get(url, headers=server.auth())).status_code == status and got)
    assert answer.headers["content-type"] == ("application/problem+json" if status == 404 else answer.headers["content-type"])


def test_made_anew_it_breaks_nobody_who_plays(server: Served, film: bytes) -> None:
    media = settled(server, server.upload(film + b"\0\0\0\x08free", public="true")["id"])["id"]
    get = server.client.get

    def playlist() -> httpx.Response:
        return get(f"/v1/media/{media}/hls/480p.m3u8")

    before = playlist()
    assert "public" in before.headers["cache-control"]
    segments = lines(before.text)
    server.client.post(
        f"/v1/media/{media}/tasks/hls", json={"args": {"renditions": "480p", "container": "mpegts"}}, headers=server.auth()
    ).raise_for_status()
    after = within(20, lambda: (now := playlist()).text != before.text and now)
    assert after.headers["etag"] != before.headers["etag"]
    assert all(name.endswith(".ts") for name in lines(after.text))
    for name in (*segments, *lines(after.text), "240p.m3u8"):
        assert get(f"/v1/media/{media}/hls/{name}").status_code == 200, "those of the run before it are there for a while"
    within(15, lambda: get(f"/v1/media/{media}/hls/{segments[0]}").status_code == 404)
    assert get(f"/v1/media/{media}/hls/{lines(after.text)[0]}").status_code == 200
    assert lines(get(f"/v1/media/{media}/hls/master.m3u8").text) == ["480p.m3u8"]


def test_withheld_and_deleted_it_is_gone_at_once(server: Served, film: bytes) -> None:
    media = settled(server, server.upload(film + b"\0\0\0\x0cfree1234", public="true")["id"])["id"]
    master = f"/v1/media/{media}/hls/master.m3u8"
    segment = f"/v1/media/{media}/hls/" + lines(server.client.get(f"/v1/media/{media}/hls/240p.m3u8").text)[0]
    admin = server.auth("root", "admin")
    for url in (master, segment):
        assert server.client.get(url).status_code == 200
    server.client.post(f"/v1/media/{media}/quarantine", json={"scope": "media"}, headers=admin).raise_for_status()
    assert [server.client.get(url).status_code for url in (master, segment)] == [451, 451]
    server.client.delete(f"/v1/media/{media}/quarantine", headers=admin).raise_for_status()
    assert server.client.get(segment).status_code == 200
    server.client.delete(f"/v1/media/{media}", headers=admin).raise_for_status()
    assert [server.client.get(url).status_code for url in (master, segment)] == [404, 404]
    within(10, lambda: not [path for path in server.data.rglob("*.m4s") if media in str(path)])


def test_what_cannot_be_made_is_said(server: Served, film: bytes) -> None:
    cut = film[: len(film) // 3]
    found = settled(server, server.upload(cut)["id"])
    assert found["status"] == "FAILED"
    assert re.fullmatch(r"The film is damaged, cut short, or of a kind that is not read here.*", found["error_message"])
    assert server.client.get(f"/v1/media/{found['id']}", headers=server.auth()).content == cut, "the original is kept"
    for manifest in ("hls/master.m3u8", "dash/manifest.mpd"):
        answer = server.client.get(f"/v1/media/{found['id']}/{manifest}", headers=server.auth())
        assert (answer.status_code, answer.json()["code"], answer.json()["detail"]) == (404, "processing_failed", found["error_message"])
        assert server.client.get(f"/v1/media/{found['id']}/{manifest}").status_code == 401, "nothing is said to those who may not read it"
    assert server.client.get(f"/v1/media/{found['id']}/mp4", headers=server.auth()).json()["code"] == "not_found", (
        "a task may still be asked for"
    )


def test_sound_streams_and_has_an_outline(server: Served, tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "sine=duration=2", "-c:a", "libmp3lame", str(tmp_path / "sound.mp3"))
    uploaded = server.upload((tmp_path / "sound.mp3").read_bytes(), public="true")
    assert uploaded["status"] == "READY"
    outline = within(20, lambda: (got := server.client.get(f"/v1/media/{uploaded['id']}/waveform")).status_code == 200 and got)
    assert outline.json()["bits"] == 8
    master = within(20, lambda: (got := server.client.get(f"/v1/media/{uploaded['id']}/hls/master.m3u8")).status_code == 200 and got)
    assert lines(master.text) == ["audio.m3u8"]


def test_the_scratch_folder_is_empty(server: Served) -> None:
    within(10, lambda: list((server.data / "scratch").iterdir()) == [])


def test_the_player_has_a_strict_policy(server: Served, link: str) -> None:
    page = server.client.get(f"{link}/player")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "*" not in policy
    assert page.headers["cache-control"] == "no-cache"
    scripts = re.findall(r'src="([^"]+\.js\?v=[0-9a-f]{16})"', page.text)
    assert len(scripts) == 2
    for script in scripts:
        url = httpx.URL(f"{server.url}{link}/player").join(script)
        assert server.client.get(url).headers["content-type"].startswith("text/javascript")
    assert server.client.get("/v1/player/secrets").status_code == 404


def test_a_browser_plays_and_seeks_by_the_player(server: Served, link: str) -> None:
    """Chromium, on the page of a private film: hls.js takes the stream, plays it, and shows another picture after a seek."""
    found = next((path for path in map(shutil.which, ("chromium-headless-shell", "chromium")) if path), None)
    if found is None:
        pytest.fail("Chromium is missing; as root: apt-get install -y --no-install-recommends chromium-headless-shell")
    faults: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu", "--no-first-run"])
        page = browser.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(f"{server.url}{link}/player")
        seen = page.locator("video").evaluate(
            """async video => {
                const until = name => new Promise((done, fail) => {
                    video.addEventListener(name, done, {once: true});
                    setTimeout(() => fail(new Error('no ' + name)), 15000);
                });
                if (video.readyState < 1) await until('loadedmetadata');
                video.muted = true;
                const shown = second => new Promise((done, fail) => {  // "seeked" may come before its picture
                    const look = (_, frame) => Math.abs(frame.mediaTime - second) < 0.2 ? done() : video.requestVideoFrameCallback(look);
                    video.requestVideoFrameCallback(look);
                    setTimeout(() => fail(new Error('no picture of ' + second)), 15000);
                });
                const pictureAt = async second => {
                    const sought = Promise.all([until('seeked'), shown(second)]);
                    video.currentTime = second;
                    await sought;
                    const canvas = Object.assign(document.createElement('canvas'), {width: 32, height: 18});
                    canvas.getContext('2d').drawImage(video, 0, 0, 32, 18);
                    return Array.from(canvas.getContext('2d').getImageData(0, 0, 32, 18).data).join();
                };
                const pictures = [await pictureAt(2.2), await pictureAt(0.4)];
                const playing = until('timeupdate');
                await video.play();
                await playing;
                return {duration: video.duration, height: video.videoHeight, pictures, source: video.src, told: document.getElementById('told').textContent};
            }"""
        )
        browser.close()
    assert seen["duration"] == pytest.approx(3.0, abs=0.1)
    assert seen["height"] in (360, 240)
    assert seen["pictures"][0] != seen["pictures"][1]
    assert seen["source"].startswith("blob:"), "by hls.js"
    assert seen["told"] == ""
    assert faults == []


def test_the_player_says_what_keeps_it_and_begins_once_there_is_a_stream(server: Served, link: str) -> None:
    """The sentence stands where it is seen, and who opened the page too early need not load it anew."""
    program = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    if program is None:
        pytest.fail("Chromium is missing; as root: apt-get install -y --no-install-recommends chromium-headless-shell")
    seen = (
        "() => { const box = document.getElementById('told').getBoundingClientRect(); return box.height > 0 && box.bottom <= innerHeight; }"
    )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 480, "height": 270})
        page.route("**/hls/master.m3u8", lambda route: route.fulfill(status=404, body="{}"), times=1)
        page.goto(f"{server.url}{link}/player")
        page.wait_for_function(seen, timeout=10_000)
        assert "no stream yet" in page.inner_text("#told")
        page.wait_for_function(
            "() => document.querySelector('video').readyState >= 1 && document.getElementById('told').hidden", timeout=15_000
        )
        page.goto(f"{server.url}{link.replace('/s/p1.', '/s/p1.0', 1)}/player")
        page.wait_for_function(seen, timeout=10_000)
        assert page.inner_text("#told") == "It cannot be played: the link is not valid, or was revoked"
        browser.close()


@pytest.mark.parametrize("by_itself", [False, True], ids=["hls.js", "a browser that plays HLS itself"])
def test_the_player_says_what_failed_and_asks_no_more(server: Served, film: bytes, by_itself: bool) -> None:
    failed = settled(server, server.upload(film[: len(film) // 3], public="true")["id"])
    program = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    if program is None:
        pytest.fail("Chromium is missing; as root: apt-get install -y --no-install-recommends chromium-headless-shell")
    asked: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        if by_itself:  # as far as the page can tell: it is given no hls.js, and told that what it cannot play it can
            page.add_init_script("HTMLMediaElement.prototype.canPlayType = () => 'maybe'")
            page.route("**/hls.min.js*", lambda route: route.fulfill(status=200, content_type="text/javascript", body=""))
        page.clock.install()
        page.on("request", lambda request: asked.append(request.url) if request.url.endswith("master.m3u8") else None)
        page.goto(f"{server.url}/v1/media/{failed['id']}/player")
        page.wait_for_function("() => !document.getElementById('told').hidden", timeout=10_000)
        assert page.inner_text("#told") == f"It cannot be played: {failed['error_message']}"
        before = len(asked)
        page.clock.fast_forward(120_000)
        page.evaluate("() => fetch('poster')")  # a round trip: what was asked for before it has been seen
        assert len(asked) == before
        browser.close()
