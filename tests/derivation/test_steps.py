"""Recipes at work: outputs kept once, steps found done, sources that go meanwhile, leases that are lost, and variants that many ask for at once."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from msgspec.structs import replace

from mediacdn.catalog.database import Catalog, open_catalog
from mediacdn.catalog.leases import Held, LeaseLost
from mediacdn.config import Database, Variants
from mediacdn.derivation.files import Scratch
from mediacdn.derivation.maker import Maker
from mediacdn.derivation.outputs import Outputs
from mediacdn.derivation.recipes import RecipeWork
from mediacdn.derivation.variants import Variants as Forms
from mediacdn.errors import Gone, InvalidArgument, NotFound, Quarantined, StorageUnavailable, Undecodable, UnsupportedType
from mediacdn.intents import Intents
from mediacdn.interfaces import Sink, Source
from mediacdn.jobs.runner import Running
from mediacdn.model import Argument, Change, Event, Job, JobState, Made, MadeFile, Media, NewJob, Recipe, Step, StepRun
from mediacdn.recipes.planning import KIND
from mediacdn.recipes.registry import Registry, SettledStep
from mediacdn.storage.placement import Routing
from mediacdn.testing import MemoryStorage
from mediacdn.ulids import Ulids

pytestmark = pytest.mark.anyio

TEXT = b"hello, derivatives"


class Now:
    def now(self) -> datetime:
        return datetime.now(UTC)


class Louder:
    """Writes its input in capitals, `times` over."""

    arguments = (Argument(name="times", type="integer", default=1, min=1, max=9), Argument(name="format", allowed=("jpeg", "webp", "png")))
    accepts = ("text/*",)

    def __init__(self) -> None:
        self.runs = 0
        self.fail: list[Exception] = []
        self.meanwhile: Any = None

    async def run(self, source: Source, spec: Mapping[str, Any], sink: Sink) -> Made:
        self.runs += 1
        async with source.file() as file:
            body = os.pread(file, 1 << 20, 0)
        if self.fail:
            raise self.fail.pop(0)
        os.write(sink.file(), body.upper() * spec["times"])
        await sink.progress(0.5)
        if self.meanwhile is not None:
            await self.meanwhile()
        return Made(media_type="text/plain", width=3, tools={"louder": "1"}, facts={"loud": True})


class Counted:
    """Tells how long its input is, and writes nothing."""

    arguments = ()
    accepts = ("*/*",)

    def __init__(self) -> None:
        self.runs = 0

    async def run(self, source: Source, spec: Mapping[str, Any], sink: Sink) -> Made:
        self.runs += 1
        return Made(width=source.media.size, height=1, facts={"counted": True})


RECIPES = [
    Recipe(code="shout", steps=(Step(name="one", action="louder", spec={"times": 2}, relationship="loud"),), accepts=("text/*",)),
    Recipe(
        code="chain",
        arguments=(Argument(name="times", type="integer", default=3),),
        steps=(
            Step(name="first", action="louder", relationship="once"),
            Step(name="second", action="louder", spec={"times": "${times}"}, relationship="again:${times}", saves_to="other"),
            Step(name="count", action="counted"),
        ),
        accepts=("text/*",),
    ),
    Recipe(
        code="careless",
        steps=(
            Step(name="first", action="louder", relationship="once", continue_on_error=True),
            Step(name="second", action="counted"),
        ),
    ),
]


class Bench:
    """A catalog, two storages and everything that derives."""

    def __init__(self, catalog: Catalog, folder: Path) -> None:
        self.catalog = catalog
        self.storages = {"default": MemoryStorage(), "other": MemoryStorage()}
        self.louder, self.counted = Louder(), Counted()
        self.actions = {"louder": self.louder, "counted": self.counted, "image": self.louder}
        self.events: list[Event] = []
        self.told: list[Change] = []
        self.digests: dict[str, str] = {}
        self.registry = Registry(self.actions, brought=[("test", each) for each in RECIPES], storages=self.storages)
        self.new_id = Ulids()
        self.maker = Maker(
            catalog=catalog,
            storages=self.storages,
            intents=Intents(catalog.objects, self.storages),
            routing=Routing(),
            actions=self.actions,
            scratch=Scratch(folder / "scratch"),
            remember=self.digests.__setitem__,
            clock=Now(),
            new_id=self.new_id,
            emit=self.events.append,
            told=self.hear,
        )
        self.work = RecipeWork(catalog, self.registry, self.maker, Now(), Ulids())

    async def hear(self, changes: Sequence[Change]) -> None:
        self.told.extend(changes)

    async def media(self, body: bytes = TEXT, **fields: Any) -> Media:
        name, now = self.new_id(), datetime.now(UTC)
        given = {
            "owner": "ada", "media_type": "text/plain", "size": len(body), "digest": hashlib.sha256(body).hexdigest(),
            "storage_key": f"originals/{name}.txt", "created_at": now, "updated_at": now,
        }  # fmt: skip
        media = Media(**{"id": name, **given, **fields})
        await self.catalog.objects.intend(media.storage, media.storage_key)

        async def chunks() -> AsyncIterator[bytes]:
            yield body

        await self.storages[media.storage].put(media.storage_key, chunks())
        return (await self.catalog.objects.commit(media, dedupe_key=None, quota=0, etag="e")).media

    async def job(self, media: Media, code: str, **arguments: Any) -> Job:
        settled = self.registry.settle(self.registry.find(code), arguments)
        job, _, _ = await self.catalog.jobs.ask(
            NewJob(
                id=self.new_id(),
                kind=KIND,
                lane="images",
                media_id=media.id,
                code=settled.name,
                arguments=settled.arguments,
                fingerprint=settled.fingerprint(media.id),
            )
        )
        return job

    async def attempt(self, job: Job) -> Running:
        leased, _ = await self.catalog.leases.lease(job.id, 60)
        assert leased is not None
        running = Running(leased, self.catalog.leases)
        await self.work(running)
        return running

    async def run(self, media: Media, code: str, **arguments: Any) -> list[StepRun]:
        running = await self.attempt(await self.job(media, code, **arguments))
        await self.catalog.leases.complete(running.held, running.steps)
        return running.steps

    async def output(self, step: StepRun) -> Media:
        assert step.output is not None
        found = await self.catalog.media.get(step.output)
        assert found is not None
        return found

    def keys(self) -> list[str]:
        return sorted(key for storage in self.storages.values() for key in storage._objects if not key.startswith("originals/"))


@pytest.fixture
async def bench(database_url: str, sqlite_template: Path, tmp_path: Path) -> AsyncIterator[Bench]:
    data = tmp_path / "data"
    copytree(sqlite_template, data)
    async with open_catalog(Database(url=database_url, timeout=30), data, Now()) as opened:
        yield Bench(opened, tmp_path)


async def body_of(bench: Bench, media: Media) -> bytes:
    async with bench.storages[media.storage].open(media.storage_key) as chunks:
        return b"".join([chunk async for chunk in chunks])


class Many:
    """Makes what `files` say, in the folder, and as many names of it as there are."""

    arguments = ()
    accepts = ("text/*",)

    def __init__(self) -> None:
        self.files = {"a.m4s": b"A", "b.m4s": b"B", "m.m3u8": b"M"}
        self.link = False
        self.paths: dict[str, str] = {}
        self.meanwhile: Any = None

    async def run(self, source: Source, spec: Mapping[str, Any], sink: Sink) -> Made:
        folder = await sink.folder()
        assert await sink.folder() == folder
        for name, content in self.files.items():
            file = os.open(name, os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=folder)
            os.write(file, content)
            os.close(file)
        if self.link:
            os.unlink("a.m4s", dir_fd=folder)
            os.symlink("/etc/passwd", "a.m4s", dir_fd=folder)
        os.write(sink.file(), b"M")
        if self.meanwhile is not None:
            await self.meanwhile()
        files = tuple(MadeFile(name, self.paths.get(name, name), "video/mp4") for name in self.files)
        return Made(media_type="application/vnd.apple.mpegurl", files=files, manifest=self.paths.get("m.m3u8", "m.m3u8"))


async def test_many_files_are_published_together(bench: Bench) -> None:
    many = Many()
    bench.actions["many"] = many
    source = await bench.media()
    step = SettledStep(name="many", action="many", spec={}, relationship="hls")
    _, made = await bench.maker.run(source, step)
    assert made is not None
    assert made.media_type == "application/vnd.apple.mpegurl"
    outputs = Outputs(bench.catalog)
    form = await outputs.form(source.card, "/hls/b.m4s")
    assert (form.card.key, form.card.size, form.derived, form.card.id) == (f"hls/{source.id}/{made.id}/b.m4s", 1, made.id, source.id)
    assert outputs.peek(source.card, "/hls/b.m4s") is None, "it is of that card, and no other"
    assert (await bench.catalog.media.get(source.id)).manifest == "hls/m.m3u8"  # type: ignore[union-attr]
    assert source.id in [change.media_id for change in bench.told]
    with pytest.raises(NotFound):
        await outputs.form(source.card, "/hls/c.m4s")
    for wrong in ("/hls", "/hls/", "/hls/../b.m4s", "/hls//b.m4s", "/other/b.m4s", "/hls/.b"):
        with pytest.raises(NotFound):
            await outputs.form(source.card, wrong)
    assert list(bench.maker._scratch._folder.iterdir()) == []


@pytest.mark.parametrize("wrong", ["../x", "/x", "a/../b", "", ".x", "x" * 300, "ä", "b.m4s"])
async def test_a_path_that_cannot_be_is_not_published(bench: Bench, wrong: str) -> None:
    many = bench.actions["many"] = Many()  # type: ignore[assignment]
    many.paths = {"a.m4s": wrong}
    with pytest.raises(ValueError):
        await bench.maker.run(await bench.media(), SettledStep(name="many", action="many", spec={}, relationship="hls"))
    assert bench.keys() == []


async def test_a_link_in_the_folder_leads_nowhere(bench: Bench) -> None:
    many = bench.actions["many"] = Many()  # type: ignore[assignment]
    many.link = True
    with pytest.raises(OSError):
        await bench.maker.run(await bench.media(), SettledStep(name="many", action="many", spec={}, relationship="hls"))
    left = await bench.catalog.objects.leftovers(datetime.now(UTC))
    assert len(left) == 3, "what was intended is swept"


async def test_many_files_of_a_source_that_goes_are_not_published(bench: Bench) -> None:
    many = bench.actions["many"] = Many()  # type: ignore[assignment]
    source = await bench.media()

    async def delete() -> None:
        await bench.catalog.media.delete(source.id)

    many.meanwhile = delete
    with pytest.raises(Gone):
        await bench.maker.run(source, SettledStep(name="many", action="many", spec={}, relationship="hls"))
    left = {key for _, key in await bench.catalog.objects.leftovers(datetime.now(UTC))}
    assert {key.rpartition("/")[2] for key in left if key.startswith("hls/")} == {"a.m4s", "b.m4s", "m.m3u8"}


async def test_folders_of_the_dead_are_cleared(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path)
    dead = tmp_path / "dead"
    (dead / "below").mkdir(parents=True)
    async with scratch.folder() as held:
        assert not dead.exists()
        async with scratch.folder():
            assert os.listdir(held) == []
            assert len(os.listdir(tmp_path)) == 2, "who lives keeps its own"
    assert os.listdir(tmp_path) == []


async def test_a_step_makes_a_media(bench: Bench) -> None:
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    source = await bench.media(public=True, expires_at=until)
    [step] = await bench.run(source, "shout")
    assert (step.state, step.input, step.tools, step.error_code) == (JobState.COMPLETED, source.digest, {"louder": "1"}, None)
    made = await bench.output(step)
    assert await body_of(bench, made) == TEXT.upper() * 2
    assert (made.source_id, made.relationship, made.owner, made.public, made.expires_at) == (source.id, "loud", "ada", True, until)
    assert (made.size, made.digest, made.media_type, made.width) == (36, hashlib.sha256(TEXT.upper() * 2).hexdigest(), "text/plain", 3)
    assert (made.facts, made.storage_key) == ({"loud": True}, f"derivatives/{made.id}.txt")
    assert [(event.kind, event.media_id) for event in bench.events] == [("media.derived", made.id)]
    assert bench.digests[source.storage_key] == source.digest, "what is read whole is verified"
    assert list((bench.maker._scratch._folder).iterdir()) == []


async def test_a_file_that_nobody_saw_serves_the_next_one(bench: Bench) -> None:
    scratch, opened = bench.maker._scratch, []
    real = scratch._open
    scratch._open = lambda: opened.append(real()) or opened[-1]  # type: ignore[method-assign,func-returns-value]
    source = await bench.media()
    look, write = SettledStep(name="look", action="counted", spec={}), SettledStep(name="one", action="louder", spec={"times": 1})
    for _ in range(3):
        assert (await bench.maker.run(source, look))[1] is None
    assert len(opened) == 1
    first = (await bench.maker.run(source, write))[1]
    assert len(opened) == 2, "for the copy of its source"
    second = (await bench.maker.run(source, replace(write, spec={"times": 2})))[1]
    assert len(opened) == 4, "what was written to is not written to again"
    assert first is not None
    assert second is not None
    assert (await body_of(bench, first), await body_of(bench, second)) == (TEXT.upper(), TEXT.upper() * 2)


async def test_a_chain_reads_what_was_made_before(bench: Bench) -> None:
    source = await bench.media(b"ab")
    first, second, count = await bench.run(source, "chain", times=2)
    once, again = await bench.output(first), await bench.output(second)
    assert (once.source_id, once.relationship, await body_of(bench, once)) == (source.id, "once", b"AB")
    assert (again.source_id, again.relationship, await body_of(bench, again)) == (once.id, "again:2", b"ABAB")
    assert again.storage == "other"
    assert count.output is None
    described = await bench.catalog.media.get(again.id)
    assert described is not None
    assert (described.width, described.height, described.facts) == (4, 1, {"loud": True, "counted": True})
    assert [each.media_id for each in bench.told] == [again.id]


async def test_what_is_withheld_is_not_made_again_under_another_name(bench: Bench) -> None:
    source, made = await bench.media(), forms(bench)
    await made.form(source.card, made.resolve("loud"), None)
    [derived] = await bench.catalog.derivatives.kin(source.id)
    await bench.catalog.media.quarantine(derived, scope="media", reason=None)
    with pytest.raises(Quarantined):
        await forms(bench).form(source.card, made.resolve("loud"), None)
    assert (bench.louder.runs, await bench.catalog.derivatives.kin(source.id)) == (1, [derived])


async def test_what_was_made_is_not_made_again(bench: Bench) -> None:
    source = await bench.media()
    [before] = await bench.run(source, "shout")
    job = await bench.job(source, "shout")
    again, created, _ = await bench.catalog.jobs.ask(
        NewJob(id="x", kind=KIND, lane="images", media_id=source.id, code=job.code, fingerprint=job.fingerprint), again=True
    )
    assert created
    running = await bench.attempt(again)
    assert [each.output for each in running.steps] == [before.output]
    assert bench.louder.runs == 1


async def test_another_attempt_goes_on_where_the_last_one_failed(bench: Bench) -> None:
    source = await bench.media()
    job = await bench.job(source, "chain")
    bench.louder.meanwhile = None
    runs = bench.louder.runs

    async def then_fail() -> None:
        bench.louder.meanwhile = None
        bench.louder.fail = [StorageUnavailable()]

    bench.louder.meanwhile = then_fail
    with pytest.raises(StorageUnavailable):
        await bench.attempt(job)
    noted = await bench.catalog.jobs.get(job.id)
    assert noted is not None
    assert noted.steps[0].state is JobState.COMPLETED
    await bench.catalog.leases.fail(Held(job.id, noted.fence), noted.steps, code="c", message="m", again_in=0)
    running = await bench.attempt(job)
    assert [each.state for each in running.steps] == [JobState.COMPLETED] * 3
    assert bench.louder.runs == runs + 3, "the first step once, the second twice"


async def test_two_that_make_the_same_keep_one(bench: Bench) -> None:
    source = await bench.media()
    jobs = [await bench.job(source, "shout")]
    step = bench.registry.settle(bench.registry.find("shout"), {}).steps[0]
    made = await asyncio.gather(*[bench.maker.run(source, step) for _ in range(5)])
    assert len({media.id for _, media in made if media is not None}) == 1
    assert len(bench.keys()) == 1
    assert (await bench.attempt(jobs[0])).steps[0].output == made[0][1].id  # type: ignore[union-attr]


async def test_the_same_bytes_are_stored_once(bench: Bench) -> None:
    one, two = await bench.media(b"ab"), await bench.media(b"AB", owner="bob")
    outputs = [await bench.output((await bench.run(each, "shout"))[0]) for each in (one, two)]
    assert outputs[0].id != outputs[1].id
    assert outputs[0].storage_key == outputs[1].storage_key
    assert (outputs[0].owner, outputs[1].owner) == ("ada", "bob")


@pytest.mark.parametrize("end", ["delete", "quarantine"])
async def test_a_source_that_goes_meanwhile_leaves_nothing(bench: Bench, end: str) -> None:
    source = await bench.media()

    async def go() -> None:
        if end == "delete":
            await bench.catalog.media.delete(source.id)
        else:
            await bench.catalog.media.quarantine(source.id, scope="media", reason=None)

    bench.louder.meanwhile = go
    with pytest.raises(Gone):
        await bench.attempt(await bench.job(source, "shout"))
    assert bench.keys() == []
    assert await bench.catalog.objects.leftovers(datetime.now(UTC) + timedelta(days=1)) in ([], [("default", source.storage_key)])
    with pytest.raises(Gone):
        await bench.attempt(await bench.job(source, "chain"))


async def test_a_source_that_turns_private_meanwhile_has_private_derivatives(bench: Bench) -> None:
    source = await bench.media(public=True)

    async def hide() -> None:
        await bench.catalog.media.change(source.id, {"public": False}, dedupe_key=None, version=None)

    bench.louder.meanwhile = hide
    [step] = await bench.run(source, "shout")
    assert (await bench.output(step)).public is False


async def test_derivatives_follow_their_source(bench: Bench) -> None:
    source = await bench.media()
    first, second, _ = await bench.run(source, "chain")
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    for changes in ({"public": True}, {"expires_at": until}, {"public": False}):
        _, told = await bench.catalog.media.change(source.id, changes, dedupe_key=None, version=None)
        family = [await bench.output(first), await bench.output(second)]
        assert {each.media_id for each in told} == {source.id, *(each.id for each in family)}
        for name, value in changes.items():
            assert [getattr(each, name) for each in family] == [value, value]
    assert all(each.generation == 2 and each.links_valid_from for each in family)
    assert await bench.catalog.derivatives.kin(source.id) == [family[1].id, family[0].id]


async def test_who_lost_the_lease_keeps_nothing(bench: Bench) -> None:
    source = await bench.media()
    job = await bench.job(source, "shout")

    async def cancel() -> None:
        await bench.catalog.jobs.cancel(job.id)

    bench.louder.meanwhile = cancel
    with pytest.raises(LeaseLost):
        await bench.attempt(job)
    assert bench.keys() == []
    assert await bench.catalog.derivatives.kin(source.id) == []


async def test_a_step_that_fails_is_told(bench: Bench) -> None:
    source = await bench.media()
    job = await bench.job(source, "shout")
    bench.louder.fail = [Undecodable("It is broken")]
    leased, _ = await bench.catalog.leases.lease(job.id, 60)
    assert leased is not None
    running = Running(leased, bench.catalog.leases)
    with pytest.raises(Undecodable):
        await bench.work(running)
    assert [(each.state, each.error_code, each.error_message) for each in running.steps] == [
        (JobState.FAILED, "undecodable", "It is broken")
    ]
    assert bench.keys() == []


async def test_a_step_that_may_fail_is_passed_over(bench: Bench) -> None:
    source = await bench.media()
    bench.louder.fail = [Undecodable("It is broken")]
    first, second = await bench.run(source, "careless")
    assert (first.state, second.state, second.input) == (JobState.FAILED, JobState.COMPLETED, source.digest)


@pytest.mark.parametrize(
    ("code", "fields", "error"),
    [("shout", {"media_type": "image/png"}, UnsupportedType), ("gone@1", {}, NotFound)],
)
async def test_what_cannot_be_done(bench: Bench, code: str, fields: dict[str, Any], error: type[Exception]) -> None:
    source = await bench.media(**fields)
    leased, _ = await bench.catalog.leases.lease((await bench.job(source, "shout")).id, 60)
    assert leased is not None
    job = replace(leased, code=code if "@" in code else f"{code}@1")
    with pytest.raises(error):
        await bench.work(Running(job, bench.catalog.leases))


# Variants.


def forms(bench: Bench, **settings: Any) -> Forms:
    given = {"presets": {"loud": {"times": 2, "format": "webp"}}}
    return Forms(bench.catalog, bench.maker, bench.actions, Variants(**{**given, **settings}))


async def test_a_preset_is_a_media(bench: Bench) -> None:
    source, made = await bench.media(filename="a.b.txt", public=True), forms(bench)
    asked = [made.form(source.card, made.resolve("loud"), None) for _ in range(10)]
    found = {(each.card.key, each.mark) for each in await asyncio.gather(*asked)}
    assert bench.louder.runs == 1
    [(key, mark)] = found
    form = await made.form(source.card, made.resolve("loud"), "image/webp")
    assert (form.card.id, form.card.public, form.card.size, form.card.filename) == (source.id, True, 36, "a.b.txt")
    assert (form.card.key, form.mark, form.negotiated) == (key, mark, False)
    assert mark == f"loud~{form.card.digest[:16]}"
    [derived] = await bench.catalog.derivatives.kin(source.id)
    media = await bench.catalog.media.get(derived)
    assert media is not None
    assert (media.relationship, media.storage_key) == ("loud", key)
    await forms(bench).form(source.card, made.resolve("loud"), None)
    assert bench.louder.runs == 1, "another process finds it"


async def test_a_form_follows_its_media(bench: Bench) -> None:
    source, made = await bench.media(), forms(bench)
    await made.form(source.card, made.resolve("loud"), None)
    newer = replace(source.card, generation=2, public=True)
    form = await made.form(newer, made.resolve("loud"), None)
    assert (form.card.generation, form.card.public) == (2, True)
    assert bench.louder.runs == 1


async def test_ad_hoc_forms_are_kept_up_to_a_number(bench: Bench) -> None:
    source, made = await bench.media(), forms(bench, max_per_media=3)
    for times in range(1, 6):
        await made.form(source.card, made.resolve(f"times={times},format=png"), None)
    kept = await bench.catalog.variants.of_media(source.id)
    assert sorted(each.text for each in kept) == ["times=3,format=png", "times=4,format=png", "times=5,format=png"]
    assert all(each.key.startswith("variants/") for each in kept)
    left = await bench.catalog.objects.leftovers(datetime.now(UTC))
    assert len(left) == 2
    assert await bench.catalog.derivatives.kin(source.id) == []
    await bench.catalog.media.delete(source.id)
    assert await bench.catalog.variants.of_media(source.id) == []
    assert len(await bench.catalog.objects.leftovers(datetime.now(UTC))) == 6


async def test_the_format_is_what_the_reader_takes(bench: Bench) -> None:
    source, made = await bench.media(media_type="text/x"), forms(bench, presets={"loud": {"times": 2}})
    await bench.catalog.media.get(source.id)
    wanted = made.resolve("loud")
    webp = await made.form(source.card, wanted, "image/webp,*/*;q=0.8")
    plain = await made.form(source.card, wanted, None)
    assert (webp.negotiated, plain.negotiated) == (True, True)
    assert webp.mark == plain.mark, "this action makes the same of both"
    assert bench.louder.runs == 2


async def test_one_form_for_who_names_its_format_and_who_does_not(bench: Bench) -> None:
    card, made = (await bench.media()).card, forms(bench, presets={"loud": {"times": 2}})
    for _ in range(2):  # as it is made, and as it is known
        for text, negotiated in (("times=2,format=webp", False), ("loud", True), ("times=2", True)):
            form = await made.form(card, made.resolve(text), "image/webp")
            assert form.negotiated is negotiated
            assert made.peek(card, text, "image/webp") == (form, text == "loud")


async def test_a_form_over_a_newer_card_has_its_visibility(bench: Bench) -> None:
    source, made = await bench.media(public=True), forms(bench)
    form = await made.form(source.card, made.resolve("loud"), None)
    hidden = replace(source.card, public=False, generation=2)
    shown = form.of(hidden)
    assert (shown.public, shown.generation, shown.key, shown.digest) == (False, 2, form.card.key, form.card.digest)
    assert form.of(source.card) == form.card


async def test_a_picture_that_cannot_be_read_is_not_tried_at_each_request(bench: Bench) -> None:
    source, made = await bench.media(), forms(bench)
    bench.louder.fail = [Undecodable("It is broken") for _ in range(9)]
    for _ in range(3):
        with pytest.raises(Undecodable):
            await made.form(source.card, made.resolve("loud"), None)
    assert bench.louder.runs == 1
    bench.louder.fail = [StorageUnavailable()]
    for text in ("times=3,format=png", "times=3,format=png"):
        try:
            await made.form(source.card, made.resolve(text), None)
        except StorageUnavailable:
            continue
    assert bench.louder.runs == 3, "what was of the moment is tried again"


async def test_a_media_that_is_no_picture_is_shown_by_one_that_was_made_of_it(bench: Bench) -> None:
    source, made = await bench.media(media_type="application/pdf"), forms(bench)
    with pytest.raises(NotFound):
        await made.form(source.card, made.resolve("loud"), None)
    page = await bench.media(b"page", kind="image", source_id=source.id, relationship="page:1", width=640)
    await bench.media(b"p", kind="image", source_id=page.id, relationship="thumbnail", width=320)
    made = forms(bench)
    form = await made.form(source.card, made.resolve("loud"), None)
    assert (form.card.id, form.card.size) == (source.id, 8)
    [kept] = [await made.form(source.card, made.resolve("times=3,format=png"), None)]
    assert [each.text for each in await bench.catalog.variants.of_media(source.id)] == ["times=3,format=png"]
    assert kept.card.id == source.id


async def test_what_there_is_no_form_of(bench: Bench) -> None:
    source, made = await bench.media(media_type="audio/ogg"), forms(bench)
    with pytest.raises(NotFound):
        await made.form(source.card, made.resolve("loud"), None)
    for text, error in [("quiet", NotFound), ("times=99", InvalidArgument), ("depth=1", InvalidArgument)]:
        with pytest.raises(error):
            made.resolve(text)
    with pytest.raises(NotFound):
        Forms(bench.catalog, bench.maker, {}, Variants()).resolve("thumb")
