"""The built-in cache policy: the configuration's rules in their order, compiled once. It answers for which copies are kept, where and for how long, and for
saying why; whether there is room for them is the tiers' business."""

from collections.abc import Callable, Collection
from typing import NamedTuple

from msgspec import Struct

from mediacdn.config import Edge, EdgeRule
from mediacdn.http.media_types import matches
from mediacdn.model import Admission, Card

DEFAULT = "default"
"""What `Admission.rule` says where no rule holds and the [edge] table decides alone."""

KEPT = 1024
"""Sets of rules that are kept narrowed to one type, storage, visibility and variant."""

_UNNAMED = "*"
"""Stands for every variant that no rule names: callers can make up as many as they like."""

Test = Callable[[Card, str, int], bool]


class Passed(Struct, frozen=True):
    """A rule that did not decide, and its first condition that failed."""

    rule: str
    because: str


class Verdict(Struct, frozen=True):
    """An admission with its reasons, for people: what the deciding rule asks, and the rules before it that did not hold."""

    admission: Admission
    because: str | None
    passed: tuple[Passed, ...] = ()


class _Condition(NamedTuple):
    """One condition as its author wrote it, and as a function; a lasting one asks nothing beyond type, storage, visibility and variant."""

    text: str
    lasting: bool
    test: Test


class _Outcome(Struct, frozen=True):
    """What a rule comes to, made beforehand: for storages at a distance, and for small and large objects of local ones."""

    admit: str
    refused: Admission
    remote: Admission
    local_small: Admission
    local_large: Admission


class Rules:
    """See `interfaces.CachePolicy`. `local` names the storages whose objects are files of this machine: these go to memory up to `memory_local` bytes, and to
    the disk tier only with `disk_local`. A tier of 0 bytes is none. Sizes, tags and storage are those of the original, also for its variants."""

    def __init__(self, config: Edge, local: Collection[str] = ()) -> None:
        self._local = frozenset(local)
        self._memory_local = config.memory_local
        called = names(config.rules)
        self._rules = tuple((_conditions(rule), _outcome(name, rule, config)) for name, rule in zip(called, config.rules, strict=True))
        self._default = _outcome(DEFAULT, EdgeRule(), config)
        self._named = {name: name for name in ("", *(rule.variant or "" for rule in config.rules))}
        self._narrowed: dict[tuple[str, str, bool, str], tuple[tuple[tuple[Test, ...], _Outcome], ...]] = {}

    def judge(self, card: Card, variant: str, hits: int) -> Admission:
        """Decide by the first rule whose conditions all hold; 1 to 2 us for ten rules."""
        key = (card.media_type, card.storage, card.public, self._named.get(variant, _UNNAMED))
        for tests, outcome in self._narrowed.get(key) or self._narrow(key, card, variant):
            for test in tests:
                if not test(card, variant, hits):
                    break
            else:
                return self._admission(outcome, card, hits)
        raise AssertionError("the last of them has no conditions")

    def explain(self, card: Card, variant: str, hits: int) -> Verdict:
        """Decide as `judge` does, and say why."""
        passed: list[Passed] = []
        for conditions, outcome in self._rules:
            failed = next((each.text for each in conditions if not each.test(card, variant, hits)), None)
            if failed is None:
                holds = ", ".join(each.text for each in conditions) or "it has no conditions"
                return self._verdict(outcome, card, hits, holds, passed)
            passed.append(Passed(outcome.remote.rule, failed))
        return self._verdict(self._default, card, hits, "no rule holds" if passed else "there are no rules", passed)

    def _narrow(self, key: tuple[str, str, bool, str], card: Card, variant: str) -> tuple[tuple[tuple[Test, ...], _Outcome], ...]:
        """The rules that may hold for media of one type, storage, visibility and variant, with the conditions that are left to ask."""
        rules: list[tuple[tuple[Test, ...], _Outcome]] = []
        for conditions, outcome in self._rules:
            if all(each.test(card, variant, 0) for each in conditions if each.lasting):
                rules.append((tuple(each.test for each in conditions if not each.lasting), outcome))
        if len(self._narrowed) >= KEPT:
            self._narrowed.clear()  # uploaders choose types: what is kept for them must end somewhere
        narrowed = self._narrowed[key] = (*rules, ((), self._default))
        return narrowed

    def _admission(self, outcome: _Outcome, card: Card, hits: int) -> Admission:
        if outcome.admit != "always" and (outcome.admit == "never" or hits < 2):
            return outcome.refused
        if card.storage not in self._local:
            return outcome.remote
        return outcome.local_small if card.size <= self._memory_local else outcome.local_large

    def _verdict(self, outcome: _Outcome, card: Card, hits: int, holds: str, passed: list[Passed]) -> Verdict:
        admission = self._admission(outcome, card, hits)
        if admission is outcome.refused:
            holds += "; never kept" if outcome.admit == "never" else "; kept from the second request on"
        elif not admission.tiers:
            holds += "; its tiers are off" if admission is outcome.remote else "; a file of this machine, read where it is"
        return Verdict(admission, holds, tuple(passed))


def names(rules: tuple[EdgeRule, ...]) -> tuple[str, ...]:
    """How the rules are called: by their names, else by their numbers from 1."""
    return tuple(str(number) if rule.name is None else rule.name for number, rule in enumerate(rules, 1))


def _outcome(name: str, rule: EdgeRule, config: Edge) -> _Outcome:
    ttl = float(config.ttl if rule.ttl is None else rule.ttl)
    grace = float(config.grace if rule.grace is None else rule.grace)
    there = tuple(tier for tier, size in (("memory", config.memory), ("disk", config.disk)) if size > 0)
    remote = there if rule.tiers is None else tuple(tier for tier in there if tier in rule.tiers)
    small = tuple(tier for tier in remote if tier != "disk" or config.disk_local)
    large = tuple(tier for tier in small if tier != "memory")

    def admission(tiers: tuple[str, ...]) -> Admission:
        return Admission(name, tiers, ttl, grace, rule.pin and bool(tiers))

    return _Outcome(rule.admit or config.admit, admission(()), admission(remote), admission(small), admission(large))


def _conditions(rule: EdgeRule) -> tuple[_Condition, ...]:
    found: list[_Condition] = []
    if rule.type is not None:
        found.append(_Condition(f"type {rule.type}", True, _typed(rule.type)))
    if rule.storage is not None:
        found.append(_Condition(f"storage {rule.storage}", True, _stored(rule.storage)))
    if rule.public is not None:
        found.append(_Condition("public" if rule.public else "private", True, _public if rule.public else _private))
    if rule.variant is not None:
        found.append(_Condition(f"variant {rule.variant}", True, _variant(rule.variant)))
    if rule.min_size is not None:
        found.append(_Condition(f"min_size {rule.min_size}", False, _at_least(rule.min_size)))
    if rule.max_size is not None:
        found.append(_Condition(f"max_size {rule.max_size}", False, _at_most(rule.max_size)))
    if rule.tag is not None:
        found.append(_Condition(f"tag {rule.tag}", False, _tagged(rule.tag)))
    if rule.min_hits is not None:
        found.append(_Condition(f"min_hits {rule.min_hits}", False, _asked(rule.min_hits)))
    return tuple(found)


def _typed(pattern: str) -> Test:
    return lambda card, variant, hits: matches(pattern, card.media_type)


def _stored(storage: str) -> Test:
    return lambda card, variant, hits: card.storage == storage


def _public(card: Card, variant: str, hits: int) -> bool:
    return card.public


def _private(card: Card, variant: str, hits: int) -> bool:
    return not card.public


def _variant(name: str) -> Test:
    if name == "*":
        return lambda card, variant, hits: variant != ""
    wanted = "" if name == "original" else name
    return lambda card, variant, hits: variant == wanted


def _at_least(size: int) -> Test:
    return lambda card, variant, hits: card.size >= size


def _at_most(size: int) -> Test:
    return lambda card, variant, hits: card.size <= size


def _tagged(tag: str) -> Test:
    return lambda card, variant, hits: tag in card.tags


def _asked(count: int) -> Test:
    return lambda card, variant, hits: hits >= count
