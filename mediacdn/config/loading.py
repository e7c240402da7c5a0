"""Load the Config: defaults, then a TOML file, then MEDIACDN_ variables, then the command line; and tell which of them each value came from."""

import os
from collections.abc import Mapping
from pathlib import Path as File
from typing import Any, TypeVar

from msgspec import Struct, structs

from mediacdn.config.checks import check
from mediacdn.config.decoding import COMMAND_LINE, Reader, Text, decode, dotted
from mediacdn.config.layers import Layers
from mediacdn.config.sections import Auth, Config
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
    """Decode a driver's table, found at the dotted `path` ("storage.default"), into its Struct; its `driver` key belongs to the core.

    `sources` is that of Loaded, so that errors can say where a value came from. Raises: ConfigError with every problem, one a line.
    """
    own = {field.encode_name for field in structs.fields(kind)}
    return decode(kind, {key: value for key, value in table.items() if key in own or key != "driver"}, tuple(path.split(".")), sources)


def _settled(tree: dict[str, Any], reader: Reader) -> dict[str, Any]:
    """Give each storage its driver, and move the tables of the named authenticators to where the Struct keeps them."""
    storage = tree.setdefault("storage", {})
    if isinstance(storage, dict):
        storage.setdefault("default", {})
        for table in storage.values():
            if isinstance(table, dict):
                table.setdefault("driver", "local")
    auth = tree.get("auth")
    if isinstance(auth, dict):
        tree["auth"] = _with_drivers(auth, reader)
    return tree


def _with_drivers(auth: dict[str, Any], reader: Reader) -> dict[str, Any]:
    fields = {field.name: field.type for field in structs.fields(Auth) if field.name != "drivers"}
    quiet = Reader()
    names = quiet.read(fields["authenticators"], auth.get("authenticators", Auth().authenticators), ())
    named = {*(names if not quiet.problems else ()), str(auth.get("authorizer"))}
    keys = {key: value for key, value in auth.items() if key in fields}
    drivers: dict[str, Any] = {}
    for key in [key for key in auth if key not in fields]:
        if key not in named and isinstance(auth[key], dict) and key != "drivers":
            reader.problem(("auth", key), "configures a driver that neither auth.authenticators nor auth.authorizer names")
        elif key not in named:
            reader.unknown(Auth, ("auth", key))
        elif reader.read(dict[str, Any], auth[key], ("auth", key)) is not None:
            drivers[key] = auth[key]
    return {**keys, "drivers": drivers if not reader.problems else {}}
