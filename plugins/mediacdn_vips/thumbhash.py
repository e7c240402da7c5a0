"""ThumbHash: a picture's look in some 25 bytes, for a page to show while the picture loads. The format is Evan Wallace's (evanw.github.io/thumbhash)."""

from collections.abc import Sequence
from math import cos, floor, pi
from operator import mul

LARGEST = 100
"""Pixels of the longer edge that the format takes."""


def thumbhash(width: int, height: int, rgba: bytes) -> bytes:
    """Hash a picture of at most LARGEST pixels an edge, given as unpremultiplied bytes R, G, B, A."""
    alpha = [each / 255 for each in rgba[3::4]]
    opaque = sum(alpha)
    means = [sum(map(mul, rgba[at::4], alpha)) / 255 / opaque if opaque else 0.0 for at in range(3)]
    has_alpha = opaque < width * height
    # Transparent pixels count as the picture's mean.
    red, green, blue = (
        [mean * (1 - a) + a / 255 * value for value, a in zip(rgba[at::4], alpha, strict=True)] for at, mean in enumerate(means)
    )
    luminance = [(r + g + b) / 3 for r, g, b in zip(red, green, blue, strict=True)]
    yellow = [(r + g) / 2 - b for r, g, b in zip(red, green, blue, strict=True)]
    crimson = [r - g for r, g in zip(red, green, strict=True)]

    limit = 5 if has_alpha else 7
    across = max(1, _round(limit * width / max(width, height)))
    down = max(1, _round(limit * height / max(width, height)))
    channels = [
        _channel(luminance, width, height, max(3, across), max(3, down)),
        _channel(yellow, width, height, 3, 3),
        _channel(crimson, width, height, 3, 3),
    ]
    (l_mean, l_scale, _), (p_mean, p_scale, _), (q_mean, q_scale, _) = channels
    landscape = width > height
    head = _round(63 * l_mean) | _round(31.5 + 31.5 * p_mean) << 6 | _round(31.5 + 31.5 * q_mean) << 12
    head |= _round(31 * l_scale) << 18 | has_alpha << 23
    tail = (down if landscape else across) | _round(63 * p_scale) << 3 | _round(63 * q_scale) << 9 | landscape << 15
    hashed = bytearray(head.to_bytes(3, "little") + tail.to_bytes(2, "little"))
    if has_alpha:
        mean, scale, _ = veil = _channel(alpha, width, height, 5, 5)
        hashed.append(_round(15 * mean) | _round(15 * scale) << 4)
        channels.append(veil)
    nibbles = [_round(15 * each) for _, _, parts in channels for each in parts]
    nibbles += [0] * (len(nibbles) % 2)
    hashed += bytes(low | high << 4 for low, high in zip(nibbles[::2], nibbles[1::2], strict=True))
    return bytes(hashed)


def _channel(values: Sequence[float], width: int, height: int, across: int, down: int) -> tuple[float, float, list[float]]:
    """The discrete cosine transform's corner of low frequencies: the mean, the largest other part, and the others scaled to 0..1."""
    columns = [[cos(pi / width * x * (at + 0.5)) for at in range(width)] for x in range(across)]
    lines = [[cos(pi / height * y * (at + 0.5)) for at in range(height)] for y in range(down)]
    rows = [values[at * width : (at + 1) * width] for at in range(height)]
    by_column = [[sum(map(mul, row, column)) for row in rows] for column in columns]
    mean, scale, parts = 0.0, 0.0, []
    for y in range(down):
        x = 0
        while x * down < across * (down - y):
            part = sum(map(mul, by_column[x], lines[y])) / (width * height)
            if x or y:
                parts.append(part)
                scale = max(scale, abs(part))
            else:
                mean = part
            x += 1
    return mean, scale, [0.5 + 0.5 / scale * part for part in parts] if scale else parts


def _round(value: float) -> int:
    return floor(value + 0.5)  # as the reference's Math.round does; Python's rounds halves to even
