"""Placeholders `${name}` in a step's spec and relationship: put in once, from normal values; what is put in is not looked at again."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mediacdn.errors import InvalidArgument
from mediacdn.model import Step
from mediacdn.recipes.arguments import Value, written

_PLACEHOLDER = re.compile(r"\$\{([a-z][a-z0-9_]*)\}")
_RELATIONSHIP = re.compile(r"[A-Za-z0-9][A-Za-z0-9:._-]{0,127}")


def sole(template: Any) -> str | None:
    """The name of the placeholder that a value consists of; its argument keeps its type."""
    found = _PLACEHOLDER.fullmatch(template) if isinstance(template, str) else None
    return found[1] if found else None


def names(template: Any) -> Iterator[str]:
    """The names of a value's placeholders."""
    return (found[1] for found in _PLACEHOLDER.finditer(template)) if isinstance(template, str) else iter(())


def broken(template: Any) -> bool:
    """Whether a value has a `${` that begins no placeholder."""
    return isinstance(template, str) and "${" in _PLACEHOLDER.sub("\0", template)


def fill(template: str, values: Mapping[str, Value]) -> str:
    """The text with its placeholders put in, as text. Caller promises: each of them has a value."""
    return _PLACEHOLDER.sub(lambda found: written(values[found[1]]), template)


def fill_spec(spec: Mapping[str, Any], values: Mapping[str, Value]) -> dict[str, Any]:
    """The spec with its placeholders put in; a key whose only placeholder has no value is left out, so that the action's own default holds."""
    filled: dict[str, Any] = {}
    for key, template in spec.items():
        alone = sole(template)
        if alone is None:
            filled[key] = fill(template, values) if isinstance(template, str) else template
        elif alone in values:
            filled[key] = values[alone]
    return filled


def fill_relationship(step: Step, values: Mapping[str, Value]) -> str | None:
    """The step's relationship. Raises: InvalidArgument that names the argument which does not fit into one."""
    if step.relationship is None:
        return None
    filled = fill(step.relationship, values)
    if not is_relationship(filled):
        name = next(names(step.relationship), None)
        raise InvalidArgument(
            f"{name!r} becomes part of the relationship {step.relationship}, which must be 1 to 128 letters, digits and : . _ -, "
            "the first a letter or digit",
            argument=name,
        )
    return filled


def is_relationship(text: str) -> bool:
    return _RELATIONSHIP.fullmatch(text) is not None
