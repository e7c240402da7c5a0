"""The official client for browsers, tus-js-client, in a page of another site: preflights, resumption after cuts, a server that is killed; and in parts side by side."""

import hashlib
import time
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.services.page import tus_page
from tests.services.scissors import Scissors
from tests.services.served import Served
from tests.uploads.conftest import LIMITS

UPLOAD = """
async ([endpoint, token, size, seed, options]) => {
  const content = new Uint8Array(size);
  let state = seed;
  for (let at = 0; at < size; at++) { state = (state * 1103515245 + 12345) & 0x7fffffff; content[at] = state >> 16; }
  const digest = [...new Uint8Array(await crypto.subtle.digest("SHA-256", content))].map(each => each.toString(16).padStart(2, "0")).join("");
  const heard = {errors: 0, media: null};
  await new Promise((done, failed) => {
    const upload = new tus.Upload(new Blob([content]), {
      endpoint, headers: {Authorization: "Bearer " + token}, metadata: {filename: "browser.bin", title: "From a page"},
      retryDelays: Array(60).fill(150), ...options,
      onShouldRetry: () => { heard.errors++; return true; },
      onAfterResponse: (request, response) => { heard.media = response.getHeader("Upload-Media-Id") || heard.media; },
      onError: failed, onSuccess: done,
    });
    upload.start();
  });
  return {digest, ...heard};
}
"""


@pytest.fixture(scope="module")
def page() -> Iterator[tuple[Page, str]]:
    """A page of another site with the client in it, and that site's origin."""
    with tus_page() as shown:
        yield shown


@pytest.fixture(scope="module")
def server(page: tuple[Page, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    data = tmp_path_factory.mktemp("browser")
    config = data / "mediacdn.toml"
    config.write_text(f'{LIMITS}\n[cors]\norigins = ["{page[1]}"]\n')
    running = Served(data, config, {})
    yield running
    running.stop()


def upload(page: tuple[Page, str], server: Served, port: int, size: int, seed: int, **options: Any) -> Any:
    return page[0].evaluate(UPLOAD, [f"http://127.0.0.1:{port}/v1/uploads", server.token(), size, seed, options])


def stored(server: Served, media: str) -> str:
    return hashlib.sha256(server.client.get(f"/v1/media/{media}", headers=server.auth()).content).hexdigest()


def test_cut_and_killed(page: tuple[Page, str], server: Served) -> None:
    """Connections are reset within a request, the server is killed and comes back; the page's client goes on each time."""
    size = 12_000_000
    relay = Scissors(int(server.url.rpartition(":")[2]), [300_000 + 100_000 * number for number in range(1, 20)], upwards=True)
    token = server.token()
    try:
        page[0].evaluate("() => { window.outcome = null; }")
        arguments = [f"http://127.0.0.1:{relay.port}/v1/uploads", token, size, 7, {"chunkSize": 3_000_000}]
        page[0].evaluate(
            f"(given) => {{ ({UPLOAD})(given).then(found => window.outcome = found, error => window.outcome = {{error: String(error)}}); }}",
            arguments,
        )
        deadline = time.monotonic() + 30
        while relay.cut < 3 and time.monotonic() < deadline:
            page[0].wait_for_timeout(20)
        server.kill()
        server.start()
        relay.target = int(server.url.rpartition(":")[2])
        relay.cuts = [500_000 + 100_000 * number for number in range(1, 20)]  # those that were left met no server
        page[0].wait_for_function("() => window.outcome !== null")
        outcome = page[0].evaluate("() => window.outcome")
    finally:
        relay.close()
    assert "error" not in outcome, outcome
    assert relay.cut >= 5
    assert outcome["errors"] >= 5
    assert stored(server, outcome["media"]) == outcome["digest"]


def test_in_parts_side_by_side(page: tuple[Page, str], server: Served) -> None:
    """Extension concatenation, as this client uses it."""
    outcome = upload(page, server, int(server.url.rpartition(":")[2]), 5_000_000, 11, parallelUploads=3)
    assert stored(server, outcome["media"]) == outcome["digest"]


def test_of_unknown_length(page: tuple[Page, str], server: Served) -> None:
    """Extension creation-defer-length."""
    outcome = upload(page, server, int(server.url.rpartition(":")[2]), 2_000_000, 13, uploadLengthDeferred=True, chunkSize=700_000)
    assert stored(server, outcome["media"]) == outcome["digest"]


def test_with_the_creation(page: tuple[Page, str], server: Served) -> None:
    """Extension creation-with-upload."""
    outcome = upload(page, server, int(server.url.rpartition(":")[2]), 500_000, 17, uploadDataDuringCreation=True)
    assert stored(server, outcome["media"]) == outcome["digest"]
