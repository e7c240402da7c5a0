"""The plain tree of values under construction, layer over layer, with the source of each leaf."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path as File
from typing import Any, get_args, get_origin

import msgspec
from msgspec import structs

from mediacdn.config import secrets
from mediacdn.config.decoding import Path, Text, annotation, dotted, is_struct
from mediacdn.config.sections import HOSTS, Config
from mediacdn.errors import ConfigError

RESERVED = {
    "MEDIACDN_CONFIG": "the TOML file to load when none is named",
    "MEDIACDN_CORPUS": "a folder of media files for the tests and benchmarks",
    "MEDIACDN_FFMPEG": "the ffmpeg binary to run",
    "MEDIACDN_URL": "the server that client commands talk to",
    "MEDIACDN_TOKEN": "the bearer token that client commands send",
}
"""Variables that are read elsewhere and set no key."""

KUBERNETES = re.compile(r"MEDIACDN(_[A-Z0-9_]+)?_(SERVICE_(HOST|PORT)(_[A-Z0-9_]+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)\Z")
"""Kubernetes sets these for a Service named mediacdn…; they are not ours and must not stop the start."""


class Layers:
    """Grows the tree: a file first, then single values placed over it. `problems` are collected, so that all can be told at once."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.tree: dict[str, Any] = {}
        self.sources: dict[str, str] = {}
        self.problems: list[str] = []
        self.warnings: list[str] = []

    def origin(self, path: Path) -> str:
        """Where the value at `path` came from: its own source or that of the value it is part of."""
        return next((self.sources[key] for end in range(len(path), 0, -1) if (key := dotted(path[:end])) in self.sources), "default")

    def read_file(self, file: File) -> None:
        """Start from a TOML file. Raises: ConfigError when it cannot be read."""
        try:
            with file.open("rb") as handle:
                tree = tomllib.load(handle)
        except OSError as error:
            raise ConfigError(f"{file}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file} is not TOML: {error}") from error
        self.tree = self._taken(tree, (), str(file), file.parent)

    def read_environment(self) -> None:
        """Place each MEDIACDN_ variable, a table before what lies inside it."""
        for name in sorted((name for name in self.environ if name.startswith("MEDIACDN_")), key=lambda name: (name.count("__"), name)):
            linked = name.endswith("_PORT") and "__" not in name and re.match(r"(tcp|udp|sctp)://", self.environ[name])
            if name not in RESERVED and not linked and not KUBERNETES.match(name):
                self._read_variable(name, self.environ[name])

    def place(self, path: Path, value: Any, source: str) -> None:
        """Set one value, in place of what stood there."""
        table = self.tree
        for end, part in enumerate(path[:-1], 1):
            inner = table.get(str(part))
            if not isinstance(inner, dict):
                self._forget(path[:end])
                inner = table[str(part)] = {}
            table = inner
        self._forget(path)
        table[str(path[-1])] = self._taken(value, path, source, File())

    def _read_variable(self, name: str, value: str) -> None:
        path, kind = locate(name, self.tree)
        if is_struct(kind):
            self.problems.append(f"{name} names a section; set its keys one by one, as {name}__KEY")
        elif is_reference(path):
            self.place(path[:-1], {path[-1]: value}, name)
        elif get_origin(kind) is dict and value.lstrip().startswith("{"):
            try:
                self.place(path, msgspec.json.decode(value), name)
            except msgspec.DecodeError:
                self.problems.append(f"{name} expected a table as JSON")
        else:
            self.place(path, Text(value), name)

    def _taken(self, value: Any, path: Path, source: str, folder: File) -> Any:
        """Note the source of every leaf of a value, and put secrets in the place of the references to them."""
        if isinstance(value, dict) and len(value) == 1:
            [(how, where)] = value.items()
            if isinstance(where, str) and is_reference((*path, how)):
                return self._secret(path, how, str(where), source, folder)
        if isinstance(value, dict) and value:
            return {key: self._taken(each, (*path, key), source, folder) for key, each in value.items()}
        if isinstance(value, list):
            value = [self._taken(each, (*path, number), source, folder) for number, each in enumerate(value)]
        if path:
            self.sources[dotted(path)] = source
        return value

    def _secret(self, path: Path, how: str, where: str, source: str, folder: File) -> Text:
        self.sources[dotted(path)] = f"{source} ({how} {where})"
        key = f"{dotted(path)} in {source}"
        if how == "env":
            return secrets.from_variable(key, where, self.environ)
        secret, warning = secrets.from_file(key, folder / where)
        self.warnings.extend([warning] if warning else [])
        return secret

    def _forget(self, path: Path) -> None:
        key = dotted(path)
        self.sources = {
            name: source for name, source in self.sources.items() if name != key and not name.startswith((key + ".", key + "["))
        }


def is_reference(path: Path) -> bool:
    """Whether a path ends inside a value, as `{file = …}` does; a section and a driver's table are no values, but may have keys of these names."""
    deep = path[0] == "storage" or (path[0] in HOSTS and path[1:2] and path[1] not in HOSTS[str(path[0])].__struct_fields__)
    return len(path) >= (4 if deep else 3) and path[-1] in ("file", "env")


def locate(name: str, tree: dict[str, Any]) -> tuple[Path, Any]:
    """Find the key that a variable sets, and its type: a key of the sections or of a table already there, its case and punctuation free."""
    path: list[str] = []
    kind: Any = Config
    table: Any = tree
    for part in name.removeprefix("MEDIACDN_").split("__"):
        fields = {field.encode_name: field.type for field in structs.fields(kind)} if is_struct(kind) else {}
        present = list(table) if isinstance(table, dict) else []
        key = next((key for key in [*fields, *present] if re.sub(r"\W", "_", key).lower() == part.lower()), part.lower())
        other = get_args(kind)[1] if get_origin(kind) is dict else dict[str, Any] if kind in HOSTS.values() else Any
        kind, _ = annotation(fields.get(key, other))
        path.append(key)
        table = table.get(key) if isinstance(table, dict) else None
    return tuple(path), kind
