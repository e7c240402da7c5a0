"""What the core hands a driver, for tests that open one."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import TypeVar

import structlog
from prometheus_client import CollectorRegistry

from mediacdn.hookspecs import Kit

C = TypeVar("C")
S = TypeVar("S")


class SystemClock:
    """The system's time."""

    def now(self) -> datetime:
        return datetime.now(UTC)


def kit(data: str) -> Kit:
    """A kit with its own metrics registry, whose data directory is the path `data`."""
    return Kit(data, structlog.get_logger("mediacdn.testing"), CollectorRegistry(), SystemClock())


def opened(open: Callable[[C, Kit], AbstractAsyncContextManager[S]], config: C, data: str) -> AbstractAsyncContextManager[S]:
    """Open a driver as the core does, on a kit made here: `functools.partial(opened, open_mine, MineConfig(), str(path))` is a picklable `reopen`."""
    return open(config, kit(data))
