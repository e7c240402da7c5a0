"""Looking into a film: what it says of itself, how long it really is, and whether its first picture decodes."""

from fractions import Fraction
from typing import Any

import av
from msgspec.structs import replace

from mediacdn import OverLimits, Undecodable
from mediacdn_ffmpeg.demuxers import SURE
from mediacdn_ffmpeg.reading import DAMAGED, TOOLS, film, first, picture_of
from mediacdn_ffmpeg.request import Audio, Film, Limits, Look, Video

PROFILES = frozenset({"Baseline", "Main", "High"})
HDR = (16, 18)
"""The transfer functions PQ and HLG (ISO/IEC 23091-2)."""


def look(task: Look, descriptor: int) -> Film:
    with film(task.demuxer, descriptor) as container:
        found = _seen(container, task)
    if task.demuxer not in SURE or not found.duration:
        with film(task.demuxer, descriptor) as container:
            lengths, duration = _measured(container)
        video = found.video and replace(found.video, duration=lengths.get(found.video.index))
        found = replace(
            found,
            duration=round(duration, 6),
            video=video,
            audio=tuple(replace(each, duration=lengths.get(each.index)) for each in found.audio),
        )
    if found.duration > task.limits.duration:
        raise OverLimits(f"Films of more than {task.limits.duration:g} s are not read")
    return found


def _seen(container: Any, task: Look) -> Film:
    """What the film says of itself."""
    stream = picture_of(container, task.limits)
    lengths = {each.index: float(each.duration * each.time_base) for each in container.streams if each.duration}
    audio = [each for each in container.streams.audio if each.codec_context is not None]
    if stream is None and not audio:
        raise Undecodable("There are neither pictures nor sound in it that can be read")
    frame = None if stream is None else first(container, stream)
    if stream is not None and frame is None:
        raise Undecodable("No picture of the film can be decoded")
    return Film(
        duration=round(max(0.0, (container.duration or 0) / av.time_base), 6),
        start=round((container.start_time or 0) / av.time_base, 6),
        video=None if stream is None else _video(stream, frame, lengths.get(stream.index), task.limits),
        audio=tuple(
            Audio(
                index=each.index, codec=_named(each), channels=each.channels, rate=each.rate or 0,
                language=_language(each.language), plain=each.codec_context.name == "aac" and each.codec_context.profile == "LC", duration=lengths.get(each.index),
            )
            for each in audio
        ),
        tools=TOOLS,
    )  # fmt: skip


def _named(stream: Any) -> str:
    """The codec's own name: that of a context is its decoder's, such as mp3float or libdav1d."""
    return str(stream.codec_context.codec.canonical_name)[:64]


def _video(stream: Any, frame: Any, length: float | None, limits: Limits) -> Video:
    width, height = frame.width, frame.height
    if width * height > limits.pixels:
        raise OverLimits(f"Films of more than {limits.pixels} pixels a picture are not read")
    aspect = stream.codec_context.sample_aspect_ratio or stream.sample_aspect_ratio
    if aspect and aspect > 0 and aspect != 1 and Fraction(1, 20) < aspect < 20:
        width = max(1, round(width * aspect))
    rotation = round(frame.rotation / 90) * 90 % 360
    if rotation % 180:
        width, height = height, width
    context = stream.codec_context
    square = not aspect or aspect <= 0 or aspect == 1
    plain = (
        context.name == "h264" and context.pix_fmt == "yuv420p" and (context.profile or "").removeprefix("Constrained ") in PROFILES
        and square and not rotation and not frame.interlaced_frame and width % 2 == height % 2 == 0
    )  # fmt: skip
    rate = stream.average_rate or stream.guessed_rate or 0
    return Video(
        index=stream.index, codec=_named(stream), width=min(width, 1 << 16), height=height, rotation=rotation,
        frame_rate=round(min(float(rate), 100_000.0), 3), bits=frame.format.components[0].bits, hdr=int(frame.color_trc) in HDR,
        interlaced=bool(frame.interlaced_frame), duration=length,
        plain=plain, keys=_keys(stream) if plain else (),
    )  # fmt: skip


def _keys(stream: Any) -> tuple[float, ...]:
    """When the key frames are shown, from the first one's beginning, by the container's index."""
    found = [float(each.timestamp * stream.time_base) for each in stream.index_entries if each.is_keyframe]
    return tuple(round(each - found[0], 6) for each in found) if 0 < len(found) <= 5000 and found == sorted(found) else ()


def _measured(container: Any) -> tuple[dict[int, float], float]:
    """How long each stream is, by its packets, and all together."""
    spans: dict[int, tuple[float, float]] = {}
    for packet in container.demux():
        if packet.pts is None:
            continue
        start = float(packet.pts * packet.time_base)
        stop = start + float((packet.duration or 0) * packet.time_base)
        before = spans.get(packet.stream_index, (start, stop))
        spans[packet.stream_index] = (min(before[0], start), max(before[1], stop))
    if not spans:
        raise Undecodable(DAMAGED)
    whole = max(stop for _, stop in spans.values()) - min(start for start, _ in spans.values())
    return {index: stop - start for index, (start, stop) in spans.items()}, whole


def _language(found: str | None) -> str:
    return found if found and found.isascii() and found.isalpha() and len(found) == 3 and found != "und" else ""
