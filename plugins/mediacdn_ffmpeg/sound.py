"""The outline of the sound."""

import os
from array import array
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import av
import msgspec

from mediacdn import OverLimits, Undecodable
from mediacdn_ffmpeg.reading import DAMAGED, TOOLS
from mediacdn_ffmpeg.request import Made, Peaks

RATE = 8000
BUCKET = 160


def peaks(container: Any, task: Peaks, output: int) -> Made:
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
