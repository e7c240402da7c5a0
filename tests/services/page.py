"""A page of another site in a real browser, with the official client of tus for browsers in it."""

import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.services.chat import chat

PACKAGE = Path(__file__).parent.parent.parent / ".test" / "tus-js-client-4.3.1.tgz"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]


@contextmanager
def tus_page(body: str = "") -> Iterator[tuple[Page, str]]:
    """The page until the context is left, and its site's origin."""
    assert PACKAGE.exists(), f"tus-js-client is missing: make {PACKAGE.parent.name}/{PACKAGE.name}"
    found = next((path for path in map(shutil.which, ("chromium-headless-shell", "chromium")) if path), None)
    assert found is not None, "Chromium is missing; as root: apt-get install -y --no-install-recommends chromium-headless-shell"
    with tarfile.open(PACKAGE) as packed:
        file = packed.extractfile("package/dist/tus.min.js")
        assert file is not None
        script = file.read().decode()
    with chat() as site, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        shown = browser.new_page()
        shown.set_default_timeout(60_000)
        shown.goto(site.page(body))
        shown.add_script_tag(content=script)
        yield shown, site.origin
        browser.close()
