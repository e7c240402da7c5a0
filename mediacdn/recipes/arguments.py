"""Arguments of recipes and actions, read in one place: what a caller gives becomes the one normal form that fingerprints are made of.

The normal form of a value: strings in NFC; whole numbers as int, also where a number was given as 1.0; no -0, NaN or infinity; booleans apart from both. Values
stand in the order of the declaration with defaults filled in, and what was left out without a default is absent. JSON is read strictly: "320" is no number and
null is no value. Pairs are text, as of a query: 320, 1.5, true.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from unicodedata import is_normalized, normalize

from mediacdn.config.decoding import Text, nearest
from mediacdn.errors import InvalidArgument
from mediacdn.model import Argument
from mediacdn.recipes.patterns import compiled

Value = str | int | float | bool

MAX_STRING = 1024
"""Characters of a string, unless its argument says less."""
MAX_MATCHED = 256
"""The same where a pattern is matched against it."""
MAX_NUMBER = 2**53 - 1
"""Beyond it not every reader of JSON keeps numbers apart (RFC 8259 section 6)."""

TRUE, FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:e-?[0-9]{1,3})?")
_MAX_DIGITS = 40


def normalise(arguments: Sequence[Argument], given: Any) -> dict[str, Value]:
    """Give the values of the arguments that an object (a mapping, from JSON) or a list of pairs of texts tells of, in the declaration's order.

    Doing it again changes nothing. Raises: InvalidArgument, whose detail names the argument and its rule, and whose `extra["argument"]` is its name.
    """
    textual = not isinstance(given, Mapping)
    declared = {argument.name: argument for argument in arguments}
    found: dict[str, Any] = {}
    for name, value in _pairs(given):
        if name not in declared:
            raise unknown(name, declared)
        if name in found:
            raise InvalidArgument(f"{name!r} is given more than once", argument=name)
        found[name] = value
    normal: dict[str, Value] = {}
    for name, argument in declared.items():
        if name in found:
            normal[name] = read(argument, found[name], textual=textual)
        elif argument.required:
            raise InvalidArgument(f"{name!r} is missing; it must be {rule(argument)}", argument=name)
        elif argument.default is not None:
            normal[name] = read(argument, argument.default)
    return normal


def read(argument: Argument, value: Any, *, textual: bool = False) -> Value:
    """Give the normal form of one value. Raises: InvalidArgument."""
    normal = _typed(argument, value, textual=textual or isinstance(value, Text))  # a value of the environment has no type yet
    if normal is None or not _within(argument, normal):
        near = nearest(normal, [each for each in argument.allowed if isinstance(each, str)]) if isinstance(normal, str) else None
        raise InvalidArgument(
            f"{argument.name!r} must be {rule(argument)}{f'; did you mean {near!r}?' if near else ''}", argument=argument.name
        )
    return normal


def unknown(name: str, known: Iterable[str]) -> InvalidArgument:
    """The refusal of a name that is none of these."""
    name = name[:60].encode(errors="replace").decode()
    names = list(known)
    near = nearest(name, names)
    meant = f"did you mean {near!r}?" if near else f"there is {', '.join(names)}" if names else "there are none"
    return InvalidArgument(f"{name!r} is not an argument; {meant}", argument=name)


def written(value: Value) -> str:
    """A normal value as text; reading the text gives it back."""
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def longest(argument: Argument) -> int:
    """Characters that a string may have."""
    ours = MAX_STRING if argument.pattern is None else MAX_MATCHED
    return ours if argument.max is None else min(int(argument.max), ours)


def rule(argument: Argument) -> str:
    """Say in words what an argument takes."""
    if argument.allowed:
        return f"one of {', '.join(written(each) for each in argument.allowed)}"
    if argument.type == "boolean":
        return "true or false"
    low, high = (None if bound is None else written(canonical(bound)) for bound in (argument.min, argument.max))
    if argument.type != "string":
        kind = "a whole number" if argument.type == "integer" else "a number"
        if low is None and high is None:
            return kind
        return f"{kind} " + (f"from {low} to {high}" if low and high else f"of at least {low}" if low else f"of at most {high}")
    most = longest(argument)
    return f"text of {f'{low} to ' if low else 'at most '}{most} characters" + (
        f" that matches {argument.pattern}" if argument.pattern else ""
    )


def canonical(value: Value) -> Value:
    """The normal form of a value of the right type and size."""
    if isinstance(value, float) and value.is_integer():
        return int(value)  # of -0.0 too
    return value if isinstance(value, bool | int | float) or is_normalized("NFC", value) else normalize("NFC", value)


def _pairs(given: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(given, Mapping):
        pairs = list(given.items())
    elif isinstance(given, list | tuple) and all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in given):
        pairs = [(name, value) for name, value in given]
        if not all(isinstance(value, str) for _, value in pairs):
            raise InvalidArgument("Arguments in a list are pairs of texts")
    else:
        raise InvalidArgument("Arguments are an object, or a list of pairs of texts")
    if not all(isinstance(name, str) for name, _ in pairs):
        raise InvalidArgument("Names of arguments are text")
    return pairs


def _typed(argument: Argument, value: Any, *, textual: bool) -> Value | None:
    """The normal value, or None where it is of another type or beyond what any argument takes."""
    if argument.type == "string":
        # Lengths before and after: NFC of a text without bounds costs more than its length, and can lengthen it.
        if not isinstance(value, str) or len(value) > MAX_STRING or "\0" in value or not _encodable(value):
            return None
        return str(canonical(value))
    if textual and isinstance(value, str):
        value = _from_text(argument, value)
    if argument.type == "boolean":
        return value if isinstance(value, bool) else None
    if not isinstance(value, int | float) or isinstance(value, bool) or not -MAX_NUMBER <= value <= MAX_NUMBER:  # NaN is nowhere between
        return None
    number = canonical(value)
    return None if argument.type == "integer" and not isinstance(number, int) else number


def _from_text(argument: Argument, text: str) -> Value | None:
    if argument.type == "boolean":
        lower = text.lower()
        return True if lower in TRUE else False if lower in FALSE else None
    if len(text) > _MAX_DIGITS or not _NUMBER.fullmatch(text):
        return None
    return int(text) if text.lstrip("-").isdigit() else float(text)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a surrogate without its other half
        return False
    return True


def _within(argument: Argument, value: Value) -> bool:
    if argument.allowed and not any(type(value) is type(each) and value == each for each in map(canonical, argument.allowed)):
        return False
    if isinstance(value, str):
        least = 0 if argument.min is None else argument.min
        return least <= len(value) <= longest(argument) and (argument.pattern is None or compiled(argument.pattern).fullmatch(value))
    if isinstance(value, bool):
        return True
    return (argument.min is None or value >= argument.min) and (argument.max is None or value <= argument.max)
