"""The journey of a change: who sees it when it is told, and what the sweep heals: a crash, a lost message, other nodes, a pruned position, a lost table."""

import asyncio
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mediacdn import changes as changes_module
from mediacdn.catalog.card import CardCache
from mediacdn.catalog.database import Catalog, open_catalog
from mediacdn.changes import Changes
from mediacdn.config import Database
from mediacdn.edge.files import OpenFiles
from mediacdn.edge.stamps import NAME, Stamps
from mediacdn.errors import CatalogUnavailable
from mediacdn.lifecycle import Lifecycle
from mediacdn.model import Change, Event, Media, State
from mediacdn.testing import MemoryBus, MemoryStorage
from mediacdn.ulids import Ulids

pytestmark = pytest.mark.anyio

EVERY = 0.2


class Now:
    def now(self) -> datetime:
        return datetime.now(UTC)


class Process:
    """What one process of a node holds: the catalog, the node's table, its cards, and what its callbacks heard."""

    def __init__(self, catalog: Catalog, edge: Path, every: float = EVERY, bus: MemoryBus | None = None) -> None:
        self.catalog = catalog
        self.stamps = Stamps(edge)
        self.cards = CardCache(catalog.media.card, 1000, self.stamps)
        self.heard: list[str] = []
        self.emptied = 0
        self.changes = Changes(
            rows=catalog.changes, stamps=self.stamps, every=every, bus=bus, on_change=self._on_change, on_purge_all=self._on_purge_all
        )

    def _on_change(self, ids: Collection[str]) -> None:
        self.heard.extend(ids)

    def _on_purge_all(self) -> None:
        self.emptied += 1

    @asynccontextmanager
    async def following(self) -> AsyncIterator["Process"]:
        await self.changes.sweep()
        task = asyncio.create_task(self.changes.follow())
        try:
            yield self
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def knows(self, *medias: Media) -> None:
        for media in medias:
            assert await self.cards.get(media.id) is not None
            assert self.cards.peek(media.id) is not None


@pytest.fixture
async def open_again(database_url: str, sqlite_template: Path, tmp_path: Path) -> AsyncIterator[Callable[[], Any]]:
    """Open the test's one catalog, as often as there are processes."""
    data = tmp_path / "data"
    shutil.copytree(sqlite_template, data)
    async with AsyncExitStack() as stack:

        async def again() -> Catalog:
            return await stack.enter_async_context(open_catalog(Database(url=database_url, timeout=30), data, Now()))

        yield again


@pytest.fixture
async def catalog(open_again: Callable[[], Any]) -> Catalog:
    opened: Catalog = await open_again()
    return opened


@pytest.fixture
def edge(tmp_path: Path) -> Path:
    return tmp_path / "edge"


async def bring(catalog: Catalog, count: int = 1, **fields: Any) -> list[Media]:
    new, now, medias = Ulids(), datetime.now(UTC), []
    for _ in range(count):
        name = new()
        media = Media(
            id=name, owner="ada", size=1, digest=name.lower().rjust(64, "0"), storage_key=f"originals/{name}.bin", created_at=now, updated_at=now, **fields
        )  # fmt: skip
        await catalog.objects.intend(media.storage, media.storage_key)
        medias.append((await catalog.objects.commit(media, dedupe_key=None, quota=0, etag="e")).media)
    return medias


async def until(condition: Callable[[], object], seconds: float = 5.0) -> float:
    """Wait for it to come true; tells how long that took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "it did not come true"
        await asyncio.sleep(0.005)
    return time.monotonic() - began


# Told


async def test_told_is_true_in_every_process_of_the_node(catalog: Catalog, open_again: Callable[[], Any], edge: Path) -> None:
    here, there = Process(catalog, edge), Process(await open_again(), edge)
    one, other = await bring(catalog, 2)
    for process in (here, there):
        await process.knows(one, other)
    for number in range(20):
        _, told = await (catalog.media.release(one.id) if number % 2 else catalog.media.quarantine(one.id, scope="media", reason=None))
        await here.changes.told(told)
        for process in (here, there):
            assert process.cards.peek(one.id) is None
            card = await process.cards.get(one.id)
            assert card is not None
            assert card.state is (State.LIVE if number % 2 else State.QUARANTINED)
            assert process.cards.peek(other.id) is not None
    assert here.heard == [one.id] * 20, "this process's copies are forgotten at once"
    assert here.stamps.seen == 20, "and the sweep has nothing left to do"


async def test_nothing_told_is_nothing_done(catalog: Catalog, edge: Path) -> None:
    process = Process(catalog, edge)
    await process.changes.told([])
    assert (process.heard, process.emptied, process.stamps.seen) == ([], 0, 0)


async def test_told_out_of_order_leaves_the_gap_to_the_sweep(catalog: Catalog, edge: Path) -> None:
    process = Process(catalog, edge)
    one, other = await bring(catalog, 2)
    await process.knows(one, other)
    _, first = await catalog.media.revoke(one.id, 1)
    _, second = await catalog.media.revoke(other.id, 1)
    await process.changes.told(second)
    assert process.cards.peek(other.id) is None
    assert process.cards.peek(one.id) is not None, "nobody has told it yet"
    assert process.stamps.seen == 0
    await process.changes.sweep()
    assert process.cards.peek(one.id) is None
    assert process.stamps.seen == 2
    await process.changes.told(first)
    assert process.stamps.seen == 2


async def test_purge_all(catalog: Catalog, open_again: Callable[[], Any], edge: Path) -> None:
    here, there = Process(catalog, edge), Process(await open_again(), edge)
    [media] = await bring(catalog)
    for process in (here, there):
        await process.knows(media)
    await here.changes.told(await catalog.changes.purge_all())
    assert here.stamps.epoch == there.stamps.epoch == 1, "every key of an edge copy is another one now"
    assert [process.cards.peek(media.id) for process in (here, there)] == [None, None]
    assert here.emptied == 1
    async with there.following(), here.following():
        await until(lambda: there.emptied)
        await asyncio.sleep(EVERY)
    assert (here.emptied, there.emptied) == (1, 1), "once is enough"


QUARANTINE = """
    import asyncio, sys
    from datetime import UTC, datetime
    from pathlib import Path
    from mediacdn.catalog.database import open_catalog
    from mediacdn.changes import Changes
    from mediacdn.config import Database
    from mediacdn.edge.stamps import Stamps

    class Now:
        def now(self):
            return datetime.now(UTC)

    async def main(url, data, edge, how):
        async with open_catalog(Database(url=url, timeout=30), Path(data), Now()) as catalog:
            changes = Changes(rows=catalog.changes, stamps=Stamps(Path(edge)), every=1.0)
            for line in sys.stdin:
                _, told = await catalog.media.quarantine(line.strip(), scope="media", reason=None)
                if how == "crash":
                    print("committed", flush=True)
                    await asyncio.sleep(60)
                await changes.told(told)
                print("told", flush=True)

    asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
async def elsewhere(database_url: str, tmp_path: Path, edge: Path, catalog: Catalog) -> AsyncIterator[Callable[[str], Any]]:
    """Start a real process of the same node that quarantines the ids it is given, a line each."""
    started: list[asyncio.subprocess.Process] = []

    async def start(how: str = "well") -> asyncio.subprocess.Process:
        command = [sys.executable, "-c", textwrap.dedent(QUARANTINE), database_url, str(tmp_path / "data"), str(edge), how]
        started.append(await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        return started[-1]

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def said(process: asyncio.subprocess.Process, id: str) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{id}\n".encode())
    return (await asyncio.wait_for(process.stdout.readline(), 30)).decode().strip()


async def test_quarantine_in_another_process(catalog: Catalog, edge: Path, elsewhere: Callable[..., Any]) -> None:
    """Nothing runs here but the check on each hit, and still no card is true once the other process says so."""
    here = Process(catalog, edge)
    medias = await bring(catalog, 30)
    await here.knows(*medias)
    other = await elsewhere()
    for media in medias:
        assert here.cards.peek(media.id) is not None
        assert await said(other, media.id) == "told"
        assert here.cards.peek(media.id) is None
        card = await here.cards.get(media.id)
        assert card is not None
        assert card.state is State.QUARANTINED


async def test_killed_between_commit_and_bump(catalog: Catalog, edge: Path, elsewhere: Callable[..., Any]) -> None:
    here = Process(catalog, edge)
    [media] = await bring(catalog)
    async with here.following():
        await here.knows(media)
        other = await elsewhere("crash")
        assert await said(other, media.id) == "committed"
        other.send_signal(signal.SIGKILL)
        assert await other.wait() == -signal.SIGKILL
        assert await until(lambda: here.cards.peek(media.id) is None) < 3.0
        card = await here.cards.get(media.id)
        assert card is not None
        assert card.state is State.QUARANTINED
        await until(lambda: media.id in here.heard)


async def test_killed_before_anybody_sweeps(catalog: Catalog, edge: Path, elsewhere: Callable[..., Any]) -> None:
    """The retry of what was cut off finds the work done, and its acknowledgement is true all the same."""
    here = Process(catalog, edge)
    [media] = await bring(catalog)
    await here.knows(media)
    other = await elsewhere("crash")
    assert await said(other, media.id) == "committed"
    other.send_signal(signal.SIGKILL)
    await other.wait()
    assert here.cards.peek(media.id) is not None
    assert await said(await elsewhere(), media.id) == "told"
    assert here.cards.peek(media.id) is None


async def test_lifecycle_tells(catalog: Catalog, open_again: Callable[[], Any], edge: Path) -> None:
    """Whatever the journeys of a record's life change is true in the other process when they return; purges reach descendants and say whom."""
    here, there = Process(catalog, edge), Process(await open_again(), edge)
    events: list[Event] = []
    lifecycle = Lifecycle(
        catalog=catalog, told=here.changes.told, files=OpenFiles(4), storages={"default": MemoryStorage()}, clock=Now(), emit=events.append
    )
    [media] = await bring(catalog, tags=("t",))
    [thumb] = await bring(catalog, source_id=media.id)
    [over] = await bring(catalog, expires_at=datetime.now(UTC) - timedelta(seconds=1))

    async def tells(act: Any, *ids: str) -> Any:
        await there.knows(media, thumb, over)
        result = await act
        assert [each.id for each in (media, thumb, over) if there.cards.peek(each.id) is None] == list(ids)
        return result

    await tells(lifecycle.change(media.id, {"title": "t"}, dedupe_key=None, version=None), media.id)
    await tells(lifecycle.revoke(media.id), media.id, thumb.id)
    await tells(lifecycle.quarantine(media.id, scope="media", reason=None), media.id, thumb.id)
    await tells(lifecycle.release(media.id), media.id, thumb.id)
    assert await tells(lifecycle.purge(ids=[media.id], tags=["t"]), media.id, thumb.id) == 2
    assert await tells(lifecycle.purge(tags=["other"])) == 0
    assert await tells(lifecycle.retire(), over.id) == 1
    await tells(lifecycle.delete(thumb.id), thumb.id)
    await tells(lifecycle.delete(thumb.id), thumb.id)
    await tells(lifecycle.purge_all(), media.id, thumb.id, over.id)
    assert there.stamps.epoch == 1
    assert [(event.kind, event.media_id) for event in events if event.kind == "media.purged"] == [
        ("media.purged", media.id), ("media.purged", thumb.id),
    ]  # fmt: skip


# Swept


async def test_another_node_learns_by_its_sweep(catalog: Catalog, open_again: Callable[[], Any], tmp_path: Path) -> None:
    here, there = Process(catalog, tmp_path / "one"), Process(await open_again(), tmp_path / "two")
    medias = await bring(catalog, 5)
    async with there.following():
        await there.knows(*medias)
        for media in medias:
            _, told = await catalog.media.quarantine(media.id, scope="media", reason=None)
            await here.changes.told(told)
        await until(lambda: not any(there.cards.peek(media.id) for media in medias))
        await until(lambda: there.heard == [media.id for media in medias])
        assert there.emptied == 0
        await here.changes.told(await catalog.changes.purge_all())
        await until(lambda: there.stamps.epoch == 1 and there.emptied)


async def test_one_process_of_a_node_reads_the_catalog(catalog: Catalog, open_again: Callable[[], Any], edge: Path) -> None:
    processes = [Process(catalog, edge), Process(await open_again(), edge), Process(await open_again(), edge)]
    looks = 0
    for process in processes:
        rows = process.catalog.changes

        async def counted(ask: Callable[[], Any] = rows.position) -> Any:
            nonlocal looks
            looks += 1
            return await ask()

        rows.position = counted  # type: ignore[method-assign]
    [media] = await bring(catalog)
    async with AsyncExitStack() as stack:
        for process in processes:
            await stack.enter_async_context(process.following())
            await process.knows(media)
        looks, began = 0, time.monotonic()
        await asyncio.sleep(EVERY * 10)
        turns = (time.monotonic() - began) / EVERY
        assert 4 <= looks <= turns * 1.5, "about a look a turn, not three"
        await catalog.media.revoke(media.id, 1)
        await until(lambda: all(process.heard == [media.id] for process in processes))


async def test_a_dead_sweeper_is_replaced(catalog: Catalog, open_again: Callable[[], Any], edge: Path) -> None:
    [media] = await bring(catalog)
    async with Process(catalog, edge).following():
        await asyncio.sleep(EVERY * 2)
    async with Process(await open_again(), edge).following() as second:
        await second.knows(media)
        await catalog.media.revoke(media.id, 1)
        assert await until(lambda: second.cards.peek(media.id) is None) < 3.0


@pytest.mark.parametrize("how", ["pruned", "far behind"])
async def test_a_position_out_of_reach_is_everything_changed(
    catalog: Catalog, edge: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Process(catalog, edge)
    one, other = await bring(catalog, 2)
    await catalog.media.revoke(one.id, 1)
    async with process.following():
        pass
    await process.knows(one, other)
    for _ in range(6):
        await catalog.media.revoke(one.id, 1)
    if how == "pruned":
        assert await catalog.changes.prune(keep=2) == 5
    else:
        monkeypatch.setattr(changes_module, "FAR", 5)
    emptied = process.emptied
    async with process.following():
        await until(lambda: process.emptied > emptied)
        assert (process.cards.peek(one.id), process.cards.peek(other.id)) == (None, None)
        assert process.stamps.seen == 7


async def test_pruned_to_nothing(catalog: Catalog, edge: Path) -> None:
    process = Process(catalog, edge)
    [media] = await bring(catalog)
    await process.knows(media)
    await catalog.media.revoke(media.id, 1)
    await asyncio.sleep(0.01)
    assert await catalog.changes.prune(keep_for=timedelta(0)) == 1
    await process.changes.sweep()
    assert process.cards.peek(media.id) is None
    assert process.stamps.seen == 1


async def test_many_changes_are_read_in_pieces(catalog: Catalog, edge: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes_module, "AT_ONCE", 3)
    process = Process(catalog, edge)
    medias = await bring(catalog, 8)
    await process.knows(*medias)
    for media in medias:
        await catalog.media.revoke(media.id, 1)
    async with process.following():
        assert not any(process.cards.peek(media.id) for media in medias)
        await until(lambda: process.heard == [media.id for media in medias])
    assert process.emptied == 0


async def test_a_catalog_that_went_back_in_time(catalog: Catalog, open_again: Callable[[], Any], edge: Path) -> None:
    """As after a restored backup: what was kept belongs to another history."""
    here, there = Process(catalog, edge), Process(await open_again(), edge)
    [media] = await bring(catalog)
    here.stamps.set_epoch(3)
    here.stamps.advance(50)
    nonce = here.stamps.nonce
    async with there.following(), here.following():
        await until(lambda: here.emptied and there.emptied)
        assert here.stamps.nonce == there.stamps.nonce != nonce, "the disk tier empties itself"
        assert (here.stamps.epoch, here.stamps.seen) == (0, 0)
        await there.knows(media)
        _, told = await catalog.media.revoke(media.id, 1)
        await here.changes.told(told)
        assert there.cards.peek(media.id) is None
        await until(lambda: there.heard == [media.id])
        await here.changes.told(await catalog.changes.purge_all())
        assert there.stamps.epoch == 1


async def test_the_table_is_lost_while_running(catalog: Catalog, open_again: Callable[[], Any], edge: Path) -> None:
    here, there = Process(catalog, edge), Process(await open_again(), edge)
    medias = await bring(catalog, 20)
    async with here.following(), there.following():
        await here.changes.told(await catalog.changes.purge_all())
        for media in medias:
            for process in (here, there):
                card = await process.cards.get(media.id)
                assert card is not None
                assert card.state is State.LIVE
            (edge / NAME).unlink(missing_ok=True)
            _, told = await catalog.media.quarantine(media.id, scope="media", reason=None)
            await here.changes.told(told)
            for process in (here, there):
                card = process.cards.peek(media.id) or await process.cards.get(media.id)
                assert card is not None
                assert card.state is State.QUARANTINED
                assert process.stamps.epoch == 1
        await until(lambda: there.emptied)


async def test_an_outage_of_the_catalog(
    catalog: Catalog, open_again: Callable[[], Any], edge: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Kept cards are read on; it is told once that nobody listens, and once that it is over."""
    process = Process(await open_again(), edge, every=0.02)
    [media] = await bring(catalog)
    asked = 0
    position = process.catalog.changes.position

    async def out() -> Any:
        nonlocal asked
        asked += 1
        raise CatalogUnavailable()

    async with process.following():
        await process.knows(media)
        process.catalog.changes.position = out  # type: ignore[method-assign]
        await until(lambda: asked > 5)
        assert process.cards.peek(media.id) is not None
        await catalog.media.revoke(media.id, 1)
        process.catalog.changes.position = position  # type: ignore[method-assign]
        await until(lambda: process.cards.peek(media.id) is None)
        await until(lambda: process.heard)
    out_of = capsys.readouterr().out
    assert out_of.count("changes are not told") == 1
    assert out_of.count("changes are told again") == 1
    assert "Traceback" not in out_of


# The bus


@pytest.fixture
def bus() -> MemoryBus:
    return MemoryBus()


@asynccontextmanager
async def nodes(
    catalog: Catalog, open_again: Callable[[], Any], tmp_path: Path, bus: MemoryBus, every: float
) -> AsyncIterator[tuple[Process, Process]]:
    here = Process(catalog, tmp_path / "one", every, bus)
    there = Process(await open_again(), tmp_path / "two", every, bus.peer())
    async with here.following(), there.following():
        await until(lambda: len(bus._medium.listeners) == 2)
        yield here, there


@pytest.mark.parametrize("repeating", [False, True])
async def test_the_bus_is_quicker_than_the_sweep(
    catalog: Catalog, open_again: Callable[[], Any], tmp_path: Path, bus: MemoryBus, repeating: bool
) -> None:
    bus.repeating = repeating
    medias = await bring(catalog, 5)
    async with nodes(catalog, open_again, tmp_path, bus, every=60) as (here, there):
        await there.knows(*medias)
        for media in medias:
            _, told = await catalog.media.quarantine(media.id, scope="media", reason=None)
            await here.changes.told(told)
            await until(lambda media=media: there.cards.peek(media.id) is None)
        await until(lambda: there.heard == [media.id for media in medias])
        await here.changes.told(await catalog.changes.purge_all())
        await until(lambda: there.stamps.epoch == 1)
        await until(lambda: there.stamps.seen == here.stamps.seen == 6 and there.emptied)


@pytest.mark.parametrize("fault", ["losing", "down"])
async def test_a_lost_message_is_healed_by_the_sweep(
    catalog: Catalog, open_again: Callable[[], Any], tmp_path: Path, bus: MemoryBus, fault: str
) -> None:
    [media] = await bring(catalog)
    async with nodes(catalog, open_again, tmp_path, bus, every=EVERY) as (here, there):
        await there.knows(media)
        setattr(bus, fault, True)
        _, told = await catalog.media.quarantine(media.id, scope="media", reason=None)
        await here.changes.told(told)
        assert here.cards.peek(media.id) is None, "a bus that is down keeps nobody from being told here"
        assert await until(lambda: there.cards.peek(media.id) is None) < 3.0
        setattr(bus, fault, False)


async def test_a_hanging_bus_holds_nobody_up(catalog: Catalog, edge: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging(MemoryBus):
        async def publish(self, changes: Sequence[Change]) -> None:
            await asyncio.sleep(3600)

    monkeypatch.setattr(changes_module, "WAITING", 3)
    process = Process(catalog, edge, bus=Hanging())
    [media] = await bring(catalog)
    async with process.following():
        began = time.monotonic()
        for _ in range(20):
            await process.changes.told((await catalog.media.revoke(media.id, 1))[1])
        assert time.monotonic() - began < 2.0


async def test_a_stranger_on_the_bus_changes_nothing(
    catalog: Catalog, open_again: Callable[[], Any], tmp_path: Path, bus: MemoryBus
) -> None:
    """Another installation on the same channel: its numbers must not make us pass over our own."""
    [media] = await bring(catalog)
    async with nodes(catalog, open_again, tmp_path, bus, every=EVERY) as (here, there):
        await there.knows(media)
        await bus.peer().publish([Change(1, "someone's"), Change(2, None), Change(2**62, "someone's")])
        await asyncio.sleep(EVERY * 2)
        assert there.stamps.seen == 0
        assert there.cards.peek(media.id) is not None
        bus.losing = True
        await here.changes.told((await catalog.media.revoke(media.id, 1))[1])
        await until(lambda: there.cards.peek(media.id) is None)


async def test_a_bus_that_breaks_is_listened_to_again(
    catalog: Catalog, open_again: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(changes_module, "AGAIN_AFTER", 0.05)

    class Breaking(MemoryBus):
        times = 0

        async def listen(self) -> AsyncIterator[Sequence[Change]]:
            self.times += 1
            if self.times == 1:
                raise ConnectionError("broken")
            if self.times == 2:
                return
            async for changes in super().listen():
                yield changes

    near = MemoryBus()
    far = Breaking()
    far._medium = near._medium
    here = Process(catalog, tmp_path / "one", 60, near)
    there = Process(await open_again(), tmp_path / "two", 60, far)
    [media] = await bring(catalog)
    async with here.following(), there.following():
        await until(lambda: far.times == 3 and len(near._medium.listeners) == 2)
        await there.knows(media)
        await here.changes.told((await catalog.media.revoke(media.id, 1))[1])
        await until(lambda: there.cards.peek(media.id) is None)
    assert capsys.readouterr().out.count("changes are not told") == 1
