"""Where the time of a segment that was made here begins: the first picture's, or where there are none the first sound's. Pure.

Encoders that order pictures anew begin with some delay, and transport streams begin late on purpose; subtitles and other manifests have to know by how much.
"""

import struct
from collections.abc import Iterator
from fractions import Fraction

_PACKET = 188


def begins(init: bytes, segment: bytes) -> Fraction:
    """Tell the seconds at which a segment's first picture is shown. `init` is empty for a transport stream. Raises: ValueError."""
    try:
        return _fragment(init, segment) if init else _transport(segment)
    except (struct.error, IndexError, KeyError, ValueError, ZeroDivisionError) as error:
        raise ValueError("it is no segment that was made here") from error


def _boxes(content: bytes, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """The boxes of a file (ISO/IEC 14496-12 section 4.2): type, and where the inside begins and ends."""
    while start + 8 <= stop:
        size, kind = struct.unpack_from(">I4s", content, start)
        inside = start + 8
        if size == 1:
            size, inside = struct.unpack_from(">Q", content, inside)[0], inside + 8
        if size < inside - start:
            raise ValueError("it is no segment that was made here")
        yield kind, inside, min(start + size, stop)
        start += size


def _within(content: bytes, start: int, stop: int, *path: bytes) -> Iterator[tuple[int, int]]:
    for kind, inside, end in _boxes(content, start, stop):
        if kind == path[0]:
            if len(path) == 1:
                yield inside, end
            else:
                yield from _within(content, inside, end, *path[1:])


def _fragment(init: bytes, segment: bytes) -> Fraction:
    tracks: dict[int, tuple[bytes, int, Fraction]] = {}
    [(movie, _)] = _within(init, 0, len(init), b"moov", b"mvhd")
    ticks = struct.unpack_from(">I", init, movie + (20 if init[movie] else 12))[0]
    for start, stop in _within(init, 0, len(init), b"moov", b"trak"):
        [(header, _)] = _within(init, start, stop, b"tkhd")
        [(media, _)] = _within(init, start, stop, b"mdia", b"mdhd")
        [(handler, _)] = _within(init, start, stop, b"mdia", b"hdlr")
        number = struct.unpack_from(">I", init, header + (20 if init[header] else 12))[0]
        scale = struct.unpack_from(">I", init, media + (20 if init[media] else 12))[0]
        edits = next((at for at, _ in _within(init, start, stop, b"edts", b"elst")), 0)
        tracks[number] = init[handler + 8 : handler + 12], scale, _shift(init, edits, ticks, scale)
    shown: dict[bytes, Fraction] = {}
    for start, stop in _within(segment, 0, len(segment), b"moof", b"traf"):
        [(header, _)] = _within(segment, start, stop, b"tfhd")
        kind, scale, shift = tracks[struct.unpack_from(">I", segment, header + 4)[0]]
        decoded = 0
        for at, _ in _within(segment, start, stop, b"tfdt"):
            decoded = struct.unpack_from(">Q" if segment[at] else ">I", segment, at + 4)[0]
        offsets = [_offset(segment, at) for at, _ in _within(segment, start, stop, b"trun")]
        shown.setdefault(kind, shift + Fraction(decoded + (offsets[0] if offsets else 0), scale))
    if not shown:
        raise ValueError("it is no segment that was made here")
    return shown.get(b"vide", next(iter(shown.values())))


def _shift(init: bytes, at: int, ticks: int, scale: int) -> Fraction:
    """By how much a track is shown after its own times (section 8.6.6): later by an empty edit, earlier by what is cut off."""
    shift = Fraction(0)
    if at:
        wide = init[at]
        for number in range(struct.unpack_from(">I", init, at + 4)[0]):
            length, begin = struct.unpack_from(">Qq" if wide else ">Ii", init, at + 8 + number * (20 if wide else 12))
            if begin >= 0:
                return shift - Fraction(begin, scale)
            shift += Fraction(length, ticks)
    return shift


def _offset(segment: bytes, at: int) -> int:
    """By how much a run's first sample is shown after it is decoded (section 8.8.8)."""
    flags = int.from_bytes(segment[at + 1 : at + 4], "big")
    first = at + 8 + 4 * bool(flags & 1) + 4 * bool(flags & 4)
    before = sum(4 for bit in (0x100, 0x200, 0x400) if flags & bit)
    return int(struct.unpack_from(">i", segment, first + before)[0]) if flags & 0x800 else 0


def _transport(segment: bytes) -> Fraction:
    found: dict[bool, int] = {}
    for at in range(0, len(segment) - _PACKET + 1, _PACKET):
        packet = segment[at : at + _PACKET]
        if packet[0] != 0x47:
            raise ValueError("it is no segment that was made here")
        if not packet[1] & 0x40 or not packet[3] & 0x10:
            continue
        payload = packet[4 + (1 + packet[4] if packet[3] & 0x20 else 0) :]
        if payload[:3] != b"\0\0\1" or len(payload) < 14 or not payload[7] & 0x80:
            continue
        stamp = payload[9:14]
        ticks = (stamp[0] >> 1 & 7) << 30 | stamp[1] << 22 | stamp[2] >> 1 << 15 | stamp[3] << 7 | stamp[4] >> 1
        found.setdefault(0xE0 <= payload[3] <= 0xEF, ticks)
        if True in found:
            break
    if not found:
        raise ValueError("it is no segment that was made here")
    return Fraction(found.get(True, found.get(False, 0)), 90_000)
