"""Confirms sound and film that come as a stream of frames or packets, or in a container of one kind only."""

from mediacdn.formats.verdict import BINARY, OCTETS, be, le, told

_BITRATES = {
    (3, 3): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (3, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (3, 1): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 3): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""kbit/s by (MPEG version 1 or 2, layer: 3 is I, 1 is III), ISO/IEC 11172-3 section 2.4.2.3 and 13818-3."""

_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


def flac(head: bytes, whole: bool, claimed: str) -> str | None:
    """RFC 9639 section 8.2: STREAMINFO first, 34 bytes, block sizes from 16, a sample rate."""
    at = head.find(b"fLaC") + 4
    holds = len(head) >= at + 38 and head[at] & 0x7F == 0 and be(head, at + 1, 3) == 34
    return told("audio/flac", holds and 16 <= be(head, at + 4, 2) <= be(head, at + 6, 2) and be(head, at + 14, 3) >> 4 > 0)


def _frame(head: bytes, at: int) -> tuple[int, int]:
    """Give (size, a mark that all frames of a stream share) of an MPEG audio or ADTS frame, (0, 0) when it is none."""
    if at + 7 > len(head) or head[at] != 0xFF or head[at + 1] < 0xE0:
        return 0, 0
    version, layer, rate = head[at + 1] >> 3 & 3, head[at + 1] >> 1 & 3, head[at + 2] >> 2 & 3
    if layer == 0 and head[at + 1] >= 0xF0:  # ADTS, ISO/IEC 13818-7 section 6.2
        size = be(head, at + 3, 3) >> 5 & 0x1FFF
        return (size, 1 << 8 | head[at + 2] & 0xFC) if size > 7 and head[at + 2] >> 2 & 15 < 13 else (0, 0)
    if version == 1 or layer == 0 or rate == 3 or head[at + 2] >> 4 in (0, 15):
        return 0, 0
    hertz, padding = _RATES[version][rate], head[at + 2] >> 1 & 1
    bits = _BITRATES[3 if version == 3 else 2, layer if version == 3 or layer == 3 else 2][(head[at + 2] >> 4) - 1] * 1000
    if layer == 3:
        return (12 * bits // hertz + padding) * 4, version << 4 | layer << 2 | rate
    return (72 if layer == 1 and version != 3 else 144) * bits // hertz + padding, version << 4 | layer << 2 | rate


def mpeg_audio(head: bytes, whole: bool, claimed: str, at: int = 0) -> str | None:
    """One sync word is eleven bits and proves nothing: the next frame must stand where this one ends, or the file end there."""
    size, mark = _frame(head, at)
    type_ = "audio/aac" if mark >> 8 else "audio/mpeg"
    for count in range(4):
        if not size:
            return None
        at += size
        if at + 7 > len(head):
            return type_ if count or (at == len(head) if whole else at >= len(head)) else None
        size, following = _frame(head, at)
        if following != mark:
            return None
    return type_


def id3(head: bytes, whole: bool, claimed: str) -> str | None:
    """ID3v2 section 3.1: a version, a size of seven-bit bytes, and behind the tag the sound. A tag longer than the head begins with a frame's name."""
    if not head.startswith(b"ID3"):
        return mpeg_audio(head, whole, claimed)
    if len(head) < 21 or not 2 <= head[3] <= 4 or any(byte > 0x7F for byte in head[6:10]):
        return None if not BINARY.search(head) else OCTETS
    size = 0
    for byte in head[6:10]:
        size = size << 7 | byte
    at = 10 + size + (10 if head[5] & 0x10 else 0)
    if at + 7 > len(head):
        return told("audio/mpeg", not whole and (head[10:13].isalnum() or not any(head[10:20])))
    if head.startswith(b"fLaC", at):
        return flac(head[at:], whole, claimed)
    while at < len(head) and not head[at]:
        at += 1
    return mpeg_audio(head, whole, claimed, at) or OCTETS


def mpeg_ts(head: bytes, whole: bool, claimed: str) -> str | None:
    """ISO/IEC 13818-1 section 2.4.3.2: a sync byte every 188 bytes (192 with the timestamps of M2TS), each packet with a payload or an adaptation field."""
    for first, step in ((0, 188), (4, 192)):
        packets = range(first, len(head) - 3, step)
        if len(packets) > 1 and all(head[at] == 0x47 and head[at + 3] & 0x30 for at in packets[:8]) and BINARY.search(head):
            return "video/mp2t"
    return None


def mpeg(head: bytes, whole: bool, claimed: str) -> str | None:
    """MPEG program streams (pack header) and plain video (sequence header)."""
    if len(head) < 12:
        return OCTETS
    if head[3] == 0xBA:
        return told("video/mpeg", head[4] & 0xC4 == 0x44 or head[4] & 0xF1 == 0x21)
    return told("video/mpeg", head[3] == 0xB3 and be(head, 4, 2) >> 4 > 0 and head[7] >> 4 > 0 and 0 < head[7] & 15 < 9)


def flv(head: bytes, whole: bool, claimed: str) -> str | None:
    return told(
        "video/x-flv", len(head) > 13 and not head[4] & 0xFA and be(head, 5, 4) == 9 and be(head, 9, 4) == 0 and head[13] in (8, 9, 18)
    )


def asf(head: bytes, whole: bool, claimed: str) -> str | None:
    holds = head[:16] == bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") and le(head, 16, 8) >= 30 and head[28:30] == b"\x01\x02"
    return told("video/x-ms-asf", holds)


def midi(head: bytes, whole: bool, claimed: str) -> str | None:
    return told("audio/midi", be(head, 4, 4) == 6 and be(head, 8, 2) <= 2 and be(head, 10, 2) > 0 and head[14:18] == b"MTrk")


def aiff(head: bytes, whole: bool, claimed: str) -> str | None:
    if head.startswith(b"FORM") and head[8:12] in (b"AIFF", b"AIFC"):
        return told("audio/aiff", head[12:16] in (b"COMM", b"FVER", b"MARK", b"INST", b"COMT", b"NAME", b"ID3 ", b"SSND", b"CHAN", b"APPL"))
    return None
