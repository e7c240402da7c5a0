"""Load the Config: defaults, then a TOML file, then MEDIACDN_ variables, then the command line; and tell which of them each value came from."""

import os
from collections.abc import Mapping
from pathlib import Path as File
from typing import Any, TypeVar

from msgspec import Struct, structs

from mediacdn.config.checks import check
from mediacdn.config.decoding import COMMAND_LINE, Reader, Text, decode, dotted
from mediacdn.config.layers import Layers
from mediacdn.config.sections import HOSTS, STORAGE_KEYS, Auth, Config, Edge, Inspection, Jobs, Limits, Links
from mediacdn.config.showing import flatten

T = TypeVar("T", bound=Struct)


class Loaded(Struct, frozen=True):
    """A configuration and its history: `sources` maps each dotted key to "default", a file, a variable or "command line"; `warnings` are for the log."""

    config: Config
    sources: dict[str, str]
    warnings: tuple[str, ...] = ()


def load(path: File | None = None, environ: Mapping[str, str] = os.environ, overrides: Mapping[str, Any] | None = None) -> Loaded:
    """Load the configuration.

    `path` is the TOML file; without one MEDIACDN_CONFIG names it, and without that there is none: no file is picked up from the
    working directory, so that one command means the same everywhere. `overrides` maps dotted keys to values; None is no value.
    A table replaces the default table of the same key, except `storage`, where `default` stays unless it is configured.
    Raises: ConfigError with every problem, one a line.
    """
    layers = Layers(environ)
    file = path or (File(environ["MEDIACDN_CONFIG"]) if environ.get("MEDIACDN_CONFIG") else None)
    if file is not None:
        layers.read_file(file)
    layers.read_environment()
    for key, value in (overrides or {}).items():
        if value is not None:
            layers.place(tuple(key.split(".")), Text(value) if isinstance(value, str) else value, COMMAND_LINE)
    reader = Reader(layers.sources, Config)
    reader.problems.extend(layers.problems)
    config = reader.read(Config, _settled(layers.tree, reader), ())
    reader.finish()
    check(config, reader)
    reader.finish()
    return Loaded(config, {dotted(key): layers.origin(key) for key, _ in flatten(config)}, tuple(layers.warnings))


def decode_driver(kind: type[T], table: Mapping[str, Any], path: str, sources: Mapping[str, str] | None = None) -> T:
    """Decode a driver's table, found at the dotted `path` ("storage.default"), into its Struct; its keys `driver` and `via` belong to the core.

    `sources` is that of Loaded, so that errors can say where a value came from. Raises: ConfigError with every problem, one a line.
    """
    own = {field.encode_name for field in structs.fields(kind)}
    return decode(
        kind, {key: value for key, value in table.items() if key in own or key not in STORAGE_KEYS}, tuple(path.split(".")), sources
    )


def _settled(tree: dict[str, Any], reader: Reader) -> dict[str, Any]:
    """Give each storage its driver, and move the tables of drivers, and those that plugins share, to where the Structs keep them."""
    own = {
        key: tree.pop(key) for key in _listed(Config, "plugins", tree) - set(Config.__struct_fields__) if isinstance(tree.get(key), dict)
    }
    if "shared" in tree:
        reader.unknown(Config, ("shared",))
    tree["shared"] = own
    storage = tree.setdefault("storage", {})
    if isinstance(storage, dict):
        storage.setdefault("default", {})
        for table in storage.values():
            if isinstance(table, dict):
                table.setdefault("driver", "local")
    for section, named, by in (
        ("auth", _authenticators, "neither auth.authenticators nor auth.authorizer names"),
        ("edge", _edge, "neither edge.policy nor edge.bus names"),
        ("inspection", _inspectors, "inspection.inspectors does not name"),
        ("links", _links, "links.via does not name"),
        ("jobs", _broker, "jobs.broker does not name"),
        ("limits", _counters, "limits.counters does not name"),
        ("recipes", _actions, ""),
    ):
        if isinstance(table := tree.get(section), dict):
            tree[section] = _with_drivers(section, table, named(table), by, reader)
    return tree


def _authenticators(auth: dict[str, Any]) -> set[str]:
    return {*_listed(Auth, "authenticators", auth), str(auth.get("authorizer"))}


def _inspectors(inspection: dict[str, Any]) -> set[str]:
    return _listed(Inspection, "inspectors", inspection)


def _listed(section: type[Struct], key: str, table: dict[str, Any]) -> set[str]:
    """The names in a list of drivers; none when it is no such list, which is told elsewhere."""
    quiet = Reader()
    kind = next(field.type for field in structs.fields(section) if field.name == key)
    names = quiet.read(kind, table.get(key, getattr(section(), key)), ())
    return set(names if not quiet.problems else ())


def _edge(edge: dict[str, Any]) -> set[str]:
    return {str(edge.get("policy", Edge().policy)), str(edge.get("bus"))}


def _links(links: dict[str, Any]) -> set[str]:
    return {str(links.get("via", Links().via))}


def _broker(jobs: dict[str, Any]) -> set[str]:
    return {str(jobs.get("broker", Jobs().broker))}


def _counters(limits: dict[str, Any]) -> set[str]:
    return {str(limits.get("counters", Limits().counters))}


def _actions(recipes: dict[str, Any]) -> set[str]:
    """Every table but those of keys: which actions there are is known when the plugins are."""
    return {key for key, table in recipes.items() if isinstance(table, dict) and key != "drivers"}


def _with_drivers(section: str, table: dict[str, Any], named: set[str], by: str, reader: Reader) -> dict[str, Any]:
    fields = {field.name for field in structs.fields(HOSTS[section]) if field.name != "drivers"}
    keys = {key: value for key, value in table.items() if key in fields}
    drivers: dict[str, Any] = {}
    for key in [key for key in table if key not in fields]:
        if key not in named and isinstance(table[key], dict) and key != "drivers":
            reader.problem((section, key), f"configures a driver that {by}")
        elif key not in named:
            reader.unknown(HOSTS[section], (section, key))
        elif reader.read(dict[str, Any], table[key], (section, key)) is not None:
            drivers[key] = table[key]
    return {**keys, "drivers": drivers if not reader.problems else {}}
