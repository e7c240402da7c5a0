"""Whether a picture has an alpha channel, and whether it moves, by the first bytes of its file alone; for as long as nobody has decoded it."""

HEAD = 16384
"""Bytes to give; fewer means that there are no more."""
_ALPHA = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0", b"urn:mpeg:hevc:2015:auxid:1\0")


def transparency(media_type: str, head: bytes) -> tuple[bool | None, bool | None]:
    """Alpha and motion, each None where these bytes do not tell. It never raises."""
    if media_type == "image/webp":
        return _webp(head)
    if media_type == "image/png":
        return _png(head), None
    if media_type == "image/avif":
        return _avif(head), False
    return None, None


def _webp(head: bytes) -> tuple[bool | None, bool | None]:
    """RFC 9649 section 2: the flags of VP8X, the hint in the header of VP8L; VP8 alone has neither."""
    form = head[12:16]
    if form == b"VP8 ":
        return False, False
    if form == b"VP8L" and len(head) >= 25:
        return bool(head[24] & 0x10), False
    if form == b"VP8X" and len(head) >= 21:
        return bool(head[20] & 0x10), bool(head[20] & 0x02)
    return None, None


def _png(head: bytes) -> bool | None:
    """Its colour type, or tRNS, which stands before the first IDAT."""
    if len(head) < 26:
        return None
    if head[25] & 4:
        return True
    at = 8
    while at + 8 <= len(head):
        kind = head[at + 4 : at + 8]
        if kind in (b"tRNS", b"IDAT"):
            return kind == b"tRNS"
        at += 12 + int.from_bytes(head[at : at + 4], "big")
    return None


def _avif(head: bytes) -> bool | None:
    """An auxiliary image of alpha among the properties, which are in the box `meta`."""
    at = 0
    while at + 8 <= len(head):
        size, kind = int.from_bytes(head[at : at + 4], "big"), head[at + 4 : at + 8]
        if kind == b"meta":
            inside = head[at : at + size]
            return True if any(each in inside for each in _ALPHA) else (False if len(inside) == size else None)
        if size < 8:  # to the end of the file, or of 64 bits
            return None
        at += size
    return None
