"""Films as PyAV reads them in the sandbox's child: through a descriptor, by the demuxer that our own sniffing named, and by nothing else."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import av

from mediacdn import OverLimits
from mediacdn_ffmpeg.request import Limits

TOOLS = {"pyav": av.__version__, "libavformat": ".".join(map(str, av.library_versions["libavformat"]))}
DAMAGED = "The film is damaged, cut short, or of a kind that is not read here"
TRIED = 300
"""Packets in which a first picture must be."""


@contextmanager
def opened(file: Any, demuxer: str) -> Iterator[Any]:
    av.logging.set_level(av.logging.PANIC)
    # Without a name there is nothing that a reference within the file could be relative to, and no protocol is on the list.
    with av.open(file, mode="r", format=demuxer, options={"protocol_whitelist": "none"}, metadata_errors="replace") as container:
        yield container


@contextmanager
def film(demuxer: str, descriptor: int) -> Iterator[Any]:
    """The film, from its beginning."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    with os.fdopen(os.dup(descriptor), "rb", buffering=0) as file, opened(file, demuxer) as container:
        yield container


def picture_of(container: Any, limits: Limits) -> Any:
    """The film's stream of pictures, which the cover of a record is not; None without one."""
    if len(container.streams) > limits.streams:
        raise OverLimits(f"Films of more than {limits.streams} streams are not read")
    cover = av.stream.Disposition.attached_pic
    found = next((each for each in container.streams.video if not each.disposition & cover and each.codec_context is not None), None)
    if found is not None:
        context = found.codec_context
        if context.width * context.height > limits.pixels:
            raise OverLimits(
                f"Films of more than {limits.pixels} pixels a picture are not read, and this one has {context.width} by {context.height}"
            )
        context.options = {"max_pixels": str(limits.pixels)}
        context.thread_type = "NONE"
    return found


def first(container: Any, stream: Any) -> Any:
    for number, packet in enumerate(container.demux(stream)):
        try:
            for frame in packet.decode():
                return frame
        except av.error.InvalidDataError:
            pass
        if number >= TRIED:
            break
    return None
