"""Media that an inspector withholds are recorded so in one transaction, stand for themselves, and get their jobs when they are released; on both databases."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from ulid import ULID

from mediacdn.catalog.database import Catalog
from mediacdn.catalog.leases import Held
from mediacdn.model import JobState, Media, NewJob, State, Status, StepRun

pytestmark = pytest.mark.anyio


def wanted(media: Media, *, required: bool = False) -> Sequence[NewJob]:
    fingerprint = f"look {media.id}"
    return [
        NewJob(id=str(ULID()), kind="recipe", lane="images", media_id=media.id, code="look@1", fingerprint=fingerprint, required=required)
    ]


async def test_it_is_withheld_from_its_first_moment_and_for_itself(
    catalog: Catalog, store: Callable[..., Any], media_like: Callable[..., Media]
) -> None:
    withheld = await store(media_like("a", state=State.QUARANTINED, quarantine_reason="a word"))
    found = await catalog.media.get(withheld.id)
    assert found is not None
    assert (found.state, found.quarantine_reason, found.version) == (State.QUARANTINED, "a word", 1)
    twin = await store(media_like("a"), "a:private")
    assert (twin.id != withheld.id, twin.state, twin.storage_key) == (True, State.LIVE, withheld.storage_key)
    released, changes = await catalog.media.release(withheld.id)
    assert (released, [each.media_id for each in changes]) == ([withheld.id], [withheld.id])
    assert (await catalog.media.get(withheld.id)).state is State.LIVE  # type: ignore[union-attr]


@pytest.mark.parametrize("required", [False, True])
async def test_what_is_released_gets_its_jobs_once(
    catalog: Catalog, store: Callable[..., Any], media_like: Callable[..., Media], required: bool
) -> None:
    media = await store(media_like("a", state=State.QUARANTINED))
    await catalog.media.release(media.id, lambda each: wanted(each, required=required))
    [job] = await catalog.jobs.of_media(media.id)
    found = await catalog.media.get(media.id)
    assert found is not None
    assert (job.state, found.status) == (JobState.PENDING, Status.UPLOADED if required else Status.READY)
    await catalog.media.quarantine(media.id, scope="media", reason=None)
    await catalog.media.release(media.id, wanted)
    assert [each.id for each in await catalog.jobs.of_media(media.id)] == [job.id]


async def test_what_was_withheld_later_has_had_its_jobs(
    catalog: Catalog, store: Callable[..., Any], media_like: Callable[..., Media]
) -> None:
    media = await store(media_like("a"))
    await store(media_like("b", source_id=media.id, derivation_key="k"))
    await catalog.media.quarantine(media.id, scope="media", reason=None)
    await catalog.media.release(media.id, wanted)
    assert await catalog.jobs.of_media(media.id) == []


async def test_a_job_that_nobody_tracks_leaves_no_row(catalog: Catalog) -> None:
    def new(tracked: bool) -> NewJob:
        return NewJob(id=str(ULID()), kind="recipe", lane="images", media_id="m", code="look@1", fingerprint="f", tracked=tracked)

    async def end(job: Any, *, well: bool) -> None:
        leased, _ = await catalog.leases.lease(job.id, 10)
        assert leased is not None
        held = Held(leased.id, leased.fence)
        if well:
            assert (await catalog.leases.complete(held, [StepRun(name="s", action="a")]))[0]
        else:
            assert (await catalog.leases.fail(held, [], code="x", message="x", again_in=None))[0]

    first, started, _ = await catalog.jobs.ask(new(False))
    assert started
    assert await catalog.jobs.page(limit=9, media_id="m", tracked=True) == ([], None)
    await end(first, well=True)
    assert await catalog.jobs.get(first.id) is None
    second, started, _ = await catalog.jobs.ask(new(False))
    assert (started, second.id != first.id) == (True, True)
    await end(second, well=False)
    assert (await catalog.jobs.get(second.id)).state is JobState.FAILED  # type: ignore[union-attr]
    third, started, _ = await catalog.jobs.ask(new(True))
    assert (third.id, started, third.state) == (second.id, True, JobState.PENDING)
    await catalog.jobs.ask(new(True))
    await end(third, well=True)
    assert (await catalog.jobs.get(third.id)).state is JobState.COMPLETED  # type: ignore[union-attr]
