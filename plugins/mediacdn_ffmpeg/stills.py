"""Pictures out of a film: the one that tells most, and a sheet of small ones for whoever looks for a moment."""

import os
from fractions import Fraction
from typing import Any

import av

from mediacdn import Undecodable
from mediacdn_ffmpeg.reading import TOOLS, first, picture_of
from mediacdn_ffmpeg.request import Board, Made, Sheet, Still

STILLS = 8
COLUMNS = 10


def still(container: Any, task: Still, output: int) -> Made:
    """Write the frame that tells most, of those at a few places: not dark, not blank."""
    stream = picture_of(container, task.limits)
    if stream is None:
        raise Undecodable("There are no pictures in it that can be read")
    stream.codec_context.skip_frame = "NONKEY"
    best, most = None, -1.0
    length = (container.duration or 0) / av.time_base
    for number in range(STILLS):
        at = length * (0.05 + 0.6 * number / STILLS)
        if number and (length <= 0 or not sought(container, at)):
            break
        frame = first(container, stream)
        if frame is None:
            continue
        told = _told(frame)
        if told > most:
            best, most = frame, told
    if best is None:
        raise Undecodable("No picture of the film can be decoded")
    picture = upright(best, stream.codec_context.sample_aspect_ratio, task.edge, "yuvj420p")
    write_jpeg(picture, output)
    return Made(width=picture.width, height=picture.height, tools=TOOLS)


def _told(frame: Any) -> float:
    """How much a frame tells: the spread of its brightness, little where it is dark."""
    small = frame.reformat(width=32, height=18, format="gray")
    plane, line = bytes(small.planes[0]), small.planes[0].line_size
    pixels = b"".join(plane[row * line : row * line + 32] for row in range(18))
    mean = sum(pixels) / len(pixels)
    spread = (sum((each - mean) ** 2 for each in pixels) / len(pixels)) ** 0.5
    return float(spread * (0.1 if mean < 24 else 1.0))


def board(container: Any, task: Board, output: int) -> Sheet:
    """Write small pictures of the film, evenly spread, as one sheet of rows from left to right; of places that do not decode, the picture before them."""
    stream = picture_of(container, task.limits)
    if stream is None:
        raise Undecodable("There are no pictures in it that can be read")
    stream.codec_context.skip_frame = "NONKEY"
    length = (container.duration or 0) / av.time_base
    times = (
        [number * length / task.tiles for number in range(task.tiles)]
        if length >= task.tiles
        else [float(each) for each in range(max(1, int(length)))]
    )
    tiles: list[Any] = []
    for at in times:
        if at and not sought(container, at):
            break
        frame = first(container, stream)
        if frame is not None:
            tiles.append(upright(frame, stream.codec_context.sample_aspect_ratio, task.width, "yuvj420p", tiles[0] if tiles else None))
        elif tiles:
            tiles.append(tiles[-1])
        else:
            break
    if not tiles:
        raise Undecodable("No picture of the film can be decoded")
    columns = min(COLUMNS, len(tiles))
    width, height, rows = tiles[0].width, tiles[0].height, -(-len(tiles) // columns)
    sheet = av.VideoFrame(width * columns, height * rows, "yuvj420p")
    for number, plane in enumerate(sheet.planes):
        half = 1 if number else 0
        across, down, line = width >> half, height >> half, plane.line_size
        content = bytearray((b"\x80" if number else b"\0") * (line * (down * rows)))
        for place, tile in enumerate(tiles):
            given, stride = bytes(tile.planes[number]), tile.planes[number].line_size
            left, top = place % columns * across, place // columns * down
            for row in range(down):
                content[(top + row) * line + left : (top + row) * line + left + across] = given[row * stride : row * stride + across]
        plane.update(bytes(content[: plane.buffer_size]).ljust(plane.buffer_size, b"\0"))
    write_jpeg(sheet, output)
    return Sheet(width=width, height=height, columns=columns, times=tuple(times[: len(tiles)]), duration=length, tools=TOOLS)


def sought(container: Any, at: float) -> bool:
    """Go to the key frame before a second; False where that cannot be."""
    try:
        container.seek(int(at * av.time_base), backward=True)
    except av.error.FFmpegError:  # of some containers there is only what comes next
        return False
    return True


def upright(frame: Any, aspect: Any, edge: int, format: str, like: Any = None) -> Any:
    """A frame as it is shown, as large as fits into `edge`, or as large as `like`."""
    rotation = round(frame.rotation / 90) * 90 % 360
    graph = av.filter.Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format.name, time_base=Fraction(1, 25))
    width, height = frame.width, frame.height
    if aspect and aspect != 1 and Fraction(1, 20) < aspect < 20:
        width = max(1, round(width * aspect))
    turns = {90: ["transpose=cclock"], 180: ["hflip", "vflip"], 270: ["transpose=clock"]}.get(rotation, [])
    across, down = (height, width) if rotation % 180 else (width, height)
    scale = min(1.0, edge / max(across, down))
    across, down = max(2, round(across * scale / 2) * 2), max(2, round(down * scale / 2) * 2)
    if like is not None:
        across, down = like.width, like.height
    last = source
    for each in [*turns, f"scale={across}:{down}", f"format={format}"]:
        name, _, arguments = each.partition("=")
        following = graph.add(name, arguments) if arguments else graph.add(name)
        last.link_to(following)
        last = following
    last.link_to(graph.add("buffersink"))
    graph.configure()
    graph.push(frame)
    graph.push(None)
    return graph.pull()


def write_jpeg(picture: Any, output: int) -> None:
    """Write a picture as JPEG."""
    context = av.CodecContext.create("mjpeg", "w")
    context.width, context.height, context.pix_fmt, context.time_base = picture.width, picture.height, "yuvj420p", Fraction(1, 25)
    context.options = {"qscale": "3", "flags": "+qscale+bitexact", "global_quality": "354", "strict": "unofficial"}
    picture.pts = 0
    packets = [*context.encode(picture), *context.encode(None)]
    os.ftruncate(output, 0)
    os.lseek(output, 0, os.SEEK_SET)
    with os.fdopen(output, "wb", closefd=False) as file:
        file.write(bytes(packets[0]))
