"""What a film looks like in motion, in a few seconds; and the picture that comes with a piece of sound."""

import os
from fractions import Fraction
from itertools import count
from typing import Any

import av

from mediacdn import OverLimits, Undecodable
from mediacdn_ffmpeg.reading import TOOLS, TRIED, picture_of
from mediacdn_ffmpeg.request import Cover, Made, Motion
from mediacdn_ffmpeg.stills import sought, upright, write_jpeg

RATE = 8
"""Pictures a second."""
CLIP = 5
"""Pictures in a row; then comes another place."""
TRIES = ((60, 1), (35, 1), (15, 1), (15, 2), (5, 4))
"""Quality, and which of the pictures are kept, until it is small enough."""


def motion(container: Any, task: Motion, output: int) -> Made:
    """Write a few pictures in a row from each of some places of the film, as WebP that moves."""
    stream = picture_of(container, task.limits)
    if stream is None:
        raise Undecodable("There are no pictures in it that can be read")
    length = (container.duration or 0) / av.time_base
    pictures: list[Any] = []
    for number in range(task.clips):
        if number and (length <= 0 or not sought(container, length * number / task.clips)):
            break
        clip = _clip(container, stream, task.edge, pictures[0] if pictures else None)
        if not clip and not number:
            raise Undecodable("No picture of the film can be decoded")
        pictures += clip
        if length <= CLIP / RATE * (number + 1):
            break  # that was all of it
    for quality, every in TRIES:
        content = _webp(pictures[::every], quality, every)
        if len(content) <= task.most:
            _written(content, output)
            return Made(width=pictures[0].width, height=pictures[0].height, duration=len(pictures) / RATE, tools=TOOLS)
    raise OverLimits(f"There is no preview of it in {task.most} bytes")


def _clip(container: Any, stream: Any, edge: int, like: Any) -> list[Any]:
    """Pictures from where the film stands, small."""
    found: list[Any] = []
    due = None
    for number, packet in enumerate(container.demux(stream)):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            frames = []
        for frame in frames:
            at = frame.time if frame.time is not None else 0.0
            if due is None or at >= due or at < due - 1:
                due = at + 1 / RATE if due is None or at < due - 1 else due + 1 / RATE
                found.append(
                    upright(frame, stream.codec_context.sample_aspect_ratio, edge, "yuv420p", like or (found[0] if found else None))
                )
            if len(found) == CLIP:
                return found
        if number >= TRIED:
            break
    return found


def _webp(pictures: list[Any], quality: int, every: int) -> bytes:
    context: Any = av.CodecContext.create("libwebp_anim", "w")
    context.width, context.height, context.pix_fmt, context.time_base = pictures[0].width, pictures[0].height, "yuv420p", Fraction(1, 1000)
    context.options = {"quality": str(quality), "compression_level": "4"}
    packets = []
    for number, picture in zip(count(), pictures):
        picture.pts, picture.time_base = number * every * 1000 // RATE, Fraction(1, 1000)
        packets += context.encode(picture)
    return b"".join(map(bytes, [*packets, *context.encode(None)]))


def cover(container: Any, task: Cover, output: int) -> Made:
    """Write the picture that comes with the sound; nothing, and no size, where none does."""
    attached = av.stream.Disposition.attached_pic
    stream = next((each for each in container.streams.video if each.disposition & attached and each.codec_context is not None), None)
    if stream is None:
        return Made(tools=TOOLS)
    context = stream.codec_context
    context.thread_type = "NONE"
    context.options = {"max_pixels": str(task.limits.pixels)}
    if context.width * context.height > task.limits.pixels:
        raise OverLimits(f"Pictures of more than {task.limits.pixels} pixels are not read")
    for packet in container.demux(stream):
        for frame in [*packet.decode(), *context.decode(None)]:
            picture = upright(frame, None, task.edge, "yuvj420p")
            write_jpeg(picture, output)
            return Made(width=picture.width, height=picture.height, tools=TOOLS)
    return Made(tools=TOOLS)


def _written(content: bytes, output: int) -> None:
    os.ftruncate(output, 0)
    os.lseek(output, 0, os.SEEK_SET)
    with os.fdopen(output, "wb", closefd=False) as file:
        file.write(content)
