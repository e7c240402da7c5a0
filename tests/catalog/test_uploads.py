"""Uploads in the catalog, on both databases, and their staging: the fence holds whoever is slow, and what is told is what is there."""

import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from mediacdn.catalog.database import Catalog
from mediacdn.catalog.uploads import IN_FLIGHT, Ending, Step
from mediacdn.errors import NotFound, QuotaExceeded, TooManyRequests
from mediacdn.model import NewJob, ObjectInfo, Part, Piece, Status, Upload
from mediacdn.testing import FolderStorage
from mediacdn.uploads.files import Files
from mediacdn.uploads.parts import Parts

pytestmark = pytest.mark.anyio

ID = "01JAAAAAAAAAAAAAAAAAAAAAAA"
LATER = timedelta(days=1)


def upload(clock: Any, **fields: Any) -> Upload:
    given = {"id": ID, "secret": "s", "owner": "ada", "created_at": clock.now(), "expires_at": clock.now() + LATER}
    return Upload(**{**given, **fields})


async def begun(catalog: Catalog, clock: Any, **fields: Any) -> Upload:
    new = upload(clock, **fields)
    await catalog.uploads.create(new, most=10, quota=0)
    return new


async def taken(catalog: Catalog, received: int = 0) -> Upload:
    found = await catalog.uploads.take(ID, received)
    assert found is not None
    return found[1]


async def test_it_comes_back_as_it_went(catalog: Catalog, clock: Any) -> None:
    new = await begun(catalog, clock, size=100, intake={"title": "ü"}, told="x y", error=None)
    assert await catalog.uploads.get(ID) == new
    assert await catalog.uploads.get("01JBBBBBBBBBBBBBBBBBBBBBBB") is None


async def test_only_the_last_writer_counts(catalog: Catalog, clock: Any) -> None:
    await begun(catalog, clock, size=100)
    old, new = await taken(catalog), await taken(catalog)
    assert (old.fence, new.fence, new.held) == (1, 2, True)
    piece = Piece(1, 0, 10)
    assert not await catalog.uploads.advance(ID, old.fence, Step(received=10, pieces=[piece]), expires_at=clock.now() + LATER)
    assert await catalog.uploads.pieces(ID) == []
    assert await catalog.uploads.advance(
        ID, new.fence, Step(received=5, pieces=[Piece(2, 0, 5)], last=True), expires_at=clock.now() + LATER
    )
    assert await catalog.uploads.take(ID, 0) is None, "another offset takes nothing away"
    assert await catalog.uploads.pieces(ID) == [Piece(2, 0, 5)]
    before, after = await catalog.uploads.take(ID, 5) or (None, None)
    assert before is not None
    assert after is not None
    assert (before.held, after.held, after.next_number) == (False, True, 1 + IN_FLIGHT), "who let go leaves no number behind"
    again = await catalog.uploads.take(ID, 5)
    assert again is not None
    assert again[1].next_number == 1 + 2 * IN_FLIGHT, "who did not may still send parts of these numbers"


async def test_an_offset_never_goes_back(catalog: Catalog, clock: Any) -> None:
    await begun(catalog, clock)
    row = await taken(catalog)
    assert await catalog.uploads.advance(ID, row.fence, Step(received=10), expires_at=clock.now() + LATER)
    assert not await catalog.uploads.advance(ID, row.fence, Step(received=9), expires_at=clock.now() + LATER)


@pytest.mark.parametrize(("most", "quota", "error"), [(1, 0, TooManyRequests), (10, 50, QuotaExceeded)])
async def test_what_an_owner_may_have(catalog: Catalog, clock: Any, most: int, quota: int, error: type[Exception]) -> None:
    await begun(catalog, clock, id="01JBBBBBBBBBBBBBBBBBBBBBBB")
    with pytest.raises(error):
        await catalog.uploads.create(upload(clock, size=100), most=most, quota=quota)
    await catalog.uploads.create(upload(clock, owner="bob", size=40), most=most, quota=quota)


async def test_one_ends_it(catalog: Catalog, clock: Any) -> None:
    await begun(catalog, clock, size=0)
    row = await taken(catalog)
    assert await catalog.uploads.begin_ending(ID, 60) is None, "it is not complete"
    assert await catalog.uploads.advance(ID, row.fence, Step(received=0, complete=True, last=True), expires_at=clock.now() + LATER)
    assert await catalog.uploads.unended() == [ID]
    first = await catalog.uploads.begin_ending(ID, 60)
    assert first is not None
    assert await catalog.uploads.begin_ending(ID, 60) is None
    assert await catalog.uploads.unended() == []
    clock.pass_by(seconds=61)
    assert await catalog.uploads.unended() == [ID]
    second = await catalog.uploads.begin_ending(ID, 60)
    assert second is not None
    assert not await catalog.uploads.end(ID, fence=first.fence, media_id="m", created=True), "whose lease ran out says nothing any more"
    assert await catalog.uploads.end(ID, fence=second.fence, media_id="m", created=True)
    assert await catalog.uploads.leftovers() == [ID]
    await catalog.uploads.forget_staged(ID)
    assert await catalog.uploads.leftovers() == []
    clock.pass_by(days=2)
    assert await catalog.uploads.purge(clock.now()) == 1


async def test_what_expires(catalog: Catalog, clock: Any) -> None:
    await begun(catalog, clock)
    row = await taken(catalog)
    assert await catalog.uploads.expire() == []
    clock.pass_by(days=2)
    assert await catalog.uploads.take(ID, 0) is None
    assert await catalog.uploads.expire() == [ID]
    assert not await catalog.uploads.advance(ID, row.fence, Step(received=1), expires_at=clock.now() + LATER)


async def test_a_registered_media_gets_its_bytes_once(catalog: Catalog, clock: Any, media_like: Any) -> None:
    await begun(catalog, clock, size=100, role="direct")
    registered = media_like(status=Status.REGISTERED, digest="", size=0, storage_key="")
    job = NewJob(id="01JCCCCCCCCCCCCCCCCCCCCCCC", kind="promote", lane="imports", media_id=registered.id, fingerprint="p")
    assert await catalog.uploads.register(ID, registered, job, mark="e")
    assert not await catalog.uploads.register(ID, registered, job, mark="e")
    assert await catalog.media.usage("ada") == (0, 1)
    whole = replace(registered, status=Status.READY, digest="d" * 64, size=100, storage_key="originals/x.bin")
    await catalog.objects.intend(whole.storage, whole.storage_key)
    settled = await catalog.objects.commit(whole, dedupe_key="k", quota=0, etag="e", registered=True)
    assert settled.kind == "new"
    assert [each.media_id for each in settled.changes] == [registered.id]
    assert await catalog.media.usage("ada") == (100, 1)
    found = await catalog.media.get(registered.id)
    assert found is not None
    assert (found.status, found.size, found.version) == (Status.READY, 100, 2)
    assert await catalog.media.give_up(registered.id, "too late") == []


async def test_an_object_on_its_way_is_not_swept_while_its_upload_is_unfinished(catalog: Catalog, clock: Any) -> None:
    await begun(catalog, clock, storage="default", key="originals/a.bin")
    await catalog.objects.intend("default", "originals/a.bin")
    await catalog.objects.intend("default", "originals/a.bin")
    clock.pass_by(hours=1)
    assert await catalog.objects.leftovers(clock.now()) == []
    assert await catalog.uploads.drop(ID)
    assert await catalog.objects.leftovers(clock.now()) == [("default", "originals/a.bin")]


# Staging, with a writer that does not know that it lost.


async def whole(place: Files | Parts, row: Upload) -> bytes:
    staged = await place.whole(row, None)
    await staged.head()
    return b"".join([chunk async for chunk in staged.chunks()])


@pytest.fixture(params=["files", "parts"])
async def place(request: pytest.FixtureRequest, catalog: Catalog, tmp_path: Path) -> AsyncIterator[Files | Parts]:
    if request.param == "parts":
        yield Parts(catalog.uploads, catalog.objects, {"bucket": FolderStorage(tmp_path / "bucket", part_sizes=(1, 1 << 30, 1000))})
        return
    files = Files(tmp_path / "uploads", catalog.uploads, {})
    yield files
    files.close()


async def staged(place: Files | Parts, catalog: Catalog, row: Upload) -> Upload:
    """Say where the bytes of a new upload go."""
    if isinstance(place, Files):
        return row
    storage: Any = place._storages["bucket"]
    parts = await storage.begin_parts("originals/a.bin")
    assert await catalog.uploads.stage(ID, row.fence, storage="bucket", key="originals/a.bin", parts=parts, part_size=1000)
    assert (await catalog.uploads.parts_held("bucket"), await catalog.uploads.parts_held("other")) == ({parts}, set())
    return replace(row, storage="bucket", key="originals/a.bin", parts=parts, part_size=1000)


async def written(catalog: Catalog, clock: Any, row: Upload, pen: Any, content: bytes) -> None:
    """Write as a Writer does: what the pen asks to have told is told before any more."""
    for start in range(0, len(content), 500):
        if await pen.write(content[start : start + 500]):
            step = await pen.settle(last=False)
            assert step is not None
            assert await catalog.uploads.advance(ID, row.fence, step, expires_at=clock.now() + LATER)


async def ended(catalog: Catalog, clock: Any, row: Upload, pen: Any, **more: Any) -> bool:
    step = await pen.settle(last=True)
    assert step is not None
    told = await catalog.uploads.advance(ID, row.fence, replace(step, **more), expires_at=clock.now() + LATER)
    await pen.close(undo=not told)
    return told


async def received(catalog: Catalog) -> int:
    found = await catalog.uploads.get(ID)
    assert found is not None
    return found.received


@pytest.mark.parametrize("seed", range(3))
async def test_a_writer_that_was_taken_from_changes_nothing(place: Files | Parts, catalog: Catalog, clock: Any, seed: int) -> None:
    """Three writers, each stuck with bytes of its own when the next takes over; whatever they write after that, the last one's upload is whole."""
    body, wrong = os.urandom(12_000), b"\xff" * 10_000
    await begun(catalog, clock, size=len(body))
    row = await staged(place, catalog, await taken(catalog))
    stuck = []
    for number in range(3):
        at = row.received
        pen = await place.open(row, fresh=True)
        await written(catalog, clock, row, pen, body[at : at + (1500, 2600, 700)[(number + seed) % 3]])
        at = await received(catalog)
        full = await pen.write(wrong[:900])
        stuck.append((row, pen, full))
        row = await taken(catalog, at)
    half = row.received + (len(body) - row.received) // 2
    last = await place.open(row, fresh=True)
    await written(catalog, clock, row, last, body[row.received : half])
    for former, pen, full in stuck:
        if not full:
            await pen.write(wrong[:900])
        assert not await ended(catalog, clock, former, pen)
    assert await ended(catalog, clock, row, last)
    row = await taken(catalog, half)
    rest = await place.open(row, fresh=False)
    await written(catalog, clock, row, rest, body[half:])
    assert await ended(catalog, clock, row, rest, complete=True)
    found = await catalog.uploads.get(ID)
    assert found is not None
    assert found.received == len(body)
    if isinstance(place, Parts):
        storage: Any = place._storages["bucket"]
        late = await storage.put_part(found.key, found.parts, found.next_number, _once(wrong[:500]), size=500)
        assert Part(found.next_number, late, 500) in await storage.list_parts(found.key, found.parts)
    assert await whole(place, found) == body


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


class Adopting(FolderStorage):
    """A storage that takes a file as it is."""

    async def adopt(self, key: str, path: str) -> ObjectInfo | None:
        target = self._file(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.rename(path, target)
        except FileNotFoundError:
            raise NotFound("There is no such file") from None
        return await self.head(key)


async def test_an_ending_that_was_cut_off_between_the_object_and_its_record_is_done_again(
    catalog: Catalog, clock: Any, tmp_path: Path
) -> None:
    storage, body, key = Adopting(tmp_path / "default"), os.urandom(12_000), "originals/a.bin"
    files = Files(tmp_path / "uploads", catalog.uploads, {"default": storage})
    try:
        await begun(catalog, clock, size=len(body))
        row = await taken(catalog)
        pen = await files.open(row, fresh=True)
        await written(catalog, clock, row, pen, body)
        assert await ended(catalog, clock, row, pen, complete=True)
        for _ in range(3):  # each dies where the next begins
            held = await catalog.uploads.begin_ending(ID, 1.0)
            assert held is not None
            whole_file = await files.whole(held, None)
            assert await whole_file.head() == body[: len(await whole_file.head())]
            await catalog.objects.intend("default", key, Ending(ID, held.fence, claims=True))
            info = await whole_file.become("default", key)
            assert info is not None
            assert info.size == len(body)
            clock.pass_by(seconds=2)
        async with storage.open(key) as chunks:
            assert b"".join([chunk async for chunk in chunks]) == body
    finally:
        files.close()
