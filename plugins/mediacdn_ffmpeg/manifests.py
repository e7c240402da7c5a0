"""Playlists as they were published, read back; the lines that list subtitles; and the playlists of those. Pure."""

import math
import re
from collections.abc import Sequence

from msgspec import Struct

GROUP = "subtitles"
_ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"]*"|[^,]*)')
_LENGTH = re.compile(r"#EXTINF:([0-9]{1,6}(?:\.[0-9]{1,9})?),.*")


class Entry(Struct, frozen=True):
    """A line of attributes of a master playlist, and the address that it is of."""

    attributes: dict[str, str]
    uri: str

    def number(self, name: str) -> int:
        return int(float(self.attributes.get(name, "0")))


class Master(Struct, frozen=True):
    """A master playlist: its lines, the renditions, and the tracks beside them."""

    lines: tuple[str, ...]
    streams: tuple[Entry, ...]
    media: tuple[Entry, ...]


class Media(Struct, frozen=True):
    """A media playlist: where its initialization is, its segments with their seconds, and whether there will be no more."""

    init: str
    segments: tuple[tuple[str, float], ...]
    ended: bool

    @property
    def seconds(self) -> float:
        return sum(seconds for _, seconds in self.segments)


class Subtitles(Struct, frozen=True):
    """Subtitles as a master playlist lists them."""

    language: str
    label: str


def read_master(text: str) -> Master:
    """Read a master playlist."""
    lines = tuple(text.splitlines())
    streams, media = [], []
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith("#EXT-X-STREAM-INF:"):
            streams.append(Entry(_attributes(line), following))
        elif line.startswith("#EXT-X-MEDIA:"):
            found = _attributes(line)
            media.append(Entry(found, found.get("URI", "")))
    return Master(lines, tuple(streams), tuple(media))


def read_media(text: str) -> Media:
    """Read a media playlist."""
    init, segments, seconds = "", [], 0.0
    for line in text.splitlines():
        if found := _LENGTH.fullmatch(line):
            seconds = float(found[1])
        elif line.startswith("#EXT-X-MAP:"):
            init = _attributes(line).get("URI", "")
        elif line and not line.startswith("#"):
            segments.append((line, seconds))
    return Media(init, tuple(segments), "#EXT-X-ENDLIST" in text)


def with_subtitles(master: Master, subtitles: Sequence[Subtitles]) -> str:
    """Write a master playlist that lists subtitles: a group of them, which every rendition names (RFC 8216 section 4.3.4.1)."""
    names: set[str] = set()
    listed = []
    for each in subtitles:
        name = each.label if each.label not in names else f"{each.label} ({each.language})"
        names.add(name)
        listed.append(
            f'#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="{GROUP}",NAME="{name}",LANGUAGE="{each.language}",DEFAULT=NO,AUTOSELECT=YES,FORCED=NO,'
            f'URI="{GROUP}/{each.language}.m3u8"'
        )
    lines: list[str] = []
    for line in master.lines:
        if line.startswith("#EXT-X-STREAM-INF:"):
            lines += listed
            listed = []
            line += f',SUBTITLES="{GROUP}"'
        lines.append(line)
    return "\n".join([*lines, ""])


def subtitles_playlist(address: str, seconds: float) -> str:
    """Write the playlist of subtitles: one segment, which is all of them, as long as the film."""
    lines = [
        "#EXTM3U", "#EXT-X-VERSION:3", f"#EXT-X-TARGETDURATION:{max(1, math.ceil(seconds))}", "#EXT-X-MEDIA-SEQUENCE:0", "#EXT-X-PLAYLIST-TYPE:VOD",
        f"#EXTINF:{max(seconds, 0.001):.6f},", address, "#EXT-X-ENDLIST", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _attributes(line: str) -> dict[str, str]:
    return {name: value.strip('"') for name, value in _ATTRIBUTE.findall(line.partition(":")[2])}
