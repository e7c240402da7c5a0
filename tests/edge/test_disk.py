# ruff: noqa: ASYNC110, ASYNC240 (a test may wait for its disk, and looks again and again at what has no event)
"""The disk tier: what it keeps, what it refuses, and that nothing which happens to its folder is more than a miss."""

import asyncio
import os
import pickle
import random
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest

from mediacdn.edge import seal
from mediacdn.edge.disk import DiskTier, open_disk
from mediacdn.edge.entries import Entry, Key
from mediacdn.edge.index import footprint

pytestmark = pytest.mark.anyio
MIB = 1024 * 1024


def key(name: object, generation: int = 1) -> Key:
    return Key(f"01J{name!s:>023}", "", generation, 0)


def entry(body: bytes = b"body", *, pinned: bool = False) -> Entry:
    return Entry(body, 2**40 + len(body), 1_700_000_000.25, 60.5, 3600.0, pinned)


class Heard:
    """What the callbacks were told."""

    def __init__(self) -> None:
        self.evicted: list[tuple[int, int]] = []
        self.corrupt = 0

    def on_evict(self, entries: int, size: int) -> None:
        self.evicted.append((entries, size))

    def on_corrupt(self) -> None:
        self.corrupt += 1


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "edge"


@asynccontextmanager
async def opened(
    folder: Path, heard: Heard, limit: int = 100 * MIB, eviction: str = "least-recently-stored", nonce: Callable[[], str] = lambda: "n"
) -> AsyncIterator[DiskTier]:
    async with open_disk(folder, limit, eviction, nonce, on_evict=heard.on_evict, on_corrupt=heard.on_corrupt) as tier:  # type: ignore[arg-type]
        yield tier


def shelf(folder: Path) -> Path:
    return folder / (folder / "state").read_text().split("\n")[1]


def shelves(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.startswith("shelf-")]


def bodies(folder: Path) -> list[Path]:
    """Those of all shelves; looks while they are being swept away."""
    return sorted(Path(top, name) for top, _, names in os.walk(folder) for name in names if name.endswith(".val"))


@contextmanager
def index(folder: Path) -> Iterator[sqlite3.Connection]:
    con = sqlite3.connect(shelf(folder) / "cache.db", isolation_level=None)
    try:
        yield con
    finally:
        con.close()


async def until(true: Callable[[], bool], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.01)


async def until_kept(tier: DiskTier, name: Key, kept: Entry, seconds: float = 8.0) -> None:
    """Put until it is kept and found: the tier has recovered."""
    async with asyncio.timeout(seconds):
        while not (await tier.put(name, kept) and await tier.get(name) == kept):
            await asyncio.sleep(0.02)


async def test_counting_tells_slices_of_one_generation_and_harms_nothing(folder: Path, heard: Heard) -> None:
    async with opened(folder, heard) as tier:
        for generation, number in [(1, 0), (1, 1), (1, 10), (2, 0), (11, 0)]:
            assert await tier.put(key("a", generation)._replace(number=number), entry())
        assert [await tier.count(key("a", generation)) for generation in (1, 2, 3, 11)] == [3, 1, 0, 1]
        assert await tier.count(key("b")) == 0
        assert tier.entries == 5
        assert await tier.get(key("a")) == entry()


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 10_240, 4 * MIB])
@pytest.mark.parametrize("pinned", [False, True])
async def test_an_entry_comes_back_as_it_was_put(folder: Path, heard: Heard, size: int, pinned: bool) -> None:
    kept = entry(os.urandom(size), pinned=pinned)
    async with opened(folder, heard) as tier:
        assert await tier.put(key(1), kept)
        assert await tier.get(key(1)) == kept
        assert await tier.get(key(1, generation=2)) is None
        assert (tier.entries, tier.bytes) == (1, footprint(size))
        assert await tier.put(key(1), entry(b"another"))
        assert await tier.get(key(1)) == entry(b"another")
        assert len(bodies(folder)) == tier.entries == 1
        await tier.drop(key(1))
        await tier.drop(key(1))
        assert await tier.get(key(1)) is None
        assert (tier.entries, tier.bytes, bodies(folder)) == (0, 0, [])
    assert (heard.evicted, heard.corrupt) == ([], 0)


async def test_a_body_of_no_bytes_and_keys_of_any_text(folder: Path, heard: Heard) -> None:
    odd = [Key("a/b", "c", 1, 2), Key("a", "b/c", 1, 2), Key("'; DROP TABLE Cache; --", "ü\u2028", 2**62, 0)]
    async with opened(folder, heard) as tier:
        for number, each in enumerate(odd[1:]):
            assert await tier.put(each, entry(bytes([number])))
        for number, each in enumerate(odd[1:]):
            assert await tier.get(each) == entry(bytes([number]))


async def test_renewing_moves_the_time_alone_and_writes_no_body(folder: Path, heard: Heard) -> None:
    async with opened(folder, heard) as tier:
        await tier.put(key(1), entry())
        before = bodies(folder)[0].stat()
        await tier.renew(key(1), 1_800_000_000.5)
        await tier.renew(key(2), 1_800_000_000.5)
        found = await tier.get(key(1))
        assert found is not None
        assert found.stored == 1_800_000_000.5
        found.stored = entry().stored
        assert found == entry()
        assert bodies(folder)[0].stat() == before
        assert await tier.get(key(2)) is None


async def test_it_outlives_the_process_under_the_same_nonce_only(folder: Path, heard: Heard) -> None:
    async with opened(folder, heard) as tier:
        await tier.put(key(1), entry())
    async with opened(folder, heard) as tier:
        assert tier.entries == 1
        assert await tier.get(key(1)) == entry()
    async with opened(folder, heard, nonce=lambda: "another") as tier:
        assert (tier.entries, tier.bytes) == (0, 0)
        assert await tier.get(key(1)) is None
        await until(lambda: bodies(folder) == [] and len(shelves(folder)) == 1)
    async with opened(folder, heard) as tier:
        assert await tier.get(key(1)) is None


async def test_what_another_nonce_took_over_is_left_to_it(folder: Path, heard: Heard) -> None:
    async with opened(folder, heard) as old:
        await old.put(key(1), entry())
        async with opened(folder, heard, nonce=lambda: "successor") as new:
            assert await new.put(key(1), entry(b"new"))
            assert await old.get(key(1)) is None
            assert not await old.put(key(2), entry())
            await asyncio.sleep(1.2)
            assert not await old.put(key(2), entry())
            assert await new.get(key(1)) == entry(b"new")


async def test_processes_follow_one_another_to_a_new_nonce(folder: Path, heard: Heard) -> None:
    here, there = ["old"], ["old"]
    async with opened(folder, heard, nonce=lambda: here[0]) as one, opened(folder, heard, nonce=lambda: there[0]) as two:
        await one.put(key(1), entry())
        assert await two.get(key(1)) == entry()
        here[0] = "new"
        await one.clear()
        assert not await two.put(key(2), entry()), "it has not heard of the new nonce"
        await until_kept(one, key(3), entry())
        there[0] = "new"
        await until_kept(two, key(4), entry())
        assert await two.get(key(1)) is None
        assert await two.get(key(3)) == await one.get(key(4)) == entry()


async def test_clearing_is_for_all(folder: Path, heard: Heard) -> None:
    async with opened(folder, heard) as one, opened(folder, heard) as two:
        await one.put(key(1), entry())
        assert await two.get(key(1)) == entry()
        await two.clear()
        await one.get(key(1))
        assert await one.get(key(1)) is None
        assert two.entries == 0
        await until(lambda: bodies(folder) == [])
        await until_kept(one, key(1), entry())
        assert await two.get(key(1)) == entry()


@pytest.mark.parametrize("eviction", ["lru", "least-recently-stored"])
async def test_the_limit_holds_with_large_values_and_the_oldest_leave(folder: Path, heard: Heard, eviction: str) -> None:
    limit = 10 * footprint(4 * MIB) + footprint(10_240)
    async with opened(folder, heard, limit, eviction) as tier:
        for number in range(25):
            assert await tier.put(key(number), entry(bytes([number]) * 4 * MIB))
            assert tier.bytes <= limit
            assert sum(path.stat().st_blocks * 512 for path in folder.rglob("*")) < limit + 2 * MIB
        assert [number for number in range(25) if await tier.get(key(number))] == list(range(15, 25))
        assert await tier.put(key("small"), entry(bytes(10_240)))
        assert tier.entries == 11  # no more goes than must
        assert await tier.put(key("x"), entry(bytes(10_240)))
        assert tier.entries == 11
    assert (sum(entries for entries, _ in heard.evicted), heard.corrupt) == (16, 0)
    assert sum(size for _, size in heard.evicted) == 16 * footprint(4 * MIB)


@pytest.mark.parametrize(("eviction", "stays"), [("lru", True), ("least-recently-stored", False)])
async def test_use_counts_under_lru_alone(folder: Path, heard: Heard, eviction: str, stays: bool) -> None:
    async with opened(folder, heard, 5 * footprint(10), eviction) as tier:
        for number in range(5):
            await tier.put(key(number), entry(bytes(10)))
        for _ in range(200):  # a use in eight is noted
            assert await tier.get(key(0))
        for number in range(5, 9):
            await tier.put(key(number), entry(bytes(10)))
        assert (await tier.get(key(0)) is not None) is stays
        assert tier.entries == 5


async def test_pinned_ones_leave_last_and_for_a_pinned_one_alone(folder: Path, heard: Heard) -> None:
    async with opened(folder, heard, 3 * footprint(10)) as tier:
        await tier.put(key("p"), entry(b"p", pinned=True))
        for number in range(10):
            assert await tier.put(key(number), entry(bytes(10)))
        assert await tier.get(key("p"))
        for name in "qr":
            assert await tier.put(key(name), entry(b"q", pinned=True))
        assert not await tier.put(key("x"), entry())
        assert await tier.put(key("s"), entry(b"s", pinned=True))
        assert [name for name in "pqrs" if await tier.get(key(name))] == ["q", "r", "s"]
        assert tier.bytes <= 3 * footprint(10)


async def test_too_large_is_refused_and_evicts_nothing(folder: Path, heard: Heard) -> None:
    async with opened(folder, heard, footprint(10_000)) as tier:
        assert await tier.put(key(1), entry(bytes(10)))
        assert not await tier.put(key(2), entry(bytes(20_000)))
        assert await tier.get(key(1))


async def test_a_full_queue_drops_and_the_loop_goes_on(folder: Path, heard: Heard) -> None:
    async with opened(folder, heard, 10_000 * MIB) as tier:
        body = bytes(4 * MIB)
        gaps, last = [], time.perf_counter()
        puts = [asyncio.create_task(tier.put(key(number), entry(body))) for number in range(60)]
        while not all(put.done() for put in puts):
            await asyncio.sleep(0.001)
            gaps.append(time.perf_counter() - last)
            last = time.perf_counter()
        kept = sum(put.result() for put in puts)
        assert kept == 16  # 64 MiB may wait
        assert sorted(gaps)[len(gaps) * 9 // 10] < 0.03
        assert await tier.put(key("after"), entry())


# Damage to bodies.


def damages() -> Iterator[tuple[str, Callable[[Path], None]]]:
    size = 10_000
    for length in (0, 1, 4095, 4096, 4097, 8192, size - 1):
        yield f"truncated to {length}", lambda path, length=length: os.truncate(path, length)  # type: ignore[misc]
    for at in (0, 1, 4095, 4096, 5000, size - 1):
        yield f"byte {at} flipped", lambda path, at=at: flip(path, at)  # type: ignore[misc]
    yield "longer", lambda path: path.write_bytes(path.read_bytes() + b"x")
    yield "removed", lambda path: path.unlink()
    yield "a folder", lambda path: (path.unlink(), path.mkdir())[0]
    yield "a link to the same bytes", lambda path: (shutil.copy(path, path.parent / "copy"), path.unlink(), path.symlink_to("copy"))[1]
    yield "a pipe nobody writes", lambda path: (path.unlink(), os.mkfifo(path))[0]


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1 << (at % 8)
    path.write_bytes(content)


@pytest.mark.parametrize(("name", "damage"), list(damages()), ids=[name for name, _ in damages()])
async def test_a_damaged_body_is_a_miss_and_goes(folder: Path, heard: Heard, name: str, damage: Callable[[Path], None]) -> None:
    kept = entry(random.Random(3).randbytes(10_000))
    async with opened(folder, heard) as tier:
        await tier.put(key(1), kept)
        damage(bodies(folder)[0])
        assert await tier.get(key(1)) is None
        await until(lambda: heard.corrupt == 1)
        with index(folder) as con:
            assert con.execute("SELECT count(*) FROM Cache").fetchone() == (0,)
        assert await tier.put(key(1), kept)
        assert await tier.get(key(1)) == kept
    assert heard.corrupt == 1


async def test_bodies_swapped_or_rows_renamed_are_misses(folder: Path, heard: Heard) -> None:
    async with opened(folder, heard) as tier:
        for number in range(4):
            await tier.put(key(number), entry(bytes([number]) * 5000))
        with index(folder) as con:
            names = [name for (name,) in con.execute("SELECT filename FROM Cache ORDER BY key")]
            con.execute("UPDATE Cache SET filename = ? WHERE key = ?", (names[1], str(key(0))))
            con.execute("UPDATE Cache SET filename = ? WHERE key = ?", (names[0], str(key(1))))
            con.execute("UPDATE Cache SET key = 'x' WHERE key = ?", (str(key(2)),))
            con.execute("UPDATE Cache SET key = ? WHERE key = ?", (str(key(2)), str(key(3))))  # all of it, under another's key
        assert [await tier.get(key(number)) for number in range(4)] == [None] * 4
        await until(lambda: heard.corrupt == 3)


def test_every_bit_of_a_header_counts() -> None:
    kept = entry(b"some body")
    header = seal.seal(key(1), kept)
    assert seal.unseal(key(1), header, kept.body) == kept
    assert seal.unseal(key(2), header, kept.body) is None
    for bit in range(len(header) * 8):
        wrong = bytearray(header)
        wrong[bit // 8] ^= 1 << bit % 8
        assert seal.unseal(key(1), bytes(wrong), kept.body) is None, bit
        assert seal.restamp(key(1), bytes(wrong), 5.0) is None, bit
    for length in range(len(header)):
        assert seal.unseal(key(1), header[:length], kept.body) is None
    for length in range(len(kept.body)):
        assert seal.unseal(key(1), header, kept.body[:length]) is None


# Poisoned rows.


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def poison(tmp_path: Path, folder: Path) -> list[tuple[str, tuple[object, ...]]]:
    secret = tmp_path / "secret"
    secret.write_bytes(b"body")
    bomb = pickle.dumps(Bomb(tmp_path / "ran"))
    header = seal.seal(key(1), entry())
    pickled = shelf(folder) / "pickle.val"
    pickled.write_bytes(bomb)
    return [
        ("mode = 4, filename = NULL, value = ?", (bomb,)),
        ("mode = 4, filename = ?, value = NULL", ("pickle.val",)),
        ("mode = 1, value = ?", (header,)),
        ("mode = 3, value = ?", (header,)),
        ("mode = NULL, value = ?", (header,)),
        ("filename = ?", ("../../../secret",)),
        ("filename = ?", (str(secret),)),
        ("filename = ?", ("../cache.db",)),
        ("filename = ?", (b"ab/" + b"0" * 30 + b".val",)),
        ("filename = ?", ("ab/" + "0" * 30 + ".val\n",)),
        ("filename = NULL", ()),
        ("value = ?", (header.decode("latin-1"),)),
        ("value = NULL", ()),
        ("value = 7", ()),
    ]


@pytest.mark.parametrize("number", range(14))
async def test_a_poisoned_row_is_refused_and_goes(tmp_path: Path, folder: Path, heard: Heard, number: int) -> None:
    async with opened(folder, heard) as tier:
        await tier.put(key(1), entry())
        change, values = poison(tmp_path, folder)[number]
        with index(folder) as con:
            con.execute(f"UPDATE Cache SET {change}", values)
        assert await tier.get(key(1)) is None
        await until(lambda: heard.corrupt == 1)
        assert await tier.put(key(1), entry())
        with index(folder) as con:
            con.execute(f"UPDATE Cache SET {change}", values)
        await tier.drop(key(1))
        assert await tier.get(key(1)) is None
    assert (tmp_path / "secret").exists()
    assert shelf(folder).joinpath("cache.db").exists()
    assert not (tmp_path / "ran").exists()


async def test_a_poisoned_header_is_not_renewed(folder: Path, heard: Heard) -> None:
    async with opened(folder, heard) as tier:
        await tier.put(key(1), entry())
        with index(folder) as con:
            con.execute("UPDATE Cache SET value = ?", (seal.seal(key(2), entry()),))
        await tier.renew(key(1), 5.0)
        assert heard.corrupt == 1
        assert await tier.get(key(1)) is None


@pytest.mark.parametrize(
    "settings",
    [
        {"disk_min_file_size": "x", "disk_unheard_of": 1},
        {"sqlite_journal_mode": "wal", "sqlite_mmap_size": 2**30},
        {"_disk": "x", "_local": 5},
        {"count": "many"},
    ],
)
async def test_poisoned_settings_do_no_more_than_empty_it(folder: Path, heard: Heard, settings: dict[str, object]) -> None:
    async with opened(folder, heard) as tier:
        await tier.put(key(1), entry())
    with index(folder) as con:
        for item in settings.items():
            con.execute("INSERT OR REPLACE INTO Settings VALUES (?, ?)", item)
    async with opened(folder, heard) as tier:
        assert await tier.get(key(1)) in (None, entry())
        await until_kept(tier, key(2), entry())
        assert not any(name.endswith("-shm") for _, _, names in os.walk(folder) for name in names)


# The index and the folder.


def overwrite(path: Path, at: int = 0) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(random.Random(4).randbytes(path.stat().st_size - at))


RUIN: dict[str, Callable[[Path], object]] = {
    "index overwritten": lambda folder: overwrite(shelf(folder) / "cache.db"),
    "index overwritten beyond its first page": lambda folder: overwrite(shelf(folder) / "cache.db", 4096),
    "index emptied": lambda folder: os.truncate(shelf(folder) / "cache.db", 0),
    "index cut within a page": lambda folder: os.truncate(shelf(folder) / "cache.db", 5000),
    "index cut within its header": lambda folder: os.truncate(shelf(folder) / "cache.db", 50),
    "index removed": lambda folder: (shelf(folder) / "cache.db").unlink(),
    "index of nothing we know": lambda folder: (
        (shelf(folder) / "cache.db").unlink(),
        sqlite3.connect(shelf(folder) / "cache.db").close(),
    ),
    "tables dropped": lambda folder: subprocess.run(
        [sys.executable, "-c", f"import sqlite3; sqlite3.connect({str(shelf(folder) / 'cache.db')!r}).execute('DROP TABLE Cache')"],
        check=True,
    ),
    "settings dropped": lambda folder: subprocess.run(
        [sys.executable, "-c", f"import sqlite3; sqlite3.connect({str(shelf(folder) / 'cache.db')!r}).execute('DROP TABLE Settings')"],
        check=True,
    ),
    "shelf removed": lambda folder: shutil.rmtree(shelf(folder)),
    "folder removed": lambda folder: shutil.rmtree(folder),
    "folder moved away": lambda folder: folder.rename(folder.parent / "elsewhere"),
    "state removed": lambda folder: (folder / "state").unlink(),
    "state overwritten": lambda folder: (folder / "state").write_bytes(b"\xff\xfe\n\n\n"),
    "state a pipe nobody writes": lambda folder: ((folder / "state").unlink(), os.mkfifo(folder / "state")),
    "state points out of the folder": lambda folder: (folder / "state").write_text("n\n../../etc"),
    "lock removed": lambda folder: (folder / "lock").unlink(),
    "all files emptied": lambda folder: [os.truncate(path, 0) for path in folder.rglob("*") if path.is_file()],
}


@pytest.mark.parametrize("ruin", RUIN)
async def test_a_ruined_folder_is_misses_and_then_used_again(folder: Path, heard: Heard, ruin: str) -> None:
    kept = {key(number): entry(random.Random(number).randbytes(6000)) for number in range(200)}
    async with opened(folder, heard) as tier, opened(folder, heard) as other:
        await asyncio.gather(*(tier.put(*each) for each in kept.items()))
        await asyncio.gather(*(other.get(each) for each in kept))
        await asyncio.to_thread(RUIN[ruin], folder)
        for each, right in kept.items():
            for one in (tier, other):
                assert await one.get(each) in (None, right)
        await until_kept(tier, key("new"), entry(b"new"))
        await until_kept(other, key("newer"), entry(b"newer"))
        async with asyncio.timeout(5):
            while not (await tier.get(key("newer")) == entry(b"newer") and await other.get(key("new")) in (None, entry(b"new"))):
                await asyncio.sleep(0.02)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        await until(lambda: len(shelves(folder)) == 1)


@pytest.mark.parametrize("name", ["state", "cache.db", "cache.db-journal"])
async def test_a_pipe_in_the_folder_delays_no_start(folder: Path, heard: Heard, name: str) -> None:
    async with opened(folder, heard) as tier:
        await tier.put(key(1), entry())
    path = (folder if name == "state" else shelf(folder)) / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    begun = time.monotonic()
    async with opened(folder, heard) as tier:
        await until_kept(tier, key(2), entry())
    assert time.monotonic() - begun < 5


LOCKER = """
import sqlite3, sys, time
con = sqlite3.connect(sys.argv[1], isolation_level=None)
con.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
time.sleep(float(sys.argv[2]))
con.execute("COMMIT")
print("free", flush=True)
"""


@asynccontextmanager
async def locked(folder: Path, seconds: float) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", LOCKER, str(shelf(folder) / "cache.db"), str(seconds), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout
        assert await process.stdout.readline() == b"locked\n"
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def test_a_locked_index_is_a_quick_miss_for_all_and_stalls_nobody(folder: Path, heard: Heard) -> None:
    async with opened(folder, heard) as tier:
        for number in range(20):
            await tier.put(key(number), entry())
        async with locked(folder, 4) as process:

            async def timed(number: int) -> float:
                at = time.perf_counter()
                assert await tier.get(key(number % 20)) is None
                return time.perf_counter() - at

            began = time.perf_counter()
            assert max(await asyncio.gather(*(timed(number) for number in range(200)))) < 0.25  # one wait of 30 ms, and threads that start
            waits = []
            while time.perf_counter() - began < 1.5:
                waits.append(await timed(1))
                await asyncio.sleep(0.005)
            assert sorted(waits)[len(waits) // 2] < 0.005
            assert sorted(waits)[-3] < 0.08
            assert not await tier.put(key(1), entry())
            await tier.drop(key(3))
            assert process.stdout
            assert await process.stdout.readline() == b"free\n"
        async with asyncio.timeout(3):
            while await tier.get(key(1)) != entry():  # nothing was lost for it
                await asyncio.sleep(0.02)
    assert heard.corrupt == 0


async def test_an_index_locked_at_the_start_delays_no_start(folder: Path, heard: Heard) -> None:
    async with opened(folder, heard) as tier:
        await tier.put(key(1), entry())
    async with locked(folder, 3):
        began = time.perf_counter()
        async with opened(folder, heard) as tier:
            assert time.perf_counter() - began < 2.5
            assert await tier.get(key(1)) is None
            async with asyncio.timeout(10):
                while await tier.get(key(1)) != entry():
                    await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("make", "usable"),
    [
        (lambda folder: folder.mkdir(mode=0o777), True),
        (lambda folder: (folder.mkdir(), folder.chmod(0o500)), True),
        (lambda folder: ((folder.parent / "real").mkdir(), folder.symlink_to("real")), False),
        (lambda folder: folder.write_text("a file"), False),
        (lambda folder: (folder.mkdir(), os.chown(folder, 12345, 12345)) if os.geteuid() == 0 else folder.write_text("a file"), False),
        (lambda folder: folder.parent.joinpath("edge").symlink_to("/nonexistent"), False),
    ],
    ids=["open to all", "not writable", "a link", "a file", "somebody else's", "a dead link"],
)
async def test_only_a_private_folder_of_our_own_is_used(folder: Path, heard: Heard, make: Callable[[Path], object], usable: bool) -> None:
    make(folder)
    async with opened(folder, heard) as tier:
        assert await tier.put(key(1), entry()) is usable
        assert (await tier.get(key(1)) is not None) is usable
        if usable:
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            assert all(stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 for path in shelf(folder).iterdir() if path.is_dir())
        else:
            assert (tier.entries, tier.bytes) == (0, 0)
            if folder.is_symlink() or folder.is_file():
                folder.unlink()
            else:
                folder.rmdir()
            await until_kept(tier, key(1), entry())


async def test_files_of_others_in_the_folder_stay(folder: Path, heard: Heard) -> None:
    folder.mkdir()
    (folder / "stamps").write_bytes(b"shared table")
    (folder / "shelf-of-books").mkdir()
    async with opened(folder, heard) as tier:
        await tier.put(key(1), entry())
        await tier.clear()
    assert (folder / "stamps").read_bytes() == b"shared table"
    assert (folder / "shelf-of-books").is_dir()


# A disk that is full, or cannot be written: over a real file system where we may mount one, else the calls fail as they would.


@contextmanager
def small_disk(path: Path, size: int) -> Iterator[bool]:
    path.mkdir()
    mounted = (
        os.geteuid() == 0
        and subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], capture_output=True).returncode == 0
    )
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", path], check=True)


async def test_a_full_disk_keeps_nothing_new_and_loses_nothing(tmp_path: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    with small_disk(tmp_path / "disk", 8 * MIB) as mounted:
        folder = tmp_path / "disk" / "edge"
        async with opened(folder, heard, 1000 * MIB) as tier:
            if not mounted:
                write, room = os.write, [8 * MIB]

                def limited(fd: int, content: bytes) -> int:
                    if room[0] <= 0:
                        raise OSError(28, "No space left on device")
                    room[0] -= len(content)
                    return write(fd, content)

                monkeypatch.setattr(os, "write", limited)
            kept = [number for number in range(20) if await tier.put(key(number), entry(bytes([number]) * MIB))]
            assert 5 <= len(kept) < 10
            for number in range(20):
                found = await tier.get(key(number))
                assert found == (entry(bytes([number]) * MIB) if number in kept else None)
            assert len(bodies(folder)) == len(kept)  # what did not fit left nothing
            for number in kept[:3]:
                await tier.drop(key(number))
            monkeypatch.undo()
            await until_kept(tier, key("new"), entry(bytes(MIB)))
    assert heard.corrupt == 0


@contextmanager
def unprivileged() -> Iterator[Path]:
    """A folder in which rights count, also where the tests run as root."""
    root = os.geteuid() == 0
    path = Path(tempfile.mkdtemp())
    try:
        if root:
            os.chown(path, 65534, 65534)
            os.seteuid(65534)
        yield path
    finally:
        if root:
            os.seteuid(0)
        for each in [path, *path.rglob("*")]:
            each.chmod(0o700)
        shutil.rmtree(path)


def chmod_all(top: Path, folders: int, files: int) -> None:
    for path in [top, *top.rglob("*")]:
        path.chmod(folders if path.is_dir() else files)


async def test_an_index_that_cannot_grow_loses_nothing(tmp_path: Path, heard: Heard) -> None:
    with small_disk(tmp_path / "disk", MIB) as mounted:
        folder = tmp_path / "disk" / "edge"
        async with opened(folder, heard) as tier:
            assert await tier.put(key("first"), entry(b"first"))
            before = shelf(folder)
            filler = folder.parent / "filler"
            with filler.open("wb", buffering=0) as file, suppress(OSError):
                while mounted:
                    file.write(bytes(4096))
            kept = set()
            for number in range(400):  # bodies of no bytes need no room, their rows do
                if mounted and number % 40 == 0:
                    os.truncate(filler, max(0, filler.stat().st_size - 8192))
                if await tier.put(key(number), entry(b"")):
                    kept.add(number)
            assert (len(kept) < 400) is mounted
            assert shelf(folder) == before
            assert await tier.get(key("first")) == entry(b"first")
            for number in kept:
                assert await tier.get(key(number)) == entry(b"")
            filler.unlink()
            await until_kept(tier, key("new"), entry(bytes(10_000)))
            assert len(bodies(folder)) == tier.entries == len(kept) + 2
    assert heard.corrupt == 0


async def test_what_cannot_be_written_can_be_read(heard: Heard) -> None:
    with unprivileged() as place:
        folder = place / "edge"
        async with opened(folder, heard, eviction="lru") as tier:
            await tier.put(key(1), entry())
            chmod_all(shelf(folder), 0o500, 0o400)
            assert not any(await asyncio.gather(*(tier.put(key(number), entry()) for number in range(10, 30))))  # from all threads
            for _ in range(30):
                assert not await tier.put(key(2), entry())
                assert await tier.get(key(1)) == entry()
            chmod_all(shelf(folder), 0o700, 0o600)
            await until_kept(tier, key(2), entry())
            await asyncio.gather(*(tier.put(key(number), entry()) for number in range(10, 30)))
            assert all(await asyncio.gather(*(tier.put(key(number), entry()) for number in range(30, 60))))  # each thread writes again
            for path in bodies(folder):
                path.chmod(0)
            assert await tier.get(key(1)) is None
            await tier.drop(key(59))
            chmod_all(shelf(folder), 0o700, 0o600)
            assert await tier.get(key(1)) == entry()  # what could not be read for a while was not thrown away
    assert heard.corrupt == 0


async def test_a_folder_that_cannot_be_made_is_an_empty_tier_until_it_can(heard: Heard) -> None:
    with unprivileged() as place:
        place.chmod(0o500)
        async with opened(place / "edge", heard) as tier:
            assert not await tier.put(key(1), entry())
            assert await tier.get(key(1)) is None
            await tier.renew(key(1), 5.0)
            await tier.clear()
            place.chmod(0o700)
            await until_kept(tier, key(1), entry())


# Processes.

NEIGHBOUR = """
import asyncio, os, random, sys, time
from pathlib import Path
from mediacdn.edge.disk import open_disk
from mediacdn.edge.entries import Entry, Key

def body(number):
    return random.Random(number).randbytes(1000 + number * 37 % 50_000)

async def main(folder, seed, seconds):
    chance = random.Random(seed)
    wrong = hits = puts = errors = 0
    async with open_disk(Path(folder), 3_000_000, "lru", lambda: "n") as tier:
        until = time.monotonic() + seconds
        async def one():
            nonlocal wrong, hits, puts
            while time.monotonic() < until:
                number = chance.randrange(150)
                key = Key(f"m{number}", "", 1, 0)
                found = await tier.get(key)
                if found is not None:
                    hits += 1
                    wrong += found.body != body(number)
                elif await tier.put(key, Entry(body(number), 5, 1.0, 2.0, 3.0)):
                    puts += 1
                if chance.random() < 0.05:
                    await tier.renew(key, time.time())
                if chance.random() < 0.05:
                    await tier.drop(key)
        await asyncio.gather(*(one() for _ in range(4)))
        print(wrong, hits, puts, tier.bytes)

asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
"""


async def neighbours(folder: Path, count: int, seconds: float) -> list[asyncio.subprocess.Process]:
    return [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-W",
            "error",
            "-c",
            NEIGHBOUR,
            str(folder),
            str(seed),
            str(seconds),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        for seed in range(count)
    ]


async def outcome(process: asyncio.subprocess.Process) -> tuple[int, ...]:
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert b"Traceback" not in err, err.decode()
    return tuple(map(int, out.split()[-4:]))


async def test_processes_share_it(folder: Path, heard: Heard) -> None:
    for wrong, hits, puts, held in await asyncio.gather(*(outcome(each) for each in await neighbours(folder, 4, 3.0))):
        assert wrong == 0
        assert hits > 100
        assert puts > 10
        assert held <= 3_000_000 + 8 * footprint(51_000)  # each writing thread may be one ahead
    async with opened(folder, heard, 3_000_000) as tier:
        with index(folder) as con:
            rows = {name for (name,) in con.execute("SELECT filename FROM Cache")}
        assert rows == {str(path.relative_to(shelf(folder))) for path in bodies(folder)}  # no row without its body, no body without its row
        assert tier.entries == len(rows)


async def test_processes_survive_what_is_done_to_the_folder(folder: Path) -> None:
    running = await neighbours(folder, 3, 6.0)
    chance = random.Random(6)
    end = time.monotonic() + 5.0
    while time.monotonic() < end:
        await asyncio.sleep(0.4)
        files = [Path(top, name) for top, _, names in os.walk(folder) for name in names if name != "lock"]
        for path in chance.sample(files, min(20, len(files))):
            try:
                match chance.randrange(3):
                    case 0:
                        os.truncate(path, chance.randrange(path.stat().st_size + 1))
                    case 1:
                        path.unlink()
                    case 2:
                        flip(path, chance.randrange(path.stat().st_size or 1))
            except (OSError, IndexError):
                continue
        if chance.random() < 0.3:
            shutil.rmtree(folder, ignore_errors=True)
    for wrong, hits, puts, _ in await asyncio.gather(*map(outcome, running)):
        assert wrong == 0
        assert hits > 10
        assert puts > 10


async def test_a_killed_process_leaves_the_others_and_the_next_nothing_wrong(folder: Path, heard: Heard) -> None:
    running = await neighbours(folder, 3, 4.0)
    await asyncio.sleep(1.5)
    running[0].kill()
    await running[0].communicate()
    for wrong, hits, _, _ in await asyncio.gather(*map(outcome, running[1:])):
        assert wrong == 0
        assert hits > 10
    async with opened(folder, heard, 3_000_000) as tier:
        assert tier.entries > 10
        await until_kept(tier, key(1), entry())
