"""The herd: server processes of one node that all miss the same object at once read it once, whoever of them dies."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from tests.edge.given import content
from tests.edge.herd import Order

ROOT = Path(__file__).parents[2]


@contextmanager
def herd(order: Order, processes: int = 4) -> Iterator[list[subprocess.Popen[str]]]:
    """So many processes, all ready to read, let go together."""
    command = [sys.executable, "-W", "error", "-m", "tests.edge.herd", msgspec.json.encode(order).decode()]
    started = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(processes)]
    try:
        until(lambda: len(list(order.path.glob("ready-*"))) == processes)
        (order.path / "go").touch()
        yield started
    finally:
        for each in started:
            each.kill()
            each.communicate()


def until(holds, seconds: float = 60) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def reads(order: Order) -> list[tuple[int, int]]:
    """The process and the place in the object of each read of the origin."""
    path = order.path / "reads"
    return [(int(pid), int(at)) for pid, at in map(str.split, path.read_text().splitlines())] if path.exists() else []


@pytest.mark.parametrize(("size", "slices"), [(65_536, 1), (1_000_000, 4)])
def test_four_processes_of_250_readers_read_each_slice_once(tmp_path: Path, size: int, slices: int) -> None:
    order = Order(str(tmp_path), size=size, slice_size=262_144, readers=250, pause=0.005)
    with herd(order) as processes:
        answers = [each.communicate(timeout=60) for each in processes]
    assert [each.returncode for each in processes] == [0] * 4, answers
    assert {out.strip() for out, _ in answers} == {hashlib.sha256(content(size)).hexdigest()}
    assert Counter(at for _, at in reads(order)) == dict.fromkeys((number * 262_144 for number in range(slices)), 1)


def test_a_killed_leaders_turn_is_handed_over(tmp_path: Path) -> None:
    order = Order(str(tmp_path), size=262_144, slice_size=262_144, readers=20, pause=0.05)  # 16 chunks: 0.8 s a read
    with herd(order) as processes:
        until(lambda: len(reads(order)) == 1)
        leader = reads(order)[0][0]
        time.sleep(0.3)
        os.kill(leader, signal.SIGKILL)
        killed = time.monotonic()
        others = [each for each in processes if each.pid != leader]
        assert len(others) == 3
        answers = [each.communicate(timeout=30) for each in others]
        assert time.monotonic() - killed < 5
    assert [each.returncode for each in others] == [0] * 3, answers
    assert {out.strip() for out, _ in answers} == {hashlib.sha256(content(order.size)).hexdigest()}
    assert len(reads(order)) == 2  # the dead one's, and one of the others'
