"""What runs in the sandbox's child: one function, from a request and descriptors to an answer, and the meaning of what libvips complains of."""

import os
from collections.abc import Callable
from typing import Any

import msgspec
import pyvips

from mediacdn import OverLimits, Undecodable
from mediacdn_vips import guard
from mediacdn_vips.facts import look
from mediacdn_vips.pipeline import make
from mediacdn_vips.request import Seen, Work

_MEMORY = ("out of memory", "insufficient memory", "alloc")
_OUTPUT = ("write error", "file too large", "unable to write")
_LARGE = ("too large", "exceeds", "limit")


def run(request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
    """Make a picture (descriptors: the picture, the output, perhaps a watermark), or look at one."""
    work = msgspec.convert(request, Work)
    if work.svg:
        guard.allow_svg()
    os.lseek(descriptors[0], 0, os.SEEK_SET)
    seen = _told(lambda: look(work, descriptors[0]) if work.spec is None else make(work, work.spec, *descriptors))
    answer: dict[str, Any] = msgspec.to_builtins(seen)
    return answer


def _told(call: Callable[[], Seen]) -> Seen:
    try:
        return call()
    except pyvips.Error as error:
        text = str(error).lower()
        if any(word in text for word in _MEMORY):
            raise OverLimits("It needs more memory than is allowed") from error
        if any(word in text for word in _OUTPUT):
            raise OverLimits("What would be made is larger than is allowed") from error
        if any(word in text for word in _LARGE):
            raise OverLimits("It is larger than can be decoded or written") from error
        raise Undecodable("The picture is damaged, cut short, or of a kind that is not read here") from error
