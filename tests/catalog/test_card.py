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


class Counters:
    """A table of eight counters, of which ids take the one of their first letter."""

    def __init__(self) -> None:
        self.words = [7] * 8

    def slot(self, id: str) -> int:
        return ord(id[0]) % 8

    def bump(self, id: str) -> None:
        self.words[self.slot(id)] += 1


@pytest.fixture
async def rows() -> Rows:
    return Rows()


@pytest.fixture
def counters() -> Counters:
    return Counters()


async def test_loads_once(rows: Rows, counters: Counters) -> None:
    cache, rows.cards = CardCache(rows.load, 10, counters), {"a": card("a")}
    assert cache.peek("a") is None
    assert await cache.get("a") == await cache.get("a") == cache.peek("a") == card("a")
    assert rows.loads == ["a"]


async def test_who_asks_together_loads_once(rows: Rows, counters: Counters) -> None:
    cache, rows.cards = CardCache(rows.load, 10, counters), {"a": card("a")}
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


async def test_a_bump_makes_it_untrue(rows: Rows, counters: Counters) -> None:
    cache, rows.cards = CardCache(rows.load, 10, counters), {"a": card("a", 1), "b": card("b"), "i": card("i")}
    for name in "abi":
        await cache.get(name)
    rows.cards["a"] = card("a", 2)
    counters.bump("a")
    assert [name for name in "abi" if cache.peek(name)] == ["b"], "i has the slot of a"
    assert await cache.get("a") == cache.peek("a") == card("a", 2)
    assert await cache.get("i") == cache.peek("i") == card("i"), "a collision costs a re-read"
    assert rows.loads == ["a", "b", "i", "a", "i"]


async def test_load_begun_before_a_bump_is_not_kept(rows: Rows, counters: Counters) -> None:
    cache, rows.cards = CardCache(rows.load, 10, counters), {"a": card("a", 1)}
    rows.gate.clear()
    early = asyncio.create_task(cache.get("a"))
    await asyncio.sleep(0.001)
    rows.cards["a"] = card("a", 2)
    counters.bump("a")
    late = asyncio.create_task(cache.get("a"))
    await asyncio.sleep(0.001)
    later = asyncio.create_task(cache.get("a"))
    await asyncio.sleep(0.001)
    rows.gate.set()
    assert (await late) == (await later) == card("a", 2), "who asks after the commit does not join the load from before it"
    assert rows.loads == ["a", "a"]
    await early
    assert cache.peek("a") == card("a", 2), "the early load ended last, perhaps, and is still not kept"


async def test_load_that_ends_after_the_bump_alone_is_not_kept(rows: Rows, counters: Counters) -> None:
    cache, rows.cards = CardCache(rows.load, 10, counters), {"a": card("a", 1)}
    rows.gate.clear()
    early = asyncio.create_task(cache.get("a"))
    await asyncio.sleep(0.001)
    counters.bump("a")
    rows.gate.set()
    await early
    assert cache.peek("a") is None


async def test_load_that_ends_late_does_not_displace_the_true_card(counters: Counters) -> None:
    gates = [asyncio.Event(), asyncio.Event()]
    loads = 0

    async def load(id: str) -> Card | None:
        nonlocal loads
        loads += 1
        generation = loads
        await gates[generation - 1].wait()
        return card(id, generation)

    cache = CardCache(load, 10, counters)
    early = asyncio.create_task(cache.get("a"))
    await asyncio.sleep(0.001)
    counters.bump("a")
    late = asyncio.create_task(cache.get("a"))
    await asyncio.sleep(0.001)
    gates[1].set()
    assert await late == card("a", 2)
    gates[0].set()
    assert await early == card("a", 1)
    assert cache.peek("a") == card("a", 2)


async def test_another_table_makes_all_untrue(rows: Rows, counters: Counters) -> None:
    cache, rows.cards = CardCache(rows.load, 10, counters), {name: card(name) for name in "ab"}
    for name in "ab":
        await cache.get(name)
    counters.words = [9] * 8
    assert [cache.peek(name) for name in "ab"] == [None, None]
    assert await cache.get("a") == cache.peek("a") == card("a")


async def test_forget(rows: Rows, counters: Counters) -> None:
    cache, rows.cards = CardCache(rows.load, 10, counters), {"a": card("a")}
    assert cache.forget("a") is None
    await cache.get("a")
    counters.bump("a")
    assert cache.forget("a") == card("a"), "also one that is no longer true: it says which file to close"
    assert cache.forget("a") is None


@pytest.mark.parametrize("ttl", [1.0, 30.0])
async def test_unknown_is_remembered_briefly(rows: Rows, counters: Counters, ttl: float, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("mediacdn.catalog.card.time.monotonic", lambda: now)
    cache = CardCache(rows.load, 10, counters, ttl)
    assert await cache.get("a") is None
    rows.cards["a"] = card("a")
    now += ttl * 0.99
    assert await cache.get("a") is None
    assert rows.loads == ["a"]
    now += ttl * 0.02
    assert await cache.get("a") == card("a")
    assert await cache.get("b") is None
    rows.cards["b"] = card("b")
    counters.bump("b")
    assert await cache.get("b") == card("b"), "a bump forgets that it was unknown"


async def test_unknown_is_not_remembered_at_all(rows: Rows, counters: Counters) -> None:
    cache = CardCache(rows.load, 10, counters, 0)
    assert await cache.get("a") is await cache.get("a") is None
    assert rows.loads == ["a", "a"]


async def test_unknown_is_bounded(rows: Rows, counters: Counters, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mediacdn.catalog.card.UNKNOWN_KEPT", 2)
    cache = CardCache(rows.load, 10, counters)
    for name in "abca":
        await cache.get(name)
    assert rows.loads == ["a", "b", "c", "a"]


async def test_least_recently_used_leaves(rows: Rows, counters: Counters) -> None:
    cache, rows.cards = CardCache(rows.load, 2, counters), {name: card(name) for name in "abc"}
    for name in "ab":
        await cache.get(name)
    assert cache.peek("a")
    await cache.get("c")
    assert [name for name in "abc" if cache.peek(name)] == ["a", "c"]


async def test_failure_is_told_to_all_and_not_kept(rows: Rows, counters: Counters) -> None:
    cache, rows.cards, rows.error = CardCache(rows.load, 2, counters), {"a": card("a")}, RuntimeError("out")
    ends = await asyncio.gather(*(cache.get("a") for _ in range(3)), return_exceptions=True)
    assert [type(end) for end in ends] == [RuntimeError] * 3
    rows.error = None
    assert await cache.get("a") == card("a")
