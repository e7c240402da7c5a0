"""What the edge is asked with and what it answers with: where a miss is read, how the bytes were come by, and the bytes themselves."""

from collections.abc import AsyncIterator

from msgspec import Struct


class Origin(Struct, frozen=True):
    """Where a miss is read: a storage's name, a key in it, and what must be there: `size` bytes of lower-case hexadecimal SHA-256 `digest`."""

    storage: str
    key: str
    size: int
    digest: str


class Note(Struct, frozen=True, gc=False):
    """How bytes were come by, for Cache-Status (RFC 9211), Age and the log.

    `fwd` is "miss", "stale" or "bypass" (section 2.2), None on a hit; `stored` whether a miss is being kept; `collapsed` that another's fill was waited for.
    `stored_at` is unix seconds, None when nothing was kept; `ttl` is seconds of freshness left, negative when stale.
    `detail` is "disk", "stale", "local", or the name of the policy's rule that said never.
    """

    hit: bool
    fwd: str | None = None
    stored: bool | None = None
    collapsed: bool = False
    stored_at: float | None = None
    ttl: float | None = None
    detail: str | None = None


class Hit(Struct, frozen=True):
    """Bytes that were at hand: exactly one piece a span, in order."""

    pieces: tuple[bytes | memoryview, ...]
    note: Note


class Reading:
    """An open look-up. Ask for the spans in their order, each once, and leave with `aclose`."""

    note: Note

    def span(self, number: int) -> AsyncIterator[bytes | memoryview]:
        """The bytes of `spans[number]`, as they arrive. Raises: what the storage raises."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Stop waiting for whatever is still on its way."""
