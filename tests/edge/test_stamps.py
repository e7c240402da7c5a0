"""The table that processes share: what a bump is to all of them, and how a bad or lost table is left for a good one."""

import fcntl
import os
import shutil
import stat
import struct
import subprocess
import sys
import textwrap
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from mediacdn.edge import stamps as stamps_module
from mediacdn.edge.stamps import DEAD, FORMAT, HEADER_WORDS, NAME, SLOTS, VERSION, Stamps
from mediacdn.errors import StartupError, Unavailable

SIZE = (HEADER_WORDS + SLOTS) * 8


def test_where_it_lies(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there"
    Stamps(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / NAME).stat().st_mode) == 0o600
    assert (folder / NAME).stat().st_size == SIZE
    assert os.listdir(folder) == [NAME], "nothing half-made is left"
    folder.chmod(0o755)
    Stamps(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_slots_are_the_same_in_every_process(tmp_path: Path) -> None:
    stamps = Stamps(tmp_path)
    assert stamps.slot("01ARZ3NDEKTSV4RRFFQ69G5FAV") == HEADER_WORDS + zlib.crc32(b"01ARZ3NDEKTSV4RRFFQ69G5FAV") % SLOTS
    slots = [stamps.slot(f"01ARZ3NDEKTSV4RRFFQ{number:07}") for number in range(10_000)]
    assert min(slots) >= HEADER_WORDS
    assert max(slots) < HEADER_WORDS + SLOTS
    assert len(set(slots)) > 8500, "spread"


def test_bumps(tmp_path: Path) -> None:
    one, other = Stamps(tmp_path), Stamps(tmp_path)
    assert one.nonce == other.nonce
    slots = [other.slot(each) for each in "abc"]
    before = [other.read(slot) for slot in slots]
    one.bump(["a", "b", "a"])
    assert [other.read(slot) for slot in slots] == [before[0] + 1, before[1] + 1, before[2]]
    header = bytes(other.words.cast("B")[: HEADER_WORDS * 8])
    everything = list(other.words[HEADER_WORDS:])
    one.bump_all()
    assert list(other.words[HEADER_WORDS:]) == [value + 1 for value in everything]
    assert bytes(other.words.cast("B")[: HEADER_WORDS * 8]) == header


def test_what_is_kept_beside(tmp_path: Path) -> None:
    one, other = Stamps(tmp_path), Stamps(tmp_path)
    assert (one.epoch, one.seen) == (0, 0)
    assert one.set_epoch(3)
    assert not one.set_epoch(2), "it never goes back"
    one.advance(10)
    one.advance(12, after=11)
    assert (other.epoch, other.seen) == (3, 10), "11 was not seen"
    one.advance(12, after=10)
    one.advance(11)
    assert other.seen == 12
    assert (Stamps(tmp_path).epoch, Stamps(tmp_path).seen) == (3, 12), "it outlives who wrote it"


def test_turns(tmp_path: Path) -> None:
    one, other = Stamps(tmp_path), Stamps(tmp_path)
    assert one.claim(100, lambda: 1000)
    assert not other.claim(100, lambda: 1099)
    assert other.claim(100, lambda: 1100)
    assert not one.claim(100, lambda: 1100)
    assert one.claim(0, lambda: 1101), "who was rung does not wait for its turn"
    assert other.claim(100, lambda: 50), "the clock began anew with the machine"


def damaged(change: Callable[[bytearray], None]) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        content = bytearray(path.read_bytes())
        change(content)
        path.write_bytes(content)

    return spoil


def other_version(content: bytearray) -> None:
    header = bytearray(content[: FORMAT.size])
    header[8:12] = struct.pack("=I", VERSION + 1)
    header[-4:] = struct.pack("=I", zlib.crc32(header[:-4]))
    content[: FORMAT.size] = header


def flip(at: int) -> Callable[[bytearray], None]:
    def change(content: bytearray) -> None:
        content[at] ^= 1

    return change


def link_elsewhere(path: Path) -> None:
    elsewhere = path.with_name("elsewhere")
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe_instead(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


SPOILED: dict[str, Callable[[Path], None]] = {
    "missing": Path.unlink,
    "empty": damaged(bytearray.clear),
    "short": damaged(lambda content: content.__delitem__(slice(-8, None))),
    "header only": damaged(lambda content: content.__delitem__(slice(20, None))),
    "long": damaged(lambda content: content.extend(b"\0" * 8)),
    "magic": damaged(flip(0)),
    "version": damaged(flip(8)),
    "another version, well made": damaged(other_version),
    "slots": damaged(flip(12)),
    "nonce": damaged(flip(20)),
    "start of the machine": damaged(flip(40)),
    "checksum": damaged(flip(50)),
    "marked dead": damaged(flip(DEAD * 8)),
    "symbolic link": link_elsewhere,
    "folder": folder_instead,
    "pipe": pipe_instead,
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_a_bad_table_is_replaced_at_the_start(spoil: Callable[[Path], None], tmp_path: Path) -> None:
    old = Stamps(tmp_path)
    nonce, remembered = old.nonce, list(old.words[HEADER_WORDS:])
    del old
    spoil(tmp_path / NAME)
    new = Stamps(tmp_path)
    assert new.nonce != nonce
    assert not set(new.words[HEADER_WORDS:]) & set(remembered), "what was remembered of the old table is untrue"
    assert not (tmp_path / NAME).is_symlink()
    assert (tmp_path / NAME).stat().st_size == SIZE
    assert Stamps(tmp_path).nonce == new.nonce


def test_a_table_of_before_the_machine_started_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Stamps(tmp_path).nonce
    assert Stamps(tmp_path).nonce == before
    other = tmp_path / "boot_id"
    other.write_text("0d3b0c63-3f0f-4c0f-9a3d-6e6f1f0a7b11\n")
    monkeypatch.setattr(stamps_module, "BOOT_ID", other)
    after = Stamps(tmp_path / ".").nonce
    assert after != before
    assert Stamps(tmp_path).nonce == after
    monkeypatch.setattr(stamps_module, "BOOT_ID", tmp_path / "hidden")
    assert Stamps(tmp_path).nonce == Stamps(tmp_path).nonce != after


def replaced(path: Path) -> None:
    """By a process that started after the loss and never knew the old one."""
    path.unlink()
    Stamps(path.parent)


def header_overwritten(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"?" * 64)


LOSSES: dict[str, Callable[[Path], None]] = {
    "unlinked": Path.unlink,
    "folder removed": lambda path: shutil.rmtree(path.parent),
    "replaced by a stranger": replaced,
    "header overwritten": header_overwritten,
}


@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("noticing", ["bump", "refresh"])
def test_lost_while_running(lose: Callable[[Path], None], noticing: str, tmp_path: Path) -> None:
    folder = tmp_path / "edge"
    one, other = Stamps(folder), Stamps(folder)
    one.set_epoch(5)
    one.advance(9)
    nonce, slot = one.nonce, one.slot("a")
    remembered = other.read(slot)
    lose(folder / NAME)
    if noticing == "bump":
        one.bump(["a"])
        assert not one.refresh(), "it is over there already"
    else:
        assert one.refresh()
    assert one.nonce != nonce
    assert other.read(slot) != remembered, "the first to notice makes all cards of the others untrue"
    assert other.slot("a") == slot
    assert other.nonce == one.nonce, "and they follow before they remember anything anew"
    assert one.epoch == other.epoch == 5, "copies of before the last purge stay dead"
    before = other.read(slot)
    one.bump(["a"])
    assert other.read(slot) == before + 1


def test_who_sleeps_follows_at_its_sweep(tmp_path: Path) -> None:
    old = Stamps(tmp_path)
    old.set_epoch(2)
    (tmp_path / NAME).unlink()
    new = Stamps(tmp_path)
    assert new.epoch == 0
    assert old.refresh()
    assert not old.refresh()
    assert old.nonce == new.nonce
    assert new.epoch == 2, "the one who knew tells the one who could not"


def test_renew(tmp_path: Path) -> None:
    one, other = Stamps(tmp_path), Stamps(tmp_path)
    one.set_epoch(7)
    one.advance(100)
    remembered = other.read(other.slot("a"))
    one.renew(2, 30)
    assert other.read(HEADER_WORDS + zlib.crc32(b"a") % SLOTS) != remembered
    assert other.refresh()
    assert (other.nonce, other.epoch, other.seen) == (one.nonce, 2, 30), "back in time, and no one takes the old epoch along"


STARTER = """
    import sys
    from pathlib import Path
    from mediacdn.edge.stamps import Stamps
    kept = []
    print("ready", flush=True)
    for line in sys.stdin:
        kept.append(Stamps(Path(line.strip())))
        print(kept[-1].nonce, flush=True)
"""


@pytest.mark.parametrize("bad", [False, True], ids=["none there", "a bad one there"])
def test_starters_at_once_agree(bad: bool, tmp_path: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(STARTER)]
    starters = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) for _ in range(4)]
    try:
        assert [starter.stdout.readline() for starter in starters if starter.stdout] == ["ready\n"] * 4
        for number in range(40):
            folder = tmp_path / str(number)
            if bad:
                folder.mkdir()
                (folder / NAME).write_bytes(b"?" * SIZE)
            for starter in starters:
                assert starter.stdin is not None
                starter.stdin.write(f"{folder}\n")
            told = {starter.stdout.readline().strip() for starter in starters if starter.stdout}
            assert told == {Stamps(folder).nonce}
            assert os.listdir(folder) == [NAME]
    finally:
        for starter in starters:
            starter.communicate()


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartupError, match="edge directory"):
        Stamps(tmp_path / "file")


def test_no_room_is_unavailable_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stamps = Stamps(tmp_path)
    (tmp_path / NAME).unlink()
    monkeypatch.setattr(stamps_module.os, "write", lambda fd, content: 100)
    with pytest.raises(Unavailable):
        stamps.bump(["a"])
    monkeypatch.undo()
    assert os.listdir(tmp_path) == []
    stamps.bump(["a"])
    assert os.listdir(tmp_path) == [NAME]


def test_a_writer_that_is_stopped_holds_nobody_up_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stamps = Stamps(tmp_path)
    monkeypatch.setattr(stamps_module, "PATIENCE", 0.2)
    held = os.open(tmp_path / NAME, os.O_RDWR)
    fcntl.flock(held, fcntl.LOCK_EX)
    with pytest.raises(Unavailable):
        stamps.bump(["a"])
    before = stamps.read(stamps.slot("a"))
    threading.Timer(0.05, os.close, [held]).start()
    stamps.bump(["a"])
    assert stamps.read(stamps.slot("a")) == before + 1


def test_writers_lose_no_count(tmp_path: Path) -> None:
    script = """
        import sys, threading
        from pathlib import Path
        from mediacdn.edge.stamps import Stamps
        stamps = Stamps(Path(sys.argv[1]))
        def work():
            for _ in range(1000):
                stamps.bump(["a", "b"])
        threads = [threading.Thread(target=work) for _ in range(2)]
        for each in threads: each.start()
        for each in threads: each.join()
    """
    stamps = Stamps(tmp_path)
    before = stamps.read(stamps.slot("a"))
    processes = [subprocess.Popen([sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]) for _ in range(3)]
    for _ in range(100):
        stamps.bump_all()
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert stamps.read(stamps.slot("a")) == before + 3 * 2 * 1000 + 100


# A reader's loop ends with the highest value it saw; a value that was never written is a torn read, a lower one after a higher a step back in time.
READER = """
    import sys, time
    from pathlib import Path
    from mediacdn.edge.stamps import Stamps
    stamps = Stamps(Path(sys.argv[1]))
    words, slot, after, reads = stamps.words, stamps.slot("a"), stamps.slot("acknowledged"), 0
    first = last = words[slot]
    lowest = words[after]
    print("ready", flush=True)
    while last < first + 3000:
        value = words[slot]
        assert last <= value <= first + 3000, (first, last, value)
        last = value
        told = words[after] - lowest
        assert words[slot] - first >= told, "an acknowledged bump was not there"
        reads += 2
    while reads < 1_000_000:
        assert words[slot] == last
        reads += 1
    print(reads, flush=True)
"""


def test_readers_see_every_bump_at_once(tmp_path: Path) -> None:
    """Four processes race a writer for a million reads each: none sees a torn value, and what was acknowledged before a read began is in it."""
    stamps = Stamps(tmp_path)
    assert stamps.slot("a") != stamps.slot("acknowledged")
    command = [sys.executable, "-c", textwrap.dedent(READER), str(tmp_path)]
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for reader in readers:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
    for number in range(3000):
        stamps.bump(["a"])
        stamps.bump(["acknowledged"])
        if number % 100 == 0:
            time.sleep(0.001)
    for reader in readers:
        assert int(reader.communicate(timeout=60)[0]) >= 1_000_000
        assert reader.returncode == 0
