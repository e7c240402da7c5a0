"""The outline of the sound, as numbers and as a picture, and how loud it is."""

import math
import os
import struct
import zlib
from array import array
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from typing import Any

import av
import msgspec

from mediacdn import OverLimits, Undecodable
from mediacdn_ffmpeg.reading import DAMAGED, TOOLS
from mediacdn_ffmpeg.request import Drawing, Heard, Limits, Loudness, Made, Peaks

RATE = 8000
BUCKET = 160
COLOUR = b"\x4a\x90\xd9"


def peaks(container: Any, task: Peaks, output: int) -> Made:
    """Write the outline as JSON."""
    data, count, points = _outline(container, task.limits, task.points)
    body = {
        "version": 2, "channels": 1, "sample_rate": RATE, "samples_per_pixel": round(count / points), "bits": 8, "length": points,
        "duration": round(count / RATE, 3), "data": data,
    }  # fmt: skip
    _written(output, msgspec.json.encode(body))
    return Made(duration=count / RATE, tools=TOOLS)


def drawing(container: Any, task: Drawing, output: int) -> Made:
    """Write the outline as PNG: a column of each pair, the louder the taller, on nothing."""
    data, count, points = _outline(container, task.limits, task.width)
    middle = (task.height - 1) / 2
    spans = []
    for column in range(task.width):
        low, high = data[column * points // task.width * 2], data[column * points // task.width * 2 + 1]
        spans.append((round(middle - high / 128 * middle), round(middle - low / 128 * middle)))
    lines = bytearray()
    for row in range(task.height):
        lines.append(0)
        lines += bytes(first <= row <= last for first, last in spans)
    _written(output, _png(task.width, task.height, bytes(lines)))
    return Made(width=task.width, height=task.height, duration=count / RATE, tools=TOOLS)


def _png(width: int, height: int, lines: bytes) -> bytes:
    """A picture of two colours, of which the first cannot be seen."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        (b"PLTE", bytes(3) + COLOUR),
        (b"tRNS", b"\0\xff"),
        (b"IDAT", zlib.compress(lines, 9)),
        (b"IEND", b""),
    ]
    told = [struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content)) for kind, content in chunks]
    return b"".join([b"\x89PNG\r\n\x1a\n", *told])


def loudness(container: Any, task: Loudness) -> Heard:
    """Measure by EBU R 128 (ITU-R BS.1770): the whole, how much it varies, and the highest peak between samples."""
    if not container.streams.audio:
        raise Undecodable("There is no sound in it that can be read")
    stream = container.streams.audio[0]
    graph: Any = None
    told: dict[str, str] = {}
    peak, seconds, shape = -math.inf, 0.0, None
    for frame in _heard(container, stream):
        frame.pts = None
        if graph is None or shape != (frame.format.name, frame.layout.name, frame.sample_rate):
            if graph is not None:
                break  # it goes on as something else; what was heard is told
            shape = (frame.format.name, frame.layout.name, frame.sample_rate)
            graph = _metering(*shape)
        seconds += frame.samples / frame.sample_rate
        if seconds > task.limits.duration:
            raise OverLimits(f"Sound of more than {task.limits.duration:g} s is not read")
        graph.push(frame)
        told, peak = _told(graph, told, peak)
    if graph is None:
        raise Undecodable(DAMAGED)
    graph.push(None)
    told, peak = _told(graph, told, peak)
    whole, varies = (_number(told.get(f"lavfi.r128.{name}")) for name in ("I", "LRA"))
    silent = whole is None or whole <= -69.99
    return Heard(
        integrated=None if silent else whole,
        range=None if silent else varies,
        true_peak=round(20 * math.log10(peak), 2) if peak > 0 else None,
        tools=TOOLS,
    )


def _metering(format: str, layout: str, rate: int) -> Any:
    graph = av.filter.Graph()
    source = graph.add_abuffer(sample_rate=rate, format=format, layout=layout, time_base=Fraction(1, rate))
    meter = graph.add("ebur128", "metadata=1:peak=true:framelog=quiet")
    sink = graph.add("abuffersink")
    source.link_to(meter)
    meter.link_to(sink)
    graph.configure()
    return graph


def _told(graph: Any, told: dict[str, str], peak: float) -> tuple[dict[str, str], float]:
    while True:
        try:
            found = graph.pull().metadata
        except (av.error.BlockingIOError, av.error.EOFError):
            return told, peak
        if "lavfi.r128.I" in found:
            told = found
        for name, value in found.items():
            if name.startswith("lavfi.r128.true_peaks_ch") and (number := _number(value)) is not None:
                peak = max(peak, number)


def _number(text: str | None) -> float | None:
    value = float("nan") if text is None else float(text)
    return value if math.isfinite(value) and abs(value) <= 200 else None


def _outline(container: Any, limits: Limits, wanted: int) -> tuple[list[int], int, int]:
    """Pairs of the lowest and highest of 8 bits, how many samples they are of, and how many pairs there are: `wanted`, or as many as the sound has."""
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
        if count > limits.duration * RATE:
            raise OverLimits(f"Sound of more than {limits.duration:g} s is not read")
    if rest:
        lows.append(min(rest))
        highs.append(max(rest))
        count += len(rest)
    if not lows:
        raise Undecodable(DAMAGED)
    points = min(wanted, len(lows))
    edges = [round(number * len(lows) / points) for number in range(points + 1)]
    return [each for a, b in pairwise(edges) for each in (min(lows[a:b]) >> 8, max(highs[a:b]) >> 8)], count, points


def _written(output: int, content: bytes) -> None:
    os.ftruncate(output, 0)
    os.lseek(output, 0, os.SEEK_SET)
    with os.fdopen(output, "wb", closefd=False) as file:
        file.write(content)


def _heard(container: Any, stream: Any) -> Iterator[Any]:
    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except av.error.InvalidDataError:
            continue
