"""What a process opens before it does anything: catalog, storages, who-may drivers and actions, in order, by the configuration; and closes in reverse."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import structlog
from msgspec import Struct
from prometheus_client import CollectorRegistry, Counter

from mediacdn.access import Access
from mediacdn.catalog.database import Catalog, open_catalog
from mediacdn.catalog.notify import PostgresBusConfig, open_postgres_bus
from mediacdn.changes import Changes
from mediacdn.config import Config, Decoders, Mirrored, decode_driver
from mediacdn.config.storages import MIRROR
from mediacdn.derivation.files import Scratch
from mediacdn.derivation.maker import Maker
from mediacdn.edge.guarded import Guarded
from mediacdn.edge.policy import Rules
from mediacdn.edge.stamps import Stamps
from mediacdn.errors import ConfigError
from mediacdn.hookspecs import Kit
from mediacdn.ingest import Ingest
from mediacdn.inspection import Inspection
from mediacdn.intents import Intents
from mediacdn.interfaces import Action, Authenticator, Authorizer, Broker, Bus, CachePolicy, Counters, Inspector, Links, LocalPaths, Storage
from mediacdn.limits import MemoryCounters, SharedCounters
from mediacdn.links import StorageLinks
from mediacdn.model import Change, Event, Fence, NewJob
from mediacdn.plugins import Plugins
from mediacdn.recipes.planning import Planner
from mediacdn.recipes.registry import Registry, check_tables
from mediacdn.sandbox.fence import kernel
from mediacdn.storage.digests import Digests
from mediacdn.storage.metrics import StorageMetrics
from mediacdn.storage.mirror import Mirror
from mediacdn.storage.placement import routing
from mediacdn.storage.retry import Retrying
from mediacdn.storage.verify import Verifying
from mediacdn.terms import Terms
from mediacdn.ulids import Ulids
from mediacdn.upkeep.moving import Mover
from mediacdn.upkeep.promotion import Promotions, promotion
from mediacdn.uploads.sessions import Uploads

_log = structlog.get_logger("mediacdn.decoders")


class SystemClock:
    """The clock of the machine."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class Opened(Struct, frozen=True):
    """The drivers of this process, opened."""

    catalog: Catalog
    storages: dict[str, Storage]
    intents: Intents
    authenticators: list[Authenticator]
    authorizer: Authorizer | None
    counters: Counters
    digests: Digests
    bus: Bus | None
    broker: Broker | None
    policy: CachePolicy
    inspection: Inspection
    links: Links | None = None
    mirrors: dict[str, Mirror] = {}
    """Those of `storages` that are mirrors, as such."""


@asynccontextmanager
async def open_drivers(
    config: Config, plugins: Plugins, registry: CollectorRegistry, *, use: Literal["serve", "work", "tend"] = "serve"
) -> AsyncIterator[Opened]:
    """Open catalog and storages, to work also what uploads are judged by, to serve also who knows callers and copies; close them in reverse. Raises: StartupError, Unavailable."""
    data = Path(config.server.data)
    clock = SystemClock()

    def kit(name: str) -> Kit:
        return Kit(str(data.absolute()), structlog.get_logger(f"mediacdn.{name}"), registry, clock)

    async with AsyncExitStack() as stack:
        catalog = await stack.enter_async_context(open_catalog(config.database, data, clock, config.purge))
        metrics = StorageMetrics(registry)
        digests = Digests()
        single: dict[str, Storage] = {}
        mirrored: dict[str, Mirrored] = {}
        for name, table in config.storage.items():
            if table.get("driver") == MIRROR:
                mirrored[name] = decode_driver(Mirrored, table, f"storage.{name}")
                continue
            driver = plugins.driver("storage", table.get("driver", "local"), f"storage.{name}.driver")
            opened = await stack.enter_async_context(
                driver.open(decode_driver(driver.config, table, f"storage.{name}"), kit(f"storage.{name}"))
            )
            single[name] = Verifying(opened, digests.get)
        mirrors = {name: _mirror(name, settings, single, digests, metrics) for name, settings in mirrored.items()}
        for mirror in mirrors.values():
            await stack.enter_async_context(mirror.running())
        storages: dict[str, Storage] = {name: metrics.around(Retrying((single | mirrors)[name]), name) for name in config.storage}
        intents = Intents(catalog.objects, storages)
        stack.callback(intents.close)
        names = config.auth.authenticators if use == "serve" else ()
        authenticators: list[Authenticator] = [
            await stack.enter_async_context(_open_auth(config, plugins, "authenticator", name, kit(name))) for name in names
        ]
        authorizer: Authorizer | None = None
        if config.auth.authorizer is not None and use != "tend":
            name = config.auth.authorizer
            authorizer = await stack.enter_async_context(_open_auth(config, plugins, "authorizer", name, kit(name)))
        bus: Bus | None = None
        if config.edge.bus is not None:
            bus = await stack.enter_async_context(open_lesser(config, plugins, "bus", kit(config.edge.bus)))
        broker: Broker | None = None
        if config.jobs.broker != "table":
            broker = await stack.enter_async_context(open_lesser(config, plugins, "broker", kit(config.jobs.broker)))
        counters: Counters = MemoryCounters()
        if config.limits.counters != "memory" and use == "serve":
            counters = SharedCounters(
                await stack.enter_async_context(open_lesser(config, plugins, "counters", kit(config.limits.counters)))
            )
        policy: CachePolicy = Rules(config.edge, {name for name, each in storages.items() if isinstance(each, LocalPaths)})
        if config.edge.policy != "rules" and use == "serve":
            name = config.edge.policy
            policy = Guarded(await stack.enter_async_context(open_policy(config, plugins, kit(name))), name)
        inspectors: dict[str, Inspector] = {}
        for name in () if use == "tend" else config.inspection.inspectors:
            driver = plugins.driver("inspector", name, "inspection.inspectors")
            settings = decode_driver(driver.config, config.inspection.drivers.get(name, {}), f"inspection.{name}")
            inspectors[name] = await stack.enter_async_context(driver.open(settings, kit(f"inspection.{name}")))
        count: Callable[[str, str], None] | None = None
        if inspectors:
            verdicts = Counter("mediacdn_inspections", "What inspectors said of uploads", ("inspector", "outcome"), registry=registry)

            def count(name: str, outcome: str) -> None:
                verdicts.labels(name, outcome).inc()

        inspection = Inspection(inspectors, config.inspection.deadline, config.inspection.on_failure, count)
        links: Links | None = None
        if config.links.via == "storage" and use == "serve":
            links = StorageLinks(storages)
        elif config.links.via != "ours" and use == "serve":
            name = config.links.via
            driver = plugins.driver("links", name, "links.via")
            settings = decode_driver(driver.config, config.links.drivers.get(name, {}), f"links.{name}")
            links = await stack.enter_async_context(driver.open(settings, kit(f"links.{name}")))
        yield Opened(
            catalog, storages, intents, authenticators, authorizer, counters, digests, bus, broker, policy, inspection, links, mirrors
        )


@asynccontextmanager
async def open_actions(
    config: Config, plugins: Plugins, registry: CollectorRegistry, *, worker: bool = False
) -> AsyncIterator[dict[str, Action]]:
    """Open every action that the plugins bring, each by its table [recipes.NAME]. Raises: ConfigError, PluginError."""
    names = plugins.named("action")
    check_tables(config.recipes.drivers, names)
    fence = fence_of(config.decoders)
    data = Path(config.server.data)

    def kit(name: str) -> Kit:
        return Kit(str(data.absolute()), structlog.get_logger(f"mediacdn.recipes.{name}"), registry, SystemClock(), worker, fence)

    async with AsyncExitStack() as stack:
        actions: dict[str, Action] = {}
        for name in names:
            driver = plugins.driver("action", name)
            settings = decode_driver(driver.config, config.recipes.drivers.get(name, {}), f"recipes.{name}")
            actions[name] = await stack.enter_async_context(driver.open(settings, kit(name)))
        yield actions


def fence_of(settings: Decoders) -> Fence:
    """How decoders are kept in. Raises: ConfigError, where this kernel cannot do what is required."""
    if settings.fence == "require" and not (found := kernel()).whole:
        raise ConfigError(f'decoders.fence is "require", and this kernel has {found}')
    return Fence(settings.fence, settings.reads)


def tell_of_fence(settings: Decoders) -> None:
    """Say in the log of a start what keeps decoders in."""
    if settings.fence == "off":
        _log.warning("decoders without a fence", why='decoders.fence is "off"')
    elif (found := kernel()).whole:
        _log.info("decoders behind a fence", kernel=str(found))
    else:
        _log.warning("decoders without a whole fence", kernel=str(found))


def recipe_registry(config: Config, plugins: Plugins, actions: Mapping[str, Action]) -> Registry:
    """The recipes that plugins and the configuration bring. Raises: ConfigError, PluginError."""
    return Registry(actions, brought=plugins.recipes(), defined=config.recipes.define, storages=config.storage)


def _mirror(name: str, settings: Mirrored, single: Mapping[str, Storage], digests: Digests, metrics: StorageMetrics) -> Mirror:
    """Members are counted as themselves, and never tried twice: the mirror has another to ask."""

    def repaired(member: str, outcome: str) -> None:
        metrics.repairs.labels(name, member, outcome).inc()

    return Mirror(
        name,
        {each: metrics.around(single[each], each) for each in settings.of},
        writes=settings.writes,
        patience=settings.patience,
        digest_of=digests.get,
        repaired=repaired,
    )


def _open_auth(config: Config, plugins: Plugins, seam: str, name: str, kit: Kit) -> Any:
    driver = plugins.driver(seam, name, f"auth.{seam}s" if seam == "authenticator" else f"auth.{seam}")
    table = dict(config.auth.drivers.get(name, {}))
    shared = {"scope_claim": config.auth.scope_claim, "scope_map": config.auth.scope_map, "default_scopes": config.auth.default_scopes}
    for key, value in shared.items():
        if key in driver.config.__struct_fields__:
            table.setdefault(key, value)
    return driver.open(decode_driver(driver.config, table, f"auth.{name}"), kit)


def open_policy(config: Config, plugins: Plugins, kit: Kit) -> Any:
    """Open the cache_policy driver that is configured. Raises: ConfigError, PluginError."""
    name = config.edge.policy
    driver = plugins.driver("cache_policy", name, "edge.policy")
    return driver.open(decode_driver(driver.config, config.edge.drivers.get(name, {}), f"edge.{name}"), kit)


def open_lesser(config: Config, plugins: Plugins, seam: str, kit: Kit) -> Any:
    """Open the bus, broker or counters driver that is configured: what it says in its own table counts before what [NAME] says to all of this name.

    Raises: ConfigError, PluginError; never because what it speaks to is away.
    """
    section, key, tables = {
        "bus": ("edge", "bus", config.edge.drivers),
        "broker": ("jobs", "broker", config.jobs.drivers),
        "counters": ("limits", "counters", config.limits.drivers),
    }[seam]
    name = getattr(getattr(config, section), key)
    own, shared = tables.get(name, {}), config.shared.get(name, {})
    path = name if shared and not own else f"{section}.{name}"
    if (seam, name) == ("bus", "postgres"):
        return open_postgres_bus(decode_driver(PostgresBusConfig, {**shared, **own}, path), config.database)
    driver = plugins.driver(seam, name, f"{section}.{key}")
    return driver.open(decode_driver(driver.config, {**shared, **own}, path), kit)


def maker(
    config: Config, opened: Opened, actions: Mapping[str, Action], changes: Changes, emit: Callable[[Event], None] = lambda event: None
) -> Maker:
    return Maker(
        catalog=opened.catalog,
        storages=opened.storages,
        intents=opened.intents,
        routing=routing(config),
        actions=actions,
        scratch=Scratch(Path(config.server.data) / "scratch"),
        remember=opened.digests.remember,
        clock=SystemClock(),
        new_id=Ulids(),
        emit=emit,
        told=changes.told,
    )


def mover(opened: Opened, told: Callable[[Sequence[Change]], Awaitable[None]]) -> Mover:
    return Mover(catalog=opened.catalog, storages=opened.storages, intents=opened.intents, told=told, new_id=Ulids())


def promotions(config: Config, opened: Opened, moves: Mover) -> Promotions:
    return Promotions(
        catalog=opened.catalog,
        mover=moves,
        routing=routing(config),
        clock=SystemClock(),
        new_id=Ulids(),
    )


def ingest_of(
    config: Config,
    opened: Opened,
    planner: Planner,
    *,
    access: Access,
    new_id: Callable[[], str],
    emit: Callable[[Event], None] = lambda event: None,
    ring: Callable[[Iterable[NewJob]], None] = lambda jobs: None,
) -> Ingest:
    return Ingest(
        catalog=opened.catalog,
        storages=opened.storages,
        intents=opened.intents,
        terms=Terms(config.limits, routing(config), opened.counters, config.lifecycle.default_expires_in),
        access=access,
        inspection=opened.inspection,
        clock=SystemClock(),
        new_id=new_id,
        emit=emit,
        plan=planner,
        ring=ring,
        promotion=partial(promotion, new_id=new_id),
    )


def uploads_of(config: Config, opened: Opened, ingest: Ingest, new_id: Callable[[], str]) -> Uploads:
    return Uploads(
        catalog=opened.catalog,
        storages=opened.storages,
        ingest=ingest,
        settings=config.uploads,
        data=Path(config.server.data),
        clock=SystemClock(),
        new_id=new_id,
    )


async def open_stamps(config: Config) -> Stamps:
    """Open the table that the processes of this node share. Raises: StartupError."""
    return await asyncio.to_thread(Stamps, edge_folder(config))


def edge_folder(config: Config) -> Path:
    """Where the node's shared table and the disk tier live."""
    return Path(config.server.data) / (config.edge.directory or "edge")
