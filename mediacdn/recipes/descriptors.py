"""A recipe as callers are told of it: its descriptor, and a JSON Schema of its arguments that says what the reading of arguments does.

`requires` lists the media types and ranges that the media must be of, where not any will do; the actions it needs stand in its steps.
"""

from typing import Any

from msgspec import Struct

from mediacdn.model import Argument, Recipe
from mediacdn.recipes.arguments import MAX_NUMBER, Value, canonical, longest, read

DIALECT = "https://json-schema.org/draft/2020-12/schema"


class ArgumentDescriptor(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a caller may say by one name. Without `required` and `default` it may be left out, and the action decides."""

    name: str
    type: str
    required: bool
    default: Value | None = None
    allowed: tuple[Value, ...] = ()
    min: int | float | None = None
    max: int | float | None = None
    pattern: str | None = None
    summary: str | None = None


class StepDescriptor(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A step; `${name}` in its template stands for the argument of that name."""

    name: str
    action: str
    spec_template: dict[str, Any]
    relationship: str | None = None
    saves_to: str | None = None
    continue_on_error: bool = False


class Descriptor(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A recipe. `args_schema` is a JSON Schema (draft 2020-12) of the object of arguments, whose strings are meant in NFC."""

    code: str
    version: int
    title: str | None = None
    summary: str | None = None
    args: tuple[ArgumentDescriptor, ...]
    steps: tuple[StepDescriptor, ...]
    requires: tuple[str, ...] = ()
    args_schema: dict[str, Any]


def describe(recipe: Recipe, accepts: tuple[str, ...]) -> Descriptor:
    """Give the descriptor. Caller promises: `accepts` are the types and ranges that the recipe and its first action take."""
    steps = tuple(
        StepDescriptor(
            name=step.name,
            action=step.action,
            spec_template=dict(step.spec),
            relationship=step.relationship,
            saves_to=step.saves_to,
            continue_on_error=step.continue_on_error,
        )
        for step in recipe.steps
    )
    return Descriptor(
        code=recipe.code,
        version=recipe.version,
        title=recipe.title,
        summary=recipe.summary,
        args=tuple(map(_argument, recipe.arguments)),
        steps=steps,
        requires=() if "*/*" in accepts else accepts,
        args_schema=schema(recipe.arguments),
    )


def schema(arguments: tuple[Argument, ...]) -> dict[str, Any]:
    """The JSON Schema of an object of arguments: it holds for exactly the objects, their strings in NFC, that arguments.normalise takes."""
    return {
        "$schema": DIALECT,
        "type": "object",
        "properties": {argument.name: _property(argument) for argument in arguments},
        "required": [argument.name for argument in arguments if argument.required],
        "additionalProperties": False,
    }


def _argument(argument: Argument) -> ArgumentDescriptor:
    return ArgumentDescriptor(
        name=argument.name,
        type=argument.type,
        required=argument.required,
        default=None if argument.default is None else read(argument, argument.default),
        allowed=tuple(map(canonical, argument.allowed)),
        min=_bound(argument.min),
        max=_bound(argument.max),
        pattern=argument.pattern,
        summary=argument.summary,
    )


def _property(argument: Argument) -> dict[str, Any]:
    said: dict[str, Any] = {"type": argument.type}
    if argument.summary:
        said["description"] = argument.summary
    if argument.default is not None:
        said["default"] = read(argument, argument.default)
    if argument.allowed:
        said["enum"] = list(map(canonical, argument.allowed))
    elif argument.type == "string":
        said["minLength"] = int(argument.min or 0)
        said["maxLength"] = longest(argument)
        said["not"] = {"pattern": r"\u0000"}
        if argument.pattern is not None:
            said["pattern"] = f"^(?:{argument.pattern})$"
    elif argument.type != "boolean":
        said["minimum"] = _bound(max(-MAX_NUMBER, -MAX_NUMBER if argument.min is None else argument.min))
        said["maximum"] = _bound(min(MAX_NUMBER, MAX_NUMBER if argument.max is None else argument.max))
    return said


def _bound(bound: float | None) -> int | float | None:
    value = None if bound is None else canonical(bound)
    return value if isinstance(value, int | float) else None
