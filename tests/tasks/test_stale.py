"""What older versions of recipes made is found by what is written down with it, and led back to its source; on both databases."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest

from mediacdn.catalog.database import Catalog
from mediacdn.catalog.derivatives import dedupe_key
from mediacdn.errors import Conflict
from mediacdn.model import Argument, Change, JobState, Media, State, Status, Step
from mediacdn.recipes.registry import Registry
from mediacdn.tasks import Stale, Tasks
from mediacdn.ulids import Ulids
from tests.catalog.conftest import catalog, clock, media_like, store
from tests.recipes.given import ACTIONS, recipe

__all__ = ["catalog", "clock", "media_like", "store"]
pytestmark = pytest.mark.anyio


def scale(w: int | str, name: str = "scale") -> Step:
    return Step(name=name, action="image", spec={"w": w})


WIDTH = Argument(name="w", type="integer", default=320)
RECIPES = (
    recipe("poster", version=1),
    recipe("poster", version=2, steps=(scale(640),)),
    recipe("twice", version=1, steps=(scale(1000, "first"), scale(10, "second"))),
    recipe("twice", version=2, steps=(scale(1000, "first"), scale(20, "second"))),
    recipe("wide", version=1, arguments=(WIDTH,), steps=(Step(name="scale", action="image", spec={"w": "${w}"}),)),
    recipe("wide", version=2, arguments=(WIDTH,), steps=(Step(name="scale", action="image", spec={"w": "${w}", "quality": 50}),)),
    recipe("only", steps=(scale(77),)),
)


@pytest.fixture
def told() -> list[Change]:
    return []


@pytest.fixture
def tasks(catalog: Catalog, clock: Any, told: list[Change]) -> Tasks:
    async def hear(changes: Sequence[Change]) -> None:
        told.extend(changes)

    registry = Registry(ACTIONS, brought=[("p", each) for each in RECIPES])
    return Tasks(catalog=catalog, registry=registry, told=hear, new_id=Ulids(), clock=clock, attempts=3)


@pytest.fixture
def picture(store: Callable[..., Any], media_like: Callable[..., Media]) -> Callable[..., Any]:
    async def made(content: str, *, dedupe_key: str | None = None, **fields: Any) -> Media:
        return await store(media_like(content, **{"media_type": "image/png", **fields}), dedupe_key)  # type: ignore[no-any-return]

    return made


def settled(tasks: Tasks, name: str, **arguments: Any) -> Any:
    return tasks.registry.settle(tasks.registry.find(name), arguments)


async def derive(tasks: Tasks, catalog: Catalog, picture: Callable[..., Any], source: Media, name: str, **arguments: Any) -> list[Media]:
    """What the recipe makes of a media, as a worker would record it."""
    made, at, run = [], source, settled(tasks, name, **arguments)
    for step in run.steps:
        key = step.derivation_key(at.id)
        at = await catalog.derivatives.find(key) or await picture(
            f"{at.id}{step.spec}"[-30:], source_id=at.id, derivation_key=key, relationship=name, dedupe_key=dedupe_key(key)
        )
        await catalog.derivatives.credit(at.id, run.derivation(source.id, step))
        made.append(at)
    return made


async def found(tasks: Tasks) -> list[Stale]:
    return [each async for each in tasks.stale()]


@pytest.fixture
def make(tasks: Tasks, catalog: Catalog, picture: Callable[..., Any]) -> Callable[..., Any]:
    return partial(derive, tasks, catalog, picture)


async def test_nothing_is_stale_at_first(tasks: Tasks, picture: Callable[..., Any], make: Callable[..., Any]) -> None:
    source = await picture("s")
    await make(source, "poster@2")
    await make(source, "only")
    assert await found(tasks) == []


async def test_until_the_newest_has_made_its_own(
    tasks: Tasks, catalog: Catalog, picture: Callable[..., Any], make: Callable[..., Any]
) -> None:
    source, other = await picture("s"), await picture("o")
    [old], [older] = await make(source, "poster@1"), await make(other, "poster@1")
    assert await found(tasks) == [Stale(each.id, of.id, "poster@1", "poster@2") for each, of in ((old, source), (older, other))]
    [new] = await make(source, "poster@2")
    assert await found(tasks) == [Stale(older.id, other.id, "poster@1", "poster@2")]
    await catalog.media.delete(older.id)
    assert await found(tasks) == []
    await catalog.media.delete(new.id)
    assert await found(tasks) == [Stale(old.id, source.id, "poster@1", "poster@2")]


async def test_a_later_step_leads_back_to_the_source(tasks: Tasks, picture: Callable[..., Any], make: Callable[..., Any]) -> None:
    source = await picture("s")
    _, last = await make(source, "twice@1")
    assert await found(tasks) == [Stale(last.id, source.id, "twice@1", "twice@2")], "the first step is the same in both"
    await make(source, "twice@2")
    assert await found(tasks) == []


async def test_each_set_of_arguments_for_itself(tasks: Tasks, picture: Callable[..., Any], make: Callable[..., Any]) -> None:
    source = await picture("s")
    [small], [large] = await make(source, "wide@1", w=99), await make(source, "wide@1", w=999)
    await make(source, "wide@2", w=999)
    assert await found(tasks) == [Stale(small.id, source.id, "wide@1", "wide@2", {"w": 99})]
    assert large.id != small.id


async def test_one_that_two_recipes_make_is_stale_by_either(tasks: Tasks, picture: Callable[..., Any], make: Callable[..., Any]) -> None:
    source = await picture("s")
    [made] = await make(source, "wide@1", w=320)
    [same] = await make(source, "poster@1")
    assert same.id == made.id
    await make(source, "wide@2", w=320)
    assert await found(tasks) == [Stale(made.id, source.id, "poster@1", "poster@2")]


async def test_a_version_that_is_not_there_any_more(
    catalog: Catalog, tasks: Tasks, picture: Callable[..., Any], make: Callable[..., Any]
) -> None:
    source = await picture("s")
    [made] = await make(source, "poster@1")
    tasks.registry = Registry(ACTIONS, brought=[("p", each) for each in RECIPES if each.name != "poster@1"])
    assert await found(tasks) == [Stale(made.id, source.id, "poster@1", "poster@2")]
    tasks.registry = Registry(ACTIONS, brought=[("p", each) for each in RECIPES if each.code != "poster"])
    assert await found(tasks) == [], "nor is there a newest"


async def test_asking_is_refused_for_what_has_no_bytes_or_is_withheld(tasks: Tasks, picture: Callable[..., Any]) -> None:
    for status in (Status.REGISTERED, Status.FETCHING, Status.CANCELLED):
        with pytest.raises(Conflict):
            await tasks.ask(await picture(status, status=status), "only", {}, by="ada")
    with pytest.raises(Conflict):
        await tasks.ask(await picture("q", state=State.QUARANTINED), "only", {}, by="ada")


async def test_what_moves_a_medias_status_is_told(tasks: Tasks, catalog: Catalog, picture: Callable[..., Any], told: list[Change]) -> None:
    from sqlalchemy import update

    from mediacdn.catalog.tables import jobs

    source = await picture("s", status=Status.UPLOADED)
    job, _ = await tasks.ask(source, "only", {}, by="ada")

    async def require(connection: Any) -> None:
        await connection.execute(update(jobs).values(required=True))

    await catalog._transactions.write(require)
    assert (await tasks.cancel(job.id)).state is JobState.CANCELLED
    assert [each.media_id for each in told] == [source.id]
    told.clear()
    again, started = await tasks.ask(source, "only", {}, by="ada")
    assert (again.id, started) == (job.id, True)
    assert [each.media_id for each in told] == [source.id]
