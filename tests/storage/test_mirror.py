"""A mirror is a storage like any other; and what becomes of it when a member is away, lacks an object, holds other bytes, or is slow."""

import hashlib
import os
import time
from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from mediacdn import ByteRange, LocalPaths, NotFound, ObjectCorrupt, ObjectInfo, Room, Storage, StorageFull, StorageUnavailable
from mediacdn.storage.health import Health
from mediacdn.storage.mirror import Mirror
from mediacdn.storage.repairs import Repair
from mediacdn.storage.verify import Verifying
from mediacdn.testing import MemoryStorage, StorageConformance, kit
from mediacdn_local import LocalConfig, open_local
from tests.storage.flaky import Flaky
from tests.storage.hanging import Hanging

pytestmark = pytest.mark.anyio

DOWN = StorageUnavailable("down")
CONTENT = bytes(range(256)) * 4096  # 1 MiB: four chunks of the fake
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class TestOfMemory(StorageConformance):
    big_object_size = 16 * 1024 * 1024

    @pytest.fixture(params=["all", "any"])
    async def storage(self, request: pytest.FixtureRequest) -> AsyncIterator[Storage]:
        mirror = Mirror("both", {"a": MemoryStorage(), "b": MemoryStorage()}, writes=request.param)
        async with mirror.running():
            yield mirror


class TestOfLocal(StorageConformance):
    big_object_size = 64 * 1024 * 1024

    @pytest.fixture
    async def storage(self, tmp_path: Path) -> AsyncIterator[Storage]:
        config = LocalConfig(reserve=0, fsync=False)
        async with (
            open_local(config, kit(str(tmp_path / "a"))) as one,
            open_local(config, kit(str(tmp_path / "b"))) as other,
        ):
            mirror = Mirror("both", {"a": one, "b": other})
            async with mirror.running():
                yield mirror


async def given(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def read(storage: Storage, key: str = "k", span: ByteRange | None = None) -> bytes:
    async with storage.open(key, span) as chunks:
        return b"".join([chunk async for chunk in chunks])


class Pair:
    """Two flaky members, verified, and their mirror; outcomes of repairs."""

    def __init__(self, **settings: object) -> None:
        self.a, self.b = Flaky(), Flaky()
        self.outcomes: list[tuple[str, str]] = []
        self.now = 0.0
        digests = {"k": DIGEST}
        self.mirror = Mirror(
            "both",
            {"a": Verifying(self.a, digests.get), "b": Verifying(self.b, digests.get)},
            digest_of=digests.get,
            repaired=lambda member, outcome: self.outcomes.append((member, outcome)),
            health=Health(("a", "b"), clock=lambda: self.now),
            **settings,  # type: ignore[arg-type]
        )

    async def holds(self, member: Flaky, key: str = "k") -> bytes | None:
        try:
            return await read(member.inner, key)
        except NotFound:
            return None

    async def until_mended(self, count: int = 1) -> None:
        with anyio.fail_after(10):
            while len(self.outcomes) < count:  # noqa: ASYNC110 - what ends it is told by a callback
                await anyio.sleep(0.01)


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    pair = Pair()
    async with pair.mirror.running():
        await pair.mirror.put("k", given(CONTENT[:700_000], CONTENT[700_000:]))
        pair.a.calls.clear()
        pair.b.calls.clear()
        yield pair


async def test_a_put_is_in_all_members(pair: Pair) -> None:
    assert await pair.holds(pair.a) == await pair.holds(pair.b) == CONTENT


async def test_it_is_read_from_the_first_alone(pair: Pair) -> None:
    assert await read(pair.mirror) == CONTENT
    assert pair.a.calls
    assert pair.b.calls == []


@pytest.mark.parametrize("chunks", [0, 1, 2, 3])
@pytest.mark.parametrize("span", [None, ByteRange(100_000, 900_000)], ids=["whole", "range"])
async def test_the_second_goes_on_where_the_first_fell_silent(pair: Pair, chunks: int, span: ByteRange | None) -> None:
    """The script's entries are: on opening, then before each chunk."""
    pair.a.script = [*[None] * (chunks + 1), DOWN]
    expected = CONTENT if span is None else CONTENT[span.start : span.stop]
    assert await read(pair.mirror, span=span) == expected
    assert pair.a.entered == pair.b.entered == 0


async def test_a_dead_first_does_not_delay_each_read(pair: Pair) -> None:
    pair.a.script = [DOWN] * 100
    for _ in range(20):
        assert await read(pair.mirror) == CONTENT
    assert len(pair.a.calls) == 1, "it rests after its failure"
    pair.now = 1000.0
    pair.a.script = []
    assert await read(pair.mirror) == CONTENT
    assert await read(pair.mirror) == CONTENT
    assert len([call for call in pair.a.calls if call == "open"]) == 3, "it is asked again after its rest, and is the first again"


async def test_a_first_that_hangs_costs_its_patience_once() -> None:
    first, second = Hanging(), MemoryStorage()
    mirror = Mirror("both", {"a": first, "b": second}, patience=0.2)
    await mirror.put("k", given(CONTENT))
    first.hangs = True
    began = time.monotonic()
    for _ in range(5):
        assert await read(mirror) == CONTENT
        assert (await mirror.head("k")).size == len(CONTENT)
    assert time.monotonic() - began < 1.5
    assert first.calls == 2


async def test_what_the_first_lacks_comes_from_the_second_and_is_mended(pair: Pair) -> None:
    await pair.a.inner.delete("k")
    assert await read(pair.mirror) == CONTENT
    await pair.until_mended()
    assert await pair.holds(pair.a) == CONTENT
    assert pair.outcomes == [("a", "repaired")]


async def test_damage_never_ends_clean_and_is_mended(pair: Pair) -> None:
    await pair.a.inner.put("k", given(CONTENT[:-1] + b"!"))
    with pytest.raises(ObjectCorrupt):
        await read(pair.mirror)  # its first bytes were gone before the end was known
    assert await read(pair.mirror) == CONTENT, "from then on the other member is read"
    await pair.until_mended()
    assert await pair.holds(pair.a) == CONTENT
    assert await read(pair.mirror) == CONTENT


async def test_small_damaged_objects_are_read_from_the_second_at_once() -> None:
    content = b"small"
    digest = hashlib.sha256(content).hexdigest()
    a, b = MemoryStorage(), MemoryStorage()
    mirror = Mirror("both", {"a": Verifying(a, lambda key: digest), "b": Verifying(b, lambda key: digest)})
    await mirror.put("k", given(content))
    await a.put("k", given(b"smell"))
    assert await read(mirror) == content
    await b.put("k", given(b"smell"))
    async with mirror.open("k") as chunks:
        with pytest.raises(ObjectCorrupt):
            await anext(chunks)


@pytest.mark.parametrize(
    ("a", "b", "error"),
    [([NotFound()], [NotFound()], NotFound), ([DOWN], [NotFound()], StorageUnavailable), ([DOWN], [DOWN], StorageUnavailable)],
    ids=["neither has it", "one cannot tell", "both are away"],
)
@pytest.mark.parametrize("call", ["head", "open"])
async def test_only_all_together_can_say_that_it_is_not_there(
    pair: Pair, a: list[Exception], b: list[Exception], error: type[Exception], call: str
) -> None:
    pair.a.script, pair.b.script = list(a), list(b)
    with pytest.raises(error):
        await (pair.mirror.head("k") if call == "head" else read(pair.mirror))


@pytest.mark.parametrize("failure", [DOWN, StorageFull("full")], ids=["away", "full"])
@pytest.mark.parametrize("member", ["a", "b"])
async def test_all_means_all(pair: Pair, member: str, failure: Exception) -> None:
    getattr(pair, member).script = [failure]
    with pytest.raises(type(failure)):
        await pair.mirror.put("new", given(CONTENT))
    assert await pair.holds(pair.a, "new") is None
    assert await pair.holds(pair.b, "new") is None


@pytest.mark.parametrize("member", ["a", "b"])
async def test_any_takes_what_one_takes_and_mends_the_other(member: str) -> None:
    pair = Pair(writes="any")
    async with pair.mirror.running():
        getattr(pair, member).script = [DOWN]
        await pair.mirror.put("k", given(CONTENT))
        assert await read(pair.mirror) == CONTENT
        await pair.until_mended()
        assert await pair.holds(pair.a) == await pair.holds(pair.b) == CONTENT
        pair.a.script = [DOWN] * 5
        pair.b.script = [DOWN] * 5
        with pytest.raises(StorageUnavailable):
            await pair.mirror.put("other", given(b"x"))


@pytest.mark.parametrize("after", [0, 1, 3])
async def test_any_leaves_behind_a_member_that_hangs_in_the_middle(after: int) -> None:
    slow, quick = Hanging(), MemoryStorage()
    slow.after = after
    mirror = Mirror("both", {"a": slow, "b": quick}, writes="any", patience=0.2)
    with anyio.fail_after(5):
        await mirror.put("k", given(*[CONTENT] * 10))
    assert await read(quick) == CONTENT * 10
    assert await read(mirror) == CONTENT * 10
    with pytest.raises(NotFound):
        await slow.inner.head("k")


class OutOfPatience(Exception):
    pass


@pytest.mark.parametrize("writes", ["all", "any"])
async def test_what_the_stream_raises_goes_on_and_nothing_is_kept(writes: str) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield CONTENT
        raise OutOfPatience

    a, b = MemoryStorage(), MemoryStorage()
    mirror = Mirror("both", {"a": a, "b": b}, writes=writes)
    with pytest.raises(OutOfPatience):
        await mirror.put("k", broken())
    for member in (a, b):
        with pytest.raises(NotFound):
            await member.head("k")


@pytest.mark.parametrize("writes", ["all", "any"])
async def test_a_cancelled_put_keeps_nothing(writes: str) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield CONTENT
        await anyio.sleep_forever()

    a, b = MemoryStorage(), MemoryStorage()
    mirror = Mirror("both", {"a": a, "b": b}, writes=writes)
    with anyio.move_on_after(0.1):
        await mirror.put("k", endless())
    for member in (a, b):
        with pytest.raises(NotFound):
            await member.head("k")


async def test_the_stream_goes_at_the_pace_of_the_slowest() -> None:
    """Nobody is so far behind that bytes pile up."""
    given_out = 0

    async def counted() -> AsyncIterator[bytes]:
        nonlocal given_out
        for _ in range(50):
            given_out += 1
            yield CONTENT

    class Slow(MemoryStorage):
        taken = 0
        most = 0

        async def put(self, key: str, chunks: AsyncIterable[bytes], *, size: int | None = None) -> ObjectInfo:
            async for _ in chunks:
                self.taken += 1
                self.most = max(self.most, given_out - self.taken)
                await anyio.sleep(0.002)
            return await super().put(key, given(b""), size=size)

    slow = Slow()
    await Mirror("both", {"a": MemoryStorage(), "b": slow}).put("k", counted())
    assert slow.taken == 50
    assert slow.most <= 5


async def test_a_delete_is_done_when_it_is_done_in_all(pair: Pair) -> None:
    pair.b.script = [DOWN]
    with pytest.raises(StorageUnavailable):
        await pair.mirror.delete("k")
    await pair.mirror.delete("k")
    assert await pair.holds(pair.a) is None
    assert await pair.holds(pair.b) is None


async def test_a_list_has_what_any_member_has(pair: Pair) -> None:
    await pair.a.inner.put("only-a", given(b"x"))
    await pair.b.inner.put("only-b", given(b"x"))
    assert sorted([info.key async for info in pair.mirror.list()]) == ["k", "only-a", "only-b"]
    pair.a.script = [DOWN]
    assert sorted([info.key async for info in pair.mirror.list()]) == ["k", "only-b"]
    pair.now = 1000.0
    pair.a.script, pair.b.script = [DOWN], [DOWN]
    with pytest.raises(StorageUnavailable):
        assert [info async for info in pair.mirror.list()]


async def test_a_repair_brings_nothing_back_that_was_deleted(pair: Pair) -> None:
    await pair.a.inner.delete("k")

    class Deletes(MemoryStorage):
        """Its object is deleted everywhere while it is being copied."""

        async def put(self, key: str, chunks: AsyncIterable[bytes], *, size: int | None = None) -> ObjectInfo:
            info = await super().put(key, chunks, size=size)
            await pair.b.inner.delete(key)
            return info

    target = Deletes()
    pair.mirror.repairs._members = {"a": target, "b": pair.b}
    assert await pair.mirror.repairs.mend(Repair("k", "a"))
    with pytest.raises(NotFound):
        await target.head("k")


async def test_a_repair_that_fails_is_tried_again(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mediacdn.storage.repairs.FIRST", 0.01)
    await pair.a.inner.delete("k")
    pair.a.script = [NotFound(), DOWN, DOWN]
    assert await read(pair.mirror) == CONTENT
    await pair.until_mended()
    assert await pair.holds(pair.a) == CONTENT


async def test_a_file_that_was_cut_short_is_passed_over_and_mended(tmp_path: Path) -> None:
    outcomes: list[str] = []
    config = LocalConfig(reserve=0, fsync=False)
    async with (
        open_local(config, kit(str(tmp_path / "a"))) as one,
        open_local(config, kit(str(tmp_path / "b"))) as other,
    ):
        mirror: Storage = Mirror("both", {"a": one, "b": other}, repaired=lambda member, outcome: outcomes.append(f"{member} {outcome}"))
        assert isinstance(mirror, Mirror)
        assert isinstance(mirror, LocalPaths)
        async with mirror.running():
            await mirror.put("k", given(CONTENT))
            (file,) = [each for each in (tmp_path / "a").rglob("*") if each.is_file()]
            os.truncate(file, 1000)
            descriptor = await anyio.to_thread.run_sync(mirror.open_file, "k")
            assert os.fstat(descriptor).st_size == len(CONTENT)
            os.close(descriptor)
            with anyio.fail_after(5):
                while not outcomes:  # noqa: ASYNC110 - what ends it is told by a callback
                    await anyio.sleep(0.01)
            assert outcomes == ["a repaired"]
            assert await read(one) == CONTENT
            file.unlink()
            descriptor = await anyio.to_thread.run_sync(mirror.open_file, "k")
            os.close(descriptor)
            with anyio.fail_after(5):
                while len(outcomes) < 2:  # noqa: ASYNC110 - likewise
                    await anyio.sleep(0.01)
            assert await read(one) == CONTENT
            with pytest.raises(NotFound):
                await anyio.to_thread.run_sync(mirror.open_file, "other")


class Bare:
    """A storage without any power."""

    def __init__(self) -> None:
        inner = MemoryStorage()
        self.head, self.open, self.put, self.delete, self.list = inner.head, inner.open, inner.put, inner.delete, inner.list


async def test_powers_are_those_that_all_have(tmp_path: Path) -> None:
    mixed: Storage = Mirror("both", {"a": MemoryStorage(), "b": Bare()})
    assert not isinstance(mixed, Room)
    async with open_local(LocalConfig(reserve=0, fsync=False), kit(str(tmp_path))) as local:
        halves: Storage = Mirror("both", {"a": local, "b": MemoryStorage()})
        assert isinstance(halves, Room)
        assert not isinstance(halves, LocalPaths)


def test_rests_grow_to_a_bound_and_end_with_an_answer() -> None:
    now = 0.0
    health = Health(("a", "b", "c"), first=2, longest=10, clock=lambda: now)
    for rest in (2, 4, 8, 10, 10):
        health.failed("a")
        health.failed("a")
        assert health.ordered() == ["b", "c", "a"]
        now += rest - 0.1
        assert not health.well("a")
        now += 0.2
        assert health.ordered() == ["a", "b", "c"]
    health.answered("a")
    health.failed("a")
    now += 2.1
    assert health.well("a")
