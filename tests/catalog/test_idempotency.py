"""Idempotency-Key rows (api.md: per principal and route, 24 h; still in flight 409)."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from mediacdn.catalog.database import Catalog
from mediacdn.catalog.idempotency import Answered, Begun
from mediacdn.errors import IdempotencyInFlight

pytestmark = pytest.mark.anyio

LEASE = timedelta(seconds=30)
WHAT = ("ada", "POST /v1/media", "key-1")


async def begun(catalog: Catalog, *what: str) -> str:
    found = await catalog.idempotency.begin(*(what or WHAT), lease=LEASE)
    assert isinstance(found, Begun)
    return found.token


async def test_answered(catalog: Catalog) -> None:
    token = await begun(catalog)
    with pytest.raises(IdempotencyInFlight):
        await begun(catalog)
    await catalog.idempotency.finish(token, status=201, media_id="M", fingerprint="f")
    assert await catalog.idempotency.begin(*WHAT, lease=LEASE) == Answered(201, "M", "f")


@pytest.mark.parametrize("other", [("eve", *WHAT[1:]), (WHAT[0], "other", WHAT[2]), (*WHAT[:2], "key-2")])
async def test_keys_are_per_principal_and_route(catalog: Catalog, other: tuple[str, str, str]) -> None:
    await begun(catalog)
    await begun(catalog, *other)


async def test_lease_runs_out(catalog: Catalog, clock: Any) -> None:
    lost = await begun(catalog)
    clock.pass_by(seconds=20)
    await catalog.idempotency.touch(lost)
    clock.pass_by(seconds=20)
    with pytest.raises(IdempotencyInFlight):
        await begun(catalog)
    clock.pass_by(seconds=10)
    token = await begun(catalog)
    assert token != lost
    await catalog.idempotency.touch(lost)
    await catalog.idempotency.drop(lost)
    await catalog.idempotency.finish(lost, status=201, media_id="lost", fingerprint="f")
    with pytest.raises(IdempotencyInFlight):
        await begun(catalog)
    await catalog.idempotency.finish(token, status=201, media_id="won", fingerprint="f")
    assert await catalog.idempotency.begin(*WHAT, lease=LEASE) == Answered(201, "won", "f")


async def test_drop(catalog: Catalog) -> None:
    token = await begun(catalog)
    await catalog.idempotency.drop(token)
    token = await begun(catalog)
    await catalog.idempotency.finish(token, status=201, media_id="M", fingerprint="f")
    await catalog.idempotency.drop(token)
    assert isinstance(await catalog.idempotency.begin(*WHAT, lease=LEASE), Answered), "an answer is not dropped"


async def test_purge(catalog: Catalog, clock: Any) -> None:
    answered = await begun(catalog)
    await catalog.idempotency.finish(answered, status=201, media_id="M", fingerprint="f")
    running = await begun(catalog, "ada", "r", "running")
    await begun(catalog, "ada", "r", "dead")
    clock.pass_by(hours=25)
    await catalog.idempotency.touch(running)
    await begun(catalog, "ada", "r", "young")
    assert await catalog.idempotency.purge(clock.now() - timedelta(hours=24)) == 2
    assert await catalog.idempotency.purge(clock.now() - timedelta(hours=24)) == 0


async def test_one_of_many_begins(catalog: Catalog) -> None:
    ends = await asyncio.gather(*(catalog.idempotency.begin(*WHAT, lease=LEASE) for _ in range(20)), return_exceptions=True)
    assert sum(isinstance(end, Begun) for end in ends) == 1
    assert sum(isinstance(end, IdempotencyInFlight) for end in ends) == 19
