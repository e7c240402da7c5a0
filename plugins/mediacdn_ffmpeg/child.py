"""What runs in the sandbox's child that decodes: one task on one film at a time, and the meaning of what PyAV complains of."""

from typing import Any

import av
import msgspec

from mediacdn import OverLimits, Undecodable
from mediacdn_ffmpeg.checking import check
from mediacdn_ffmpeg.moving import cover, motion
from mediacdn_ffmpeg.reading import DAMAGED, film
from mediacdn_ffmpeg.request import (
    Board,
    Check,
    Checked,
    Cover,
    Drawing,
    Film,
    Heard,
    Look,
    Loudness,
    Made,
    Motion,
    Sheet,
    Still,
    Task,
    Work,
)
from mediacdn_ffmpeg.seeing import look
from mediacdn_ffmpeg.sound import drawing, loudness, peaks
from mediacdn_ffmpeg.stills import board, still


def run(request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
    """Look at a film, or make something small of it."""
    task = msgspec.convert(request, Work).task
    try:
        done = _done(task, descriptors)
    except (av.error.FFmpegError, OSError, EOFError, ValueError, IndexError) as error:
        if "memory" in str(error).lower():
            raise OverLimits("It needs more memory than is allowed") from error
        raise Undecodable(DAMAGED) from error
    answer: dict[str, Any] = msgspec.to_builtins(done)
    return answer


def _done(task: Task, descriptors: list[int]) -> Film | Made | Sheet | Checked | Heard:
    if isinstance(task, Check):
        return check(task, descriptors[0])
    if isinstance(task, Look):
        return look(task, descriptors[0])
    with film(task.demuxer, descriptors[0]) as container:
        if isinstance(task, Still):
            return still(container, task, descriptors[1])
        if isinstance(task, Board):
            return board(container, task, descriptors[1])
        if isinstance(task, Motion):
            return motion(container, task, descriptors[1])
        if isinstance(task, Cover):
            return cover(container, task, descriptors[1])
        if isinstance(task, Loudness):
            return loudness(container, task)
        if isinstance(task, Drawing):
            return drawing(container, task, descriptors[1])
        return peaks(container, task, descriptors[1])
