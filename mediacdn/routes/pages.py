"""Pages of lists of which a caller may not see everything: filled up by a bounded number of reads."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

READS = 8
"""Reads of the catalog for one page; one is enough where no authorizer driver has a say. A page that is short still after so many has a `next`, as clients follow it."""


async def filled(
    read: Callable[[int, str | None], Awaitable[tuple[list[T], str | None]]],
    keeps: Callable[[T], Awaitable[bool]],
    *,
    limit: int,
    after: str | None,
) -> tuple[list[T], str | None]:
    """What `keeps` keeps of what `read(most, after)` gives, up to `limit`, and the cursor of the next page, None at the end."""
    kept: list[T] = []
    for _ in range(READS):
        page, after = await read(limit - len(kept), after)
        kept += [each for each in page if await keeps(each)]
        if after is None or len(kept) == limit:
            break
    return kept, after
