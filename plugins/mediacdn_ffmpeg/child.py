"""What runs in the sandbox's child: PyAV, on one film at a time, read through a descriptor, by the demuxer that our own sniffing named."""

import io
import os
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import pairwise
from typing import Any

import av
import msgspec
from msgspec.structs import replace

from mediacdn import OverLimits, Undecodable
from mediacdn_ffmpeg import codecs
from mediacdn_ffmpeg.request import Audio, Check, Checked, Film, Limits, Look, Made, Peaks, Still, Video, Work

TOOLS = {"pyav": av.__version__, "libavformat": ".".join(map(str, av.library_versions["libavformat"]))}
DAMAGED = "The film is damaged, cut short, or of a kind that is not read here"
SURE = frozenset({"mov", "matroska"})
"""Containers that say how long they are; of the others all packets are looked at."""
TRIED = 300
"""Packets in which a first picture must be."""
STILLS = 8
HDR = (16, 18)
"""The transfer functions PQ and HLG (ISO/IEC 23091-2)."""
RATE = 8000
BUCKET = 160


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


def _done(task: Look | Still | Peaks | Check, descriptors: list[int]) -> Film | Made | Checked:
    if isinstance(task, Check):
        return _check(task, descriptors[0])
    if isinstance(task, Look):
        return _look(task, descriptors[0])
    with _film(task.demuxer, descriptors[0]) as container:
        if isinstance(task, Still):
            return _still(container, task, descriptors[1])
        return _peaks(container, task, descriptors[1])


@contextmanager
def _opened(file: Any, demuxer: str) -> Iterator[Any]:
    av.logging.set_level(av.logging.PANIC)
    # Without a name there is nothing that a reference within the file could be relative to, and no protocol is on the list.
    with av.open(file, mode="r", format=demuxer, options={"protocol_whitelist": "none"}, metadata_errors="replace") as container:
        yield container


@contextmanager
def _film(demuxer: str, descriptor: int) -> Iterator[Any]:
    """The film, from its beginning."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    with os.fdopen(os.dup(descriptor), "rb", buffering=0) as file, _opened(file, demuxer) as container:
        yield container


def _picture(container: Any, limits: Limits) -> Any:
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


def _look(task: Look, descriptor: int) -> Film:
    with _film(task.demuxer, descriptor) as container:
        found = _seen(container, task)
    if task.demuxer not in SURE or not found.duration:
        with _film(task.demuxer, descriptor) as container:
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
    stream = _picture(container, task.limits)
    lengths = {each.index: float(each.duration * each.time_base) for each in container.streams if each.duration}
    audio = [each for each in container.streams.audio if each.codec_context is not None]
    if stream is None and not audio:
        raise Undecodable("There are neither pictures nor sound in it that can be read")
    frame = None if stream is None else _first(container, stream)
    if stream is not None and frame is None:
        raise Undecodable("No picture of the film can be decoded")
    return Film(
        duration=round(max(0.0, (container.duration or 0) / av.time_base), 6),
        video=None if stream is None else _video(stream, frame, lengths.get(stream.index), task.limits),
        audio=tuple(
            Audio(
                index=each.index, codec=each.codec_context.name[:64], channels=each.channels, rate=each.rate or 0,
                language=_language(each.language), duration=lengths.get(each.index),
            )
            for each in audio
        ),
        tools=TOOLS,
    )  # fmt: skip


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
    rate = stream.average_rate or stream.guessed_rate or 0
    return Video(
        index=stream.index, codec=stream.codec_context.name[:64], width=min(width, 1 << 16), height=height, rotation=rotation,
        frame_rate=round(min(float(rate), 100_000.0), 3), bits=frame.format.components[0].bits, hdr=int(frame.color_trc) in HDR,
        interlaced=bool(frame.interlaced_frame), duration=length,
    )  # fmt: skip


def _first(container: Any, stream: Any) -> Any:
    for number, packet in enumerate(container.demux(stream)):
        try:
            for frame in packet.decode():
                return frame
        except av.error.InvalidDataError:
            pass
        if number >= TRIED:
            break
    return None


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


def _still(container: Any, task: Still, output: int) -> Made:
    """Write the frame that tells most, of those at a few places: not dark, not blank."""
    stream = _picture(container, task.limits)
    if stream is None:
        raise Undecodable("There are no pictures in it that can be read")
    stream.codec_context.skip_frame = "NONKEY"
    best, most, rotation = None, -1.0, 0
    length = (container.duration or 0) / av.time_base
    for number in range(STILLS):
        at = length * (0.05 + 0.6 * number / STILLS)
        if number:
            if length <= 0:
                break
            container.seek(int(at * av.time_base), backward=True)
        frame = _first(container, stream)
        if frame is None:
            continue
        told = _told(frame)
        if told > most:
            best, most, rotation = frame, told, round(frame.rotation / 90) * 90 % 360
    if best is None:
        raise Undecodable("No picture of the film can be decoded")
    return _jpeg(best, rotation, stream.codec_context.sample_aspect_ratio, task.edge, output)


def _told(frame: Any) -> float:
    """How much a frame tells: the spread of its brightness, little where it is dark."""
    small = frame.reformat(width=32, height=18, format="gray")
    plane, line = bytes(small.planes[0]), small.planes[0].line_size
    pixels = b"".join(plane[row * line : row * line + 32] for row in range(18))
    mean = sum(pixels) / len(pixels)
    spread = (sum((each - mean) ** 2 for each in pixels) / len(pixels)) ** 0.5
    return float(spread * (0.1 if mean < 24 else 1.0))


def _jpeg(frame: Any, rotation: int, aspect: Any, edge: int, output: int) -> Made:
    graph = av.filter.Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format.name, time_base=Fraction(1, 25))
    width, height = frame.width, frame.height
    if aspect and aspect != 1 and Fraction(1, 20) < aspect < 20:
        width = max(1, round(width * aspect))
    turns = {90: ["transpose=cclock"], 180: ["hflip", "vflip"], 270: ["transpose=clock"]}.get(rotation, [])
    across, down = (height, width) if rotation % 180 else (width, height)
    scale = min(1.0, edge / max(across, down))
    across, down = max(2, round(across * scale / 2) * 2), max(2, round(down * scale / 2) * 2)
    last = source
    for each in [*turns, f"scale={across}:{down}", "format=yuvj420p"]:
        name, _, arguments = each.partition("=")
        following = graph.add(name, arguments) if arguments else graph.add(name)
        last.link_to(following)
        last = following
    last.link_to(graph.add("buffersink"))
    graph.configure()
    graph.push(frame)
    graph.push(None)
    picture: Any = graph.pull()
    context = av.CodecContext.create("mjpeg", "w")
    context.width, context.height, context.pix_fmt, context.time_base = picture.width, picture.height, "yuvj420p", Fraction(1, 25)
    context.options = {"qscale": "3", "flags": "+qscale+bitexact", "global_quality": "354", "strict": "unofficial"}
    picture.pts = 0
    packets = [*context.encode(picture), *context.encode(None)]
    os.ftruncate(output, 0)
    os.lseek(output, 0, os.SEEK_SET)
    with os.fdopen(output, "wb", closefd=False) as file:
        file.write(bytes(packets[0]))
    return Made(width=picture.width, height=picture.height, tools=TOOLS)


def _peaks(container: Any, task: Peaks, output: int) -> Made:
    if not container.streams.audio:
        raise Undecodable("There is no sound in it that can be read")
    stream = container.streams.audio[0]
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    lows, highs, rest, count = array("h"), array("h"), array("h"), 0
    frames = _heard(container, stream)
    for frame in frames:
        for piece in resampler.resample(frame):
            rest.frombytes(bytes(piece.planes[0])[: piece.samples * 2])
        while len(rest) >= BUCKET:
            whole, rest = rest[:BUCKET], rest[BUCKET:]
            lows.append(min(whole))
            highs.append(max(whole))
            count += BUCKET
        if count > task.limits.duration * RATE:
            raise OverLimits(f"Sound of more than {task.limits.duration:g} s is not read")
    if rest:
        lows.append(min(rest))
        highs.append(max(rest))
        count += len(rest)
    if not lows:
        raise Undecodable(DAMAGED)
    points = min(task.points, len(lows))
    edges = [round(number * len(lows) / points) for number in range(points + 1)]
    data = [each for a, b in pairwise(edges) for each in (min(lows[a:b]) >> 8, max(highs[a:b]) >> 8)]
    body = {
        "version": 2, "channels": 1, "sample_rate": RATE, "samples_per_pixel": round(count / points), "bits": 8, "length": points,
        "duration": round(count / RATE, 3), "data": data,
    }  # fmt: skip
    os.ftruncate(output, 0)
    os.lseek(output, 0, os.SEEK_SET)
    with os.fdopen(output, "wb", closefd=False) as file:
        file.write(msgspec.json.encode(body))
    return Made(duration=count / RATE, tools=TOOLS)


def _heard(container: Any, stream: Any) -> Iterator[Any]:
    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except av.error.InvalidDataError:
            continue


def _check(task: Check, folder: int) -> Checked:
    """Open each segment by itself, as a player that seeks does: its first picture must decode, and time must go on. Raises: Undecodable."""
    init = _read(folder, task.piece.init) if task.piece.init else b""
    spans: dict[str, tuple[float, float]] = {}
    last: dict[str, float] = {}
    frames = width = height = 0
    words: dict[str, str] = {}
    keys: list[int] = []
    for name in task.piece.segments:
        with _opened(io.BytesIO(init + _read(folder, name)), "mov" if task.piece.fmp4 else "mpegts") as container:
            streams = [*container.streams.video[: task.video], *container.streams.audio[: task.audio]]
            if len(streams) != task.video + task.audio:
                raise Undecodable("A segment that was made lacks a stream")
            seen: set[str] = set()
            for packet in container.demux(streams):
                kind = packet.stream.type
                if packet.pts is None:
                    continue
                if kind == "video":
                    frames += 1
                if kind not in seen:
                    seen.add(kind)
                    if kind == "video" and task.piece.fmp4 and packet.pos is not None:
                        keys.append(packet.pos + packet.size - len(init))
                    if not packet.is_keyframe or not [*packet.decode(), *packet.stream.codec_context.decode(None)]:
                        raise Undecodable("A segment that was made does not begin with a picture that decodes")
                start = float(packet.pts * packet.time_base)
                stop = start + float((packet.duration or 0) * packet.time_base)
                before = spans.get(kind, (start, stop))
                spans[kind] = (min(before[0], start), max(before[1], stop))
                decoded = start if packet.dts is None else float(packet.dts * packet.time_base)
                if decoded <= last.get(kind, -1e9):
                    raise Undecodable("In what was made, time goes back")
                last[kind] = decoded
            if len(seen) != len(streams) and name == task.piece.segments[0]:
                raise Undecodable("A segment that was made is empty")
            for stream in streams:
                context = stream.codec_context
                words.setdefault(stream.type, codecs.name(context.name, bytes(context.extradata or b"")))
                if stream.type == "video":
                    width, height = context.width, context.height
    lengths = {kind: stop - start for kind, (start, stop) in spans.items()}
    return Checked(
        video=lengths.get("video", 0.0), audio=lengths.get("audio", 0.0), width=width, height=height, frames=frames,
        codecs=",".join(words[kind] for kind in ("video", "audio") if kind in words), keys=tuple(keys),
    )  # fmt: skip


def _read(folder: int, name: str) -> bytes:
    with os.fdopen(os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder), "rb") as file:
        return file.read()


def _language(found: str | None) -> str:
    return found if found and found.isascii() and found.isalpha() and len(found) == 3 and found != "und" else ""
