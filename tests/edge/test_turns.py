"""Turns between processes: one at a time, handed over by the kernel, and never in the way when locks do not work."""

import asyncio
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from mediacdn.edge.entries import Key
from mediacdn.edge.turns import Turns, pauses
from mediacdn.model import ByteRange
from tests.edge.given import SLICE, Far, FarLocal, Fixed, Shelf, bench, content, origin, until

pytestmark = pytest.mark.anyio


def test_one_holder_a_key(tmp_path: Path) -> None:
    first, second = Turns(tmp_path), Turns(tmp_path)
    turn = first.take("a")
    assert turn is not None
    assert second.take("a") is None
    other = second.take("b")
    assert other is not None
    turn.release()
    assert second.take("a") is not None
    assert first.take("a") is None
    first.close()
    second.close()


def test_the_last_of_several_holdings_in_one_process_gives_it_back(tmp_path: Path) -> None:
    first, second = Turns(tmp_path), Turns(tmp_path)
    one, two = first.take("a"), first.take("a")
    assert one is not None
    assert two is not None
    one.release()
    assert second.take("a") is None
    two.release()
    two.release()  # once too often is no harm
    assert second.take("a") is not None
    first.close()
    second.close()


def test_closing_gives_everything_back(tmp_path: Path) -> None:
    first, second = Turns(tmp_path), Turns(tmp_path)
    turn = first.take("a")
    first.close()
    assert second.take("a") is not None
    assert turn is not None
    assert first.take("a") is None
    turn.release()  # after the end: nothing
    first.close()
    assert Turns(tmp_path).take("a") is None
    second.close()


@pytest.mark.parametrize("place", ["missing/folder", "file"])
def test_without_locks_everybody_has_a_turn(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    turn = Turns(tmp_path / place).take("a")
    assert turn is not None
    turn.release()


def test_a_link_in_the_lock_files_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "turns.lock").symlink_to(tmp_path / "elsewhere")
    assert Turns(tmp_path).take("a") is not None
    assert not (tmp_path / "elsewhere").exists()


def _hold(folder: Path, taken: "multiprocessing.synchronize.Event") -> None:
    assert Turns(folder).take("a") is not None
    taken.set()
    signal.pause()


def test_the_kernel_gives_back_the_turn_of_the_dead(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    taken = context.Event()
    holder = context.Process(target=_hold, args=(tmp_path, taken))
    holder.start()
    assert taken.wait(30)
    turns = Turns(tmp_path)
    assert turns.take("a") is None
    assert holder.pid is not None
    os.kill(holder.pid, signal.SIGKILL)
    holder.join(30)
    assert turns.take("a") is not None
    turns.close()


@pytest.mark.parametrize(("share", "first", "last"), [(1.0, 0.002, 0.025), (0.0, 0.001, 0.0125)])
def test_pauses_grow_are_jittered_and_end(share: float, first: float, last: float) -> None:
    slept: list[float] = []
    for pause in pauses(5.0, lambda: sum(slept), lambda: share):
        slept.append(pause)  # noqa: PERF402 - the clock reads it
    assert slept == sorted(slept)
    assert slept[0] == pytest.approx(first)
    assert slept[-1] == pytest.approx(last)
    assert 5.0 <= sum(slept) < 5.03


async def test_the_turn_is_held_until_the_disk_has_the_slice(tmp_path: Path) -> None:
    shelf = Shelf()
    shelf.gate = asyncio.Event()
    async with bench(tmp_path, turns=True, shelf=shelf) as given:
        of = given.far.given(content(SLICE))
        name = str(Key(of.id, "", of.generation, 0))
        other = Turns(tmp_path)
        await given.read(of)
        assert other.take(name) is None
        shelf.gate.set()
        await given.quiet()
        assert other.take(name) is not None
        other.close()


async def test_who_waits_follows_what_the_other_process_wrote(tmp_path: Path) -> None:
    body = content(SLICE)
    far = Far()
    far.gate = asyncio.Semaphore(0)
    async with bench(tmp_path, turns=True, far=far) as one, bench(tmp_path, turns=True) as two:
        of = far.given(body)
        leader = asyncio.create_task(one.read(of))
        await until(lambda: far.reading)
        follower = asyncio.create_task(two.read(of))
        await asyncio.sleep(0.05)
        assert not follower.done()
        for _ in range(4):
            far.gate.release()
        got, note = await follower
        assert got == [body]
        assert (note.hit, note.fwd, note.collapsed, note.stored) == (False, "miss", True, True)
        assert not two.far.opened
        assert (await leader)[0] == [body]
        assert two.peek(of) is not None  # and it has it in memory now


async def test_a_follower_of_a_leader_that_fails_reads_itself(tmp_path: Path) -> None:
    body = content(SLICE)
    far = Far()
    far.gate = asyncio.Semaphore(1)
    far.fails_after = 1
    async with bench(tmp_path, turns=True, far=far) as one, bench(tmp_path, turns=True) as two:
        of = far.given(body)
        two.far.given(body)
        leader = asyncio.create_task(one.read(of))
        follower = asyncio.create_task(two.read(of))
        assert (await follower)[0] == [body]
        with pytest.raises(Exception, match="storage"):
            await leader
        assert len(two.far.opened) == 1


async def test_patience_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mediacdn.edge.slices.pauses", lambda: pauses(0.1))
    body = content(SLICE)
    async with bench(tmp_path, turns=True) as given:
        of = given.far.given(body)
        other = Turns(tmp_path)
        assert other.take(str(Key(of.id, "", of.generation, 0))) is not None
        began = asyncio.get_running_loop().time()
        assert (await given.read(of))[0] == [body]
        assert asyncio.get_running_loop().time() - began >= 0.1
        other.close()


@pytest.mark.parametrize(
    ("policy", "far", "config"),
    [
        (Fixed("memory"), Far(), {}),
        (Fixed("memory", "disk"), FarLocal(), {"memory_local": 1 << 20}),
        (Fixed("memory", "disk"), FarLocal(), {"memory_local": 1 << 20, "disk_local": True}),
    ],
    ids=["not admitted to disk", "local", "local, on disk"],
)
async def test_what_does_not_go_to_the_shared_disk_takes_no_turn(
    tmp_path: Path, policy: Fixed, far: Far, config: dict[str, object]
) -> None:
    body = content(SLICE)
    async with bench(tmp_path, turns=True, far=far, policy=policy, **config) as given:
        of = given.far.given(body)
        other = Turns(tmp_path)
        assert other.take(str(Key(of.id, "", of.generation, 0))) is not None
        async with asyncio.timeout(2):
            reading = await given.edge.open(of, "", origin(of), (ByteRange(0, of.size),))
            assert await given.drain(reading) == body
        await reading.aclose()
        await given.quiet()
        other.close()
