"""Confirms containers that hold images, sound or film, and tells which: ISO-BMFF boxes, EBML elements, RIFF chunks, Ogg pages."""

import re
from collections.abc import Iterator

from mediacdn.formats.verdict import OCTETS, be, le, told

_AVIF, _HEIC, _HEIC_SEQUENCE = {b"avif", b"avis"}, {b"heic", b"heix", b"heim", b"heis"}, {b"hevc", b"hevx", b"hevm", b"hevs"}

_BRANDS = {
    b"M4A ": "audio/mp4", b"M4B ": "audio/mp4", b"M4P ": "audio/mp4", b"qt  ": "video/quicktime", b"crx ": "image/x-canon-cr3",
    b"jp2 ": "image/jp2", b"jpx ": "image/jpx", b"jxl ": "image/jxl",
}  # fmt: skip

_CHILDREN = 64
"""Boxes or elements looked at on one level: a head made of thousands of empty ones must not cost milliseconds."""
_QUICKTIME = {b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"}

_RIFF_WEBP = {b"VP8 ": (23, b"\x9d\x01\x2a"), b"VP8L": (20, b"\x2f"), b"VP8X": (16, b"\x0a\x00\x00\x00")}

_OGG_CODECS = (b"\x01vorbis", b"OpusHead", b"\x7fFLAC", b"Speex   ", b"\x80theora", b"fishead\0", b"BBCD\0", b"OVP80")

_ISO_HANDLER = re.compile(rb"hdlr\0{4}.{4}(....)", re.DOTALL)

_CODEC = re.compile(rb"\x86[\x81-\xbf]([VA])_")


def _boxes(head: bytes, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """Give (type, first byte behind the header, end) of ISO-BMFF boxes (ISO/IEC 14496-12 section 4.2), ending at the first that cannot be one."""
    for _ in range(_CHILDREN):
        if start + 8 > stop:
            return
        size, kind, body = be(head, start, 4), head[start + 4 : start + 8], start + 8
        if size == 1:
            size, body = be(head, start + 8, 8), start + 16
        end = start + size if size else 1 << 63
        if end < body or not all(0x20 <= letter < 0x7F or letter == 0xA9 for letter in kind):
            return
        yield kind, body, end
        start = end


def isobmff(head: bytes, whole: bool, claimed: str) -> str | None:
    if head.startswith((b"\0\0\0\x0cjP  \r\n\x87\n", b"\0\0\0\x0cJXL \r\n\x87\n")):
        return _isobmff_of(head, 12)
    if head[4:8] in (b"ftyp", b"styp"):
        return _isobmff_of(head, 0)
    if head[4:8] in _QUICKTIME:
        # QuickTime older than brands: boxes alone. One that runs past the head must be the film or its data.
        kinds = [kind for kind, _, _ in _boxes(head, 0, len(head))]
        if (
            kinds
            and (kinds[0] in (b"moov", b"mdat") or len(kinds) > 1)
            and {b"moov", b"mdat"} & set(kinds)
            and (not whole or len(kinds) > 1)
        ):
            return "video/quicktime"
    return None


def _isobmff_of(head: bytes, start: int) -> str:
    boxes = list(_boxes(head, start, len(head)))
    if len(boxes) < 2 or boxes[0][0] not in (b"ftyp", b"styp"):
        return OCTETS
    _, body, end = boxes[0]
    if end - body < 8 or end - body > 4096 or (end - body) % 4:
        return OCTETS
    major, brands = head[body : body + 4], {head[at : at + 4] for at in range(body + 8, end, 4)}
    if major in _BRANDS:
        return _BRANDS[major]
    if major in _AVIF or (major in (b"mif1", b"msf1", b"miaf") and _AVIF & brands):
        return "image/avif"
    if major in _HEIC or (major == b"mif1" and _HEIC & brands):
        return "image/heic"
    if major in _HEIC_SEQUENCE or (major == b"msf1" and _HEIC_SEQUENCE & brands):
        return "image/heic-sequence"
    if major in (b"mif1", b"miaf"):
        return "image/heif"
    if major == b"msf1":
        return "image/heif-sequence"
    if major.startswith((b"3gp", b"3gr", b"3gs", b"3ge")):
        return "video/3gpp"
    if major.startswith(b"3g2"):
        return "video/3gpp2"
    for kind, body, end in boxes:
        if kind == b"moov" and end <= len(head):
            handlers = set(_ISO_HANDLER.findall(head[body:end]))
            if b"soun" in handlers and b"vide" not in handlers:
                return "audio/mp4"
    return "video/mp4"


def _vint(head: bytes, at: int) -> tuple[int, int]:
    """Give an EBML size (RFC 8794 section 4) and the place behind it; (-1, …) for a size that is unknown or cut off."""
    if at >= len(head) or not head[at]:
        return -1, at + 1
    size = 9 - head[at].bit_length()
    value = be(head, at, size) - (1 << 7 * size)
    return (-1 if value == (1 << 7 * size) - 1 or at + size > len(head) else value), at + size


def _elements(head: bytes, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """Give (id, first byte, end) of EBML elements; one of unknown size ends where its parent does."""
    for _ in range(_CHILDREN):
        if start >= stop or not head[start]:
            return
        behind = start + 9 - head[start].bit_length()
        size, body = _vint(head, behind)
        end = body + size if size >= 0 else 1 << 62
        yield head[start:behind], body, end
        start = end


def ebml(head: bytes, whole: bool, claimed: str) -> str | None:
    """RFC 8794 section 11.2 and RFC 9559: DocType names the format. Tracks, when the head holds them all, tell sound from film."""
    if not head.startswith(b"\x1a\x45\xdf\xa3"):
        return None
    size, body = _vint(head, 4)
    if not 0 < size <= 1024 or body + size > len(head):
        return OCTETS
    kinds = [head[start:end] for name, start, end in _elements(head, body, body + size) if name == b"\x42\x82"]
    family = {b"webm": "webm", b"matroska": "x-matroska"}.get(kinds[0].rstrip(b"\0") if kinds else b"")
    if family is None:
        return OCTETS
    for name, start, _ in _elements(head, body + size, len(head)):
        if name == b"\x18\x53\x80\x67":
            for inner, first, end in _elements(head, start, len(head)):
                if inner == b"\x16\x54\xae\x6b" and end <= len(head) and set(_CODEC.findall(head[first:end])) == {b"A"}:
                    return f"audio/{family}"
    return f"video/{family}"


def riff(head: bytes, whole: bool, claimed: str) -> str | None:
    size, form, first, first_size = le(head, 4, 4), head[8:12], head[12:16], le(head, 16, 4)
    if head.startswith((b"RF64", b"BW64")) and form == b"WAVE":
        return told("audio/wav", first == b"ds64")
    if not head.startswith(b"RIFF"):
        return None
    if form == b"WEBP":
        at, mark = _RIFF_WEBP.get(first, (0, b"?"))
        return told("image/webp", head[at : at + len(mark)] == mark and first_size <= size)
    if form == b"WAVE":
        # A recorder that streams writes 0 or all ones for the size that it does not know yet.
        named = first.isascii() and first.decode("ascii").isprintable() and len(first) == 4
        return told(
            "audio/wav",
            named and (size in (0, 0xFFFFFFFF) or first_size < size) and (first != b"fmt " or (first_size >= 14 and le(head, 22, 2) > 0)),
        )
    if form == b"AVI ":
        return told("video/x-msvideo", first == b"LIST" and head[20:24] == b"hdrl")
    return None


def ogg(head: bytes, whole: bool, claimed: str) -> str | None:
    """RFC 3533 section 6: version 0, the first page begins a stream; what its first packet says names the codec."""
    if len(head) < 28 or head[4] or head[5] & ~7 or not head[5] & 2 or not head[26]:
        return OCTETS
    if not head.startswith(_OGG_CODECS, 27 + head[26]):
        return OCTETS
    return "video/ogg" if any(codec in head for codec in (b"\x80theora", b"BBCD\0", b"OVP80")) else "audio/ogg"
