"""What a check of a format answers, and the words in which it reads a head."""

import re
from collections.abc import Callable

OCTETS = "application/octet-stream"

BINARY = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")
"""Bytes that no text has (WHATWG MIME Sniffing section 7.1)."""

Check = Callable[[bytes, bool, str], str | None]
"""(head, whether it is the whole file, what filetype says) -> the type, OCTETS to refuse it, None for "not of this format"."""


def be(head: bytes, start: int, size: int) -> int:
    return int.from_bytes(head[start : start + size], "big")


def le(head: bytes, start: int, size: int) -> int:
    return int.from_bytes(head[start : start + size], "little")


def told(type_: str, holds: bool) -> str:
    return type_ if holds else OCTETS
