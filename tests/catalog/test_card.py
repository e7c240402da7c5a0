"""The card cache: what it keeps, what it must not keep, and how often it asks."""

import asyncio
from datetime import UTC, datetime

import pytest

from mediacdn.catalog.card import CardCache
from mediacdn.model import Card, State, Status

pytestmark = pytest.mark.anyio


def card(id: str, generation: int = 1) -> Card:
    now = datetime(2030, 1, 1, tzinfo=UTC)
    return Card(id, "ada", True, State.LIVE, Status.READY, generation, 0, None, "default", "k", 1, "0" * 64, "image/png", now)


class Rows:
    """A catalog whose answers wait for the test's word."""

    def __init__(self) -> None:
        self.cards: dict[str, Card] = {}
        self.loads: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None

    async def load(self, id: str) -> Card | None:
        self.loads.append(id)
        found = self.cards.get(id)
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return found


@pytest.fixture
async def rows() -> Rows:
    return Rows()


async def test_loads_once(rows: Rows) -> None:
    cache, rows.cards = CardCache(rows.load, 10), {"a": card("a")}
    assert cache.peek("a") is None
    assert await cache.get("a") == await cache.get("a") == cache.peek("a") == card("a")
    assert rows.loads == ["a"]


async def test_who_asks_together_loads_once(rows: Rows) -> None:
    cache, rows.cards = CardCache(rows.load, 10), {"a": card("a")}
    rows.gate.clear()
    tasks = [asyncio.create_task(cache.get("a")) for _ in range(50)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.sleep(0)
    rows.gate.set()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(ends[0], asyncio.CancelledError), "the first to ask went away"
    assert ends[1:] == [card("a")] * 49
    assert rows.loads == ["a"]


async def test_load_begun_before_a_drop_is_not_kept(rows: Rows) -> None:
    cache, rows.cards = CardCache(rows.load, 10), {"a": card("a", 1)}
    rows.gate.clear()
    early = asyncio.create_task(cache.get("a"))
    await asyncio.sleep(0.001)
    rows.cards["a"] = card("a", 2)
    cache.drop("a")
    late = asyncio.create_task(cache.get("a"))
    await asyncio.sleep(0.001)
    rows.gate.set()
    assert (await late) == card("a", 2), "who asks after the commit does not join the load from before it"
    await early
    assert cache.peek("a") == card("a", 2)
    cache.drop("a")
    assert cache.peek("a") is None


async def test_unknown_is_remembered_briefly(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("mediacdn.catalog.card.time.monotonic", lambda: now)
    cache = CardCache(rows.load, 10)
    assert await cache.get("a") is None
    rows.cards["a"] = card("a")
    assert await cache.get("a") is None
    assert rows.loads == ["a"]
    now += 1.0
    assert await cache.get("a") == card("a")
    assert await cache.get("b") is None
    rows.cards["b"] = card("b")
    cache.drop("b")
    assert await cache.get("b") == card("b"), "a drop forgets that it was unknown"


async def test_unknown_is_bounded(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mediacdn.catalog.card.UNKNOWN_KEPT", 2)
    cache = CardCache(rows.load, 10)
    for name in "abca":
        await cache.get(name)
    assert rows.loads == ["a", "b", "c", "a"]


async def test_least_recently_used_leaves(rows: Rows) -> None:
    cache, rows.cards = CardCache(rows.load, 2), {name: card(name) for name in "abc"}
    for name in "ab":
        await cache.get(name)
    assert cache.peek("a")
    await cache.get("c")
    assert [name for name in "abc" if cache.peek(name)] == ["a", "c"]


async def test_failure_is_told_to_all_and_not_kept(rows: Rows) -> None:
    cache, rows.cards, rows.error = CardCache(rows.load, 2), {"a": card("a")}, RuntimeError("out")
    ends = await asyncio.gather(*(cache.get("a") for _ in range(3)), return_exceptions=True)
    assert [type(end) for end in ends] == [RuntimeError] * 3
    rows.error = None
    assert await cache.get("a") == card("a")
