"""One fill a key: it reaches everybody at their own pace, nobody can hold it up, and nothing of a failed one stays."""

import asyncio
import hashlib
import random

import pytest

from mediacdn.edge.coalesce import PIECE
from mediacdn.errors import ObjectCorrupt, StorageUnavailable
from mediacdn.model import ByteRange
from tests.edge.given import SLICE, Bench, Far, Fixed, Shelf, bench, content, origin, slices_read

pytestmark = pytest.mark.anyio


async def settle() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


async def test_a_thousand_opens_of_one_object_are_one_read() -> None:
    body = content(SLICE)
    async with bench() as given:
        of = given.far.given(body)
        answers = await asyncio.gather(*(given.read(of) for _ in range(1000)))
        assert all(got == [body] for got, _ in answers)
        assert len(given.far.opened) == 1
        notes = [note for _, note in answers]
        assert all((note.hit, note.fwd, note.stored) == (False, "miss", True) for note in notes)
        assert [note.collapsed for note in notes].count(False) == 1
        assert given.edge.stats().coalesced == 999


async def test_chunks_stream_on_before_the_slice_is_whole() -> None:
    body = content(SLICE)
    async with bench() as given:
        of = given.far.given(body)
        gate = given.far.gate = asyncio.Semaphore(0)
        opening = [asyncio.create_task(given.edge.open(of, "", origin(of), (ByteRange(10, SLICE),))) for _ in range(3)]
        await settle()
        assert not any(task.done() for task in opening)
        gate.release()  # the digest's wrapper holds one chunk back
        gate.release()
        readings = await asyncio.gather(*opening)
        first = [await anext(reading.span(0)) for reading in readings]
        assert all(bytes(piece) == body[10 : given.far.chunk] for piece in first)
        assert given.far.reading == 1
        for _ in range(4):
            gate.release()
        for reading in readings:
            await reading.aclose()
        await given.quiet()
        assert given.peek(of) is not None


async def test_a_range_opens_when_its_own_first_byte_is_there() -> None:
    body = content(2 * SLICE)
    async with bench() as given:
        of = given.far.given(body)
        gate = given.far.gate = asyncio.Semaphore(1)
        chunk = given.far.chunk
        opening = asyncio.create_task(given.edge.open(of, "", origin(of), (ByteRange(chunk + 1, chunk + 2),)))
        await settle()
        assert not opening.done()
        gate.release()
        reading = await opening
        assert await given.drain(reading) == body[chunk + 1 : chunk + 2]
        await reading.aclose()


async def test_who_waited_for_a_copy_is_told_no_more_than_its_ttl() -> None:
    async with bench(policy=Fixed("memory", ttl=60)) as given:
        of = given.far.given(content(100))
        gate = given.far.gate = asyncio.Semaphore(0)
        asked = [asyncio.create_task(given.read(of)) for _ in range(3)]
        await settle()
        given.now += 5
        gate.release()
        assert [note.ttl for _, note in await asyncio.gather(*asked)] == [60] * 3


async def test_a_slow_reader_delays_nobody() -> None:
    body = content(4 * SLICE)
    async with bench() as given:
        of = given.far.given(body)
        slow = await given.edge.open(of, "", origin(of), (ByteRange(0, of.size),))
        pieces = slow.span(0)
        got = bytes(await anext(pieces))  # and then nothing for a while
        async with asyncio.timeout(5):
            assert (await given.read(of))[0] == [body]
        got += b"".join([bytes(piece) async for piece in pieces])
        assert got == body
        await slow.aclose()
        assert sorted(slices_read(given.far)) == [0, 1, 2, 3]


@pytest.mark.parametrize("memory", [0, 1 << 20], ids=["kept nowhere else", "memory"])
async def test_cancelled_readers_change_nothing_for_the_others(memory: int) -> None:
    body = content(SLICE)
    async with bench(memory=memory) as given:
        of = given.far.given(body)
        gate = given.far.gate = asyncio.Semaphore(0)
        readers = [asyncio.create_task(given.read(of)) for _ in range(50)]
        await settle()
        for reader in readers[:49]:  # the first of them began the fill
            reader.cancel()
        await settle()
        for _ in range(4):
            gate.release()
        assert (await readers[49])[0] == [body]
        assert len(given.far.opened) == 1


@pytest.mark.parametrize("started", [False, True])
async def test_a_fill_for_nobody_ends_unless_it_will_be_kept(started: bool) -> None:
    for policy, going_on in ((Fixed(), 0), (Fixed("memory"), 1)):
        async with bench(policy=policy) as given:
            of = given.far.given(content(SLICE))
            given.far.gate = asyncio.Semaphore(0)
            reader = asyncio.create_task(given.read(of))
            for _ in range(5 if started else 1):
                await asyncio.sleep(0)
            assert given.far.reading == int(started)
            reader.cancel()
            await settle()
            assert given.far.reading == going_on
            assert given.edge.stats().in_flight == going_on
            given.far.gate = None


async def test_who_comes_after_the_last_reader_left_gets_a_fill_of_its_own() -> None:
    body = content(SLICE)
    async with bench(policy=Fixed()) as given:
        of = given.far.given(body)
        given.far.gate = asyncio.Semaphore(0)
        given.far.lingers = 0.01
        reader = asyncio.create_task(given.read(of))
        await settle()
        reader.cancel()
        await asyncio.wait([reader])
        given.far.gate = None
        assert given.edge.stats().in_flight == 0
        assert (await given.read(of))[0] == [body]  # the cancelled one has not ended yet when this begins
        assert len(given.far.opened) == 2


async def test_a_failed_fill_reaches_everybody_and_keeps_nothing() -> None:
    body = content(4 * SLICE)
    shelf = Shelf()
    async with bench(shelf=shelf) as given:
        of = given.far.given(body)
        given.far.fails_after = 2
        answers = await asyncio.gather(*(given.read(of) for _ in range(20)), return_exceptions=True)
        assert all(isinstance(answer, StorageUnavailable) for answer in answers)
        await given.quiet()
        assert not shelf.held
        assert given.peek(of, (0, 1)) is None
        given.far.fails_after = None
        assert (await given.read(of))[0] == [body]


async def test_what_fails_at_once_is_raised_by_open() -> None:
    async with bench() as given:
        of = given.far.given(content(SLICE))
        given.far.down = True
        answers = await asyncio.gather(*(given.edge.open(of, "", origin(of), (ByteRange(0, 1),)) for _ in range(5)), return_exceptions=True)
        assert all(isinstance(answer, StorageUnavailable) for answer in answers)
        assert len(given.far.opened) == 1


async def test_a_storage_that_is_not_configured_is_unavailable() -> None:
    async with bench() as given:
        of = given.far.given(content(10), storage="elsewhere")
        with pytest.raises(StorageUnavailable):
            await given.read(of)


@pytest.mark.parametrize("slices", [1, 3])
@pytest.mark.parametrize("damage", ["short", "long"])
async def test_another_length_is_damage(slices: int, damage: str) -> None:
    body = content(slices * SLICE - 100)
    shelf = Shelf()
    async with bench(shelf=shelf) as given:
        of = given.far.given(body)
        given.far.objects["a"] = body[:-10] if damage == "short" else body + b"more"
        if damage == "long" and slices > 1:
            given.far.open = widened(given.far)  # type: ignore[method-assign]
        for _ in range(2):
            with pytest.raises(ObjectCorrupt):
                await given.read(of)
        await given.quiet()
        assert given.peek(of, (of.size - 1, of.size)) is None
        assert not any(key.number == slices - 1 for key in shelf.held)
        assert given.edge.stats().corrupt >= 2


def widened(far: Far):  # type: ignore[no-untyped-def]
    """`open` of a storage that gives a byte more than it was asked for."""
    narrow = far.open
    return lambda key, span=None: narrow(key, span and ByteRange(span.start, span.stop + 1))


@pytest.mark.parametrize("at", [0, SLICE // 2, SLICE - 101])
async def test_a_flipped_bit_of_a_whole_object_is_never_served_whole_nor_kept(at: int) -> None:
    body = content(SLICE - 100)
    flipped = bytearray(body)
    flipped[at] ^= 1
    shelf = Shelf()
    async with bench(shelf=shelf) as given:
        of = given.far.given(body)
        given.far.objects["a"] = bytes(flipped)
        with pytest.raises(ObjectCorrupt):
            await given.read(of)
        await given.quiet()
        assert not shelf.held
        assert given.peek(of) is None
        assert given.edge.stats().corrupt == 1


async def test_fills_are_bounded() -> None:
    async with bench(fills=3) as given:
        of = [given.far.given(content(SLICE, seed), f"k{seed}") for seed in range(40)]
        await asyncio.gather(*(given.read(each) for each in of))
        assert given.far.most_reading == 3


async def test_a_slow_disk_does_not_let_bodies_pile_up() -> None:
    shelf = Shelf()
    shelf.gate = asyncio.Event()
    async with bench(shelf=shelf, fills=2) as given:
        of = [given.far.given(content(SLICE, seed), f"k{seed}") for seed in range(5)]
        readers = [asyncio.create_task(given.read(each)) for each in of]
        done, _ = await asyncio.wait(readers, timeout=0.2)
        assert len(done) == len(given.far.opened) == 2  # who has bytes does not wait for the disk; who has none yet does
        shelf.gate.set()
        await asyncio.gather(*readers)
        await given.quiet()
        assert len(shelf.held) == 5


async def test_while_the_disk_writes_and_memory_is_off_the_fill_still_serves() -> None:
    body = content(SLICE)
    shelf = Shelf()
    shelf.gate = asyncio.Event()
    async with bench(shelf=shelf, memory=0) as given:
        of = given.far.given(body)
        for _ in range(3):
            assert (await given.read(of))[0] == [body]
        assert len(given.far.opened) == 1
        shelf.gate.set()


async def test_a_copy_that_is_too_old_already_is_not_followed_while_the_disk_writes() -> None:
    shelf = Shelf()
    shelf.gate = asyncio.Event()
    async with bench(shelf=shelf, memory=0, policy=Fixed("disk", ttl=5, grace=5)) as given:
        of = given.far.given(content(SLICE))
        await given.read(of)
        given.now += 9
        assert (await given.read(of))[1].collapsed
        given.now += 1
        assert not (await given.read(of))[1].collapsed
        assert len(given.far.opened) == 2
        shelf.gate.set()


@pytest.mark.parametrize("tiers", [(), ("memory",), ("memory", "disk")])
async def test_storms_of_cancelled_readers_leave_nothing_behind(tiers: tuple[str, ...]) -> None:
    chance = random.Random(5)
    bodies = [content(3 * SLICE, seed) for seed in range(8)]
    async with bench(policy=Fixed(*tiers), shelf=Shelf(), fills=4) as given:
        of = [given.far.given(body, f"k{seed}") for seed, body in enumerate(bodies)]

        async def visit() -> None:
            number = chance.randrange(8)
            got, _ = await given.read(of[number])
            assert got == [bodies[number]]

        for _ in range(20):
            readers = [asyncio.create_task(visit()) for _ in range(40)]
            for _ in range(chance.randrange(40)):
                await asyncio.sleep(0)
            for reader in readers:
                if chance.random() < 0.7:
                    reader.cancel()
            for answer in await asyncio.gather(*readers, return_exceptions=True):
                assert answer is None or isinstance(answer, asyncio.CancelledError)
        await given.quiet()
        assert given.edge.stats().in_flight == 0


async def test_closing_in_the_middle_tells_who_reads() -> None:
    given: Bench
    async with bench() as given:
        of = given.far.given(content(3 * SLICE))
        given.far.gate = asyncio.Semaphore(1)
        reading = await given.edge.open(of, "", origin(of), (ByteRange(0, of.size),))
        pieces = reading.span(0)
        await anext(pieces)
        await given.edge.close()
        with pytest.raises(StorageUnavailable):
            await anext(pieces)
        await reading.aclose()


async def test_large_slices_are_handed_out_in_pieces_without_a_copy() -> None:
    body = content(3 * PIECE + 1)
    async with bench(slice_size=4 * PIECE) as given:
        of = given.far.given(body)
        assert (await given.read(of))[0] == [body]
        await given.quiet()
        reading = await given.edge.open(of, "", origin(of), (ByteRange(1, of.size),))
        pieces = [piece async for piece in reading.span(0)]
        assert [len(piece) for piece in pieces] == [PIECE, PIECE, PIECE]
        assert all(isinstance(piece, memoryview) for piece in pieces)
        assert hashlib.sha256(b"".join(pieces)).digest() == hashlib.sha256(body[1:]).digest()
        await reading.aclose()
