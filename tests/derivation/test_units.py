"""Steps that divide: units are jobs that anybody does, what is there is read while it grows, and failure, cancellation and retries are of the whole."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from shutil import copytree
from typing import Any

import pytest

from mediacdn.catalog.database import Catalog, open_catalog
from mediacdn.catalog.leases import Held
from mediacdn.catalog.packages import UNIT
from mediacdn.config import Database, Jobs
from mediacdn.derivation.recipes import RecipeWork
from mediacdn.errors import StorageUnavailable, Undecodable
from mediacdn.interfaces import Sink, Source, UnitMade
from mediacdn.jobs.runner import Runner
from mediacdn.lifecycle import Lifecycle
from mediacdn.model import Argument, Job, JobState, Made, MadeFile, Media, NewJob, Recipe, Status, Step, Unit
from mediacdn.recipes.planning import KIND
from mediacdn.recipes.registry import Registry
from tests.derivation.test_steps import Bench, Now

pytestmark = pytest.mark.anyio
WORDS = ("all", "words", "of", "it")
RECIPE = Recipe(
    code="spell",
    arguments=(Argument(name="louder", type="boolean", default=False),),
    steps=(Step(name="spell", action="speller", spec={"louder": "${louder}"}, relationship="hls"),),
    accepts=("text/*",),
)


class Speller:
    """Makes a file of each word, the last one after the first, and a manifest that names them."""

    arguments = (Argument(name="louder", type="boolean", default=False),)
    accepts = ("text/*",)

    def __init__(self) -> None:
        self.made: list[str] = []
        self.fail: dict[str, list[Exception]] = {}
        self.meanwhile: Any = None

    async def run(self, source: Source, spec: Mapping[str, Any], sink: Sink) -> Made:
        raise AssertionError("it is divided")

    async def units(self, source: Source, spec: Mapping[str, Any]) -> Sequence[Unit]:
        return [
            Unit(name=word, spec={"word": word}, after=(WORDS[0],) if word == WORDS[-1] else (), priority=-1 - number)
            for number, word in enumerate(WORDS)
        ]

    async def make(self, source: Source, spec: Mapping[str, Any], unit: Unit, made: Mapping[str, UnitMade], sink: Sink) -> Made:
        word = str(unit.spec["word"])
        if self.meanwhile is not None:
            await self.meanwhile(word)
        if self.fail.get(word):
            raise self.fail[word].pop(0)
        async with source.file() as file:
            assert os.pread(file, 100, 0).startswith(b"text")
        before = ""
        for each in unit.after:
            async with made[each].file(f"segments/{each}") as file:
                before += os.read(file, 100).decode()
        self.made.append(word)
        await _write(sink, word, before + word.upper())
        os.write(sink.file(), word.encode())
        return Made(media_type="text/plain", facts={"word": word}, files=(MadeFile(word, f"segments/{word}", "text/plain"),))

    async def join(self, source: Source, spec: Mapping[str, Any], made: Mapping[str, UnitMade], sink: Sink, *, whole: bool) -> Made | None:
        there = [word for word in WORDS if word in made]
        if not there or there[0] != WORDS[0]:
            return None
        manifest = "/".join(made[word].facts["word"] for word in there) + (("!" if spec["louder"] else ".") if whole else "…")
        await _write(sink, "manifest", manifest)
        os.write(sink.file(), manifest.encode())
        files = [MadeFile(f"segments/{word}", f"segments/{word}", "text/plain", word) for word in there]
        manifest_of = MadeFile("manifest", "master.m3u8", "application/vnd.apple.mpegurl")
        return Made(media_type="text/plain", files=(*files, manifest_of), manifest="master.m3u8")


async def _write(sink: Sink, name: str, text: str) -> None:
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=await sink.folder())
    os.write(descriptor, text.encode())
    os.close(descriptor)


class Shop(Bench):
    """The bench with a speller, and workers."""

    def __init__(self, catalog: Catalog, folder: Path) -> None:
        super().__init__(catalog, folder)
        self.speller = Speller()
        self.actions["speller"] = self.speller  # type: ignore[assignment]
        self.registry = Registry(self.actions, brought=[("test", RECIPE)], storages=self.storages)
        self.work = RecipeWork(catalog, self.registry, self.maker, Now(), self.new_id)
        self.settings = Jobs(lease=60, backoff_base=0.001, backoff_max=0.002)

    def worker(self) -> Runner:
        return Runner(self.catalog.leases, {KIND: self.work, UNIT: self.work.unit}, self.hear, self.settings)

    async def asked(self, body: bytes = b"text") -> tuple[Media, Job]:
        media = await self.media(body)
        new = NewJob(
            id=self.new_id(), kind=KIND, lane="video", media_id=media.id, code="spell@1", fingerprint=f"f{media.id}", required=True, max_attempts=3
        )  # fmt: skip
        job, _, _ = await self.catalog.jobs.ask(new)
        return media, job

    async def due(self) -> list[str]:
        return await self.catalog.leases.due("video", 20)

    async def worked(self, runner: Runner | None = None) -> None:
        """Do what is due until nothing is."""
        runner = runner or self.worker()
        while due := await self.due():
            await runner.run(due[0])

    async def job(self, id: str) -> Job:
        found = await self.catalog.jobs.get(id)
        assert found is not None
        return found

    async def read(self, media: Media, path: str = "master.m3u8") -> str | None:
        found = await self.catalog.packages.find(media.id, "hls", path)
        return None if found is None else b"".join([each async for each in _all(self, found.storage, found.file.key)]).decode()

    async def status(self, media: Media) -> tuple[Status, str | None]:
        found = await self.catalog.media.get(media.id)
        assert found is not None
        return found.status, found.error_message


async def _all(shop: Shop, storage: str, key: str) -> AsyncIterator[bytes]:
    async with shop.storages[storage].open(key) as chunks:
        async for each in chunks:
            yield each


@pytest.fixture
async def shop(database_url: str, sqlite_template: Path, tmp_path: Path) -> AsyncIterator[Shop]:
    data = tmp_path / "data"
    copytree(sqlite_template, data)
    async with open_catalog(Database(url=database_url, timeout=30), data, Now()) as catalog:
        yield Shop(catalog, tmp_path)


async def test_it_grows_until_it_is_whole(shop: Shop) -> None:
    media, job = await shop.asked()
    runner, seen = shop.worker(), []
    alone = await shop.catalog.media.usage(media.owner)
    while due := await shop.due():
        await runner.run(due[0])
        status, _ = await shop.status(media)
        found = await shop.catalog.packages.find(media.id, "hls", "master.m3u8")
        seen.append((await shop.read(media), status.value, found.growing if found else None))
    assert seen == [
        (None, "PROCESSING", None), ("all…", "PROCESSING", True), ("all/words…", "PROCESSING", True), ("all/words/of…", "PROCESSING", True),
        ("all/words/of/it.", "READY", False),
    ]  # fmt: skip
    assert [await shop.read(media, f"segments/{word}") for word in WORDS] == ["ALL", "WORDS", "OF", "ALLIT"]
    ended = await shop.job(job.id)
    assert (ended.state, ended.attempts, ended.progress, ended.steps[0].state) == (JobState.COMPLETED, 1, 1.0, JobState.COMPLETED)
    assert [each.kind for each in await shop.catalog.jobs.of_media(media.id)] == [KIND], "units leave no rows"
    assert len(await shop.catalog.packages.replaced(datetime.now(UTC))) == 5, "four units, and what grew"
    lifecycle = _lifecycle(shop)
    await lifecycle.supersede(timedelta(0))
    made = await shop.catalog.packages.output(media.id, "hls")
    assert made is not None
    files = sum(each.size for each in await shop.catalog.packages.files(made.id))
    assert await shop.catalog.media.usage(media.owner) == (alone[0] + made.size + files, alone[1] + 1), (
        "nothing is left of what grew, nor of units"
    )
    await lifecycle.delete(media.id)
    assert await shop.catalog.packages.find(media.id, "hls", "master.m3u8") is None
    assert [key async for key in _keys(shop)] == [], "nothing is left behind"


def _lifecycle(shop: Shop) -> Lifecycle:
    from mediacdn.edge.files import OpenFiles

    return Lifecycle(
        catalog=shop.catalog, told=shop.hear, files=OpenFiles(1), storages=shop.storages, clock=Now(), emit=shop.events.append
    )  # fmt: skip


async def _keys(shop: Shop) -> AsyncIterator[str]:
    for storage in shop.storages.values():
        async for each in storage.list():
            yield each.key


@pytest.mark.parametrize("seed", range(2))
async def test_many_workers_make_each_unit_once(shop: Shop, seed: int) -> None:
    """Whatever the order in which they find, end and publish things, no wake-up is lost."""
    chance = Random(seed)

    async def slowly(word: str) -> None:
        await asyncio.sleep(chance.uniform(0, 0.02))

    shop.speller.meanwhile = slowly
    asked = [await shop.asked(f"text {number}".encode()) for number in range(3)]

    async def worker() -> None:
        runner, idle = shop.worker(), 0
        while idle < 20:
            due = await shop.due()
            idle = 0 if due else idle + 1
            if due:
                await runner.run(chance.choice(due))
            await asyncio.sleep(chance.uniform(0, 0.01))

    await asyncio.gather(*(worker() for _ in range(4)))
    assert [await shop.status(media) for media, _ in asked] == [(Status.READY, None)] * 3
    assert sorted(shop.speller.made) == sorted(WORDS * 3)
    assert [await shop.read(media) for media, _ in asked] == ["all/words/of/it."] * 3


async def test_what_is_far_away_is_fetched_once(shop: Shop) -> None:
    reads: list[str] = []
    storage = shop.storages["default"]
    opened = storage.open

    def counted(key: str, *more: Any) -> Any:
        reads.append(key)
        return opened(key, *more)

    storage.open = counted  # type: ignore[method-assign]
    for number in range(2):
        media, _ = await shop.asked(f"text {number}".encode())
        await shop.worked()
        assert reads.count(media.storage_key) == 1


async def test_a_unit_that_fails_for_good_takes_all_with_it(shop: Shop) -> None:
    media, job = await shop.asked()
    shop.speller.fail = {"words": [Undecodable("That is no word")]}
    await shop.worked()
    ended = await shop.job(job.id)
    assert (ended.state, ended.error_code, ended.error_message) == (JobState.FAILED, "undecodable", "That is no word")
    assert ended.steps[0].error_message == "That is no word"
    assert await shop.status(media) == (Status.FAILED, "That is no word")
    assert await shop.read(media) is None, "what was shown is withdrawn"
    record = await shop.catalog.media.get(media.id)
    assert record is not None
    assert record.manifest is None
    assert {each.state for each in await shop.catalog.jobs.of_media(media.id)} <= {JobState.FAILED, JobState.CANCELLED}
    made = len(shop.speller.made)
    await shop.catalog.jobs.retry(job.id)
    await shop.worked()
    assert (await shop.status(media), await shop.read(media)) == ((Status.READY, None), "all/words/of/it.")
    assert len(shop.speller.made) == len(WORDS) >= made, "what had been made is not made again"


async def test_a_unit_is_tried_again(shop: Shop) -> None:
    media, _ = await shop.asked()
    shop.speller.fail = {"of": [StorageUnavailable(), RuntimeError("odd")]}
    for _ in range(50):
        await shop.worked()
        if (await shop.status(media))[0] is Status.READY:
            break
        await asyncio.sleep(0.005)
    assert await shop.read(media) == "all/words/of/it."


async def test_cancelled_its_units_are_cancelled(shop: Shop) -> None:
    media, job = await shop.asked()
    runner = shop.worker()
    for _ in range(2):
        await runner.run((await shop.due())[0])
    await shop.catalog.jobs.cancel(job.id)
    assert await shop.due() == []
    assert {each.state for each in await shop.catalog.jobs.of_media(media.id)} == {JobState.CANCELLED}
    assert await shop.read(media) is not None
    await _lifecycle(shop).supersede(timedelta(days=1))
    assert await shop.read(media) is None, "what grew will not be whole"
    record = await shop.catalog.media.get(media.id)
    assert record is not None
    assert record.manifest is None
    await shop.catalog.jobs.retry(job.id)
    await shop.worked()
    assert await shop.read(media) == "all/words/of/it."
    assert sorted(shop.speller.made) == sorted(WORDS)


async def test_units_that_nobody_asks_for_any_more_are_deleted(shop: Shop) -> None:
    media, job = await shop.asked()
    runner = shop.worker()
    for _ in range(3):
        await runner.run((await shop.due())[0])
    lifecycle = _lifecycle(shop)
    assert await lifecycle.supersede(timedelta(0)) == 0, "they are being made"
    await shop.catalog.jobs.cancel(job.id)
    await asyncio.sleep(0.01)
    assert await lifecycle.supersede(timedelta(0)) >= 2
    assert [key async for key in _keys(shop)] == [media.storage_key]


async def test_who_died_loses_one_unit(shop: Shop) -> None:
    """A worker is gone with a lease of the whole, or of a unit: it runs out, and what was made is found."""
    media, job = await shop.asked()
    shop.settings = Jobs(lease=1, backoff_base=0.001, backoff_max=0.002)
    for _ in range(4):
        due = await shop.due()
        if due:
            held, _ = await shop.catalog.leases.lease(due[0], -1)
            assert held is not None
            await shop.catalog.leases.reclaim(0)
            assert not await shop.catalog.leases.note(Held(held.id, held.fence), [], 0.5), "what it still writes meets the fence"
            runner = shop.worker()
            due = await shop.due()
            await runner.run(due[0])
    await shop.worked()
    assert (await shop.status(media), await shop.read(media)) == ((Status.READY, None), "all/words/of/it.")
    assert sorted(shop.speller.made) == sorted(WORDS)
    assert (await shop.job(job.id)).state is JobState.COMPLETED


async def test_what_plays_is_never_put_back(shop: Shop) -> None:
    """Made anew, it is published at once: nothing grows in the place of what is whole."""
    media, job = await shop.asked()
    await shop.worked()
    assert await shop.catalog.packages.serves(media.id, "hls")
    anew, _, _ = await shop.catalog.jobs.ask(
        NewJob(id=shop.new_id(), kind=KIND, lane="video", media_id=media.id, code="spell@1", arguments={"louder": True}, fingerprint="anew")
    )
    runner, seen = shop.worker(), set()
    while due := await shop.due():
        await runner.run(due[0])
        seen.add(await shop.read(media))
    assert seen == {"all/words/of/it.", "all/words/of/it!"}
    assert len(shop.speller.made) == 2 * len(WORDS)
    assert [(await shop.job(each.id)).state for each in (job, anew)] == [JobState.COMPLETED] * 2


async def test_the_media_goes_meanwhile(shop: Shop) -> None:
    media, job = await shop.asked()
    runner = shop.worker()
    for _ in range(2):
        await runner.run((await shop.due())[0])
    await _lifecycle(shop).delete(media.id)
    await shop.worked()
    assert (await shop.job(job.id)).state is JobState.FAILED
    assert [key async for key in _keys(shop)] == []
