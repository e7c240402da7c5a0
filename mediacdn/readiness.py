"""What readiness asks of the parts that are open: of those without which nothing goes well, and of those that only make it quicker."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from mediacdn.drivers import Opened
from mediacdn.errors import NotFound
from mediacdn.interfaces import Action, Storage

Check = Callable[[], Awaitable[None]]
"""Raises what the part raises when it does not answer."""


def needed(opened: Opened, names: tuple[str, ...], actions: Mapping[str, Action]) -> dict[str, Check]:
    """The catalog, each storage, and each authenticator, inspector and action that can tell."""
    checks: dict[str, Check] = {"catalog": opened.catalog.check}
    mirrored = {name for mirror in opened.mirrors.values() for name in mirror.members}
    for name, storage in opened.storages.items():
        if name not in mirrored:  # for one that is, its mirror answers
            checks[f"storage.{name}"] = _storage_check(storage)
    others: dict[str, Any] = {f"auth.{name}": each for name, each in zip(names, opened.authenticators, strict=True)}
    others |= {f"inspector.{name}": each for name, each in opened.inspection.inspectors.items()}
    others |= {f"action.{name}": each for name, each in actions.items()}
    for name, driver in others.items():
        check = getattr(driver, "check", None)
        if check is not None:
            checks[name] = check
    return checks


def lesser(opened: Opened) -> dict[str, Check]:
    """Without these everything works, slower."""
    parts = {"broker": opened.broker, "bus": opened.bus, "counters": opened.counters}
    return {name: check for name, each in parts.items() if (check := getattr(each, "check", None)) is not None}


def _storage_check(storage: Storage) -> Check:
    async def check() -> None:
        # The honest answer of a storage that works. Not by `head`: of a bucket that is not there, S3 says so only to who reads.
        with suppress(NotFound):
            async with storage.open("readiness/probe"):
                pass

    return check
