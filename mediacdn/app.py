"""The composition root: from a configuration to a running application. The only file that knows plugins; it opens drivers in order in its lifespan."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import structlog
from litestar import Litestar
from litestar.openapi import OpenAPIConfig
from msgspec import Struct
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from mediacdn.access import Access
from mediacdn.catalog.card import CardCache
from mediacdn.catalog.database import Catalog, open_catalog
from mediacdn.changes import Changes
from mediacdn.config import Config, decode_driver
from mediacdn.core import MediaCore
from mediacdn.delivery import Delivery
from mediacdn.edge.files import OpenFiles
from mediacdn.edge.guarded import Guarded
from mediacdn.edge.metrics import EdgeMetrics
from mediacdn.edge.opening import open_edge
from mediacdn.edge.policy import Rules
from mediacdn.edge.stamps import Stamps
from mediacdn.edge.tiers import Edge
from mediacdn.errors import MediaError, NotFound, StartupError
from mediacdn.hookspecs import Kit
from mediacdn.hot import HotReads
from mediacdn.ingest import Ingest
from mediacdn.interfaces import Action, Authenticator, Authorizer, Bus, CachePolicy, Counters, LocalPaths, Storage
from mediacdn.jobs.metrics import EVERY as LANES_READ
from mediacdn.jobs.metrics import LaneMetrics
from mediacdn.keyring import open_keyring
from mediacdn.lifecycle import Lifecycle
from mediacdn.limits import MemoryCounters
from mediacdn.model import Change, Event
from mediacdn.plugins import Plugins
from mediacdn.recipes.registry import Registry, check_tables
from mediacdn.routes.admin import admin_routes
from mediacdn.routes.ancestry import ancestry_routes
from mediacdn.routes.callers import Callers
from mediacdn.routes.contract import SCHEMES, ClosedStructs
from mediacdn.routes.front import Front
from mediacdn.routes.jobs import job_routes
from mediacdn.routes.links import Signer, link_routes
from mediacdn.routes.media import Reads, Uploads, media_routes
from mediacdn.routes.operations import operation_routes
from mediacdn.routes.problem import known_methods, on_error
from mediacdn.routes.records import Records, record_routes
from mediacdn.routes.schema_page import SchemaPage
from mediacdn.routes.sending import Senders
from mediacdn.routes.tasks import task_routes
from mediacdn.routes.views import Addresses
from mediacdn.routes.watching import Watching
from mediacdn.server.lane import HOT
from mediacdn.storage.digests import Digests
from mediacdn.storage.metrics import StorageMetrics
from mediacdn.storage.retry import Retrying
from mediacdn.storage.verify import Verifying
from mediacdn.tasks import Tasks
from mediacdn.ulids import Ulids
from mediacdn.worker import Chore, work

HEARTBEAT = 15.0
IDEMPOTENCY_KEPT = timedelta(hours=24)
log = structlog.get_logger("mediacdn")


class SystemClock:
    """The clock of the machine."""

    def now(self) -> datetime:
        return datetime.now(UTC)


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


class Opened(Struct, frozen=True):
    """The drivers of this process, opened."""

    catalog: Catalog
    storages: dict[str, Storage]
    authenticators: list[Authenticator]
    authorizer: Authorizer | None
    counters: Counters
    digests: Digests
    bus: Bus | None
    policy: CachePolicy


@asynccontextmanager
async def open_drivers(
    config: Config, plugins: Plugins, registry: CollectorRegistry, *, storage_only: bool = False
) -> AsyncIterator[Opened]:
    """Open catalog, storages and (unless `storage_only`) who-may drivers in order; close them in reverse. Raises: StartupError, Unavailable."""
    data = Path(config.server.data)
    clock = SystemClock()

    def kit(name: str) -> Kit:
        return Kit(str(data.absolute()), structlog.get_logger(f"mediacdn.{name}"), registry, clock)

    async with AsyncExitStack() as stack:
        catalog = await stack.enter_async_context(open_catalog(config.database, data, clock))
        metrics = StorageMetrics(registry)
        digests = Digests()
        storages: dict[str, Storage] = {}
        for name, table in config.storage.items():
            driver = plugins.driver("storage", table.get("driver", "local"), f"storage.{name}.driver")
            own = {key: value for key, value in table.items() if key != "driver"}
            opened = await stack.enter_async_context(
                driver.open(decode_driver(driver.config, own, f"storage.{name}"), kit(f"storage.{name}"))
            )
            storages[name] = metrics.around(Retrying(Verifying(opened, digests.get)), name)
        names = () if storage_only else config.auth.authenticators
        authenticators: list[Authenticator] = [
            await stack.enter_async_context(_open_auth(config, plugins, "authenticator", name, kit(name))) for name in names
        ]
        authorizer: Authorizer | None = None
        if config.auth.authorizer is not None and not storage_only:
            name = config.auth.authorizer
            authorizer = await stack.enter_async_context(_open_auth(config, plugins, "authorizer", name, kit(name)))
        bus: Bus | None = None
        if config.edge.bus is not None:
            bus = await stack.enter_async_context(_open_edge(config, plugins, "bus", config.edge.bus, kit(config.edge.bus)))
        policy: CachePolicy = Rules(config.edge, {name for name, each in storages.items() if isinstance(each, LocalPaths)})
        if config.edge.policy != "rules" and not storage_only:
            name = config.edge.policy
            policy = Guarded(await stack.enter_async_context(_open_edge(config, plugins, "cache_policy", name, kit(name))), name)
        yield Opened(catalog, storages, authenticators, authorizer, MemoryCounters(), digests, bus, policy)


@asynccontextmanager
async def open_actions(config: Config, plugins: Plugins, registry: CollectorRegistry) -> AsyncIterator[dict[str, Action]]:
    """Open every action that the plugins bring, each by its table [recipes.NAME]. Raises: ConfigError, PluginError."""
    names = plugins.named("action")
    check_tables(config.recipes.drivers, names)
    data = Path(config.server.data)

    def kit(name: str) -> Kit:
        return Kit(str(data.absolute()), structlog.get_logger(f"mediacdn.recipes.{name}"), registry, SystemClock())

    async with AsyncExitStack() as stack:
        actions: dict[str, Action] = {}
        for name in names:
            driver = plugins.driver("action", name)
            settings = decode_driver(driver.config, config.recipes.drivers.get(name, {}), f"recipes.{name}")
            actions[name] = await stack.enter_async_context(driver.open(settings, kit(name)))
        yield actions


def recipe_registry(config: Config, plugins: Plugins, actions: Mapping[str, Action]) -> Registry:
    """The recipes that plugins and the configuration bring. Raises: ConfigError, PluginError."""
    return Registry(actions, brought=plugins.recipes(), defined=config.recipes.define, storages=config.storage)


def _open_auth(config: Config, plugins: Plugins, seam: str, name: str, kit: Kit) -> Any:
    driver = plugins.driver(seam, name, f"auth.{seam}s" if seam == "authenticator" else f"auth.{seam}")
    table = dict(config.auth.drivers.get(name, {}))
    shared = {"scope_claim": config.auth.scope_claim, "scope_map": config.auth.scope_map, "default_scopes": config.auth.default_scopes}
    for key, value in shared.items():
        if key in driver.config.__struct_fields__:
            table.setdefault(key, value)
    return driver.open(decode_driver(driver.config, table, f"auth.{name}"), kit)


def _open_edge(config: Config, plugins: Plugins, seam: str, name: str, kit: Kit) -> Any:
    driver = plugins.driver(seam, name, "edge.policy" if seam == "cache_policy" else "edge.bus")
    return driver.open(decode_driver(driver.config, config.edge.drivers.get(name, {}), f"edge.{name}"), kit)


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
        try:
            async with (
                open_drivers(config, loaded, metrics) as opened,
                open_actions(config, loaded, metrics) as actions,
                _edge(config, metrics, opened) as (stamps, edge),
            ):
                recipes = recipe_registry(config, loaded, actions)
                async with _rooms(app, front, config, loaded, metrics, opened, stamps, edge, recipes):
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
    app.asgi_handler = front = Front(app.asgi_handler, config.server, config.cors, metrics, partial(known_methods, app))
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
    addresses = Addresses(config.server.public_url, config.server.base_path)
    delivery = Delivery(access, config.edge, edge, config.cors.resource_policy)
    senders = Senders(delivery, edge, opened.storages, opened.digests, files)
    lifecycle = Lifecycle(catalog=opened.catalog, told=changes.told, files=files, storages=opened.storages, clock=clock, emit=emit)
    new_id = Ulids()
    ingest = Ingest(
        catalog=opened.catalog,
        storages=opened.storages,
        routing=config.routing,
        limits=config.limits,
        default_lifetime=config.lifecycle.default_expires_in,
        access=access,
        counters=opened.counters,
        clock=clock,
        new_id=new_id,
        emit=emit,
    )
    records = Records(catalog=opened.catalog, cards=cards, callers=callers, access=access, clock=clock)
    signer = Signer(ring=ring, config=config.signing, addresses=addresses, clock=clock)
    tasks = Tasks(catalog=opened.catalog, registry=recipes, told=changes.told, new_id=new_id, clock=clock, attempts=config.jobs.attempts)
    watching = Watching(opened.catalog.jobs, lambda: bool(app.state.draining))
    lanes = LaneMetrics(registry, opened.catalog.jobs, config.jobs.lanes)
    reads = Reads(cards=cards, callers=callers, access=access, delivery=delivery, senders=senders, clock=clock)
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
        clock=clock,
    )
    uploads = Uploads(
        ingest=ingest, catalog=opened.catalog, callers=callers, access=access, limits=config.limits, addresses=addresses, clock=clock
    )
    default = config.storage.get("default") or next(iter(config.storage.values()))
    core = MediaCore(
        callers=callers, access=access, cards=cards, catalog=opened.catalog, ingest=ingest, ring=ring, addresses=addresses, clock=clock
    )
    for handler in [
        *media_routes(reads, uploads),
        *record_routes(records, access=access, ingest=ingest, lifecycle=lifecycle, limits=config.limits, addresses=addresses, clock=clock),
        *task_routes(records, tasks, watching, access=access, addresses=addresses, clock=clock),
        *ancestry_routes(records, opened.catalog.ancestry, access=access, addresses=addresses, clock=clock),
        *job_routes(records, tasks, opened.catalog.jobs, access=access),
        *link_routes(records, signer, access),
        *admin_routes(
            records,
            access=access,
            lifecycle=lifecycle,
            clock=clock,
            routing=config.routing,
            private_read=config.auth.private_read,
            edge=config.edge,
            policy=opened.policy,
            stats=edge.stats,
            holds=edge.holds,
        ),
        *operation_routes(
            config=config,
            access=access,
            callers=callers,
            ingest=ingest,
            addresses=addresses,
            exposition=app.state.exposition,
            checks=_checks(opened, config.auth.authenticators),
            draining=lambda: bool(app.state.draining),
            storage_mode=default.get("driver", "local"),
            region=default.get("region"),
        ),
        *plugins.routes(core),
    ]:
        app.register(handler)
    described = asyncio.create_task(asyncio.to_thread(lambda: app.openapi_schema))  # tens of milliseconds: not in the first request for it
    beat = asyncio.create_task(work({"heartbeat": Chore(HEARTBEAT, ingest.heartbeat), "lanes": Chore(LANES_READ, lanes.read)}))
    following = asyncio.create_task(changes.follow())
    try:
        yield
    finally:
        app.lent.pop(HOT, None)
        beat.cancel()
        following.cancel()
        await described
        for each in (beat, following):
            with suppress(asyncio.CancelledError):
                await each
        ingest.close()
        hearing.shutdown(wait=True, cancel_futures=True)


def _checks(opened: Opened, names: tuple[str, ...]) -> dict[str, Callable[[], Awaitable[None]]]:
    """What readiness asks: the catalog, each storage, and each authenticator that can tell."""
    checks: dict[str, Callable[[], Awaitable[None]]] = {"catalog": opened.catalog.check}
    for name, storage in opened.storages.items():
        checks[f"storage.{name}"] = _storage_check(storage)
    for name, each in zip(names, opened.authenticators, strict=True):
        check = getattr(each, "check", None)
        if check is not None:
            checks[f"auth.{name}"] = check
    return checks


def _storage_check(storage: Storage) -> Callable[[], Awaitable[None]]:
    async def check() -> None:
        with suppress(NotFound):  # the honest answer of a storage that works
            await storage.head("readiness/probe")

    return check


async def run_worker(config: Config, *, plugins: Plugins | None = None, registry: CollectorRegistry | None = None) -> None:
    """The worker process: sweep what crashes left, forget old idempotency keys and changes, until cancelled."""
    loaded = plugins or Plugins.load(config.plugins)
    async with open_drivers(config, loaded, registry or CollectorRegistry(), storage_only=True) as opened:
        stamps = await open_stamps(config)
        changes = Changes(rows=opened.catalog.changes, stamps=stamps, every=config.edge.sweep_every, bus=opened.bus)
        async with asyncio.TaskGroup() as group:
            group.create_task(changes.follow())
            group.create_task(work(chores(config, opened, changes)))


async def open_stamps(config: Config) -> Stamps:
    """Open the table that the processes of this node share. Raises: StartupError."""
    return await asyncio.to_thread(Stamps, edge_folder(config))


def edge_folder(config: Config) -> Path:
    """Where the node's shared table and the disk tier live."""
    return Path(config.server.data) / (config.edge.directory or "edge")


def chores(config: Config, opened: Opened, changes: Changes) -> Mapping[str, Chore]:
    """What comes round in a worker."""
    clock = SystemClock()
    lifecycle = sweeper(opened, changes.told)

    async def sweep() -> None:
        swept = await lifecycle.sweep(timedelta(seconds=config.lifecycle.abandoned_after))
        if swept:
            log.info("swept", objects=len(swept))

    async def retire() -> None:
        retired = await lifecycle.retire()
        if retired:
            log.info("retired", media=retired)

    async def forget() -> None:
        await opened.catalog.idempotency.purge(clock.now() - IDEMPOTENCY_KEPT)

    async def prune() -> None:
        await opened.catalog.changes.prune()

    every = config.lifecycle.sweep_every
    return {
        "sweep": Chore(every, sweep),
        "retire": Chore(every, retire),
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


async def _exposed(registry: CollectorRegistry) -> bytes:
    return generate_latest(registry)


def process_registry() -> CollectorRegistry:
    """A registry that tells of the process itself."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry
