"""Which member of a mirror answers: remembered, so that one that is away does not delay each read."""

import time
from collections.abc import Callable, Sequence


class Health:
    """Members by name, in their order. One that failed rests for `first` seconds, twice as long after each further failure, at most `longest`."""

    def __init__(
        self, names: Sequence[str], *, first: float = 2.0, longest: float = 60.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._names = tuple(names)
        self._first = first
        self._longest = longest
        self._clock = clock
        self._rests: dict[str, tuple[float, float]] = {}

    def ordered(self) -> list[str]:
        """All names: those believed well first, then the resting ones, whose rest ends soonest first."""
        now = self._clock()
        resting = {name: until for name, (until, _) in self._rests.items() if until > now}
        return [*(name for name in self._names if name not in resting), *sorted(resting, key=lambda name: resting[name])]

    def well(self, name: str) -> bool:
        """Whether there is no reason to pass it over."""
        rest = self._rests.get(name)
        return rest is None or rest[0] <= self._clock()

    def failed(self, name: str) -> None:
        """It did not answer. What fails within a rest, such as calls that began before, does not make the rest longer."""
        until, last = self._rests.get(name, (0.0, 0.0))
        now = self._clock()
        if until <= now:
            rest = min(self._longest, max(self._first, last * 2))
            self._rests[name] = (now + rest, rest)

    def answered(self, name: str) -> None:
        """It did."""
        self._rests.pop(name, None)
