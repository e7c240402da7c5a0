"""Where a reader who may have a media's bytes is sent for them instead of our own signed link: the storage's presigned URL, or what a links driver makes.

The rules that hold for all of them stand here: never for what is withheld, never longer than the media, the caller or `links.expires` last, always with type and
disposition. Where none can be had, the caller falls back on our own link.
"""

import asyncio
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import structlog

from mediacdn.config import Links as Settings
from mediacdn.errors import ConfigError
from mediacdn.http.disposition import content_disposition, inline_safe, saved_as
from mediacdn.http.media_types import content_type_of
from mediacdn.interfaces import Clock, LinkCookies, Links, Presigner, Storage
from mediacdn.model import Card, Cookies, State

PATIENCE = 3.0
"""Seconds that a driver may take, which is to reckon and not to ask."""
_ABSOLUTE = re.compile(r"https?://[!-~]+")

log = structlog.get_logger("mediacdn.links")


class StorageLinks:
    """The links driver "storage": what the media's own storage presigns. Raises: ConfigError when none of them can."""

    def __init__(self, storages: Mapping[str, Storage]) -> None:
        self._presigners = {name: each for name, each in storages.items() if isinstance(each, Presigner)}
        if not self._presigners:
            raise ConfigError('links.via is "storage", but no configured storage can presign URLs')

    async def link(self, card: Card, path: str, expires: timedelta, *, media_type: str, disposition: str) -> str | None:
        storage = self._presigners.get(card.storage)
        if storage is None:
            return None
        return await storage.presign_get(card.key, expires, media_type=media_type, disposition=disposition)


class Elsewhere:
    """Links elsewhere by the configured driver; None of one means that all links are ours."""

    def __init__(self, driver: Links | None, settings: Settings, clock: Clock) -> None:
        self._driver = driver
        self._settings = settings
        self._clock = clock

    @property
    def in_records(self) -> bool:
        """Whether a record carries such a link."""
        return self._driver is not None and self._settings.records

    @property
    def has_cookies(self) -> bool:
        """Whether there may be cookies at all."""
        return isinstance(self._driver, LinkCookies)

    async def link(self, card: Card, path: str, until: datetime, *, attachment: bool) -> tuple[str, datetime] | None:
        """The URL for a reader who may read the card's bytes until `until`, and when it dies; None where it should be our own link.

        `path` is our own link without the base path, which carries the same disposition.
        """
        lifetime = self._lifetime(card, until)
        if self._driver is None or lifetime is None:
            return None
        kind = "inline" if inline_safe(card.media_type) and not attachment else "attachment"
        disposition = content_disposition(kind, card.filename if kind == "inline" else saved_as(card))
        media_type = content_type_of(card.media_type)
        try:
            async with asyncio.timeout(PATIENCE):
                url = await self._driver.link(card, path, lifetime, media_type=media_type, disposition=disposition)
        except Exception as error:
            self._failed(error)
            return None
        if url is None:
            return None
        if not _ABSOLUTE.fullmatch(url):
            self._failed(ValueError("what the driver made is no absolute URL"))
            return None
        return url, self._clock.now() + lifetime

    async def cookies(self, card: Card, path: str, until: datetime) -> tuple[Cookies, datetime] | None:
        """Cookies for all that lies beneath `path`, our own prefix link, and when they die; None where there are none."""
        lifetime = self._lifetime(card, until)
        driver: object = self._driver
        if not isinstance(driver, LinkCookies) or lifetime is None:
            return None
        async with asyncio.timeout(PATIENCE):
            found = await driver.cookies(card, path, lifetime)
        return None if found is None else (found, self._clock.now() + lifetime)

    def _lifetime(self, card: Card, until: datetime) -> timedelta | None:
        """Whole seconds, at least one."""
        if card.state is not State.LIVE or not card.digest or card.size < self._settings.min_size:
            return None
        now = self._clock.now()
        ends = [now + timedelta(seconds=self._settings.expires), until, *([card.expires_at] if card.expires_at else [])]
        seconds = int((min(each.astimezone(UTC) for each in ends) - now).total_seconds())
        return timedelta(seconds=seconds) if seconds > 0 else None

    def _failed(self, error: Exception) -> None:
        log.warning("no link elsewhere; our own is given", via=self._settings.via, error=str(error) or type(error).__name__)
