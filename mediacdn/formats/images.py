"""Confirms image formats that are no container of something else: their headers, sizes and checksums."""

import re
from zlib import crc32

from mediacdn.formats.verdict import BINARY, OCTETS, be, le, told

_NETPBM = re.compile(rb"P([1-6])[ \t\r\n]+(?:#[^\r\n]{0,200}[\r\n]+)*[0-9]{1,9}[ \t\r\n]+[0-9]{1,9}[ \t\r\n]+[0-9\x00-\xff]")


def png(head: bytes, whole: bool, claimed: str) -> str | None:
    """PNG section 11.2.1: IHDR first, 13 bytes, with its CRC. APNG is served under the name that every client knows."""
    if not head.startswith(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR") or len(head) < 33:
        return OCTETS
    return told("image/png", crc32(head[12:29]) == be(head, 29, 4) and 0 < be(head, 16, 4) < 1 << 31 and 0 < be(head, 20, 4) < 1 << 31)


def gif(head: bytes, whole: bool, claimed: str) -> str | None:
    """GIF89a sections 18 to 20: a screen with a size, and behind the colour table an image, an extension or the end."""
    if not head.startswith((b"GIF87a", b"GIF89a")):
        return None
    if len(head) < 13 or not le(head, 6, 2) or not le(head, 8, 2):
        return OCTETS
    body = 13 + (3 << ((head[10] & 7) + 1) if head[10] & 0x80 else 0)
    return told("image/gif", head[body : body + 1] in (b"\x21", b"\x2c", b"\x3b") if body < len(head) else not whole)


def jpeg(head: bytes, whole: bool, claimed: str) -> str | None:
    """ITU-T T.81 annex B: behind SOI stand segments, each a marker and its length."""
    at = 2
    for _ in range(4):
        while head[at : at + 2] == b"\xff\xff":
            at += 1
        if at + 4 > len(head):
            return told("image/jpeg", at > 2 and not whole)
        marker, size = head[at + 1], be(head, at + 2, 2)
        if head[at] != 0xFF or marker < 0xC0 or 0xD0 <= marker <= 0xD9 or size < 2:
            return OCTETS
        if marker == 0xDA:
            break
        at += 2 + size
    return "image/jpeg"


def tiff(head: bytes, whole: bool, claimed: str) -> str | None:
    """TIFF 6.0 section 2: the first directory lies in the file and has entries. DNG and other raw kinds are TIFF to us."""
    read = le if head.startswith(b"II") else be
    at, wide = (read(head, 8, 8), 8) if read(head, 2, 2) == 43 else (read(head, 4, 4), 2)
    if at < 8 or (whole and at + wide > len(head)):
        return OCTETS
    return told(
        "image/x-canon-cr2" if claimed == "image/x-canon-cr2" else "image/tiff", at + wide > len(head) or 0 < read(head, at, wide) < 4096
    )


def bmp(head: bytes, whole: bool, claimed: str) -> str | None:
    header = le(head, 14, 4)
    planes = le(head, 22 if header == 12 else 26, 2)
    holds = len(head) >= 26 and header in (12, 16, 40, 52, 56, 64, 108, 124) and planes == 1 and 14 + header <= le(head, 10, 4)
    return "image/bmp" if holds else None


def ico(head: bytes, whole: bool, claimed: str) -> str | None:
    count = le(head, 4, 2)
    entries = [head[at : at + 16] for at in range(6, min(6 + 16 * count, len(head) - 15), 16)]
    holds = bool(entries) and all(entry[3] == 0 and le(entry, 8, 4) and le(entry, 12, 4) >= 6 + 16 * count for entry in entries)
    return "image/x-icon" if holds else None


def psd(head: bytes, whole: bool, claimed: str) -> str | None:
    holds = be(head, 4, 2) in (1, 2) and not any(head[6:12]) and 0 < be(head, 12, 2) <= 56 and be(head, 14, 4) > 0 and be(head, 18, 4) > 0
    return told("image/vnd.adobe.photoshop", holds)


def codestreams(head: bytes, whole: bool, claimed: str) -> str | None:
    """JPEG 2000 (ITU-T T.800 annex A.5: SIZ tells its own length by the components) and JPEG XL without a container; BigTIFF."""
    if head.startswith(b"\xff\x4f\xff\x51"):
        return told("image/j2c", be(head, 4, 2) == 38 + 3 * be(head, 40, 2) and be(head, 8, 4) > 0 and be(head, 12, 4) > 0)
    if head.startswith(b"\xff\x0a") and len(head) >= 12 and BINARY.search(head):
        return "image/jxl"
    if head.startswith((b"II+\0\x08\0\0\0", b"MM\0+\0\x08\0\0")):
        return tiff(head, whole, claimed)
    return None


def netpbm(head: bytes, whole: bool, claimed: str) -> str | None:
    found = _NETPBM.match(head)
    return None if found is None else f"image/x-portable-{('bitmap', 'graymap', 'pixmap')[(found[1][0] - 49) % 3]}"
