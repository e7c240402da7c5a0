"""Every hook that a plugin may implement, on one page. They run at start-up, when jobs are planned and after the fact; never between a request and its bytes."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pluggy
from msgspec import Struct

from mediacdn.interfaces import Clock, Core
from mediacdn.model import Event, Fence, Media, Plan, Recipe

hookspec = pluggy.HookspecMarker("mediacdn")
hookimpl = pluggy.HookimplMarker("mediacdn")

SEAMS = ("storage", "authenticator", "authorizer", "counters", "cache_policy", "bus", "action", "inspector", "broker", "links")


class Kit(Struct, frozen=True):
    """What the core hands a driver when it opens it: the data directory it may write beneath, its logger, the metrics registry and the clock.

    `worker` says that this process does jobs: what they need is kept warm there, and started when it is wanted elsewhere.
    `fence` is for `open_sandbox`: how the configuration wants decoders kept in.
    """

    data: str
    logger: Any
    metrics: Any
    clock: Clock
    worker: bool = False
    fence: Fence = Fence()


class Driver(Struct, frozen=True):
    """One way to fill a seam. `config` is the msgspec Struct of its TOML table, decoded before `open(config, kit)` is entered in the app's lifespan."""

    seam: str
    name: str
    config: type[Struct]
    open: Callable[[Any, Kit], AbstractAsyncContextManager[Any]]


class Branch(Struct, frozen=True):
    """A plugin's own tables: `label` of its alembic branch and the folder that holds its revisions."""

    label: str
    folder: str


@hookspec
def mediacdn_drivers() -> list[Driver]:  # type: ignore[empty-body]
    """Name the drivers that this plugin brings."""


@hookspec
def mediacdn_recipes() -> list[Recipe]:  # type: ignore[empty-body]
    """Name the recipes that this plugin brings."""


@hookspec
def mediacdn_plan_jobs(media: Media) -> list[Plan]:  # type: ignore[empty-body]
    """Name the recipes that a media deserves which is about to be recorded; pure, called on the event loop, planned in the record's transaction."""


@hookspec
def mediacdn_routes(core: Core) -> list[Any]:  # type: ignore[empty-body]
    """Add Litestar route handlers to the app."""


@hookspec
def mediacdn_migrations() -> list[Branch]:  # type: ignore[empty-body]
    """Add a branch of migrations for this plugin's own tables."""


@hookspec
def mediacdn_on_event(event: Event) -> None:
    """Hear of something that was committed; best effort, off the request's path."""
