"""Which storage takes a new object: the configuration's rules in their order, pure."""

from collections.abc import Collection, Sequence

from mediacdn.config import Rule
from mediacdn.http.media_types import matches


def place(
    rules: Sequence[Rule], default: str, *, media_type: str, size: int | None, tags: Collection[str], owner: str, public: bool
) -> tuple[str, Rule | None]:
    """Answer the storage's name and the rule that chose it: the first whose conditions all hold, else `default` and None.

    `media_type` is in normal form; `size` is in bytes, None while unknown: a rule that bounds the size does not hold then. Bounds are inclusive.
    """
    for rule in rules:
        if _holds(rule, media_type, size, tags, owner, public):
            return rule.storage, rule
    return default, None


def _holds(rule: Rule, media_type: str, size: int | None, tags: Collection[str], owner: str, public: bool) -> bool:
    return (
        (rule.type is None or matches(rule.type, media_type))
        and (rule.min_size is None or (size is not None and size >= rule.min_size))
        and (rule.max_size is None or (size is not None and size <= rule.max_size))
        and (rule.tag is None or rule.tag in tags)
        and (rule.owner is None or rule.owner == owner)
        and (rule.public is None or rule.public == public)
    )
