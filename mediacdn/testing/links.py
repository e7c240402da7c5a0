"""What every links driver promises, as tests: subclass LinksConformance in a test file and override its `links` fixture.

    from mediacdn.testing import LinksConformance

    class TestMine(LinksConformance):
        @pytest.fixture
        async def links(self):
            async with opened(open_mine, MyConfig(...)) as links:
                yield links

Whether a URL opens what it says, and for how long, only the other side can tell: test that with its own verifier.
"""

import asyncio
import re
import time
from datetime import timedelta

import pytest

from mediacdn.interfaces import LinkCookies, Links
from mediacdn.model import Card
from mediacdn.testing.cache_policy import card

ABSOLUTE = re.compile(r"https?://[!-~]+")
EXPIRES = timedelta(seconds=300)
HARD = (
    "attachment",
    'attachment; filename="a b;c&d=e.png"',
    "attachment; filename=\"_.png\"; filename*=UTF-8''%C3%BC%22.png",
    'inline; filename="%2e?#"',
)
FIRST, SECOND = "01ARZ3NDEKTSV4RRFFQ69G5FA1", "01ARZ3NDEKTSV4RRFFQ69G5FA2"


def media(id: str) -> Card:
    return card(id=id, public=False, key=f"originals/{id}.png")


def path(id: str) -> str:
    return f"/v1/media/{id}?disposition=attachment&exp=2000000000&iat=1700000000&kid=k1&sig=ZR4-wLGfZqrwZcsIkRUJnCrZqv_zplS"


class LinksConformance:
    """Each test is a promise of the seam. Override `links`, which must have links to media of the storage "default"."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def links(self) -> Links:
        raise NotImplementedError("override the fixture `links`")

    @pytest.mark.parametrize("disposition", HARD)
    async def test_an_absolute_url_of_printable_ascii(self, links: Links, disposition: str) -> None:
        url = await links.link(media(FIRST), path(FIRST), EXPIRES, media_type="text/plain; charset=utf-8", disposition=disposition)
        assert url is not None
        assert ABSOLUTE.fullmatch(url)
        assert "#" not in url, "a fragment is not sent"

    async def test_each_media_has_its_own(self, links: Links) -> None:
        made = [
            await links.link(media(each), path(each), EXPIRES, media_type="image/png", disposition="inline") for each in (FIRST, SECOND)
        ]
        assert made[0] != made[1]
        assert FIRST in (made[0] or "")
        assert FIRST not in (made[1] or "")

    async def test_a_media_of_an_unknown_storage_has_one_or_none(self, links: Links) -> None:
        url = await links.link(card(storage="nobody-has-this"), path(FIRST), EXPIRES, media_type="image/png", disposition="inline")
        assert url is None or ABSOLUTE.fullmatch(url)

    async def test_many_at_once_in_time_and_off_the_loop(self, links: Links) -> None:
        longest, end = 0.0, False

        async def watch() -> None:
            nonlocal longest
            while not end:
                began = time.monotonic()
                await asyncio.sleep(0.001)
                longest = max(longest, time.monotonic() - began)

        watching = asyncio.create_task(watch())
        began = time.monotonic()
        wanted = (links.link(media(FIRST), path(FIRST), EXPIRES, media_type="image/png", disposition="inline") for _ in range(100))
        async with asyncio.timeout(30):
            made = await asyncio.gather(*wanted)
        took, end = time.monotonic() - began, True
        await watching
        assert all(made)
        assert took < 3, "the core waits no longer for one"
        assert longest < 1

    async def test_cookies_open_what_they_say(self, links: Links) -> None:
        if not isinstance(links, LinkCookies):
            assert not hasattr(links, "cookies")
            return
        below = f"/s/p1.{FIRST}.2000000000.1700000000.k1..x/v1/media/{FIRST}"
        found = await links.cookies(media(FIRST), below, EXPIRES)
        if found is None:
            return
        assert ABSOLUTE.fullmatch(found.url)
        assert found.values
        assert all(re.fullmatch(r"[!#-+./-:<-\[\]-~-]*", f"{name}{value}") for name, value in found.values.items()), (
            "RFC 6265 section 4.1.1"
        )
        assert found.path.startswith("/")
        assert found.path in found.url, "a cookie for more than this media would open more, or cover another's"
        assert FIRST in found.path
        assert found.domain
