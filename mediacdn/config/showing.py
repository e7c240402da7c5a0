"""The configuration as it may be shown: in the shape of its TOML file, secrets masked."""

import re
from collections.abc import Iterator
from typing import Any

from msgspec import Struct, structs

from mediacdn.config.decoding import MASK, SECRET_NAME, Path, Secret
from mediacdn.config.sections import HOSTS, Config


def flatten(config: Config) -> Iterator[tuple[Path, Any]]:
    """List every key in force with its value; the tables of drivers stand at [auth.NAME] and the like, as they are written."""
    for path, value in _leaves(config, ()):
        if path[0] == "shared":
            if len(path) > 1:
                yield path[1:], value
        elif path[0] not in HOSTS or path[1] != "drivers":
            yield path, value
        elif len(path) > 2:
            yield (path[0], *path[2:]), value


def masked(config: Config) -> dict[str, Any]:
    """Show the configuration as plain values: masked are what came from a secret's file or variable, what is named like a secret,
    the keys that sign, and passwords inside URLs."""
    tree: dict[str, Any] = {}
    for path, value in flatten(config):
        table = tree
        for part in path[:-1]:
            table = table.setdefault(str(part), {})
        table[str(path[-1])] = _shown(path, value)
    return tree


def _leaves(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, Struct):
        for field in structs.fields(value):
            yield from _leaves(getattr(value, field.name), (*path, field.encode_name))
    elif isinstance(value, dict) and value:
        for key, each in value.items():
            yield from _leaves(each, (*path, key))
    else:
        yield path, value


def _shown(path: Path, value: Any) -> Any:
    named = any(SECRET_NAME.search(str(part)) for part in path[1:])
    if isinstance(value, Secret) or (named and value and isinstance(value, str | dict | list | tuple)):
        return MASK
    if isinstance(value, Struct):
        return {key: _shown((*path, key), each) for key, each in structs.asdict(value).items() if each is not None}
    if isinstance(value, dict):
        return {key: _shown((*path, key), each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(path, each) for each in value]
    if isinstance(value, str):
        # Greedy up to the last @: a password may hold any character, and hiding a piece of a path is the smaller harm.
        value = re.sub(r"(?<=://)([^/?#\s:@]*):\S*@", rf"\1:{MASK}@", str(value))
        return re.sub(r"([?&](?:password|secret|token|key)=)[^&\s]*", rf"\1{MASK}", value, flags=re.IGNORECASE)
    return value
