"""What is wrong with declared arguments, told once at start-up, so that whoever calls never meets it."""

import math
import re
from collections.abc import Iterator, Sequence

import msgspec

from mediacdn.errors import InvalidArgument
from mediacdn.model import Argument
from mediacdn.recipes.arguments import MAX_STRING, Value, canonical, read, rule, written
from mediacdn.recipes.patterns import compiled

MAX_ARGUMENTS = 64

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


def flaws(arguments: Sequence[Argument]) -> Iterator[str]:
    """Sentences, each naming its argument."""
    if len(arguments) > MAX_ARGUMENTS:
        yield f"has more than {MAX_ARGUMENTS} arguments"
    seen: set[str] = set()
    for argument in arguments:
        try:
            msgspec.convert(msgspec.to_builtins(argument), Argument)  # a Struct that a plugin makes is not held to its types
        except (msgspec.ValidationError, TypeError) as error:
            yield f"argument {argument.name!r}: is not what an argument is: {error}"
            continue
        if not _NAME.fullmatch(argument.name):
            yield f"argument {argument.name[:80]!r}: is not a name; use at most 64 of a-z, 0-9 and _, the first a letter"
        if argument.name in seen:
            yield f"argument {argument.name!r}: is declared twice"
        seen.add(argument.name)
        bounds = list(_bounds(argument))
        yield from (f"argument {argument.name!r}: {flaw}" for flaw in bounds or _values(argument))


def _bounds(argument: Argument) -> Iterator[str]:
    for key, bound in (("min", argument.min), ("max", argument.max)):
        if bound is None:
            continue
        if argument.type == "boolean":
            yield f"{key} bounds a boolean"
        elif not math.isfinite(bound):
            yield f"{key} is not a finite number"
        elif argument.type == "string" and not (bound.is_integer() if isinstance(bound, float) else True):
            yield f"{key} is {bound}, which is no length of a string"
        elif argument.type == "string" and not 0 <= bound <= MAX_STRING:
            yield f"{key} is {written(canonical(bound))}, and a string has 0 to {MAX_STRING} characters"
    if argument.min is not None and argument.max is not None and argument.min > argument.max:
        yield f"min ({written(canonical(argument.min))}) is more than max ({written(canonical(argument.max))})"
    if argument.pattern is not None:
        if argument.type != "string":
            yield f"pattern is for strings, and the type is {argument.type}"
        try:
            compiled(argument.pattern)
        except ValueError as error:
            yield f"pattern {argument.pattern[:80]!r} cannot be used: {error}"


def _values(argument: Argument) -> Iterator[str]:
    free = Argument(name=argument.name, type=argument.type, min=argument.min, max=argument.max, pattern=argument.pattern)
    normal: list[Value] = []
    for value in argument.allowed:
        try:
            normal.append(read(free, value))
        except InvalidArgument:
            yield f"allowed has {_shown(value)}, which must be {rule(free)}"
    if len(set(normal)) < len(normal):
        yield "allowed names a value twice"
    if len(normal) < len(argument.allowed) or argument.default is None:
        return
    if argument.required:
        yield "has a default although it is required"
    try:
        read(argument, argument.default)
    except InvalidArgument:
        yield f"default is {_shown(argument.default)}, which must be {rule(argument)}"


def _shown(value: Value) -> str:
    return repr(value) if isinstance(value, str) else written(value)
