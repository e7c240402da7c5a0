"""The sum of what several server processes count, kept by their parent: who asks gets it once the others have said theirs, and what the dead had counted stays in it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from mediacdn.server.totals import Family, Reading, exposed, lasting, summed

M = TypeVar("M")

WAIT = 1.0
"""Seconds after which a sum takes what a process said last."""


@dataclass(eq=False)
class _Sum(Generic[M]):
    """A sum that `asker` waits for under a number of its own."""

    asker: M
    number: int
    missing: set[M]
    due: float


class Tally(Generic[M]):
    """Sums over members of any kind. `report(member, number)` asks one what it counts, `answer(member, number, text)` gives one its sum."""

    def __init__(self, *, report: Callable[[M, int], None], answer: Callable[[M, int, bytes], None]) -> None:
        self._report = report
        self._answer = answer
        self._sums: dict[int, _Sum[M]] = {}
        self._last = 0
        self._known: dict[M, list[Family]] = {}
        self._gone: list[Family] = []
        self._ended = 0

    def ask(self, asker: M, number: int, families: list[Family], others: set[M], now: float) -> None:
        """Begin a sum of `families`, the asker's own, and what `others` will say."""
        self._known[asker] = families
        self._last += 1
        self._sums[self._last] = _Sum(asker, number, set(others), now + WAIT)
        for each in others:
            self._report(each, self._last)
        self._settle(self._last)

    def counted(self, member: M, number: int, families: list[Family]) -> None:
        """Take what a member counts, said for the sum `number`."""
        self._known[member] = families
        if number in self._sums:
            self._sums[number].missing.discard(member)
            self._settle(number)

    def departed(self, member: M) -> None:
        """Keep what a member had counted when it was last heard, and wait for it no longer."""
        self._gone = summed([self._gone, lasting(self._known.pop(member, []))])
        self._ended += 1
        for number, each in list(self._sums.items()):
            if each.asker is member:
                del self._sums[number]
            else:
                each.missing.discard(member)
                self._settle(number)

    def overdue(self, now: float) -> None:
        """Give the sums that have waited long enough."""
        for number, each in list(self._sums.items()):
            if now > each.due:
                each.missing.clear()
                self._settle(number)

    def _settle(self, number: int) -> None:
        each = self._sums[number]
        if not each.missing:
            del self._sums[number]
            self._answer(each.asker, each.number, exposed(summed([*self._known.values(), self._gone, self._own()])))

    def _own(self) -> list[Family]:
        return [
            Family(
                "mediacdn_processes",
                "Server processes that serve",
                "gauge",
                "",
                (Reading("mediacdn_processes", (), float(len(self._known))),),
            ),
            Family(
                "mediacdn_processes_ended",
                "Server processes that ended and were to be started again",
                "counter",
                "",
                (Reading("mediacdn_processes_ended_total", (), float(self._ended)),),
            ),
        ]
