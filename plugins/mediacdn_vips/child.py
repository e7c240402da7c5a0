"""What runs in the sandbox's child: one function, from a request and descriptors to an answer."""

import os
from collections.abc import Callable
from typing import Any

import msgspec
import pyvips

from mediacdn_vips import guard
from mediacdn_vips.facts import look
from mediacdn_vips.pipeline import make
from mediacdn_vips.request import Seen, Work


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
        raise guard.meaning(error) from error
