"""What is wrong with a recipe, told once at start-up against the actions that are there: sentences that name the step and the key."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from mediacdn.config.checks import NAME
from mediacdn.config.decoding import nearest
from mediacdn.config.storages import TYPE
from mediacdn.errors import InvalidArgument
from mediacdn.interfaces import Action
from mediacdn.model import Argument, Recipe, Step
from mediacdn.recipes import placeholders
from mediacdn.recipes.arguments import read
from mediacdn.recipes.declarations import flaws

MAX_STEPS = 32

_CODE = re.compile(r"[a-z][a-z0-9-]{0,63}")
_MAX_VERSION = 999_999_999
_TYPES = ("integer", "number")


def typed(recipe: Recipe) -> Recipe:
    """The recipe with every value of its declared type, which a Struct that a plugin makes is not held to. Raises: ValueError."""
    try:
        return msgspec.convert(msgspec.to_builtins(recipe), Recipe)
    except (msgspec.ValidationError, TypeError) as error:
        raise ValueError(f"is not what a recipe is: {error}") from None


def problems(recipe: Recipe, actions: Mapping[str, Action], storages: Collection[str], absent: Collection[str] = ()) -> Iterator[str]:
    """Everything that would fail later, but that the actions `absent` are not there. Caller promises: the values are of their types."""
    if not _CODE.fullmatch(recipe.code):
        yield f"the code {recipe.code[:80]!r} must be at most 64 of a-z, 0-9 and -, the first a letter"
    if not 1 <= recipe.version <= _MAX_VERSION:
        yield f"the version {recipe.version} must be a whole number of at least 1"
    if not NAME.match(recipe.lane):
        yield f"the lane {recipe.lane!r} is not a name"
    malformed = [each for each in recipe.accepts if not TYPE.match(each)]
    for each in malformed:
        yield f"accepts has {each!r}; expected a media type such as image/png, image/* or */* in lower case"
    if not recipe.accepts:
        yield 'accepts is empty; ["*/*"] is any media'
    yield from flaws(recipe.arguments)
    if not 0 < len(recipe.steps) <= MAX_STEPS:
        yield f"has {len(recipe.steps)} steps; expected 1 to {MAX_STEPS}"
    seen: set[str] = set()
    for number, step in enumerate(recipe.steps):
        found = list(_step(recipe, step, actions, storages, absent))
        if step.name in seen:
            found.append("another step has this name")
        seen.add(step.name)
        if number == 0 and step.action in actions and recipe.accepts and not malformed and not accepted(recipe, actions):
            found.append(f"the action {step.action!r} reads {', '.join(actions[step.action].accepts)}, none of which the recipe accepts")
        yield from (f"step {step.name[:80]!r}: {sentence}" for sentence in found)


def accepted(recipe: Recipe, actions: Mapping[str, Action]) -> tuple[str, ...]:
    """The media types and ranges that both the recipe and its first step's action take."""
    theirs = actions[recipe.steps[0].action].accepts
    both = [overlap for ours in recipe.accepts for each in theirs if (overlap := _narrower(ours, each.lower()))]
    return tuple(dict.fromkeys(both))


def meant(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name."""
    names = sorted(known)
    near = nearest(name, names)
    return f"; did you mean {near!r}?" if near else f"; there is {', '.join(names) or 'none'}"


def _narrower(one: str, other: str) -> str | None:
    for narrow, wide in ((one, other), (other, one)):
        if wide in ("*/*", narrow) or (wide.endswith("/*") and narrow.startswith(wide[:-1])):
            return narrow
    return None


def _step(recipe: Recipe, step: Step, actions: Mapping[str, Action], storages: Collection[str], absent: Collection[str]) -> Iterator[str]:
    if not NAME.match(step.name):
        yield "is not a name; use at most 64 letters, digits, - and _, the first a letter or digit"
    if step.saves_to is not None and step.saves_to not in storages:
        yield f"saves_to names {step.saves_to!r}, which is no storage{meant(step.saves_to, storages)}"
    ours = {argument.name: argument for argument in recipe.arguments}
    if step.relationship is not None:
        yield from (f"relationship {sentence}" for sentence in _template(step.relationship, ours, whole=False))
        if not placeholders.is_relationship(re.sub(r"\$\{[a-z0-9_]*\}", "x", step.relationship)):
            yield f"relationship {step.relationship!r} must be 1 to 128 letters, digits and : . _ -, the first a letter or digit"
    if step.action not in actions:
        if step.action not in absent:
            yield f"there is no action {step.action!r}{meant(step.action, actions)}"
        yield from (f"spec key {key!r} {sentence}" for key, value in step.spec.items() for sentence in _template(value, ours, whole=True))
        return
    theirs = {argument.name: argument for argument in actions[step.action].arguments}
    for key, value in step.spec.items():
        if key not in theirs:
            yield f"spec key {key!r} is not an argument of the action {step.action!r}{meant(key, theirs)}"
        else:
            yield from (f"spec key {key!r} {sentence}" for sentence in _value(value, ours, theirs[key]))
    for key, argument in theirs.items():
        if argument.required and key not in step.spec:
            yield f"the action {step.action!r} needs the spec key {key!r}"


def _value(value: Any, ours: Mapping[str, Argument], theirs: Argument) -> Iterator[str]:
    """What is wrong with the template of one key of a spec."""
    wrong = list(_template(value, ours, whole=not theirs.required))
    yield from wrong
    if wrong:
        return
    name = placeholders.sole(value)
    if name is not None:
        given = ours[name].type
        if given != theirs.type and not (given in _TYPES and theirs.type in _TYPES):
            yield f"is of the type {theirs.type}, and the argument {name!r} of the type {given}"
    elif any(placeholders.names(value)):
        if theirs.type != "string":
            yield f"is of the type {theirs.type}, and its template is text around placeholders"
    else:
        try:
            read(theirs, value)
        except InvalidArgument as error:
            yield f"is refused by the action: {error.detail}"


def _template(value: Any, ours: Mapping[str, Argument], *, whole: bool) -> Iterator[str]:
    """What is wrong with the placeholders of a value. `whole`: one that is all of it may be of an argument that can be left out."""
    if placeholders.broken(value):
        yield f"has a ${{ that begins no placeholder such as ${{lang}}: {value!r}"
    for name in dict.fromkeys(placeholders.names(value)):
        argument = ours.get(name)
        if argument is None:
            yield f"has the placeholder ${{{name}}}, which names no argument{meant(name, ours)}"
        elif not argument.required and argument.default is None and not (whole and placeholders.sole(value)):
            yield f"has the placeholder ${{{name}}}, whose argument can be left out; make it required or give it a default"
