"""Looking at what ffmpeg made, before anybody else does."""

import io
from typing import Literal

from mediacdn import Undecodable
from mediacdn_ffmpeg import codecs
from mediacdn_ffmpeg.lending import borrowed
from mediacdn_ffmpeg.reading import opened
from mediacdn_ffmpeg.request import EMPTY, Check, Checked


def check(task: Check, line: int) -> Checked:
    """Open each segment by itself, as a player that seeks does: its first picture must decode, and time must go on. Raises: Undecodable."""
    init = borrowed(line, 0) if task.piece.init else b""
    spans: dict[Literal["video", "audio"], tuple[float, float]] = {}
    decoded_at: dict[Literal["video", "audio"], tuple[float, float]] = {}
    starts: list[float] = []
    leading = False
    frames = width = height = 0
    words: dict[str, str] = {}
    keys: list[int] = []
    for number, name in enumerate(task.piece.segments, 1 if task.piece.init else 0):
        with opened(io.BytesIO(init + borrowed(line, number)), "mov" if task.piece.fmp4 else "mpegts") as container:
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
                first = kind not in seen
                if first:
                    seen.add(kind)
                    if kind == "video" and task.piece.fmp4 and packet.pos is not None:
                        keys.append(packet.pos + packet.size - len(init))
                    if not packet.is_keyframe or not [*packet.decode(), *packet.stream.codec_context.decode(None)]:
                        raise Undecodable("A segment that was made does not begin with a picture that decodes")
                    packet.stream.codec_context.flush_buffers()
                elif task.through and kind == "audio":
                    packet.decode()
                start = float(packet.pts * packet.time_base)
                leading = leading or (kind == "video" and bool(starts) and not first and start < starts[-1] - 0.001)
                stop = start + float((packet.duration or 0) * packet.time_base)
                before = spans.get(kind, (start, stop))
                spans[kind] = (min(before[0], start), max(before[1], stop))
                decoded = start if packet.dts is None else float(packet.dts * packet.time_base)
                begun, last = decoded_at.get(kind, (decoded, -1e9))
                if (
                    decoded < last
                ):  # equal ones there are: a muxer that did not foresee how long the last picture of a segment stands makes up for it with the next
                    raise Undecodable("In what was made, time goes back")
                decoded_at[kind] = (begun, decoded)
                if kind == "video" and first:
                    starts.append(start)
            if len(seen) != len(streams) and name == task.piece.segments[0]:
                raise Undecodable(EMPTY)
            for stream in streams:
                context = stream.codec_context
                words.setdefault(stream.type, codecs.name(context.name, bytes(context.extradata or b"")))
                if stream.type == "video":
                    width, height = context.width, context.height
    lengths = {kind: stop - start for kind, (start, stop) in spans.items()}
    return Checked(
        video=lengths.get("video", 0.0), audio=lengths.get("audio", 0.0), width=width, height=height, frames=frames,
        codecs=",".join(words[kind] for kind in ("video", "audio") if kind in words), keys=tuple(keys),
        starts=tuple(starts), leading=leading, spans=spans, decoded=decoded_at,
    )  # fmt: skip
