"""Confirms what is neither image nor sound nor film: documents, archives, fonts and programs."""

import re
from zlib import crc32

from mediacdn.formats.verdict import BINARY, OCTETS, be, le, told

_PDF = re.compile(rb"%PDF-[0-9]\.[0-9]?[^0-9A-Za-z]")

_PDF_OBJECT = re.compile(rb"[0-9]{1,10}[ \t\r\n]+[0-9]{1,5}[ \t\r\n]+obj")


def pdf(head: bytes, whole: bool, claimed: str) -> str | None:
    """ISO 32000-1 annex H.3.4.1 lets readers find the header in the first 1024 bytes; an object must follow it."""
    found = _PDF.search(head, 0, 1036)
    if found is None or found.start() > 1024:
        return OCTETS if head.startswith(b"%PDF-") else None
    if _PDF_OBJECT.search(head, found.end()):
        return "application/pdf"
    return OCTETS if found.start() == 0 else None


def zipped(head: bytes, whole: bool, claimed: str) -> str | None:
    """APPNOTE 4.3.7: the first entry has a name and a known version and method; an empty archive is its end record alone."""
    if head.startswith(b"PK\x05\x06"):
        return told("application/zip", len(head) >= 22 and not any(head[4:20]))
    name = le(head, 26, 2)
    holds = (
        head.startswith(b"PK\x03\x04")
        and len(head) >= 31
        and head[4] < 100
        and le(head, 8, 2) < 100
        and name > 0
        and (not whole or 30 + name <= len(head))
    )
    return told(claimed, holds)


def gzip(head: bytes, whole: bool, claimed: str) -> str | None:
    return told("application/gzip", len(head) >= 18 and not head[3] & 0xE0)


def bzip2(head: bytes, whole: bool, claimed: str) -> str | None:
    return "application/x-bzip2" if head[4:10] in (b"1AY&SY", b"\x17rE8P\x90") and head[3:4].isdigit() else None


def xz(head: bytes, whole: bool, claimed: str) -> str | None:
    return told("application/x-xz", len(head) >= 12 and crc32(head[6:8]) == le(head, 8, 4))


def seven_zip(head: bytes, whole: bool, claimed: str) -> str | None:
    return told("application/x-7z-compressed", len(head) >= 32 and crc32(head[12:32]) == le(head, 8, 4))


def tar(head: bytes, whole: bool, claimed: str) -> str | None:
    """POSIX ustar: the header's sum, its own field counted as blanks."""
    digits = head[148:156].strip(b" \0")
    if len(head) < 512 or not digits or any(digit not in b"01234567" for digit in digits):
        return None
    return "application/x-tar" if int(digits, 8) == sum(head[:148]) + 8 * 32 + sum(head[156:512]) else None


def program(head: bytes, whole: bool, claimed: str) -> str | None:
    """DOS, Windows and OS/2 programs: no text has the zero bytes of their header."""
    return "application/x-msdownload" if len(head) >= 64 and BINARY.search(head, 0, 64) else None


def elf(head: bytes, whole: bool, claimed: str) -> str | None:
    return told("application/x-executable", len(head) >= 52 and head[4] in (1, 2) and head[5] in (1, 2) and head[6] == 1)


def flash(head: bytes, whole: bool, claimed: str) -> str | None:
    return "application/x-shockwave-flash" if len(head) >= 9 and 0 < head[3] < 64 and le(head, 4, 4) >= 9 and BINARY.search(head) else None


def font(head: bytes, whole: bool, claimed: str) -> str | None:
    if head.startswith((b"wOFF", b"wOF2")):
        return told("font/woff2" if head[3] == 0x32 else "font/woff", len(head) >= 44 and be(head, 12, 2) > 0)
    holds = len(head) >= 28 and 0 < be(head, 4, 2) < 128 and all(0x20 <= letter < 0x7F for letter in head[12:16])
    return told("font/otf" if head.startswith(b"OTTO") else "font/ttf", holds)


def ole(head: bytes, whole: bool, claimed: str) -> str | None:
    """MS-CFB section 2.2: little-endian mark, sectors of 512 or 4096 bytes. What filetype finds inside is more exact than the container."""
    if not head.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        return None
    return told(claimed or "application/x-ole-storage", head[28:30] == b"\xfe\xff" and le(head, 30, 2) in (9, 12))


def rtf(head: bytes, whole: bool, claimed: str) -> str | None:
    return "application/rtf" if head[5:6].isdigit() else None


def postscript(head: bytes, whole: bool, claimed: str) -> str | None:
    return "application/postscript" if head.startswith(b"%!PS") else None
