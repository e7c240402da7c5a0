"""Which renditions a film gets: their sizes and bit rates. Pure."""

from collections.abc import Sequence

from msgspec import Struct

WORTH = 0.9
"""What is hardly smaller than the rung above it is none of its own."""


class Rendition(Struct, frozen=True):
    """A rung: even pixels, and the bits per second that its encoder is held to."""

    name: str
    width: int
    height: int
    rate: int


def fitted(width: int, height: int, box: int) -> tuple[int, int]:
    """Fit a film into a box of 16:9, upright or lying, whose short side is `box`; never larger than it is, and even."""
    long, short = max(width, height), min(width, height)
    scale = min(1.0, box * 16 / 9 / long, box / short)
    return _even(width * scale), _even(height * scale)


def ladder(width: int, height: int, boxes: Sequence[int]) -> list[Rendition]:
    """The renditions of a film, the largest first, named by the smallest box that holds them: the first is the film's own size where a box holds that."""
    rungs: list[Rendition] = []
    for box in sorted(set(boxes), reverse=True):
        size = fitted(width, height, box)
        rung = Rendition(f"{box}p", *size, rate(*size))
        if rungs and (rungs[-1].width, rungs[-1].height) == size:
            rungs[-1] = rung
        elif not rungs or size[0] <= rungs[-1].width * WORTH:
            rungs.append(rung)
    return rungs


def rate(width: int, height: int) -> int:
    """The most bits per second: 5 Mbit/s for 1080p, and less than proportionally less for what is smaller."""
    return round(5000 * float((width * height / (1920 * 1080)) ** 0.8) + 40) * 1000


def _even(side: float) -> int:
    return max(2, round(side / 2) * 2)
