"""The composition root: from a configuration to a running application, whose lifespan opens the drivers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from litestar import Litestar
from litestar.openapi import OpenAPIConfig
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from mediacdn.accel import Accel
from mediacdn.access import Access
from mediacdn.catalog.card import CardCache
from mediacdn.changes import Changes
from mediacdn.config import Config
from mediacdn.config.storages import default_storage
from mediacdn.core import MediaCore
from mediacdn.delivery import Delivery
from mediacdn.derivation.composing import Composing
from mediacdn.derivation.outputs import Outputs
from mediacdn.derivation.variants import Variants
from mediacdn.drivers import (
    Opened,
    SystemClock,
    edge_folder,
    ingest_of,
    maker,
    open_actions,
    open_drivers,
    open_stamps,
    recipe_registry,
    tell_of_fence,
    uploads_of,
)
from mediacdn.edge.files import OpenFiles
from mediacdn.edge.metrics import EdgeMetrics
from mediacdn.edge.opening import open_edge
from mediacdn.edge.stamps import Stamps
from mediacdn.edge.tiers import Edge
from mediacdn.errors import MediaError, StartupError
from mediacdn.hot import HotReads
from mediacdn.idempotency import EVERY as KEYS_KEPT
from mediacdn.idempotency import Keys
from mediacdn.interfaces import Action, LocalPaths
from mediacdn.jobs.metrics import EVERY as LANES_READ
from mediacdn.jobs.metrics import LaneMetrics
from mediacdn.jobs.rings import Rings
from mediacdn.keyring import open_keyring
from mediacdn.lifecycle import Lifecycle
from mediacdn.links import Elsewhere
from mediacdn.model import Event
from mediacdn.plugins import Plugins
from mediacdn.readiness import lesser, needed
from mediacdn.recipes.planning import Planner
from mediacdn.recipes.registry import Registry
from mediacdn.routes.admin import admin_routes
from mediacdn.routes.ancestry import ancestry_routes
from mediacdn.routes.callers import Callers
from mediacdn.routes.contract import SCHEMES, ClosedStructs
from mediacdn.routes.direct import direct_routes
from mediacdn.routes.front import Front
from mediacdn.routes.jobs import job_routes
from mediacdn.routes.links import Signer, link_routes
from mediacdn.routes.links import direct as direct_link
from mediacdn.routes.media import Posts, Reads, media_routes
from mediacdn.routes.operations import operation_routes
from mediacdn.routes.outputs import output_routes
from mediacdn.routes.problem import known_methods, on_error
from mediacdn.routes.records import Records, record_routes
from mediacdn.routes.schema_page import SchemaPage
from mediacdn.routes.sending import Senders
from mediacdn.routes.storages import storage_routes
from mediacdn.routes.stored import StoredAnswers
from mediacdn.routes.subtitles import subtitle_routes
from mediacdn.routes.tasks import task_routes
from mediacdn.routes.upload_routes import upload_routes
from mediacdn.routes.uploads import Resumable, options
from mediacdn.routes.variants import variant_routes
from mediacdn.routes.views import Addresses
from mediacdn.routes.watching import Watching
from mediacdn.server.lane import HOT
from mediacdn.storage.placement import routing
from mediacdn.tasks import Tasks
from mediacdn.ulids import Ulids
from mediacdn.upkeep.metrics import EVERY as STORED_READ
from mediacdn.upkeep.metrics import StoredMetrics
from mediacdn.uploads.direct import Direct
from mediacdn.worker import Chore, work


class App(Litestar):
    """Litestar, which keeps from its lifespan what ASGI's `state` there is for: the server's own dictionary, through which the hot lane is handed to its protocol."""

    lent: dict[str, Any]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            self.lent = scope.setdefault("state", {})
            send = partial(self._tell, send)
        await super().__call__(scope, receive, send)

    async def _tell(self, send: Any, message: Any) -> None:
        """Say in a sentence what an operator can mend; a traceback of what is no fault of the program would only hide it."""
        failure = self.state.failure
        if message["type"] == "lifespan.startup.failed" and isinstance(failure, StartupError):
            message = {**message, "message": failure.detail}
        await send(message)


def create_app(
    config: Config,
    *,
    plugins: Plugins | None = None,
    registry: CollectorRegistry | None = None,
    exposition: Callable[[], Awaitable[bytes]] | None = None,
) -> Litestar:
    """Build the application of one configuration. It needs a migrated catalog; drivers open when its lifespan starts.

    `exposition` is what /metrics says, where other processes have a part in it; by default the registry.
    """
    loaded = plugins or Plugins.load(config.plugins)
    metrics = registry or process_registry()

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        tell_of_fence(config.decoders)
        try:
            async with (
                open_drivers(config, loaded, metrics) as opened,
                open_actions(config, loaded, metrics) as actions,
                _edge(config, metrics, opened) as (stamps, edge),
            ):
                recipes = recipe_registry(config, loaded, actions)
                async with _rooms(app, front, config, loaded, metrics, opened, stamps, edge, recipes, actions):
                    yield
        except MediaError as error:
            app.state.failure = error  # whoever started the server says it in a sentence
            raise

    app = App(
        [],
        path=config.server.base_path or None,
        lifespan=[lifespan],
        exception_handlers={Exception: on_error},
        openapi_config=OpenAPIConfig(
            title="mediacdn",
            version=version("mediacdn"),
            path="/schema",
            render_plugins=[SchemaPage()],
            description="A self-hosted media CDN.",
            components=SCHEMES,
            use_handler_docstrings=True,
        ),
        plugins=[ClosedStructs()],
        request_max_body_size=2 * 1024 * 1024,
        logging_config=None,
        debug=False,
    )
    app.state.draining = False
    app.state.failure = None
    app.state.exposition = exposition or partial(_exposed, metrics)
    app.asgi_handler = front = Front(
        app.asgi_handler, config.server, config.cors, metrics, partial(known_methods, app), options(config.limits.largest)
    )
    return app


@asynccontextmanager
async def _edge(config: Config, registry: CollectorRegistry, opened: Opened) -> AsyncIterator[tuple[Stamps, Edge]]:
    stamps = await open_stamps(config)
    async with open_edge(
        config.edge,
        edge_folder(config),
        storages=opened.storages,
        policy=opened.policy,
        stamps=stamps,
        digests=opened.digests.remember,
        metrics=EdgeMetrics(registry),
    ) as edge:
        yield stamps, edge


@asynccontextmanager
async def _rooms(
    app: App,
    front: Front,
    config: Config,
    plugins: Plugins,
    registry: CollectorRegistry,
    opened: Opened,
    stamps: Stamps,
    edge: Edge,
    recipes: Registry,
    actions: Mapping[str, Action],
) -> AsyncIterator[None]:
    """Put the journeys together over the opened drivers and register their routes."""
    clock = SystemClock()
    ring = open_keyring(config.signing, Path(config.server.data))
    hearing = ThreadPoolExecutor(1, "events")

    def emit(event: Event) -> None:
        hearing.submit(plugins.emit, event)

    cards = CardCache(opened.catalog.media.card, config.edge.cards, stamps, config.edge.negative_ttl)
    files = OpenFiles(config.edge.open_files)

    def forget(ids: Collection[str]) -> None:
        for each in ids:
            edge.forget(each)
            if (card := cards.forget(each)) is not None:
                files.drop(card.storage, card.key)

    changes = Changes(
        rows=opened.catalog.changes,
        stamps=stamps,
        every=config.edge.sweep_every,
        bus=opened.bus,
        on_change=forget,
        on_purge_all=edge.clear,
    )
    await changes.sweep()
    access = Access(config.auth, config.lifecycle, opened.authorizer)
    callers = Callers(opened.authenticators, ring.lookup, clock, config.server.base_path)
    making = maker(config, opened, actions, changes, emit)
    variants = Variants(opened.catalog, making, actions, config.variants)
    outputs = Outputs(opened.catalog, Composing(opened.catalog, opened.storages, making, actions, config.variants.max_per_media))
    addresses = Addresses(config.server.public_url, config.server.base_path, partial(_shown, variants, recipes))
    delivery = Delivery(access, config.edge, edge, config.cors.resource_policy)
    accel = Accel(config.server.accel, opened.storages)
    senders = Senders(delivery, edge, opened.storages, opened.digests, files, accel)
    new_id = Ulids()
    rings = Rings(opened.broker)
    planner = Planner(recipes, plugins.plans, new_id, config.jobs.attempts, config.recipes.plan)
    lifecycle = Lifecycle(
        catalog=opened.catalog, told=changes.told, files=files, storages=opened.storages, clock=clock, emit=emit, plan=planner
    )
    ingest = ingest_of(config, opened, planner, access=access, new_id=new_id, emit=emit, ring=rings)
    uploads = uploads_of(config, opened, ingest, new_id)
    keys = Keys(opened.catalog.idempotency)
    answers = StoredAnswers(access, addresses, clock)
    records = Records(catalog=opened.catalog, cards=cards, callers=callers, access=access, clock=clock)
    signer = Signer(ring=ring, config=config.signing, variants=variants, addresses=addresses, clock=clock)
    elsewhere = Elsewhere(opened.links, config.links, clock)
    tasks = Tasks(
        catalog=opened.catalog,
        registry=recipes,
        told=changes.told,
        new_id=new_id,
        clock=clock,
        attempts=config.jobs.attempts,
        most=config.limits.tasks_per_caller,
        ring=rings,
    )
    watching = Watching(opened.catalog.jobs, lambda: bool(app.state.draining))
    lanes = LaneMetrics(registry, opened.catalog.jobs, config.lanes)
    stored = StoredMetrics(registry, opened.catalog.moves, config.storage)
    reads = Reads(
        cards=cards, callers=callers, access=access, delivery=delivery, senders=senders, variants=variants, outputs=outputs, clock=clock
    )
    app.lent[HOT] = HotReads(
        front=front,
        base_path=config.server.base_path,
        lookup=ring.lookup,
        authenticators=opened.authenticators,
        access=access,
        cards=cards,
        delivery=delivery,
        files=files,
        local=frozenset(name for name, each in opened.storages.items() if isinstance(each, LocalPaths)),
        warm=senders.warm,
        accel=accel,
        variants=variants,
        outputs=outputs,
        clock=clock,
    )
    posts = Posts(
        ingest=ingest, catalog=opened.catalog, keys=keys, callers=callers, access=access, limits=config.limits, answers=answers, clock=clock
    )
    resumable = Resumable(
        uploads=uploads,
        callers=callers,
        access=access,
        limits=config.limits,
        addresses=addresses,
        answers=answers,
        clock=clock,
    )
    direct = Direct(
        uploads=uploads,
        catalog=opened.catalog,
        storages=opened.storages,
        terms=ingest.terms,
        clock=clock,
        new_id=new_id,
        attempts=config.jobs.attempts,
    )
    default = config.storage[default_storage(config)]
    own: list[Any] = [
        *media_routes(reads, posts),
        *output_routes(reads),
        *subtitle_routes(
            records,
            reads=reads,
            terms=ingest.terms,
            maker=making,
            lifecycle=lifecycle,
            rows=opened.catalog.packages,
            limits=config.limits,
            access=access,
            addresses=addresses,
        ),
        *upload_routes(resumable),
        *direct_routes(
            direct, uploads, records=records, callers=callers, access=access, limits=config.limits, addresses=addresses, clock=clock
        ),
        *record_routes(
            records,
            access=access,
            ingest=ingest,
            lifecycle=lifecycle,
            limits=config.limits,
            addresses=addresses,
            direct=partial(direct_link, signer, elsewhere),
            clock=clock,
        ),
        *task_routes(records, tasks, watching, addresses=addresses, clock=clock),
        *ancestry_routes(records, opened.catalog.ancestry, access=access, addresses=addresses, clock=clock),
        *job_routes(records, tasks, opened.catalog.jobs, access=access),
        *link_routes(records, signer, elsewhere, access),
        *variant_routes(records, variants, opened.catalog.variants, signer, addresses),
        *admin_routes(
            records,
            access=access,
            lifecycle=lifecycle,
            clock=clock,
            routing=routing(config),
            private_read=config.auth.private_read,
            edge=config.edge,
            policy=opened.policy,
            stats=edge.stats,
            holds=edge.holds,
        ),
        *storage_routes(records, access=access, catalog=opened.catalog, storages=opened.storages, tables=config.storage, new_id=new_id),
        *operation_routes(
            config=config,
            callers=callers,
            addresses=addresses,
            exposition=app.state.exposition,
            checks=needed(opened, config.auth.authenticators, actions),
            lesser=lesser(opened),
            draining=lambda: bool(app.state.draining),
            storage_mode=default.get("driver", "local"),
            region=default.get("region"),
        ),
    ]
    core = MediaCore(
        callers=callers,
        access=access,
        cards=cards,
        catalog=opened.catalog,
        ingest=ingest,
        ring=ring,
        addresses=addresses,
        clock=clock,
        posts=posts,
        records=records,
        signer=signer,
        elsewhere=elsewhere,
        handlers=own,
        reads=front.mount,
    )
    for handler in [*own, *plugins.routes(core)]:
        app.register(handler)
    described = asyncio.create_task(asyncio.to_thread(lambda: app.openapi_schema))  # tens of milliseconds: not in the first request for it
    chores = {
        "idempotency": Chore(KEYS_KEPT, keys.keep),
        "lanes": Chore(LANES_READ, lanes.read),
        "stored": Chore(STORED_READ, stored.read),
    }
    beat = asyncio.create_task(work(chores))
    following = asyncio.create_task(changes.follow())
    ringing = asyncio.create_task(rings.follow())
    try:
        yield
    finally:
        app.lent.pop(HOT, None)
        beat.cancel()
        following.cancel()
        ringing.cancel()
        await described
        for each in (beat, following, ringing):
            with suppress(asyncio.CancelledError):
                await each
        await uploads.close()
        ingest.close()
        keys.close()
        hearing.shutdown(wait=True, cancel_futures=True)


def _shown(variants: Variants, recipes: Registry, media_type: str) -> bool:
    """Whether media of this type have a thumbnail: of themselves, or of what a recipe makes of them."""
    made = (step.relationship for recipe in recipes.accepting(media_type) for step in recipe.steps)
    return variants.makes(media_type) or "thumbnail" in made


async def _exposed(registry: CollectorRegistry) -> bytes:
    return generate_latest(registry)


def process_registry() -> CollectorRegistry:
    """A registry that tells of the process itself."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry
