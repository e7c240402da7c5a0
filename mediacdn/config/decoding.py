"""Plain values into Structs, with errors that a person can act on: each names the dotted key, where its value came from, what was expected and what is near.

What the keys mean is sections.py's business; this module knows only types. All problems of one decoding are told together.
"""

import difflib
import json
import math
import re
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, UNSET, Meta, Struct, structs

from mediacdn.errors import ConfigError

T = TypeVar("T", bound=Struct)
Path = tuple[str | int, ...]

VARIABLE = re.compile(r"MEDIACDN_[A-Z0-9_]+\Z")
COMMAND_LINE = "command line"
MASK = "********"
SECRET_NAME = re.compile(r"secret|passw|token|credential|(^|_)(?<!public_)keys?\Z", re.IGNORECASE)
INTERNAL = Meta(extra={"internal": True})
"""Marks a field that is filled by the core and is no key of the file."""
_SEQUENCES = (tuple, list, set, frozenset)
_BAD: Any = object()


class Text(str):
    """A value that arrived as text; the type of its field says how to read it (`8400`, `true`, `a,b`, JSON)."""

    __slots__ = ()


class Secret(Text):
    """Text from a secret's file or variable: it works as a string and is not shown by repr."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(MASK)


def dotted(path: Path) -> str:
    """Write a path as one key: `limits.by_type."video/*"`, `routing[0].storage`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else json.dumps(part))
    return text


def variable(path: Path) -> str:
    """Name the environment variable that sets a path."""
    return "MEDIACDN_" + "__".join(re.sub(r"[^A-Z0-9]", "_", str(part).upper()) for part in path)


def nearest(name: str, known: Iterable[str], likeness: float = 0.6) -> str | None:
    """Find the known name that `name` was probably meant to be."""
    return next(iter(difflib.get_close_matches(name, list(known), 1, likeness)), None)


def annotation(kind: Any) -> tuple[Any, bool]:
    """Take Annotated and Optional off a type: (the type beneath, whether None is allowed)."""
    optional = False
    while True:
        if get_origin(kind) is Annotated:
            kind = get_args(kind)[0]
        elif is_union(kind) and len(rest := [a for a in get_args(kind) if a is not type(None)]) == 1:
            kind, optional = rest[0], len(get_args(kind)) > 1 or optional
        else:
            return kind, optional


def is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, types.UnionType)


def is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Struct)


def keys(kind: type[Struct], path: Path = ()) -> Iterator[Path]:
    """List every key of a Struct, sections opened; internal ones left out."""
    for field in structs.fields(kind):
        inner, _ = annotation(field.type)
        if INTERNAL in getattr(field.type, "__metadata__", ()):
            continue
        here = (*path, field.encode_name)
        if is_struct(inner):
            yield from keys(inner, here)
        else:
            yield here


class Reader:
    """Reads one tree of plain values; `sources` names where the value at a dotted key came from, `root` is the type whose keys may be suggested."""

    def __init__(self, sources: Mapping[str, str] | None = None, root: type[Struct] | None = None) -> None:
        self.sources = sources or {}
        self.root = root
        self.problems: list[str] = []

    def source(self, path: Path) -> str | None:
        """Where the value at `path` came from: its own source, that of the table around it, or that of something inside it."""
        for end in range(len(path), 0, -1):
            if found := self.sources.get(dotted(path[:end])):
                return found
        inside = dotted(path)
        return next((source for key, source in self.sources.items() if key.startswith((inside + ".", inside + "["))), None)

    def subject(self, path: Path) -> str:
        """Name a key as its author wrote it."""
        source = self.source(path)
        if source is None or source == "default":
            return dotted(path)
        if VARIABLE.match(source):
            return source if source == variable(path) else f"{dotted(path)} in {source}"
        return f"{dotted(path)} {'on the' if source == COMMAND_LINE else 'in'} {source}"

    def problem(self, path: Path, sentence: str) -> None:
        self.problems.append(f"{self.subject(path)} {sentence}")

    def finish(self) -> None:
        """Raise ConfigError with every problem that was met, one a line."""
        if self.problems:
            raise ConfigError("\n".join(self.problems), problems=tuple(self.problems))

    def read(self, kind: Any, value: Any, path: Path) -> Any:
        """Read one value as `kind`; what cannot be read becomes a problem."""
        inner, optional = annotation(kind)
        if isinstance(value, Text):
            if optional and not value:
                return None
            value = self._text(inner, value, path)
        if value is _BAD or (value is None and optional):
            return value
        origin = get_origin(inner) or inner
        if is_struct(inner):
            return self._struct(inner, value, path) if isinstance(value, dict) else self._wrong(kind, value, path)
        if origin is dict and isinstance(value, dict):
            _, item = get_args(inner) or (str, Any)
            read = {key: self.read(item, each, (*path, key)) for key, each in value.items()}
            return _BAD if any(each is _BAD for each in read.values()) else read
        if origin in _SEQUENCES and isinstance(value, list | tuple):
            arguments = get_args(inner)
            if origin is not tuple or arguments[1:] == (...,):
                items = [self.read(arguments[0] if arguments else Any, each, (*path, number)) for number, each in enumerate(value)]
                return _BAD if any(item is _BAD for item in items) else origin(items)
        return self._leaf(kind, value, path)

    def _text(self, kind: Any, value: Text, path: Path) -> Any:
        """Give text the shape that `kind` wants; a scalar stays text. The parts of a secret are secrets."""
        if is_union(kind) and value.lstrip().startswith("["):
            kind = next((arm for arm in get_args(kind) if get_origin(arm) in _SEQUENCES), kind)
        origin = get_origin(kind) or kind
        if origin in _SEQUENCES and not value.lstrip().startswith("["):
            return [type(value)(part.strip()) for part in value.split(",") if part.strip()]
        if origin in _SEQUENCES or origin is dict or is_struct(kind):
            try:
                parsed = msgspec.json.decode(value.encode())
            except msgspec.DecodeError as error:
                self.problem(path, f"expected {describe(kind)} as JSON; {str(error)[:1].lower()}{str(error)[1:]}")
                return _BAD
            return veil(parsed) if isinstance(value, Secret) else parsed
        return value

    def _struct(self, kind: type[Struct], table: dict[str, Any], path: Path) -> Any:
        fields = {field.encode_name: field for field in structs.fields(kind)}
        strict = kind.__struct_config__.forbid_unknown_fields
        values: dict[str, Any] = {}
        for key, value in table.items():
            if key in fields:
                values[fields[key].name] = self.read(fields[key].type, value, (*path, key))
            elif strict:
                self.unknown(kind, (*path, key))
                values[key] = _BAD
        for key, field in fields.items():
            if field.name not in values and field.default in (NODEFAULT, UNSET) and field.default_factory is NODEFAULT:
                self.problems.append(f"{dotted((*path, key))} is missing; expected {describe(field.type)}")
                values[field.name] = _BAD
        if any(value is _BAD for value in values.values()):
            return _BAD
        try:
            return kind(**values)
        except ValueError as error:
            self.problem(path, f"is refused: {error}")
            return _BAD

    def unknown(self, kind: type[Struct], path: Path) -> None:
        """Tell of a key that is none of `kind`'s, and of the one that was probably meant: beside it, else anywhere."""
        last = str(path[-1])
        everywhere = {dotted(key): key for key in keys(self.root)} if self.root else {}
        by_name = {str(key[-1]): key for key in everywhere.values()}
        meant = by_name.get(last) or everywhere.get(nearest(dotted(path).replace("_", "."), everywhere, 0.9) or "")
        if meant is None and (near := nearest(last, {str(key[0]) for key in keys(kind)})):
            meant = (*path[:-1], near)
        meant = meant or by_name.get(nearest(last, by_name, 0.8) or "")
        written = variable if VARIABLE.match(self.source(path) or "") else dotted
        self.problem(path, "is not a key" + (f"; did you mean {written(meant)}?" if meant else ""))

    def _leaf(self, kind: Any, value: Any, path: Path) -> Any:
        textual = isinstance(value, Text)
        if textual and annotation(kind)[0] is bool:
            value = {"yes": True, "on": True, "no": False, "off": False}.get(value.lower(), value)
        try:
            read = value if kind is Any else msgspec.convert(value, kind, strict=not textual)
        except msgspec.ValidationError:
            return self._wrong(kind, value, path)
        if isinstance(read, float) and not math.isfinite(read):
            return self._wrong(kind, value, path)
        return veil(read) if isinstance(value, Secret) and isinstance(read, str) else read

    def _wrong(self, kind: Any, value: Any, path: Path) -> Any:
        inner, _ = annotation(kind)
        hidden = isinstance(value, Secret) or any(SECRET_NAME.search(str(part)) for part in path[1:])
        near = nearest(str(value), map(str, get_args(inner))) if get_origin(inner) is Literal and not hidden else None
        suggestion = f"; did you mean {json.dumps(near)}?" if near else ""
        self.problem(path, f"expected {describe(kind)}, found {found(value, hidden)}{suggestion}")
        return _BAD


def veil(value: Any) -> Any:
    """Make every string of a secret value a Secret."""
    if isinstance(value, str):
        return Secret(value)
    if isinstance(value, dict):
        return {key: veil(each) for key, each in value.items()}
    return [veil(each) for each in value] if isinstance(value, list) else value


def describe(kind: Any) -> str:
    """Say in words what a type takes: `a whole number of at least 1`, `one of "any", "owner"`."""
    bounds = ""
    if is_union(kind) and len(arms := [arm for arm in get_args(kind) if arm is not type(None)]) == 1:
        return describe(arms[0])  # with its bounds, which `annotation` takes off
    for meta in (each for each in getattr(kind, "__metadata__", ()) if isinstance(each, Meta)):
        if meta.ge is not None and meta.le is not None:
            bounds = f" from {meta.ge} to {meta.le}"
        else:
            words = ((meta.ge, "at least"), (meta.gt, "more than"), (meta.le, "at most"), (meta.lt, "less than"))
            bounds = "".join(f" of {word} {limit}" for limit, word in words if limit is not None)
    inner, _ = annotation(kind)
    if is_union(inner):
        return " or ".join(describe(arm) for arm in get_args(inner) if arm is not type(None))
    origin = get_origin(inner) or inner
    if origin is Literal:
        return "one of " + ", ".join(json.dumps(each) for each in get_args(inner))
    if origin in _SEQUENCES:
        item, _ = annotation((get_args(inner) or (Any,))[0])
        return "a list of " + ("strings" if item is str else "whole numbers" if item is int else "tables" if is_struct(item) else "values")
    name = {bool: "true or false", int: "a whole number", float: "a number", str: "a string", dict: "a table"}.get(origin)
    name = name or ("a table" if is_struct(inner) else str(getattr(inner, "__name__", inner)))
    return name + bounds


def found(value: Any, hidden: bool) -> str:
    """Say in words what a value is, without its content where it may be a secret."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list"
    kind = "a string" if isinstance(value, str) else "a number" if isinstance(value, int | float) and not isinstance(value, bool) else ""
    if hidden:
        return f"{kind or 'a value'} that is not shown"
    if isinstance(value, str):
        return json.dumps(value[:60], ensure_ascii=False)
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def decode(kind: type[T], table: Mapping[str, Any], path: Path = (), sources: Mapping[str, str] | None = None) -> T:
    """Read a table as a Struct. Raises: ConfigError with every problem, one a line, and as the tuple `extra["problems"]`."""
    reader = Reader(sources)
    read: T = reader.read(kind, dict(table), path)
    reader.finish()
    return read
