"""Refused digests."""

import pytest

from mediacdn.catalog.database import Catalog

pytestmark = pytest.mark.anyio


async def test_refusals(catalog: Catalog) -> None:
    digest = "0" * 64
    assert await catalog.refusals.get(digest) is None
    await catalog.refusals.add(digest, "one")
    await catalog.refusals.add(digest, "two")
    assert await catalog.refusals.get(digest) == "two"
    await catalog.refusals.add(digest, None)
    assert await catalog.refusals.get(digest) == "", "refused without a reason is refused all the same"
    await catalog.refusals.remove(digest)
    await catalog.refusals.remove(digest)
    assert await catalog.refusals.get(digest) is None
