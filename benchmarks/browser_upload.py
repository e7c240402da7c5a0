"""A large file chosen in a page of a real browser, sent by tus-js-client, with the network cut twice on the way: seconds, and the digests at both ends.

    python -m benchmarks browser-upload --size 5GB

The file lies on disk and the page is of another site; a relay resets the connection after each third. The file's SHA-256 is compared with the record's, which the
server made, and with that of the bytes read back.
"""

import hashlib
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import progress
from benchmarks.results import table
from tests.services.page import tus_page
from tests.services.scissors import Scissors
from tests.services.served import Served

TITLE = "An upload from a browser's page, cut twice"
CUTS = 2
BLOCK = 4 * 1024 * 1024
LONGEST = 3600
TOML = """
[limits]
max_upload_size = 20_000_000_000
uploads_per_second = 0
[cors]
origins = ["{origin}"]
"""
UPLOAD = """
([endpoint, token]) => {
  window.heard = {errors: 0, media: null, sent: 0, over: false, error: null};
  const upload = new tus.Upload(document.querySelector("input").files[0], {
    endpoint, headers: {Authorization: "Bearer " + token}, metadata: {filename: "film.bin"}, retryDelays: [500, 1000, 2000, 4000],
    onShouldRetry: () => { heard.errors++; return true; },
    onProgress: sent => { heard.sent = sent; },
    onAfterResponse: (request, response) => { heard.media = response.getHeader("Upload-Media-Id") || heard.media; },
    onError: error => { heard.error = String(error); heard.over = true; },
    onSuccess: () => { heard.over = true; },
  });
  upload.start();
}
"""


def measure(*, full: bool, size: int | None = None) -> dict[str, Any]:
    size = size or (5_000_000_000 if full else 200_000_000)
    with tempfile.TemporaryDirectory(prefix="mediacdn-bench-") as name, tus_page('<input type="file">') as (page, origin):
        folder = Path(name)
        digest = _write(folder / "film.bin", size)
        config = folder / "mediacdn.toml"
        config.write_text(TOML.format(origin=origin))
        server = Served(folder / "data", config, {})
        relay = Scissors(int(server.url.rpartition(":")[2]), [size // (CUTS + 1)] * 100, upwards=True)
        try:
            page.set_input_files("input", folder / "film.bin")
            began = time.monotonic()
            page.evaluate(UPLOAD, [f"http://127.0.0.1:{relay.port}/v1/uploads", server.token(expires="4h")])
            told = began
            while not page.evaluate("heard.over") and time.monotonic() - began < LONGEST:
                page.wait_for_timeout(50)
                if relay.cut >= CUTS:
                    relay.cuts.clear()
                if time.monotonic() - told > 10:
                    told = time.monotonic()
                    progress(f"{page.evaluate('heard.sent') / 1e6:,.0f} MB sent, cut {relay.cut} times")
            took = time.monotonic() - began
            heard = page.evaluate("heard")
            if heard["error"] or not heard["over"]:
                raise RuntimeError(f"the upload failed: {heard}")
            record = server.client.get(f"/v1/media/{heard['media']}/record", headers=server.auth()).json()
            back = _read_back(server, heard["media"])
        finally:
            relay.close()
            server.stop()
    outcome = {"size": size, "seconds": round(took, 1), "cuts": relay.cut, "retries": heard["errors"]}
    outcome |= {"file": digest, "record": record["digest"], "read back": back}
    if not (digest == record["digest"] == back and relay.cut == CUTS):
        raise RuntimeError(f"not as it should be: {outcome}")
    return outcome


def _write(path: Path, size: int) -> str:
    """A file of so many bytes that no compression and no sparse file makes smaller; its SHA-256."""
    sha256, block, left = hashlib.sha256(), b"\x00\x01" + os.urandom(BLOCK - 2), size
    with path.open("wb") as file:
        while left:
            chunk = (left.to_bytes(8, "big") + block[8:])[: min(BLOCK, left)]
            if left == size:
                chunk = b"\x00\x01" + chunk[2:]
            sha256.update(chunk)
            file.write(chunk)
            left -= len(chunk)
    return sha256.hexdigest()


def _read_back(server: Served, media: str) -> str:
    sha256 = hashlib.sha256()
    with server.client.stream("GET", f"/v1/media/{media}", headers=server.auth()) as answer:
        for chunk in answer.iter_bytes(BLOCK):
            sha256.update(chunk)
    return sha256.hexdigest()


def section(outcome: dict[str, Any]) -> str:
    """The outcome for RESULTS.md."""
    names = ("size", "seconds", "cuts", "retries")
    figures = table(list(names), [[f"{outcome[name]:,}" for name in names]])
    return f"""{figures}

tus-js-client in a page of another site (Chromium), a file from disk in one PATCH, the connection reset after each third. SHA-256 of the file, of the record, and of what was read back:
`{outcome["file"]}`."""
