"""The composition root of a worker process: jobs by lane, and the chores that come round."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import structlog
from prometheus_client import CollectorRegistry

from mediacdn.access import Access
from mediacdn.changes import Changes
from mediacdn.config import Config
from mediacdn.derivation.recipes import RecipeWork
from mediacdn.drivers import Opened, SystemClock, ingest_of, maker, open_actions, open_drivers, open_stamps, recipe_registry, uploads_of
from mediacdn.edge.files import OpenFiles
from mediacdn.jobs.runner import Runner
from mediacdn.lifecycle import Lifecycle
from mediacdn.model import Change, Event
from mediacdn.plugins import Plugins
from mediacdn.recipes.planning import KIND
from mediacdn.ulids import Ulids
from mediacdn.uploads.direct import KIND as PROMOTE
from mediacdn.uploads.direct import Promotion
from mediacdn.uploads.sessions import Uploads
from mediacdn.worker import Chore, work

IDEMPOTENCY_KEPT = timedelta(hours=24)
GRACE = 10.0
"""Seconds that running jobs have when a worker ends; then they are given back."""
log = structlog.get_logger("mediacdn")


async def run_worker(
    config: Config,
    ending: asyncio.Event,
    *,
    plugins: Plugins | None = None,
    registry: CollectorRegistry | None = None,
    lanes: Mapping[str, int] | None = None,
) -> None:
    """The worker process: do jobs, by default of the configured `lanes`, and what comes round, until `ending` is set and what runs has had its time."""
    from mediacdn.jobs.bell import TableBell  # taskiq takes a third of a second to import, which a server need not wait for
    from mediacdn.jobs.lanes import work_lanes

    loaded = plugins or Plugins.load(config.plugins)
    own = registry or CollectorRegistry()
    async with open_drivers(config, loaded, own, use="work") as opened, open_actions(config, loaded, own, worker=True) as actions:
        stamps = await open_stamps(config)
        changes = Changes(rows=opened.catalog.changes, stamps=stamps, every=config.edge.sweep_every, bus=opened.bus)
        rows, settings = opened.catalog.jobs, config.jobs
        registry_ = recipe_registry(config, loaded, actions)
        recipes = RecipeWork(opened.catalog, registry_, maker(config, opened, actions, changes), SystemClock())
        new_id = Ulids()
        access = Access(config.auth, config.lifecycle, opened.authorizer)
        hearing = ThreadPoolExecutor(1, "events")

        def emit(event: Event) -> None:
            hearing.submit(loaded.emit, event)

        ingest = ingest_of(config, opened, loaded, registry_, access=access, new_id=new_id, emit=emit)
        uploads = uploads_of(config, opened, ingest, new_id)
        promotion = Promotion(uploads=uploads, catalog=opened.catalog, storages=opened.storages, ingest=ingest, told=changes.told)
        runner = Runner(rows, {KIND: recipes, PROMOTE: promotion}, changes.told, settings)

        def bell(lane: str) -> TableBell:
            return TableBell(rows, lane, settings.poll_every)

        async with asyncio.TaskGroup() as group:
            round_about = [group.create_task(changes.follow()), group.create_task(work(chores(config, opened, changes, uploads)))]
            await work_lanes(settings.lanes if lanes is None else lanes, bell, runner, ending, GRACE)
            for each in round_about:
                each.cancel()
        await uploads.close()
        ingest.close()
        hearing.shutdown(wait=True, cancel_futures=True)


def chores(config: Config, opened: Opened, changes: Changes, uploads: Uploads) -> Mapping[str, Chore]:
    """What comes round in a worker."""
    clock = SystemClock()
    lifecycle = sweeper(opened, changes.told)

    async def sweep() -> None:
        swept = await lifecycle.sweep(timedelta(seconds=config.lifecycle.abandoned_after))
        if swept:
            log.info("swept", objects=len(swept))

    async def end_uploads() -> None:
        ended = await uploads.end_all()
        if ended:
            log.info("uploads of dead processes ended", uploads=ended)

    async def reap_uploads() -> None:
        reaped = await uploads.reap()
        if reaped:
            log.info("staged uploads removed", uploads=reaped)

    async def retire() -> None:
        retired = await lifecycle.retire()
        if retired:
            log.info("retired", media=retired)

    async def forget() -> None:
        await opened.catalog.idempotency.purge(clock.now() - IDEMPOTENCY_KEPT)

    async def prune() -> None:
        await opened.catalog.changes.prune()

    async def reclaim() -> None:
        taken, changed = await opened.catalog.jobs.reclaim(config.jobs.backoff_base)
        await changes.told(changed)
        if taken:
            log.warning("jobs of dead workers taken back", jobs=taken)

    async def prune_jobs() -> None:
        completed, failed = (timedelta(seconds=each) for each in (config.jobs.keep_completed, config.jobs.keep_failed))
        while await opened.catalog.jobs.prune(completed, failed):
            pass

    every = config.lifecycle.sweep_every
    return {
        "reclaim": Chore(config.jobs.lease / 3, reclaim),
        "jobs": Chore(600.0, prune_jobs),
        "sweep": Chore(every, sweep),
        "retire": Chore(every, retire),
        "ending": Chore(min(every, 5.0), end_uploads),
        "reaping": Chore(every, reap_uploads),
        "idempotency": Chore(600.0, forget),
        "changes": Chore(600.0, prune),
    }


def sweeper(opened: Opened, told: Callable[[Sequence[Change]], Awaitable[None]] | None = None) -> Lifecycle:
    """A Lifecycle for processes that serve nobody: no files open; without `told`, those who serve learn by their own sweep."""

    async def leave(changes: Sequence[Change]) -> None:
        return

    return Lifecycle(
        catalog=opened.catalog,
        told=told or leave,
        files=OpenFiles(1),
        storages=opened.storages,
        clock=SystemClock(),
        emit=lambda event: None,
    )
