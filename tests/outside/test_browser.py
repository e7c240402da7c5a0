"""Chromium: media embedded in a page of another site show, seek and can be read by script; what is uploaded never runs script where it is served."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.services.chat import Chat, chat
from tests.services.films import mp4, webm
from tests.services.samples import png, text
from tests.services.served import Served

FLAGS = [
    "--no-sandbox",  # the tests may run as root, where the sandbox refuses to start
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
SHOWN = "img => img.decode().then(() => img.naturalWidth, () => 0)"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = next((path for path in map(shutil.which, ("chromium-headless-shell", "chromium")) if path), None)
    if found is None:
        pytest.fail("Chromium is missing; as root: apt-get install -y --no-install-recommends chromium-headless-shell")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield running
        running.close()


@pytest.fixture(scope="module")
def site() -> Iterator[Chat]:
    with chat() as running:
        yield running


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of a browser that knows nothing yet."""
    context = browser.new_context(accept_downloads=True)
    context.set_default_timeout(15_000)
    yield context.new_page()
    context.close()


def signed(server: Served, media: str, **wish: Any) -> str:
    answer = server.client.post(f"/v1/media/{media}/sign", json=wish, headers=server.auth())
    assert answer.status_code == 200, answer.text
    return server.url + str(answer.json()["url"])


def beacon(site: Chat) -> str:
    """Script that tells the chat that it ran, and whose it believes to be."""
    return f"document.title='owned';new Image().src='{site.origin}/ran?'+location.origin"


@pytest.mark.parametrize("prefix", [False, True], ids=["query", "prefix"])
def test_a_chat_shows_an_image_by_link(server: Served, site: Chat, page: Page, prefix: bool) -> None:
    media = server.upload(png(48, 32, b"chat"))["id"]
    page.goto(site.page(f"<img src='{signed(server, media, prefix=prefix)}'>"))
    assert page.locator("img").evaluate(SHOWN) == 48


def test_without_a_link_it_is_broken(server: Served, site: Chat, page: Page) -> None:
    media = server.upload(png(48, 32, b"no link"))["id"]
    link = signed(server, media)
    last = "B" if link[-1] == "A" else "A"
    page.goto(site.page(f"<img src='{server.url}/v1/media/{media}'><img src='{link[:-1]}{last}'><img src='{link}&w=1'>"))
    assert [each.evaluate(SHOWN) for each in page.locator("img").all()] == [0, 0, 0]


def test_a_revoked_link_is_broken_after_a_reload(server: Served, site: Chat, page: Page) -> None:
    """Once what the browser keeps is stale, which is after `edge.private_max_age`: a second, here."""
    media = server.upload(png(48, 32, b"revoked"))["id"]
    page.goto(site.page(f"<img src='{signed(server, media)}'>"))
    assert page.locator("img").evaluate(SHOWN) == 48
    server.client.post(f"/v1/media/{media}/revoke", headers=server.auth()).raise_for_status()
    time.sleep(1.1)
    page.reload()
    assert page.locator("img").evaluate(SHOWN) == 0


def test_an_expired_link_is_broken(server: Served, site: Chat, page: Page) -> None:
    media = server.upload(png(48, 32, b"expired"))["id"]
    address = site.page(f"<img src='{signed(server, media, expires=1)}'>")
    time.sleep(2)
    page.goto(address)
    assert page.locator("img").evaluate(SHOWN) == 0


@pytest.mark.parametrize(("name", "width"), [("film.mp4", 640), ("film.webm", 320)])
def test_a_video_plays_and_seeks(server: Served, site: Chat, page: Page, name: str, width: int, tmp_path: Path) -> None:
    """Its duration is known before it is loaded, a seek shows another picture, and the page may read the pixels (CORS without credentials)."""
    film = (mp4 if name.endswith("mp4") else webm)(tmp_path / name, seconds=8)
    media = server.upload(film.read_bytes())["id"]
    page.goto(site.page(f"<video muted preload='metadata' crossorigin='anonymous' src='{signed(server, media)}'></video>"))
    seen = page.locator("video").evaluate(
        """async video => {
            const until = (name, ready) => ready ? null : new Promise((done, fail) => {
                video.addEventListener(name, done, {once: true});
                video.addEventListener('error', () => fail(new Error(video.error.message)), {once: true});
                if (video.error) fail(new Error(video.error.message));
            });
            await until('loadedmetadata', video.readyState >= 1);
            const pictureAt = async second => {
                const sought = until('seeked', false);
                video.currentTime = second;
                await sought;
                const canvas = Object.assign(document.createElement('canvas'), {width: 32, height: 18});
                canvas.getContext('2d').drawImage(video, 0, 0, 32, 18);
                return Array.from(canvas.getContext('2d').getImageData(0, 0, 32, 18).data).join();
            };
            const pictures = [await pictureAt(6.5), await pictureAt(0.5), await pictureAt(6.5)];
            const playing = until('timeupdate', false);
            await video.play();
            await playing;
            return {duration: video.duration, width: video.videoWidth, pictures};
        }"""
    )
    assert seen["duration"] == pytest.approx(8, abs=0.3)
    assert seen["width"] == width
    assert seen["pictures"][0] == seen["pictures"][2] != seen["pictures"][1]


def test_a_page_reads_ranges_and_headers(server: Served, site: Chat, page: Page) -> None:
    """fetch() from another origin: by link without a preflight, by token with one; the fields that a player needs can be read."""
    body = text(4000, b"fetch")
    record = server.upload(body)
    page.goto(site.page(""))
    read = """async ([url, headers]) => {
        const answer = await fetch(url, {headers});
        const fields = Object.fromEntries(['etag', 'content-range', 'accept-ranges', 'repr-digest', 'cache-status', 'x-request-id'].map(
            name => [name, answer.headers.get(name)]));
        return {status: answer.status, text: await answer.text(), ...fields};
    }"""
    by_link = page.evaluate(read, [signed(server, record["id"]), {"Range": "bytes=10-29"}])
    by_token = page.evaluate(
        read,
        [f"{server.url}/v1/media/{record['id']}", {"Range": "bytes=-20", "If-Range": f'"{record["etag"]}"', **server.auth("bob", "read")}],
    )
    assert (by_link["status"], by_link["text"], by_link["content-range"]) == (206, body[10:30].decode(), "bytes 10-29/4000")
    assert (by_token["status"], by_token["text"], by_token["content-range"]) == (206, body[-20:].decode(), "bytes 3980-3999/4000")
    for answer in (by_link, by_token):
        assert answer["etag"] == f'"{record["etag"]}"'
        assert all(answer.values())
    with pytest.raises(Exception, match="Failed to fetch"):  # the API is for listed origins only
        page.evaluate(read, [f"{server.url}/v1/media/{record['id']}/record", server.auth("bob", "read")])


ACTIVE = {
    "html": ("text/html", "<!DOCTYPE html><html><body><script>{script}</script></body></html>"),
    "svg": (
        "image/svg+xml",
        "<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg' width='20' height='10'><script>{script}</script></svg>",
    ),
    "xhtml": (
        "application/xhtml+xml",
        "<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'><head><title>x</title></head><body><script>{script}</script></body></html>",
    ),
    "pdf": (
        "application/pdf",
        "%PDF-1.4\n1 0 obj<</Type/Catalog/OpenAction<</S/JavaScript/JS(app.alert\\(1\\))>>>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n",
    ),
}


@pytest.mark.parametrize("kind", ACTIVE)
def test_an_active_type_opened_is_a_download(server: Served, site: Chat, page: Page, kind: str) -> None:
    media_type, content = ACTIVE[kind]
    record = server.upload(content.replace("{script}", beacon(site)).encode(), public="true", filename=f"upload.{kind}")
    assert record["media_type"] == media_type
    address = site.page(f"<a href='{server.url}/v1/media/{record['id']}'>open</a>")
    page.goto(address)
    with page.expect_download() as download:
        page.click("a")
    assert download.value.suggested_filename == f"upload.{kind}"
    assert Path(download.value.path()).read_bytes() == content.replace("{script}", beacon(site)).encode()
    assert (page.url, page.title()) == (address, "chat")
    assert site.heard == []


def test_an_active_type_in_a_frame_runs_nothing(server: Served, site: Chat, page: Page) -> None:
    """Not as a frame, an object, an embed, a script or a style sheet; SVG shows as an image, and images run nothing."""
    media = {
        kind: server.url + "/v1/media/" + server.upload((content.replace("{script}", beacon(site)) + " ").encode(), public="true")["id"]
        for kind, (_, content) in ACTIVE.items()
    }
    script = server.upload(f"{beacon(site)};/*{'x' * 100}*/".encode(), public="true")
    assert script["media_type"] == "text/plain"
    plain = f"{server.url}/v1/media/{script['id']}"
    page.goto(
        site.page(
            "".join(f"<iframe src='{url}'></iframe><object data='{url}'></object><embed src='{url}'>" for url in media.values())
            + f"<img src='{media['svg']}'><iframe src='{plain}'></iframe>"
            + f"<script src='{plain}'></script><script src='{media['html']}'></script><script type=module src='{plain}'></script>"
        )
    )
    page.wait_for_timeout(500)
    assert page.locator("img").evaluate(SHOWN) == 20
    assert page.title() == "chat"
    assert site.heard == []


def test_the_description_shows_without_the_rest_of_the_world(server: Served, page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{server.url}/schema")
    page.locator("summary", has_text="/v1/media/{media_id}/sign").click()
    assert page.locator("details[open]").inner_text().count("expires") >= 1
    assert [url for url in asked if not url.startswith(server.url)] == []
