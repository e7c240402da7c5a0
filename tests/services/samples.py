"""Small media made here, each valid in its format and unique by its seed."""

import hashlib
import random
import struct
import zlib


def png(width: int, height: int, seed: bytes = b"") -> bytes:
    """An 8 bit RGB PNG of noise."""
    noise = random.Random(seed)
    rows = b"".join(b"\x00" + noise.randbytes(width * 3) for _ in range(height))
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + _chunk(b"IDAT", zlib.compress(rows))
        + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def gif(seed: bytes = b"") -> bytes:
    """A GIF of one pixel whose comment is the seed."""
    comment = hashlib.sha256(seed).digest()
    return (
        b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xfe"
        + bytes([len(comment)])
        + comment
        + b"\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
    )


def text(size: int, seed: bytes = b"") -> bytes:
    """Plain ASCII of exactly `size` bytes in which every place is different."""
    noise = random.Random(seed)
    return "".join(noise.choices("abcdefghijklmnopqrstuvwxyz 0123456789\n", k=size)).encode()


def binary(size: int, seed: bytes = b"") -> bytes:
    """Noise that is no known format."""
    return b"\x00\x01\x02\x03" + random.Random(seed).randbytes(size - 4)


def html(seed: bytes = b"") -> bytes:
    return b"<!DOCTYPE html><html><body><script>document.title='owned'</script><p>" + seed.hex().encode() + b"</p></body></html>"


def svg(seed: bytes = b"") -> bytes:
    return (
        b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><script>alert(1)</script><desc>'
        + seed.hex().encode()
        + b"</desc></svg>"
    )
