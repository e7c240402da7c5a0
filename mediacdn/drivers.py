"""What a process opens before it does anything: catalog, storages, who-may drivers and actions, in order, by the configuration; and closes in reverse."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import structlog
from msgspec import Struct
from prometheus_client import CollectorRegistry

from mediacdn.access import Access
from mediacdn.catalog.database import Catalog, open_catalog
from mediacdn.changes import Changes
from mediacdn.config import Config, decode_driver
from mediacdn.derivation.files import Scratch
from mediacdn.derivation.maker import Maker
from mediacdn.edge.guarded import Guarded
from mediacdn.edge.policy import Rules
from mediacdn.edge.stamps import Stamps
from mediacdn.hookspecs import Kit
from mediacdn.ingest import Ingest
from mediacdn.inspection import Inspection
from mediacdn.interfaces import Action, Authenticator, Authorizer, Bus, CachePolicy, Counters, Inspector, LocalPaths, Storage
from mediacdn.limits import MemoryCounters
from mediacdn.model import Event
from mediacdn.plugins import Plugins
from mediacdn.recipes.planning import Planner
from mediacdn.recipes.registry import Registry, check_tables
from mediacdn.storage.digests import Digests
from mediacdn.storage.metrics import StorageMetrics
from mediacdn.storage.retry import Retrying
from mediacdn.storage.verify import Verifying
from mediacdn.ulids import Ulids
from mediacdn.uploads.sessions import Uploads


class SystemClock:
    """The clock of the machine."""

    def now(self) -> datetime:
        return datetime.now(UTC)


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
    inspection: Inspection


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
            bus = await stack.enter_async_context(_open_edge(config, plugins, "bus", config.edge.bus, kit(config.edge.bus)))
        policy: CachePolicy = Rules(config.edge, {name for name, each in storages.items() if isinstance(each, LocalPaths)})
        if config.edge.policy != "rules" and use == "serve":
            name = config.edge.policy
            policy = Guarded(await stack.enter_async_context(_open_edge(config, plugins, "cache_policy", name, kit(name))), name)
        inspectors: dict[str, Inspector] = {}
        for name in () if use == "tend" else config.inspection.inspectors:
            driver = plugins.driver("inspector", name, "inspection.inspectors")
            settings = decode_driver(driver.config, config.inspection.drivers.get(name, {}), f"inspection.{name}")
            inspectors[name] = await stack.enter_async_context(driver.open(settings, kit(f"inspection.{name}")))
        inspection = Inspection(inspectors, config.inspection.deadline, config.inspection.on_failure)
        yield Opened(catalog, storages, authenticators, authorizer, MemoryCounters(), digests, bus, policy, inspection)


@asynccontextmanager
async def open_actions(
    config: Config, plugins: Plugins, registry: CollectorRegistry, *, worker: bool = False
) -> AsyncIterator[dict[str, Action]]:
    """Open every action that the plugins bring, each by its table [recipes.NAME]. Raises: ConfigError, PluginError."""
    names = plugins.named("action")
    check_tables(config.recipes.drivers, names)
    data = Path(config.server.data)

    def kit(name: str) -> Kit:
        return Kit(str(data.absolute()), structlog.get_logger(f"mediacdn.recipes.{name}"), registry, SystemClock(), worker)

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


def maker(
    config: Config, opened: Opened, actions: Mapping[str, Action], changes: Changes, emit: Callable[[Event], None] = lambda event: None
) -> Maker:
    return Maker(
        catalog=opened.catalog,
        storages=opened.storages,
        routing=config.routing,
        actions=actions,
        scratch=Scratch(Path(config.server.data) / "scratch"),
        remember=opened.digests.remember,
        clock=SystemClock(),
        new_id=Ulids(),
        emit=emit,
        told=changes.told,
    )


def ingest_of(
    config: Config,
    opened: Opened,
    plugins: Plugins,
    recipes: Registry,
    *,
    access: Access,
    new_id: Callable[[], str],
    emit: Callable[[Event], None] = lambda event: None,
) -> Ingest:
    return Ingest(
        catalog=opened.catalog,
        storages=opened.storages,
        routing=config.routing,
        limits=config.limits,
        default_lifetime=config.lifecycle.default_expires_in,
        access=access,
        counters=opened.counters,
        inspection=opened.inspection,
        clock=SystemClock(),
        new_id=new_id,
        emit=emit,
        plan=Planner(recipes, plugins.plans, new_id, config.jobs.attempts),
    )


def uploads_of(config: Config, opened: Opened, ingest: Ingest, new_id: Callable[[], str]) -> Uploads:
    return Uploads(
        catalog=opened.catalog,
        storages=opened.storages,
        ingest=ingest,
        settings=config.uploads,
        limits=config.limits,
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
