"""Range requests for bytes (RFC 9110 section 14): which ranges a field asks for, and the framing of an answer that has several."""

import re

from msgspec import Struct

from mediacdn.model import ByteRange

MAX_RANGES = 100
"""A field that names more ranges is ignored (RFC 9110 section 14.2 allows it; section 17.15 says why)."""

_MAX_COMMAS = 2 * MAX_RANGES
"""Empty list members are tolerated in a reasonable number only (RFC 9110 section 5.6.1.2)."""

PART_COST = 80
"""Bytes that a further part's header costs at least; ranges with a smaller gap are sent as one (RFC 9110 section 15.3.7.2)."""

_SPEC = re.compile("([0-9]*)-([0-9]*)")
_SAFE_DIGITS = 20
_FAR = 10**_SAFE_DIGITS


class ByteRangesBody(Struct, frozen=True):
    """A multipart/byteranges body without its bytes: `heads[i]` goes before the bytes of range i, `tail` after the last; `length` counts all."""

    boundary: str
    heads: tuple[bytes, ...]
    tail: bytes
    length: int

    @property
    def content_type(self) -> str:
        return f"multipart/byteranges; boundary={self.boundary}"


def resolve_ranges(header: str, size: int) -> tuple[ByteRange, ...] | None:
    """Give the ranges of a Range field within a representation of `size` bytes.

    None: the field is to be ignored and the answer is 200 (malformed, another unit, more than MAX_RANGES ranges, or the whole
    of an empty representation, which no Content-Range can express). (): none is satisfiable, the answer is 416.
    Else ranges that lie inside, are disjoint and at least PART_COST apart, in the order in which they were asked for:
    their sum never exceeds `size`. Source: RFC 9110 sections 14.1.1, 14.1.2, 14.2, 15.3.7.2 and 5.6.1.2.
    """
    unit, _, members = header.partition("=")
    if unit.lower() != "bytes" or members.count(",") > _MAX_COMMAS:
        return None
    count = 0
    whole_of_nothing = False
    spans: list[ByteRange] = []
    for member in members.split(","):
        member = member.strip(" \t")
        if not member:
            continue
        count += 1
        spec = _SPEC.fullmatch(member)
        if spec is None or count > MAX_RANGES:
            return None
        first, last = spec.groups()
        if first:
            start = _position(first)
            stop = size
            if last:
                end = _position(last)
                if end < start or (end == _FAR and _less(last, first)):
                    return None
                if end < size:
                    stop = end + 1
        elif last:
            length = _position(last)
            start, stop = (max(size - length, 0), size) if length else (size + 1, size)
        else:
            return None
        if start < stop:
            spans.append(ByteRange(start, stop))
        elif start == stop == 0:
            whole_of_nothing = True
    if len(spans) > 1:
        return _coalesced(spans)
    if spans:
        return (spans[0],)
    return None if whole_of_nothing or not count else ()


def content_range(span: ByteRange, size: int) -> str:
    """Write the Content-Range of a non-empty range of a representation of `size` bytes (RFC 9110 section 14.4)."""
    return f"bytes {span.start}-{span.stop - 1}/{size}"


def unsatisfied_range(size: int) -> str:
    """Write the Content-Range of a 416 answer (RFC 9110 section 15.5.17)."""
    return f"bytes */{size}"


def byteranges_body(spans: tuple[ByteRange, ...], size: int, media_type: str, boundary: str) -> ByteRangesBody:
    """Frame several ranges of a representation of `size` bytes as multipart/byteranges (RFC 9110 section 14.6, RFC 2046 section 5.1.1).

    `boundary` is 1 to 70 letters and digits that the caller knows not to occur in the bytes after a line end and "--":
    in practice, at least 100 random bits. `media_type` is repeated in every part (RFC 9110 section 15.3.7.2).
    """
    opening = f"--{boundary}\r\nContent-Type: {media_type}\r\nContent-Range: "
    delimiter = f"\r\n{opening}"  # the line end before a boundary belongs to the boundary, and the first has none
    heads = tuple(
        f"{delimiter if index else opening}{content_range(span, size)}\r\n\r\n".encode("latin-1") for index, span in enumerate(spans)
    )
    tail = f"\r\n--{boundary}--\r\n".encode("latin-1")
    length = sum(map(len, heads)) + sum(span.stop - span.start for span in spans) + len(tail)
    return ByteRangesBody(boundary, heads, tail, length)


def _position(digits: str) -> int:
    # int() of unbounded text is quadratic, and refuses more than 4300 digits; nothing is as large as _FAR
    if len(digits) <= _SAFE_DIGITS:
        return int(digits)
    digits = digits.lstrip("0")
    return int(digits or "0") if len(digits) <= _SAFE_DIGITS else _FAR


def _less(left: str, right: str) -> bool:
    left, right = left.lstrip("0"), right.lstrip("0")
    return (len(left), left) < (len(right), right)


def _coalesced(spans: list[ByteRange]) -> tuple[ByteRange, ...]:
    # one pass over the sorted ranges: comparing each with each is how a Range field becomes an attack (CVE-2025-62727)
    order = sorted(range(len(spans)), key=lambda index: spans[index].start)
    rank, start, stop = order[0], spans[order[0]].start, spans[order[0]].stop
    merged: list[tuple[int, int, int]] = []
    for index in order[1:]:
        span = spans[index]
        if span.start - stop < PART_COST:
            rank, stop = min(rank, index), max(stop, span.stop)
        else:
            merged.append((rank, start, stop))
            rank, start, stop = index, span.start, span.stop
    merged.append((rank, start, stop))
    merged.sort()
    return tuple(ByteRange(start, stop) for _, start, stop in merged)
