"""What the edge answers: the object's bytes, from the nearest place, with a true note; and what it keeps, for how long."""

import asyncio
import gc
from collections.abc import Sequence
from pathlib import Path
from weakref import ref

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from mediacdn.edge.coalesce import Fill
from mediacdn.edge.entries import Entry, Key
from mediacdn.edge.slices import Cut, cuts, extent
from mediacdn.edge.tiers import LONGEST_PEEK, MOST_SLICES, Note
from mediacdn.errors import ObjectCorrupt, StorageUnavailable
from mediacdn.model import ByteRange, ObjectInfo
from tests.edge.given import SLICE, Far, FarLocal, Fixed, Shelf, bench, content, origin, slices_read

pytestmark = pytest.mark.anyio


# Where the slices lie.


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        ((0, 1), [(0, 0, 1)]),
        ((0, 10), [(0, 0, 10)]),
        ((9, 11), [(0, 9, 10), (1, 0, 1)]),
        ((10, 20), [(1, 0, 10)]),
        ((5, 35), [(0, 5, 10), (1, 0, 10), (2, 0, 10), (3, 0, 5)]),
        ((0, 0), []),
    ],
)
def test_cuts(span: tuple[int, int], expected: list[Cut]) -> None:
    assert list(cuts(ByteRange(*span), 10)) == expected


@pytest.mark.parametrize(("number", "total", "expected"), [(0, 5, (0, 5)), (0, 10, (0, 10)), (1, 15, (10, 15)), (1, 20, (10, 20))])
def test_extent(number: int, total: int, expected: tuple[int, int]) -> None:
    assert extent(number, 10, total) == ByteRange(*expected)


# The right bytes, whatever is asked.


@st.composite
def asked(draw: st.DrawFn) -> tuple[int, list[list[tuple[int, int]]]]:
    """A size, and a few requests with their spans: anywhere, but eager for the edges of slices."""
    size = draw(st.integers(1, 5 * SLICE) | st.sampled_from([SLICE - 1, SLICE, SLICE + 1, 3 * SLICE]))
    place = st.integers(0, size) | st.sampled_from([at for at in (0, SLICE - 1, SLICE, SLICE + 1, 2 * SLICE, size) if at <= size])
    span = st.tuples(place, place).filter(lambda pair: pair[0] != pair[1]).map(lambda pair: (min(pair), max(pair)))
    return size, draw(st.lists(st.lists(span, min_size=1, max_size=4), min_size=1, max_size=4))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    case=asked(),
    tiers=st.sets(st.sampled_from(["memory", "disk"])),
    memory=st.sampled_from([0, 2 * SLICE, 1 << 24]),
    chunk=st.integers(1000, 70_000),
)
def test_any_spans_of_any_object_are_its_bytes(
    tmp_path_factory: pytest.TempPathFactory, case: tuple[int, list[list[tuple[int, int]]]], tiers: set[str], memory: int, chunk: int
) -> None:
    size, requests = case
    body = content(size)

    async def check() -> None:
        folder = tmp_path_factory.mktemp("edge")
        async with bench(folder, far=Far(chunk), policy=Fixed(*sorted(tiers)), memory=memory, turns=True) as on:
            of = on.far.given(body)
            for _ in range(2):
                answers = await asyncio.gather(*(on.read(of, *spans) for spans in requests))
                for spans, (got, _) in zip(requests, answers, strict=True):
                    assert got == [body[start:stop] for start, stop in spans]
                await on.quiet()

    asyncio.run(check())


@pytest.mark.parametrize(
    ("spans", "slices"),
    [
        ([(0, 1)], [0]),
        ([(9 * SLICE + 5, 9 * SLICE + 6)], [9]),  # a seek
        ([(10 * SLICE - 500, 10 * SLICE)], [9]),  # a suffix
        ([(3 * SLICE - 1, 3 * SLICE + 1)], [2, 3]),
        ([(8 * SLICE, 8 * SLICE + 9), (SLICE, SLICE + 9), (8 * SLICE + 500, 8 * SLICE + 509)], [8, 1]),  # what lies between is nobody's
        ([(0, 9), (100, 109), (200, 209)], [0]),
    ],
)
async def test_only_the_slices_that_are_needed_are_read(spans: Sequence[tuple[int, int]], slices: list[int]) -> None:
    body = content(10 * SLICE)
    async with bench(memory=1 << 24) as on:
        of = on.far.given(body)
        got, _ = await on.read(of, *spans)
        assert got == [body[start:stop] for start, stop in spans]
        assert slices_read(on.far) == slices


async def test_spans_of_one_slice_are_one_read_though_nothing_is_kept() -> None:
    body = content(3 * SLICE)
    async with bench(policy=Fixed()) as on:
        of = on.far.given(body)
        await on.read(of, (SLICE, SLICE + 9), (SLICE + 100, SLICE + 109), (2 * SLICE - 9, 2 * SLICE))
        assert slices_read(on.far) == [1]


async def test_a_sequential_reader_is_one_slice_ahead_and_no_more() -> None:
    body = content(6 * SLICE)
    async with bench() as on:
        of = on.far.given(body)
        reading = await on.edge.open(of, "", origin(of), (ByteRange(0, of.size),))
        assert slices_read(on.far) == [0]
        pieces = reading.span(0)
        got = b""
        while len(got) < of.size:
            got += bytes(await anext(pieces))
            await asyncio.sleep(0.002)
            at = (len(got) - 1) // SLICE
            assert slices_read(on.far) == list(range(min(at + 2, 6)))
        assert got == body
        await reading.aclose()


def fills() -> int:
    return sum(isinstance(each, Fill) for each in gc.get_objects())


async def test_a_long_read_holds_no_more_than_it_needs() -> None:
    gc.freeze()  # what tests before have left is not looked at
    try:
        async with bench(policy=Fixed()) as on:
            of = on.far.given(content(20 * SLICE))
            reading = await on.edge.open(of, "", origin(of), (ByteRange(0, of.size),))
            most = 0
            async for _ in reading.span(0):
                most = max(most, fills())
            assert 0 < most <= 3  # the third is one whose task is just ending
            await reading.aclose()
    finally:
        gc.unfreeze()


@pytest.mark.parametrize("tiers", [("memory",), ()], ids=["kept", "kept nowhere"])
async def test_many_slow_readers_do_not_hold_a_slice_each(tiers: tuple[str, ...]) -> None:
    body = content(60 * SLICE)
    async with bench(policy=Fixed(*tiers), memory=2 * SLICE + 2000, lent=8 * SLICE) as on:
        of = on.far.given(body)
        slow = []
        for number in range(0, 60, 2):
            reading = await on.edge.open(of, "", origin(of), (ByteRange(number * SLICE, of.size),))
            pieces = reading.span(0)
            slow.append((number, reading, pieces, bytes(await anext(pieces))))
        await on.quiet()
        lent = on.edge._slices.lent
        assert not tiers or lent.bytes <= 10 * SLICE  # as many as may be, and what was taken with the last of them
        for number, _, pieces, got in slow[::7]:
            assert got + b"".join([bytes(piece) async for piece in pieces]) == body[number * SLICE :]
        for _, reading, _, _ in slow:
            await reading.aclose()
        assert lent.bytes == 0
        assert not lent.crowded


# How it was come by.


async def test_the_notes_of_a_copys_life() -> None:
    shelf = Shelf()
    async with bench(shelf=shelf) as on:
        of = on.far.given(content(1000))
        assert (await on.read(of))[1] == Note(False, "miss", True, False, on.now, 60)
        on.now += 10
        assert (await on.read(of))[1] == Note(True, stored_at=on.now - 10, ttl=50)
        await on.quiet()
        assert on.memory is not None
        on.memory.clear()
        assert (await on.read(of))[1] == Note(True, stored_at=on.now - 10, ttl=50, detail="disk")
        assert (await on.read(of))[1] == Note(True, stored_at=on.now - 10, ttl=50)
        on.far.down = True
        on.now += 55
        assert (await on.read(of))[1] == Note(True, stored_at=on.now - 65, ttl=-5, detail="stale")
        await on.quiet()
        on.memory.clear()
        assert (await on.read(of))[1] == Note(True, stored_at=on.now - 65, ttl=-5, detail="stale")
        on.far.down = False
        on.now += 600
        assert (await on.read(of))[1] == Note(False, "stale", True, False, on.now, 60)
        assert len(on.far.opened) == 2


async def test_what_is_not_kept_names_the_rule() -> None:
    async with bench(policy=Fixed("memory", after=3)) as on:
        of = on.far.given(content(1000))
        for _ in range(2):
            assert (await on.read(of))[1] == Note(False, "miss", False, detail="never")
            await on.quiet()
        assert (await on.read(of))[1].stored
        assert (await on.read(of))[1].hit
        assert on.policy.asked == [1, 2, 3]


async def test_look_ups_of_other_media_and_variants_are_counted_apart() -> None:
    async with bench(policy=Fixed("memory", after=2)) as on:
        one, two = on.far.given(content(1000)), on.far.given(content(1000), "b")
        for _ in range(2):
            await on.read(one)
        await on.read(two)
        await on.read(one, variant="w_100")
        assert on.policy.asked == [1, 2, 1, 1]


async def test_a_later_look_up_that_is_admitted_has_the_running_fill_kept() -> None:
    async with bench(policy=Fixed("memory", after=2)) as on:
        of = on.far.given(content(1000))
        await asyncio.gather(on.read(of), on.read(of))
        await on.quiet()
        assert on.peek(of) is not None
        assert len(on.far.opened) == 1


async def test_two_variants_and_the_original_are_three_objects() -> None:
    bodies = {"": content(1000), "w_100": content(100, 1), "w_200": content(200, 2)}
    async with bench() as on:
        of = on.far.given(bodies[""])
        derived = {name: on.far.given(body, f"v{name}") for name, body in bodies.items()}
        for _ in range(2):
            for name, body in bodies.items():
                reading = await on.edge.open(of, name, origin(derived[name]), (ByteRange(0, len(body)),))
                assert await on.drain(reading) == body
                await reading.aclose()
                await on.quiet()
                hit = on.edge.peek(of, name, (ByteRange(0, len(body)),), on.now)
                assert hit is not None
                assert hit.pieces == (body,)
        assert len(on.far.opened) == 3


# Peeking.


@pytest.mark.parametrize(
    "spans",
    [
        [(0, 1000)],
        [(0, SLICE)],
        [(3, 4)],
        [(SLICE - 1, SLICE + 1)],
        [(100, 3 * SLICE + 100)],
        [(9, 10), (3 * SLICE, 3 * SLICE + 100), (0, 1)],
        [],
    ],
)
async def test_a_peek_has_a_piece_for_each_span(spans: list[tuple[int, int]]) -> None:
    async with bench() as on:
        body = content(4 * SLICE)
        of = on.far.given(body)
        await on.read(of)
        await on.quiet()
        hit = on.edge.peek(of, "", tuple(ByteRange(*span) for span in spans), on.now)
        assert hit is not None
        assert [bytes(piece) for piece in hit.pieces] == [body[start:stop] for start, stop in spans]
        assert hit.note == Note(True, stored_at=on.now, ttl=60)


async def test_a_peek_has_limits() -> None:
    async with bench() as on:
        size = LONGEST_PEEK + 2 * SLICE
        of = on.far.given(content(size))
        await on.read(of)
        await on.quiet()
        assert on.peek(of, (0, MOST_SLICES * SLICE)) is not None
        assert on.peek(of, (1, MOST_SLICES * SLICE + 1)) is None
        assert on.peek(of, *((number * SLICE, number * SLICE + 1) for number in range(MOST_SLICES + 1))) is None
        assert on.peek(of, (0, size)) is None
    async with bench(slice_size=1 << 22) as on:
        of = on.far.given(content(size))
        await on.read(of)
        await on.quiet()
        assert on.peek(of, (5, 5 + LONGEST_PEEK)) is not None
        assert on.peek(of, (5, 6 + LONGEST_PEEK)) is None


async def test_a_peek_needs_every_byte() -> None:
    async with bench() as on:
        of = on.far.given(content(4 * SLICE))
        assert on.peek(of, (0, 1)) is None
        await on.read(of, (SLICE, SLICE + 1))
        await on.quiet()
        assert on.peek(of, (SLICE, 2 * SLICE)) is not None
        assert on.peek(of, (SLICE - 1, SLICE + 1)) is None
        assert on.peek(of, (SLICE, SLICE + 1), (0, 1)) is None
        assert on.peek(of) is None
        assert not on.edge.stats().in_flight  # it begins nothing


async def test_without_a_memory_tier_a_peek_finds_nothing() -> None:
    async with bench(memory=0, shelf=Shelf()) as on:
        of = on.far.given(content(100))
        await on.read(of)
        assert on.peek(of) is None


@pytest.mark.parametrize("spans", [[(0, 100)], [(0, 10), (SLICE, SLICE + 10)]])
async def test_a_copy_of_another_size_is_not_this_media(spans: list[tuple[int, int]]) -> None:
    async with bench() as on:
        of = on.far.given(content(2 * SLICE))
        await on.read(of)
        await on.quiet()
        body = content(2 * SLICE + 1, 1)
        grown = on.far.given(body)
        assert on.peek(grown, *spans) is None
        assert (await on.read(grown, *spans))[0] == [body[start:stop] for start, stop in spans]


@pytest.mark.parametrize("spans", [[(0, 101)], [(0, 1), (90, 101)]])
async def test_a_peek_past_a_variants_end_has_nothing(spans: list[tuple[int, int]]) -> None:
    async with bench() as on:
        of = on.far.given(content(100))
        await on.read(of, variant="w_1")
        await on.quiet()
        assert on.peek(of, *spans, variant="w_1") is None


async def test_a_variants_stale_copy_is_left_to_open() -> None:
    async with bench() as on:
        of = on.far.given(content(100))
        await on.read(of, variant="w_1")
        on.now += 61
        assert on.peek(of, variant="w_1") is None
        assert (await on.read(of, variant="w_1"))[1].detail == "stale"
        await on.quiet()
        assert on.peek(of, variant="w_1") is not None
        assert len(on.far.heads) == 1


# Stale, renewed, gone.


async def test_a_stale_copy_is_served_and_renewed_once() -> None:
    shelf = Shelf()
    async with bench(shelf=shelf) as on:
        body = content(2 * SLICE)
        of = on.far.given(body)
        await on.read(of)
        await on.quiet()
        on.now += 60
        answers = await asyncio.gather(*(on.read(of) for _ in range(20)))
        assert {note.detail for _, note in answers} == {"stale"}
        assert {note.ttl for _, note in answers} == {0}
        assert all(got == [body] for got, _ in answers)
        await on.quiet()
        assert on.far.heads == ["a"]
        assert len(on.far.opened) == 2
        assert (await on.read(of))[1] == Note(True, stored_at=on.now, ttl=60)
        assert {entry.stored for entry in shelf.held.values()} == {on.now}
        assert on.edge.stats().renewals == 1


@pytest.mark.parametrize("after", ["gone", "other"])
async def test_a_stale_copy_whose_object_is_gone_or_another_is_dropped(after: str) -> None:
    shelf = Shelf()
    async with bench(shelf=shelf) as on:
        of = on.far.given(content(1000))
        await on.read(of)
        await on.quiet()
        if after == "gone":
            del on.far.objects["a"]
        else:
            on.far.objects["a"] = content(999)
        on.now += 61
        assert (await on.read(of))[1].detail == "stale"
        await on.quiet()
        assert on.peek(of) is None
        assert not shelf.held
        with pytest.raises(ObjectCorrupt):
            await on.read(of)
        assert len(on.far.opened) == (1 if after == "gone" else 2)  # that it is gone is known already


async def test_an_origin_that_is_down_for_an_hour() -> None:
    async with bench(policy=Fixed("memory", "disk", ttl=60, grace=7200), shelf=Shelf()) as on:
        body = content(1000)
        of, uncached = on.far.given(body), on.far.given(content(10), "b")
        await on.read(of)
        on.far.down = True
        began = on.now
        while on.now < began + 3600:
            on.now += 0.25
            got, note = await on.read(of)
            assert got == [body]
            assert note.hit
            await on.quiet()
        with pytest.raises(StorageUnavailable):
            await on.read(uncached)
        # 1 + 2 + 4 + 8 + 16 s, and then every 30 s
        assert 118 <= len(on.far.heads) <= 124
        on.far.down = False
        on.now += 31
        assert (await on.read(of))[1].detail == "stale"
        await on.quiet()
        assert (await on.read(of))[1].ttl == 60


async def test_an_origin_that_hangs_keeps_no_place_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mediacdn.edge.slices.PATIENCE", 0.5)
    async with bench(fills=1) as on:
        of, other = on.far.given(content(50_000)), on.far.given(content(10), "b")
        on.far.gate = asyncio.Semaphore(0)
        reads = await asyncio.gather(on.read(of), on.read(other), return_exceptions=True)
        assert [type(each) for each in reads] == [StorageUnavailable, StorageUnavailable]
        assert on.edge.stats().in_flight == 0
        slow = asyncio.create_task(on.read(of))
        for _ in range(4):  # longer than its patience in all, but never without a word for so long
            await asyncio.sleep(0.15)
            on.far.gate.release()
        assert (await slow)[0] == [content(50_000)]


async def test_a_renewal_that_hangs_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mediacdn.edge.renewals.PATIENCE", 0.05)

    class Hanging(Far):
        hangs = True

        async def head(self, key: str) -> ObjectInfo:
            if self.hangs:
                await asyncio.Event().wait()
            return await super().head(key)

    async with bench(far=(far := Hanging())) as on:
        of = far.given(content(10))
        await on.read(of)
        on.now += 61
        assert (await on.read(of))[1].detail == "stale"
        await on.quiet()
        far.hangs = False
        on.now += 2
        assert (await on.read(of))[1].detail == "stale"
        await on.quiet()
        assert (await on.read(of))[1].ttl == 60


@pytest.mark.parametrize("memory", [0, 1 << 20], ids=["disk", "memory"])
async def test_after_its_grace_a_copy_is_a_miss(memory: int) -> None:
    async with bench(shelf=Shelf(), memory=memory) as on:
        of = on.far.given(content(1000))
        await on.read(of)
        await on.quiet()
        on.now += 659.9
        on.far.down = True
        assert (await on.read(of))[1].hit
        await on.quiet()
        on.now += 0.1
        with pytest.raises(StorageUnavailable):
            await on.read(of)
        await on.quiet()
        on.far.down = False
        on.now += 60
        assert (await on.read(of))[1].fwd == "stale"


async def test_a_missing_object_is_damage_and_remembered() -> None:
    async with bench() as on:
        of = on.far.given(content(1000))
        body = on.far.objects.pop("a")
        for _ in range(3):
            with pytest.raises(ObjectCorrupt, match="missing"):
                await on.read(of)
        assert len(on.far.opened) == 1
        on.far.objects["a"] = body
        on.now += 0.9
        with pytest.raises(ObjectCorrupt, match="missing"):
            await on.read(of)
        on.now += 0.1
        assert (await on.read(of))[0] == [body]


async def test_a_known_copy_is_answered_from_only_while_it_is_the_one_in_memory() -> None:
    async with bench(memory=1 << 20) as on:
        of, newer = on.far.given(content(1000)), on.far.given(content(1000), generation=2)
        await on.read(of)
        await on.quiet()
        entry = on.edge.whole(of, "", on.now)
        assert entry is not None
        known, lost = ref(entry), ref(Entry(b"", 0, on.now, 60, 60, generation=1))
        assert on.edge.whole(of, "", on.now, known) is entry
        assert on.edge.whole(of, "", on.now, lost) is entry
        assert on.edge.whole(newer, "", on.now, known) is None
        assert on.edge.whole(of, "", on.now + 61, known) is None
        on.epoch = 1
        assert on.edge.whole(of, "", on.now, known) is None
        on.epoch = 0
        del entry
        on.edge.clear()
        assert known() is None
        assert on.edge.whole(of, "", on.now, known) is None


async def test_a_known_copy_is_used_where_something_may_have_to_leave() -> None:
    async with bench(memory=5000) as on:
        first, second, third, fourth = (on.far.given(content(1000), key) for key in "abcd")
        for each in (first, second, third):
            await on.read(each)
            await on.quiet()
        entry = on.edge.whole(first, "", on.now)
        assert entry is not None
        known = ref(entry)
        await on.read(second)
        await on.read(third)
        assert on.edge.whole(first, "", on.now, known) is entry
        await on.read(fourth)
        await on.quiet()
        assert [on.edge.whole(each, "", on.now) is not None for each in (first, second, third, fourth)] == [True, False, True, True]


# Purges.


async def test_another_generation_or_epoch_is_another_copy() -> None:
    shelf = Shelf()
    async with bench(shelf=shelf) as on:
        of = on.far.given(content(1000))
        newer = on.far.given(content(1000), generation=2)
        await on.read(of)
        await on.quiet()
        assert on.peek(newer) is None
        assert not (await on.read(newer))[1].hit
        on.epoch = 1
        assert on.peek(newer) is None
        assert not (await on.read(newer))[1].hit
        await on.quiet()
        assert {key.generation for key in shelf.held} == {1, 2, 1 << 40 | 2}


async def test_clear_empties_both_tiers() -> None:
    shelf = Shelf()
    async with bench(shelf=shelf) as on:
        of = on.far.given(content(1000))
        await on.read(of)
        await on.quiet()
        on.edge.clear()
        assert on.peek(of) is None
        await on.quiet()
        assert not shelf.held
        assert on.edge.stats().memory is not None
        assert on.edge.stats().memory.entries == 0


async def test_a_purge_keeps_fills_that_began_before_it_out() -> None:
    shelf = Shelf()
    for purge in (lambda on, of: on.edge.forget(of.id), lambda on, of: (setattr(on, "epoch", 1), on.edge.clear())):
        async with bench(shelf=shelf) as on:
            of, other = on.far.given(content(1000)), on.far.given(content(1000), "b")
            on.far.gate = asyncio.Semaphore(0)
            readers = [asyncio.create_task(on.read(each)) for each in (of, other)]
            await asyncio.sleep(0.01)
            purge(on, of)
            for _ in range(2):
                on.far.gate.release()
            await asyncio.gather(*readers)
            await on.quiet()
            assert Key(of.id, "", 1, 0) not in shelf.held
            assert (Key(other.id, "", 1, 0) in shelf.held) == (on.epoch == 0)


async def test_forgetting_a_media_has_its_missing_object_looked_for_again() -> None:
    async with bench() as on:
        of = on.far.given(content(1000))
        body = on.far.objects.pop("a")
        with pytest.raises(ObjectCorrupt):
            await on.read(of)
        on.far.objects["a"] = body
        on.edge.forget("another")
        with pytest.raises(ObjectCorrupt):
            await on.read(of)
        on.edge.forget(of.id)
        assert (await on.read(of))[0] == [body]


# What may be kept where.


@pytest.mark.parametrize(
    ("far", "size", "tiers", "config", "expected"),
    [
        (Far(), 1000, ("memory", "disk"), {}, None),
        (Far(), 1 << 20, ("disk",), {}, None),
        (Far(), 1000, (), {}, "fixed"),
        (FarLocal(), 1000, ("memory", "disk"), {}, None),
        (FarLocal(), 1001, ("memory", "disk"), {}, "local"),
        (FarLocal(), 1001, ("memory", "disk"), {"disk_local": True}, None),
        (FarLocal(), 1001, ("memory",), {"disk_local": True}, "fixed"),
        (FarLocal(), 1000, ("disk",), {}, "fixed"),
        (FarLocal(), 1000, (), {}, "fixed"),
    ],
)
async def test_what_the_edge_takes_no_part_in(
    far: Far, size: int, tiers: tuple[str, ...], config: dict[str, object], expected: str | None
) -> None:
    async with bench(far=far, policy=Fixed(*tiers), shelf=Shelf(), memory_local=1000, **config) as on:
        of = far.given(content(size))
        assert on.edge.bypasses(of, "", origin(of)) == expected


async def test_what_would_be_kept_later_is_not_bypassed() -> None:
    async with bench(policy=Fixed("memory", after=2)) as on:
        of = on.far.given(content(1000))
        assert on.edge.bypasses(of, "", origin(of)) is None


async def test_tiers_that_there_are_not_are_no_place() -> None:
    async with bench(policy=Fixed("disk")) as on:
        of = on.far.given(content(1000))
        assert on.edge.bypasses(of, "", origin(of)) == "fixed"


@pytest.mark.parametrize(
    ("size", "config", "memory", "disk"),
    [(1000, {}, True, False), (1001, {"disk_local": True}, False, True), (1000, {"disk_local": True}, True, True)],
)
async def test_where_objects_of_local_storages_go(size: int, config: dict[str, object], memory: bool, disk: bool) -> None:
    shelf = Shelf()
    async with bench(far=FarLocal(), shelf=shelf, memory_local=1000, **config) as on:
        of = on.far.given(content(size))
        await on.read(of)
        await on.quiet()
        assert (on.peek(of) is not None) == memory
        assert bool(shelf.held) == disk


@pytest.mark.parametrize(("tiers", "memory"), [(("disk",), False), (("memory", "disk"), True)])
async def test_a_copy_from_disk_enters_memory_where_it_may(tiers: tuple[str, ...], memory: bool) -> None:
    shelf = Shelf()
    async with bench(shelf=shelf) as on:
        of = on.far.given(content(1000))
        await on.read(of)
        await on.quiet()
    async with bench(shelf=shelf, policy=Fixed(*tiers)) as on:
        on.far.given(content(1000))
        assert (await on.read(of))[1].detail == "disk"
        await on.quiet()
        assert (on.peek(of) is not None) == memory
        assert not on.far.opened


@pytest.mark.parametrize("wrong", ["total", "body"])
async def test_a_copy_on_disk_of_another_shape_is_a_miss(wrong: str) -> None:
    shelf = Shelf()
    async with bench(shelf=shelf) as on:
        body = content(1000)
        of = on.far.given(body)
        await on.read(of)
        await on.quiet()
        (entry,) = shelf.held.values()
        if wrong == "total":
            entry.total += 1
        else:
            entry.body = entry.body[:-1]
        assert on.memory is not None
        on.memory.clear()
        got, note = await on.read(of)
        assert got == [body]
        assert note.fwd == "miss"


# Warming, and the figures.


async def test_warming_brings_the_first_slice() -> None:
    async with bench() as on:
        of = on.far.given(content(3 * SLICE))
        on.edge.warm(of, "", origin(of))
        on.edge.warm(of, "", origin(of))
        await on.quiet()
        assert slices_read(on.far) == [0]
        assert on.peek(of, (0, SLICE)) is not None


@pytest.mark.parametrize("size", [0, 1000])
async def test_nothing_is_warmed_that_would_not_be_kept(size: int) -> None:
    async with bench(policy=Fixed(*(() if size else ("memory",)))) as on:
        of = on.far.given(content(size))
        on.edge.warm(of, "", origin(of))
        await on.quiet()
        assert not on.far.opened


async def test_an_open_without_spans_reads_nothing() -> None:
    async with bench() as on:
        of = on.far.given(b"")
        reading = await on.edge.open(of, "", origin(of), ())
        await reading.aclose()
        assert not on.far.opened
        assert on.edge.peek(of, "", (), on.now) is None


async def test_the_figures_as_prometheus_sees_them(tmp_path: Path) -> None:
    async with bench(tmp_path, memory=SLICE + 2000) as on:
        one, two = on.far.given(content(SLICE)), on.far.given(content(SLICE, 1), "b")
        for of in (one, one, two, one):
            await on.read(of)
            await on.quiet()
        on.now += 61
        await on.read(one)
        await on.quiet()
        on.far.objects["c"] = b""
        with pytest.raises(ObjectCorrupt):
            await on.read(on.far.given(content(10), "c", size=20))
        registry = CollectorRegistry()
        registry.register(on.metrics)
        lines = dict(line.rsplit(" ", 1) for line in generate_latest(registry).decode().splitlines() if not line.startswith("#"))
        assert {name: float(value) for name, value in lines.items()} == {
            'mediacdn_edge_hits_total{tier="memory"}': 2,
            'mediacdn_edge_hits_total{tier="disk"}': 1,
            "mediacdn_edge_misses_total": 3,
            'mediacdn_edge_fills_total{result="ok"}': 2,
            'mediacdn_edge_fills_total{result="object_corrupt"}': 1,
            "mediacdn_edge_fill_bytes_total": 2 * SLICE + 10,
            "mediacdn_edge_coalesced_total": 0,
            'mediacdn_edge_evictions_total{tier="memory"}': 2,
            'mediacdn_edge_evictions_total{tier="disk"}': 0,
            'mediacdn_edge_evicted_bytes_total{tier="memory"}': 2 * (on.memory.bytes if on.memory else 0),
            'mediacdn_edge_evicted_bytes_total{tier="disk"}': 0,
            'mediacdn_edge_stored_bytes{tier="memory"}': on.memory.bytes if on.memory else 0,
            'mediacdn_edge_stored_bytes{tier="disk"}': on.disk.bytes if on.disk else 0,
            'mediacdn_edge_entries{tier="memory"}': 1,
            'mediacdn_edge_entries{tier="disk"}': 2,
            "mediacdn_edge_stale_total": 1,
            "mediacdn_edge_corrupt_total": 1,
        }
        stats = on.edge.stats()
        assert stats.memory is not None
        assert stats.disk is not None
        assert (stats.memory.hits, stats.memory.misses, stats.memory.evictions) == (2, 4, 2)
        assert (stats.disk.hits, stats.disk.misses) == (1, 3)
        assert (stats.fills, stats.stale, stats.renewals, stats.corrupt) == (3, 1, 1, 1)
