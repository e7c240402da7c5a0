"""The keys in force: static ones, and those of the Authentication Service's JWKS (RFC 7517 section 5), kept fresh in the background.

One task fetches, so that there is never more than one flight; requests only wait for it, and an unknown kid can bring the next one forward at most
once an interval. The last good keys outlive an outage by the grace time. A key that has left the set verifies nothing from that moment on.
"""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from anyio import to_thread

from mediacdn import AuthUnavailable, FetchRules, InvalidToken, MediaError, fetch
from mediacdn_jwt.config import JwtConfig, networks
from mediacdn_jwt.keys import Key, KeyRefused, KeyTable, key_from_jwk
from mediacdn_jwt.strict import decode_object

MAX_SET_SIZE = 131072
MAX_KEYS = 100
FIRST_RETRY = 1.0
LAST_RETRY = 30.0


class KeySet:
    """`monotonic` is for tests; everything is called on the event loop's thread."""

    def __init__(self, static: KeyTable, config: JwtConfig, logger: Any, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._static = static
        self._config = config
        self._logger = logger
        self._monotonic = monotonic
        self._both = static
        self._good_until: float | None = None
        self._failures = 0
        self._sought = float("-inf")
        self._flight: asyncio.Event | None = None
        self._wake = asyncio.Event()
        if config.jwks_url is not None:
            self._flight = asyncio.Event()  # the first fetch, which keep_fresh begins with

    async def find(self, kid: str | None, algorithm: str) -> Key:
        """Give the one key for a token. Raises: InvalidToken when there is none, AuthUnavailable when that cannot be known."""
        # Two flights at most are worth waiting for: one that left before the kid was heard of, and the one that it brings forward.
        for _ in range(3):
            key = (self._both if self._usable() else self._static).find(kid, algorithm)
            if key is not None:
                return key
            if not await self._renewed():
                break
        if self._config.jwks_url is not None and (self._failures or not self._usable()):
            raise AuthUnavailable
        raise InvalidToken("The token's key is not known")

    def holds(self, key: Key) -> bool:
        """Tell whether a key is still in force."""
        return key.identity in (self._both if self._usable() else self._static).identities

    def check(self) -> None:
        """Raises: AuthUnavailable while there is an Authentication Service whose keys are not known (any more)."""
        if self._config.jwks_url is not None and not self._usable():
            raise AuthUnavailable

    async def keep_fresh(self) -> None:
        """Fetch the set, and again before its time is over, until cancelled."""
        while True:
            await self._refresh()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._pause())
            self._wake = asyncio.Event()

    def _usable(self) -> bool:
        return self._good_until is not None and self._monotonic() < self._good_until

    def _pause(self) -> float:
        spread: float = random.uniform(0.9, 1.0)  # noqa: S311  # so that a fleet does not ask in step
        if self._failures:
            return spread * min(FIRST_RETRY * 2.0 ** min(self._failures - 1, 16), LAST_RETRY, self._config.jwks_ttl)
        return spread * 0.8 * self._config.jwks_ttl

    async def _renewed(self) -> bool:
        """Wait for the flight under way, or start one when an unknown kid may; False when neither."""
        if self._config.jwks_url is None:
            return False
        if self._flight is None:
            now = self._monotonic()
            if now - self._sought < self._config.unknown_kid_interval:
                return False
            self._sought = now
            self._flight = asyncio.Event()
            self._wake.set()
        try:
            await asyncio.wait_for(self._flight.wait(), self._config.jwks_timeout + 1)
        except TimeoutError:
            return False
        return True

    async def _refresh(self) -> None:
        flight = self._flight = self._flight or asyncio.Event()
        try:
            fetched = await self._load()
            # An operator's own key wins over one of the same kid: who serves the set cannot replace it.
            named = {key.kid for key in self._static.keys}
            self._both = KeyTable((*self._static.keys, *(key for key in fetched if key.kid is None or key.kid not in named)))
            self._good_until = self._monotonic() + self._config.jwks_ttl + self._config.jwks_grace
            self._failures = 0
        except (MediaError, ValueError) as error:
            self._failures += 1
            self._logger.warning(
                "jwks_unavailable",
                reason=error.detail if isinstance(error, MediaError) else str(error),
                failures=self._failures,
                keys_kept=self._usable(),
            )
        except Exception:
            # Whatever it is, the next attempt must come: without this task, keys would silently grow old.
            self._failures += 1
            self._logger.exception("jwks_failed")
        finally:
            self._flight = None
            flight.set()

    async def _load(self) -> list[Key]:
        url = self._config.jwks_url
        assert url is not None
        parts = urlsplit(url)
        rules = FetchRules(
            schemes=frozenset({parts.scheme}),
            ports=frozenset({parts.port or {"http": 80, "https": 443}[parts.scheme]}),
            allow=networks(self._config),
            redirects=0,
            total=self._config.jwks_timeout,
            connect=self._config.jwks_timeout,
            read=self._config.jwks_timeout,
        )
        found = await fetch(url, rules=rules, max_size=MAX_SET_SIZE, headers={"Accept": "application/jwk-set+json, application/json"})
        if found.status != 200:
            raise ValueError(f"it answered with status {found.status}")
        return await to_thread.run_sync(self._parse, found.body)  # a hundred RSA keys take ten milliseconds

    def _parse(self, body: bytes) -> list[Key]:
        try:
            members = decode_object(body).get("keys")
        except ValueError:
            raise ValueError("it is not a key set") from None
        if not isinstance(members, list) or len(members) > MAX_KEYS or not all(isinstance(member, dict) for member in members):
            raise ValueError("it is not a key set")
        keys = []
        for place, member in enumerate(members):
            try:
                keys.append(key_from_jwk(member, self._config.algorithms))
            except KeyRefused as refusal:
                self._logger.warning("jwk_ignored", place=place, reason=str(refusal))
        return keys
