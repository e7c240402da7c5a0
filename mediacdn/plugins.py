"""Plugins: found by name among the installed distributions, loaded only where the configuration names them, and indexed by what they bring.

A plugin that is not named is never imported, so a missing extra of one cannot break another. Opening drivers is app.py's business.
"""

import inspect
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any

import pluggy
import structlog
from msgspec import Struct

from mediacdn import hookspecs
from mediacdn.errors import PluginError
from mediacdn.hookspecs import SEAMS, Branch, Driver
from mediacdn.interfaces import Core
from mediacdn.model import Event, Media, Plan, Recipe

GROUP = "mediacdn"
_log = structlog.get_logger("mediacdn.plugins")


class Description(Struct, frozen=True):
    """What `mediacdn plugins` tells of one plugin; `drivers` are written as seam:name."""

    name: str
    version: str
    distribution: str
    drivers: tuple[str, ...]
    hooks: tuple[str, ...]


def available() -> list[str]:
    """Name the plugins that are installed, loaded or not."""
    return sorted({point.name for point in entry_points(group=GROUP)})


class Plugins:
    """The loaded plugins, in the order of the configuration."""

    def __init__(self) -> None:
        self._pluggy = pluggy.PluginManager(GROUP)
        self._pluggy.add_hookspecs(hookspecs)
        self._points: dict[str, EntryPoint] = {}
        self._drivers: dict[tuple[str, str], tuple[Driver, str]] = {}

    @classmethod
    def load(cls, names: Iterable[str], installed: Sequence[EntryPoint] | None = None) -> "Plugins":
        """Load the named plugins, found by default through the entry points of group `mediacdn`.

        Raises: PluginError when one is not installed, does not import, names an unknown hook, or brings a driver that is already there.
        """
        loaded = cls()
        points = list(entry_points(group=GROUP) if installed is None else installed)
        for name in names:
            loaded._register(name, points)
        try:
            loaded._pluggy.check_pending()
        except pluggy.PluginValidationError as error:
            raise PluginError(f"plugin {str(getattr(error.plugin, '__name__', error.plugin))!r}: {error}") from error
        for name in loaded._points:
            for driver in loaded._list(name, "mediacdn_drivers", Driver):
                loaded._add(name, driver)
        return loaded

    def driver(self, seam: str, name: str, key: str = "") -> Driver:
        """Give the driver of this seam and name, which stands at `key` of the configuration. Raises: PluginError, which names those that are there."""
        if (seam, name) not in self._drivers:
            known = sorted(other for of, other in self._drivers if of == seam)
            raise PluginError(
                f"{key and f'{key}: '}no loaded plugin brings the {seam} driver {name!r}{_meant(name, known)}; there is {_listed(known)} (plugins: {_listed(self._points)})"
            )
        return self._drivers[seam, name][0]

    def named(self, seam: str) -> list[str]:
        """Name the drivers of a seam, in the order of the plugins."""
        return [name for of, name in self._drivers if of == seam]

    def routes(self, core: Core) -> list[Any]:
        """Collect the route handlers of every plugin."""
        return [route for name in self._points for route in self._list(name, "mediacdn_routes", core=core)]

    def recipes(self) -> list[tuple[str, Recipe]]:
        """Collect the recipes of every plugin, each with the plugin's name."""
        return [(name, recipe) for name in self._points for recipe in self._list(name, "mediacdn_recipes", Recipe)]

    def plans(self, media: Media) -> list[Plan]:
        """Collect what the plugins want done to a media that is about to be recorded."""
        return [plan for name in self._points for plan in self._list(name, "mediacdn_plan_jobs", Plan, media=media)]

    def branches(self) -> list[Branch]:
        """Collect the branches of migrations. Raises: PluginError when two have one label."""
        found: dict[str, str] = {}
        branches: list[Branch] = []
        for name in self._points:
            for branch in self._list(name, "mediacdn_migrations", Branch):
                if branch.label in found:
                    raise PluginError(f"plugins {found[branch.label]!r} and {name!r} both bring the migration branch {branch.label!r}")
                found[branch.label] = name
                branches.append(branch)
        return branches

    def emit(self, event: Event) -> None:
        """Tell every plugin of an event; what one of them raises is logged and keeps nobody from hearing."""
        for name in self._points:
            try:
                self._caller(name, "mediacdn_on_event")(event=event)
            except Exception:
                _log.exception("plugin failed on an event", plugin=name, event_kind=event.kind, media_id=event.media_id)

    def described(self) -> list[Description]:
        """Describe every plugin, for people."""
        described = []
        for name, point in self._points.items():
            plugin = self._pluggy.get_plugin(name)
            hooks = sorted(caller.name for caller in self._pluggy.get_hookcallers(plugin) or ())
            drivers = sorted(f"{seam}:{driver}" for (seam, driver), (_, owner) in self._drivers.items() if owner == name)
            version = point.dist.version if point.dist else ""
            described.append(Description(name, version, _distribution(point), tuple(drivers), tuple(hooks)))
        return described

    def _register(self, name: str, points: Sequence[EntryPoint]) -> None:
        if name in self._points:
            raise PluginError(f"plugin {name!r} is named twice")
        found = [point for point in points if point.name == name]
        if not found:
            raise PluginError(_absent(name, sorted({point.name for point in points})))
        if len({point.value for point in found}) > 1:
            raise PluginError(f"plugin {name!r} is brought by more than one distribution: {_listed(map(_distribution, found))}")
        module = _imported(found[0])
        _check_hooks(name, module)
        try:
            self._pluggy.register(module, name)
        except (pluggy.PluginValidationError, ValueError) as error:
            raise PluginError(f"plugin {name!r}: {error}") from error
        self._points[name] = found[0]

    def _caller(self, name: str, hook: str) -> Callable[..., list[Any]]:
        others = [plugin for other, plugin in self._pluggy.list_name_plugin() if other != name and plugin is not None]
        return self._pluggy.subset_hook_caller(hook, others)

    def _list(self, name: str, hook: str, kind: type[Any] = object, **arguments: Any) -> list[Any]:
        """Call one plugin's hook and join its lists."""
        joined: list[Any] = []
        for result in self._caller(name, hook)(**arguments):
            if not isinstance(result, list | tuple) or not all(isinstance(each, kind) for each in result):
                raise PluginError(
                    f"plugin {name!r}: {hook} must return a list{'' if kind is object else f' of {kind.__name__}'}, not {result!r}"
                )
            joined.extend(result)
        return joined

    def _add(self, name: str, driver: Driver) -> None:
        if driver.seam not in SEAMS:
            raise PluginError(f"plugin {name!r}: there is no seam {driver.seam!r}{_meant(driver.seam, SEAMS)}; there is {_listed(SEAMS)}")
        if not (isinstance(driver.config, type) and issubclass(driver.config, Struct)):
            raise PluginError(f"plugin {name!r}: the config of {driver.seam} driver {driver.name!r} must be a msgspec Struct type")
        if (driver.seam, driver.name) in self._drivers:
            other = self._drivers[driver.seam, driver.name][1]
            raise PluginError(f"plugins {other!r} and {name!r} both bring the {driver.seam} driver {driver.name!r}")
        self._drivers[driver.seam, driver.name] = (driver, name)


def _imported(point: EntryPoint) -> Any:
    """Import a plugin. Raises: PluginError with the pip line when a module is missing, else with what went wrong."""
    try:
        return point.load()
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        if missing == point.module.partition(".")[0]:
            raise PluginError(f"plugin {point.name!r} is listed by {_distribution(point)} but cannot be imported ({error})") from error
        raise PluginError(
            f"plugin {point.name!r} needs a missing dependency ({error}); try: pip install {_requirement(point)!r}{_in_a_clone(point)}"
        ) from error
    except Exception as error:
        raise PluginError(f"plugin {point.name!r} failed while it was imported: {type(error).__name__}: {error}") from error


def _check_hooks(name: str, module: Any) -> None:
    """Refuse what pluggy would pass over in silence: a hook without its mark, and a coroutine function, which would never be awaited."""
    for attribute, function in vars(module).items() if isinstance(module, ModuleType) else ():
        if attribute.startswith("mediacdn_") and inspect.isfunction(function):
            if not hasattr(function, f"{GROUP}_impl"):
                raise PluginError(f"plugin {name!r}: {attribute} is not marked with @hookimpl")
            if inspect.iscoroutinefunction(function):
                raise PluginError(f"plugin {name!r}: {attribute} must be a plain function, not async")


def _distribution(point: EntryPoint) -> str:
    return str(point.dist.metadata["Name"]) if point.dist else point.module


def _requirement(point: EntryPoint) -> str:
    """What pip must install for this plugin to work: its distribution, with the extra of the plugin's name where there is one."""
    extras = (point.dist.metadata.get_all("Provides-Extra") or []) if point.dist else []
    return _distribution(point) + (f"[{point.name}]" if point.name in extras else "")


def _in_a_clone(point: EntryPoint) -> str:
    """What does the same for a plugin of our own where the server was installed by `make`: its environment has no pip."""
    return f" (in a clone: make install EXTRAS={point.name})" if _distribution(point) == GROUP else ""


def _absent(name: str, installed: Sequence[str]) -> str:
    meant = _meant(name, installed)
    return f"plugin {name!r} is not installed{meant} (installed: {_listed(installed)}); to add it: pip install DISTRIBUTION, the one that brings it"


def _meant(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, list(known), 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
