"""Manifests of DASH (ISO/IEC 23009-1) over the segments that HLS has: the same files, at the same addresses. Pure.

Tracks of sound stand beside the renditions, as they do in HLS. In streams that were made before that was so, a rendition holds its first sound itself: such a
representation has two components.
"""

from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from msgspec import Struct

from mediacdn_ffmpeg.manifests import Entry, Media, Subtitles

MPD = "application/dash+xml"
APART = 0.1
"""Seconds by which segments may begin sooner or later than their number says: ISO/IEC 23009-1 lets each be half as long again."""
SCALE = 1_000_000
"""Ticks a second: what playlists say of lengths is exact in them."""
_NAMESPACE = "urn:mpeg:dash:schema:mpd:2011"


class Representation(Struct, frozen=True):
    """What is to be listed: the line of the master playlist, its own playlist, and the second at which its first segment begins."""

    name: str
    entry: Entry
    media: Media
    begins: Fraction
    bandwidth: int
    codecs: str
    language: str = ""


def manifest(
    pictures: Sequence[Representation], sounds: Sequence[Representation], subtitles: Sequence[Subtitles], *, base: str, beside: str
) -> str:
    """Write a manifest. `base` is the address of the playlists, `beside` that of subtitles by their language, both relative to the manifest and ending in a slash."""
    everything = [*pictures, *sounds]
    seconds = max(each.media.seconds for each in everything)
    longest = max(length for each in everything for _, length in each.media.segments)
    root = Element(
        "MPD", xmlns=_NAMESPACE, type="static", profiles="urn:mpeg:dash:profile:isoff-main:2011", mediaPresentationDuration=f"PT{seconds:.3f}S",
        minBufferTime=f"PT{min(longest, 10):.3f}S",
    )  # fmt: skip
    period = SubElement(root, "Period", id="0", start="PT0S", duration=f"PT{seconds:.3f}S")
    if pictures:
        _set(period, "video", pictures, base)
    for each in sounds:
        _set(period, "audio", [each], base)
    for number, text in enumerate(subtitles):
        adaptation = SubElement(period, "AdaptationSet", contentType="text", lang=text.language, mimeType="text/vtt")
        SubElement(adaptation, "Role", schemeIdUri="urn:mpeg:dash:role:2011", value="subtitle")
        SubElement(adaptation, "Label").text = text.label
        shown = SubElement(adaptation, "Representation", id=f"subtitles{number}-{text.language}", bandwidth="1000")
        SubElement(shown, "BaseURL").text = beside + text.language
    indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def _set(period: Element, kind: str, members: Sequence[Representation], base: str) -> None:
    adaptation = SubElement(
        period, "AdaptationSet", contentType=kind, mimeType=f"{kind}/mp4", segmentAlignment="true", subsegmentAlignment="true", startWithSAP="1",
        subsegmentStartsWithSAP="1",
    )  # fmt: skip
    if members[0].language:
        adaptation.set("lang", members[0].language)
    if kind == "video" and "," in members[0].codecs:
        SubElement(adaptation, "ContentComponent", id="1", contentType="video")
        SubElement(adaptation, "ContentComponent", id="2", contentType="audio")
    for each in members:
        about = {"id": each.name, "codecs": each.codecs, "bandwidth": str(each.bandwidth)}
        width, _, height = each.entry.attributes.get("RESOLUTION", "").partition("x")
        if height:
            about.update(width=width, height=height, frameRate=_rate(each.entry.attributes.get("FRAME-RATE", "25")), sar="1:1")
        shown = SubElement(adaptation, "Representation", about)
        SubElement(shown, "BaseURL").text = base
        offset = round(each.begins * SCALE)
        segments = SubElement(shown, "SegmentList", timescale=str(SCALE), presentationTimeOffset=str(offset))
        SubElement(segments, "Initialization", sourceURL=each.media.init)
        lengths = [seconds for _, seconds in each.media.segments]
        usual = sum(lengths[:-1]) / (len(lengths) - 1) if len(lengths) > 1 else lengths[0]
        begins = accumulate(lengths[:-1], initial=0.0)
        if all(abs(number * usual - at) <= APART for number, at in enumerate(begins)) and lengths[-1] <= usual + APART:
            segments.set("duration", str(round(usual * SCALE)))  # all that some players know to seek by
        else:
            _timeline(SubElement(segments, "SegmentTimeline"), lengths, offset)
        for address, _ in each.media.segments:
            SubElement(segments, "SegmentURL", media=address)


def _timeline(timeline: Element, lengths: Sequence[float], offset: int) -> None:
    """Each run of segments of one length in one line."""
    last: Element | None = None
    for length in lengths:
        ticks = str(round(length * SCALE))
        if last is not None and last.get("d") == ticks:
            last.set("r", str(int(last.get("r", "0")) + 1))
        else:
            last = SubElement(timeline, "S", {"d": ticks} if last is not None else {"t": str(offset), "d": ticks})


def _rate(told: str) -> str:
    """A frame rate as the whole number or the fraction that it is meant to be."""
    found = Fraction(told).limit_denominator(1001)
    for near in (Fraction(round(float(found))), Fraction(round(float(found) * 1001 / 1000) * 1000, 1001)):
        if near and abs(found - near) <= Fraction(1, 500):
            found = near
            break
    return str(found.numerator) if found.denominator == 1 else f"{found.numerator}/{found.denominator}"
