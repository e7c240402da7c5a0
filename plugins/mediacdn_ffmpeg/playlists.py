"""Playlists (RFC 8216): those that ffmpeg wrote are read, those that are published are written here. Pure."""

import math
import re
from collections.abc import Sequence

from msgspec import Struct

_LENGTH = re.compile(r"#EXTINF:([0-9]{1,5}(?:\.[0-9]{1,9})?),")


class Segment(Struct, frozen=True):
    """A segment: what it is called, and how many seconds and bytes it is long."""

    name: str
    seconds: float
    size: int = 0


class Track(Struct, frozen=True, kw_only=True):
    """A line of the master playlist. `name` is that of its playlist, without the ending."""

    name: str
    segments: tuple[Segment, ...]
    codecs: str
    keys: tuple[int, ...] = ()
    """Bytes of each segment up to the end of its first picture, where there is a playlist of those."""
    width: int = 0
    height: int = 0
    frame_rate: float = 0.0

    @property
    def peak(self) -> int:
        """Bits per second of the segment that has most; a last one that is very short is counted with the one before it."""
        whole = [each for each in self.segments if each.seconds >= 0.5] or list(self.segments)
        return max(self.mean, *(math.ceil(each.size * 8 / max(each.seconds, 0.04)) for each in whole))

    @property
    def mean(self) -> int:
        seconds = sum(each.seconds for each in self.segments)
        return math.ceil(sum(each.size for each in self.segments) * 8 / max(seconds, 0.04))


class Sound(Struct, frozen=True):
    """A track of sound, and its language, where that is known: beside the renditions where it has a playlist `track`, else in each of them."""

    language: str
    track: Track | None = None


def read(text: str, name: str, ending: str) -> tuple[Segment, ...]:
    """Read the segments of a playlist that ffmpeg wrote for the rendition `name`. Raises: ValueError, for what it does not write."""
    lines = text.splitlines()
    if not lines or lines[0] != "#EXTM3U" or lines[-1] != "#EXT-X-ENDLIST":
        raise ValueError("it is no whole playlist")
    segments: list[Segment] = []
    seconds: float | None = None
    for line in lines:
        found = _LENGTH.fullmatch(line)
        if found:
            seconds = float(found[1])
        elif not line.startswith("#"):
            if seconds is None or line != f"{name}_{len(segments):05d}.{ending}":
                raise ValueError("it names what is no segment of it")
            segments.append(Segment(line, seconds))
            seconds = None
    if not segments:
        raise ValueError("it has no segments")
    return tuple(segments)


def media_playlist(segments: Sequence[Segment], init: str) -> str:
    """Write the playlist of one rendition; `init` is empty where segments need none."""
    longest = max(1, *(math.floor(each.seconds + 0.5) for each in segments))
    lines = [
        "#EXTM3U", f"#EXT-X-VERSION:{7 if init else 3}", f"#EXT-X-TARGETDURATION:{longest}", "#EXT-X-MEDIA-SEQUENCE:0", "#EXT-X-PLAYLIST-TYPE:VOD",
        "#EXT-X-INDEPENDENT-SEGMENTS", *([f'#EXT-X-MAP:URI="{init}"'] if init else []),
    ]  # fmt: skip
    for each in segments:
        lines += (f"#EXTINF:{each.seconds:.6f},", each.name)
    return "\n".join([*lines, "#EXT-X-ENDLIST", ""])


def joined_playlist(runs: Sequence[tuple[str, Sequence[Segment]]], seconds: int, *, whole: bool) -> str:
    """Write the playlist of a rendition whose parts were made one by one: of each the initialization, and its segments. One that is not `whole` grows at its end
    (RFC 8216 section 4.3.3.5): no line of it is another one later but the type, and `seconds`, of a segment, bounds what is still to come. Players begin at its beginning, not where it ends just now."""
    longest = max([1, seconds, *(math.floor(each.seconds + 0.5) for _, segments in runs for each in segments)])
    lines = [
        "#EXTM3U", "#EXT-X-VERSION:7", f"#EXT-X-TARGETDURATION:{longest}", "#EXT-X-MEDIA-SEQUENCE:0", f"#EXT-X-PLAYLIST-TYPE:{'VOD' if whole else 'EVENT'}",
        "#EXT-X-INDEPENDENT-SEGMENTS", *([] if whole else ["#EXT-X-START:TIME-OFFSET=0"]),
    ]  # fmt: skip
    told = ""
    for init, segments in runs:
        if init != told:
            lines.append(f'#EXT-X-MAP:URI="{init}"')
            told = init
        for each in segments:
            lines += (f"#EXTINF:{each.seconds:.6f},", each.name)
    return "\n".join([*lines, *(["#EXT-X-ENDLIST"] if whole else []), ""])


def key_playlist(track: Track, init: str) -> str:
    """Write the playlist of a rendition's key frames (RFC 8216 section 4.3.3.6): of each segment the first picture, which stands behind all that it needs."""
    longest = max(1, *(math.floor(each.seconds + 0.5) for each in track.segments))
    lines = [
        "#EXTM3U", "#EXT-X-VERSION:7", f"#EXT-X-TARGETDURATION:{longest}", "#EXT-X-MEDIA-SEQUENCE:0", "#EXT-X-PLAYLIST-TYPE:VOD",
        "#EXT-X-I-FRAMES-ONLY", f'#EXT-X-MAP:URI="{init}"',
    ]  # fmt: skip
    for each, stop in zip(track.segments, track.keys, strict=True):
        lines += (f"#EXTINF:{each.seconds:.6f},", f"#EXT-X-BYTERANGE:{stop}@0", each.name)
    return "\n".join([*lines, "#EXT-X-ENDLIST", ""])


def master_playlist(tracks: Sequence[Track], sounds: Sequence[Sound], *, version: int) -> str:
    """Write the playlist that players begin with. `sounds` are a group of which they play one, the first until they are told (RFC 8216 section 4.3.4.1): what a
    rendition needs of a line, and the codecs, are those of both."""
    lines = ["#EXTM3U", f"#EXT-X-VERSION:{version}", "#EXT-X-INDEPENDENT-SEGMENTS"]
    for number, sound in enumerate(sounds, 1):
        spoken = f'NAME="{sound.language or "track"} {number}",' + (f'LANGUAGE="{sound.language}",' if sound.language else "")
        address = f',URI="{sound.track.name}.m3u8"' if sound.track else ""
        lines.append(f'#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio",{spoken}DEFAULT={"YES" if number == 1 else "NO"},AUTOSELECT=YES{address}')
    beside = [each.track for each in sounds if each.track] if sounds and sounds[0].track else []
    peak, mean = max((each.peak for each in beside), default=0), max((each.mean for each in beside), default=0)
    heard = list(dict.fromkeys(each.codecs for each in beside))
    for track in tracks:
        told = [f"BANDWIDTH={track.peak + peak}", f"AVERAGE-BANDWIDTH={track.mean + mean}"]
        if track.width:
            told += [f"RESOLUTION={track.width}x{track.height}", f"FRAME-RATE={track.frame_rate:.3f}"]
        told.append(f'CODECS="{",".join([track.codecs, *heard])}"')
        if sounds:
            told.append('AUDIO="audio"')
        lines += (f"#EXT-X-STREAM-INF:{','.join(told)}", f"{track.name}.m3u8")
    for track in tracks:
        if track.keys:
            most = max(math.ceil(stop * 8 / max(each.seconds, 0.04)) for each, stop in zip(track.segments, track.keys, strict=True))
            told = [f"BANDWIDTH={most}", f"RESOLUTION={track.width}x{track.height}", f'CODECS="{track.codecs.partition(",")[0]}"']
            lines.append(f'#EXT-X-I-FRAME-STREAM-INF:{",".join(told)},URI="{track.name}-keys.m3u8"')
    return "\n".join([*lines, ""])
