"""The composition root of a worker process: jobs by lane, and the chores that come round."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import structlog
from prometheus_client import CollectorRegistry

from mediacdn.access import Access
from mediacdn.catalog.packages import UNIT
from mediacdn.changes import Changes
from mediacdn.config import PURGES, Config
from mediacdn.derivation.recipes import RecipeWork
from mediacdn.drivers import (
    Opened,
    SystemClock,
    ingest_of,
    maker,
    mover,
    open_actions,
    open_drivers,
    open_stamps,
    promotions,
    recipe_registry,
    tell_of_fence,
    uploads_of,
)
from mediacdn.edge.files import OpenFiles
from mediacdn.jobs.runner import Runner, Running
from mediacdn.lifecycle import Lifecycle
from mediacdn.model import Change, Event
from mediacdn.plugins import Plugins
from mediacdn.purging import Purging
from mediacdn.recipes.planning import KIND, Planner
from mediacdn.ulids import Ulids
from mediacdn.upkeep.move_jobs import KIND as MOVE
from mediacdn.upkeep.move_jobs import MoveWork
from mediacdn.upkeep.promotion import KIND as PROMOTE
from mediacdn.upkeep.promotion import Promotions
from mediacdn.uploads.direct import KIND as VERIFY
from mediacdn.uploads.direct import Promotion
from mediacdn.uploads.sessions import Uploads
from mediacdn.worker import Chore, work

IDEMPOTENCY_KEPT = timedelta(hours=24)
GRACE = 10.0
"""Seconds that running jobs have when a worker ends; then they are given back."""
PARTS_EVERY = 3600.0
"""Seconds between two listings of uploads of parts: storages are paid for these by the request."""
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
    from mediacdn.jobs.bell import Bell  # taskiq takes a third of a second to import, which a server need not wait for
    from mediacdn.jobs.lanes import work_lanes

    tell_of_fence(config.decoders)
    loaded = plugins or Plugins.load(config.plugins)
    own = registry or CollectorRegistry()
    async with open_drivers(config, loaded, own, use="work") as opened, open_actions(config, loaded, own, worker=True) as actions:
        stamps = await open_stamps(config)
        changes = Changes(rows=opened.catalog.changes, stamps=stamps, every=config.edge.sweep_every, bus=opened.bus)
        rows, settings = opened.catalog.leases, config.jobs
        known = recipe_registry(config, loaded, actions)
        new_id = Ulids()
        recipes = RecipeWork(opened.catalog, known, maker(config, opened, actions, changes), SystemClock(), new_id)
        moves = mover(opened, changes.told)
        promoting = promotions(config, opened, moves)
        access = Access(config.auth, config.lifecycle, opened.authorizer)
        hearing = ThreadPoolExecutor(1, "events")

        def emit(event: Event) -> None:
            hearing.submit(loaded.emit, event)

        planner = Planner(known, loaded.plans, new_id, config.jobs.attempts, config.recipes.plan)
        ingest = ingest_of(config, opened, planner, access=access, new_id=new_id, emit=emit)
        uploads = uploads_of(config, opened, ingest, new_id)
        does: dict[str, Callable[[Running], Awaitable[None]]] = {
            KIND: recipes,
            UNIT: recipes.unit,
            PROMOTE: promoting,
            MOVE: MoveWork(moves),
            PURGES: Purging(config.purge),
            VERIFY: Promotion(uploads=uploads, catalog=opened.catalog, storages=opened.storages, ingest=ingest, told=changes.told),
        }
        runner = Runner(rows, does, changes.told, settings)

        def bell(lane: str) -> Bell:
            return Bell(rows, lane, settings.poll_every, opened.broker, settings.poll_beside)

        async with asyncio.TaskGroup() as group:
            comes_round = chores(config, opened, changes, promoting, uploads)
            round_about = [group.create_task(changes.follow()), group.create_task(work(comes_round))]
            await work_lanes(config.lanes if lanes is None else lanes, bell, runner, ending, GRACE)
            for each in round_about:
                each.cancel()
        await uploads.close()
        ingest.close()
        hearing.shutdown(wait=True, cancel_futures=True)


def chores(config: Config, opened: Opened, changes: Changes, promoting: Promotions, uploads: Uploads) -> Mapping[str, Chore]:
    """What comes round in a worker."""
    clock = SystemClock()
    lifecycle = sweeper(opened, changes.told)

    async def sweep() -> None:
        abandoned, moved = (timedelta(seconds=each) for each in (config.lifecycle.abandoned_after, config.lifecycle.moved_grace))
        swept = await lifecycle.sweep(abandoned, moved=moved)
        if swept:
            log.info("swept", objects=len(swept))

    async def reap_parts() -> None:
        reaped = await lifecycle.reap_parts(timedelta(seconds=config.lifecycle.abandoned_parts_after), opened.catalog.uploads.parts_held)
        if reaped:
            log.info("abandoned uploads of parts aborted", uploads=len(reaped))

    async def end_uploads() -> None:
        ended = await uploads.endings.end_all()
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

    async def promote() -> None:
        await promoting.look(timedelta(seconds=config.lifecycle.landed_too_long))

    async def supersede() -> None:
        superseded = await lifecycle.supersede(timedelta(seconds=config.lifecycle.keep_replaced))
        if superseded:
            log.info("superseded", media=superseded)

    async def forget() -> None:
        await opened.catalog.idempotency.purge(clock.now() - IDEMPOTENCY_KEPT)

    async def prune() -> None:
        await opened.catalog.changes.prune()

    async def reclaim() -> None:
        taken, changed = await opened.catalog.leases.reclaim(config.jobs.backoff_base)
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
        "parts": Chore(PARTS_EVERY, reap_parts),
        "retire": Chore(every, retire),
        "promote": Chore(every, promote),
        "supersede": Chore(every, supersede),
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
