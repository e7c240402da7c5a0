"""A plugin's cache policy as the edge uses it. It answers for one promise: what a policy gets wrong costs copies, never an answer."""

import structlog

from mediacdn.interfaces import CachePolicy
from mediacdn.model import Admission, Card

log = structlog.get_logger("mediacdn.edge")

FAILED = Admission("policy-failed", (), 0.0, 0.0)
"""What is said in place of a policy that raises, or that says what nobody can use: nothing is kept."""

_LONGEST = 1e12
_TIERS = frozenset(("memory", "disk"))


class Guarded:
    """See `interfaces.CachePolicy`. The first failure is logged, and those after it when the policy has been well again."""

    def __init__(self, policy: CachePolicy, name: str) -> None:
        self._policy = policy
        self._name = name
        self._well = True

    def judge(self, card: Card, variant: str, hits: int) -> Admission:
        try:
            admission = self._policy.judge(card, variant, hits)
            if flaw := _flaw(admission):
                raise ValueError(flaw)
        except Exception as error:
            if self._well:
                log.warning("the cache policy fails; nothing new is kept", policy=self._name, media_id=card.id, exc_info=error)
            self._well = False
            return FAILED
        self._well = True
        return admission


def _flaw(admission: object) -> str | None:
    """What makes an answer unusable; its types are what plugins promise, and nothing proves."""
    if not isinstance(admission, Admission):
        return f"judge gave {type(admission).__name__}, not an Admission"
    if not isinstance(admission.rule, str) or not admission.rule:
        return f"rule is no name: {admission.rule!r}"
    if not isinstance(admission.tiers, tuple) or not _TIERS.issuperset(admission.tiers):
        return f'tiers are no tuple of "memory" and "disk": {admission.tiers!r}'
    for name, seconds in (("ttl", admission.ttl), ("grace", admission.grace)):
        if not isinstance(seconds, int | float) or not 0 <= seconds <= _LONGEST:
            return f"{name} is no number of seconds from 0 to {_LONGEST:.0e}: {seconds!r}"
    return None
