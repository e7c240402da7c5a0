"""What older versions of recipes made is found, by its task or by its derivation key, and led back to its source; on both databases."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from mediacdn.catalog.database import Catalog
from mediacdn.catalog.jobs import Held
from mediacdn.errors import Conflict
from mediacdn.model import Argument, Change, JobState, Media, State, Status, Step, StepRun
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
    async def made(content: str, **fields: Any) -> Media:
        return await store(media_like(content, **{"media_type": "image/png", **fields}))  # type: ignore[no-any-return]

    return made


def settled(tasks: Tasks, name: str, **arguments: Any) -> Any:
    return tasks.registry.settle(tasks.registry.find(name), arguments)


async def derive(tasks: Tasks, picture: Callable[..., Any], source: Media, name: str, **arguments: Any) -> list[Media]:
    """What the recipe makes of a media, as a worker would record it."""
    made, at = [], source
    for step in settled(tasks, name, **arguments).steps:
        at = await picture(f"{at.id}{step.spec}"[-30:], source_id=at.id, derivation_key=step.derivation_key(at.id), relationship=name)
        made.append(at)
    return made


async def found(tasks: Tasks) -> list[Stale]:
    return [each async for each in tasks.stale()]


async def test_nothing_is_stale_at_first(tasks: Tasks, picture: Callable[..., Any]) -> None:
    source = await picture("s")
    await derive(tasks, picture, source, "poster@2")
    await derive(tasks, picture, source, "only")
    assert await found(tasks) == []


async def test_by_its_derivation_key(tasks: Tasks, picture: Callable[..., Any]) -> None:
    source = await picture("s")
    [old] = await derive(tasks, picture, source, "poster@1")
    await derive(tasks, picture, source, "poster@2")
    assert await found(tasks) == [Stale(old.id, source.id, "poster@1", "poster@2")]


async def test_a_later_step_leads_back_to_the_source(tasks: Tasks, picture: Callable[..., Any]) -> None:
    source = await picture("s")
    _, last = await derive(tasks, picture, source, "twice@1")
    assert await found(tasks) == [Stale(last.id, source.id, "twice@1", "twice@2")], "the first step is the same in both"


async def test_by_its_task(tasks: Tasks, catalog: Catalog, picture: Callable[..., Any]) -> None:
    source = await picture("s")
    job, _ = await tasks.ask(source, "wide@1", {"w": 99}, by="ada")
    [made] = await derive(tasks, picture, source, "wide@1", w=99)
    assert await found(tasks) == [], "its arguments are nowhere told before the task says what it made"
    leased, _ = await catalog.jobs.lease(job.id, 10)
    assert leased is not None
    await catalog.jobs.complete(Held(leased.id, leased.fence), [StepRun(name="scale", action="image", output=made.id)])
    assert await found(tasks) == [Stale(made.id, source.id, "wide@1", "wide@2", {"w": 99})]
    await catalog.media.delete(made.id)
    assert await found(tasks) == []


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
