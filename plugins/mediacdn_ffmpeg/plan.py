"""Into which parts a long film is cut, and in which order these are worth making. Pure.

What is made first is a short beginning of one rendition, which plays at once, then the first minutes of that one, then those of the others, then all renditions
of each part together, for decoding a film once for each of them would cost more. Sound comes with what is made first; that of the rest is made in one go, and cut:
an encoder of sound that begins anew is heard.
"""

from collections.abc import Sequence

from msgspec import Struct

from mediacdn import Unit
from mediacdn_ffmpeg.ladder import Rendition

AHEAD = 2
"""Chunks for which one rendition is made ahead of the others."""
BEGINNING = 3
"""Segments of the first part."""


class Span(Struct, frozen=True):
    """A part of a film, in seconds of its own clock; `stop` is 0 for the last one."""

    number: int
    start: int
    stop: int


def spans(duration: float, seconds: int, chunk: int) -> list[Span]:
    """Cut a film at whole seconds, which are whole segments; the last part has no end of its own, and is no shorter than half a chunk."""
    length = max(1, chunk // seconds) * seconds
    edges = [0, *([BEGINNING * seconds] if BEGINNING * seconds < length else [])]
    edges += range(length, int(duration) - length // 2, length)
    return [Span(number, start, stop) for number, (start, stop) in enumerate(zip(edges, [*edges[1:], 0], strict=True))]


def ahead(cut: Sequence[Span], seconds: int, chunk: int) -> int:
    """How many parts have one rendition made first."""
    return sum(each.start < AHEAD * max(1, chunk // seconds) * seconds for each in cut)


def first_of(rungs: Sequence[Rendition]) -> Rendition:
    """The rendition that is made first: one from the middle, which any line carries and anybody can look at."""
    return rungs[len(rungs) // 2]


def units(cut: Sequence[Span], rungs: Sequence[Rendition], seconds: int, chunk: int, *, heard: bool) -> list[Unit]:
    """The units of a film, `heard` where there is sound."""
    early, first = ahead(cut, seconds, chunk), first_of(rungs)
    others = [each for each in rungs if each is not first]
    found = []
    for each in cut[:early]:
        sounds = (1, early - 1)[each.number] if heard and each.number < 2 else 0  # each encodes all that is before it too
        found.append(_pictures("first", each, [first], -1, heard=sounds))
        if others:
            found.append(_pictures("rest", each, others, -2))
    if heard and len(cut) > early:
        found.append(Unit(name="sound", spec={"part": "sound", "number": early}, priority=-2))
    found += [_pictures("all", each, rungs, -3) for each in cut[early:]]
    return found


def _pictures(what: str, span: Span, rungs: Sequence[Rendition], priority: int, *, heard: int = 0) -> Unit:
    """A part in some renditions, with the sound of so many parts from it on."""
    spec: dict[str, str | int | float | bool] = {"part": "pictures", "number": span.number, "start": span.start, "stop": span.stop}
    spec.update(rungs=",".join(each.name for each in rungs), heard=heard)
    return Unit(name=f"{span.number:04d}-{what}", spec=spec, priority=priority)
