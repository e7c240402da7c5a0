"""Variants as URLs name them: a preset, `thumb`, or an ad-hoc one, `w=320,h=240,fit=cover,format=webp`; and the format of one that names none.

An ad-hoc variant in another order, or with a default spelled out, is accepted as it is, without a redirect: a signed link signs the path as sent. What it
asks for is one thing under one name, its canonical text, by which it is cached. Presets are names without an equals sign, ad-hoc variants always have one.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from mediacdn.config.checks import PRESET
from mediacdn.config.decoding import nearest
from mediacdn.errors import ConfigError, InvalidArgument, NotFound
from mediacdn.http.negotiation import Preferences
from mediacdn.model import Argument
from mediacdn.recipes.arguments import Value, normalise, read, written

MAX_TEXT = 256

_TEXT = re.compile(r"[A-Za-z0-9._~=,:@+-]+")
_VALUE = re.compile(r"[A-Za-z0-9._~=:@+-]+")

FORMATS = {"avif": "image/avif", "webp": "image/webp", "jpeg": "image/jpeg", "png": "image/png", "gif": "image/gif"}
"""The formats that variants are made in, and their media types."""
KEEPS_ALPHA = frozenset({"avif", "webp", "png", "gif"})
KEEPS_MOTION = frozenset({"webp", "gif"})


class Variant(Struct, frozen=True, kw_only=True):
    """What a request asks for: `spec` is normal by the action's arguments, `text` the one name by which it is cached, `preset` its name where it is one.

    A name outlives what it stood for when a preset, or a default of the action, changes: what is kept longer than a configuration is known by its derivation key.
    """

    spec: dict[str, Value]
    text: str
    preset: str | None = None


def resolve(text: str, arguments: Sequence[Argument], presets: Mapping[str, Mapping[str, Value]]) -> Variant:
    """Read the segment of a path as it was sent. Caller promises: `presets` are normal. Raises: NotFound for an unknown preset, InvalidArgument."""
    if "=" in text:
        spec = parse(arguments, text)
        return Variant(spec=spec, text=canonical(arguments, spec))
    if text not in presets:
        near = nearest(text[:64], presets) if PRESET.match(text) else None
        raise NotFound("There is no variant of this name" + (f"; did you mean {near!r}?" if near else ""))
    return Variant(spec=dict(presets[text]), text=text, preset=text)


def parse(arguments: Sequence[Argument], text: str) -> dict[str, Value]:
    """Give the normal values of an ad-hoc variant, in any order; nothing is percent-decoded. Raises: InvalidArgument."""
    if len(text) > MAX_TEXT:
        raise InvalidArgument(f"A variant has at most {MAX_TEXT} characters")
    if not _TEXT.fullmatch(text):
        raise InvalidArgument("A variant is name=value,… of letters, digits and . _ ~ = , : @ + -")
    pairs = []
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not name or not equals or not value:
            named: dict[str, Any] = {"argument": name} if name else {}
            raise InvalidArgument(f"A variant is name=value,…, and {part!r} is not", **named)
        pairs.append((name, value))
    return normalise(arguments, pairs)


def canonical(arguments: Sequence[Argument], values: Mapping[str, Value]) -> str:
    """Write normal values as an ad-hoc variant: in the declaration's order, defaults left out, and never empty, which is the original's name.

    Raises: InvalidArgument for values that no such text can say.
    """
    present = [argument for argument in arguments if argument.name in values]
    told = [argument for argument in present if argument.default is None or read(argument, argument.default) != values[argument.name]]
    if not told:
        told = [argument for argument in present if _VALUE.fullmatch(written(values[argument.name]))][:1]
    parts = []
    for argument in told:
        value = written(values[argument.name])
        if not _VALUE.fullmatch(value):
            raise InvalidArgument(f"{argument.name!r} has characters that a variant's text cannot have", argument=argument.name)
        parts.append(f"{argument.name}={value}")
    text = ",".join(parts)
    if not 0 < len(text) <= MAX_TEXT:
        raise InvalidArgument(f"A variant has 1 to {MAX_TEXT} characters")
    return text


def read_presets(arguments: Sequence[Argument], tables: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Value]]:
    """Read [variants.presets] by the arguments of the action that makes variants. Raises: ConfigError with every problem, one a line."""
    presets: dict[str, dict[str, Value]] = {}
    told = []
    for name, table in tables.items():
        try:
            presets[name] = normalise(arguments, table)
        except InvalidArgument as error:
            told.append(f"variants.presets.{name}: {error.detail}")
        if not PRESET.match(name):
            told.append(f"variants.presets.{name} is not a name; use at most 64 of a-z, 0-9 and -, the first a letter")
    if told:
        raise ConfigError("\n".join(told), problems=tuple(told))
    return presets


def choose_format(accepted: Preferences, offered: Sequence[str], *, alpha: bool = False, motion: bool = False) -> str:
    """Choose the format of a variant that names none: of those offered that can keep what the picture has, the one the client weighs most, the first of equals.

    A wildcard does not vouch for avif and webp: clients send `*/*` that read neither. Where none is left it is what every client reads: gif for a
    picture that moves, png for one with alpha, else jpeg; that is sent whatever Accept says, as RFC 9110 section 12.5.1 allows, rather than 406.
    """
    universal = "gif" if motion else "png" if alpha else "jpeg"
    best, most = universal, 0.0
    for name in (*offered, universal):
        if (alpha and name not in KEEPS_ALPHA) or (motion and name not in KEEPS_MOTION):
            continue
        media_type = FORMATS[name]
        weight = accepted.named(media_type) if name in ("avif", "webp") else accepted.weight(media_type)
        if weight > most:
            best, most = name, weight
    return best
