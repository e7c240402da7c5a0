"""Looking at a picture: its size as shown, what stands for it while it loads, and its colour."""

from base64 import b64encode
from collections import Counter

import pyvips

from mediacdn import OverLimits
from mediacdn_vips import guard
from mediacdn_vips.colour import to_srgb
from mediacdn_vips.loading import Source
from mediacdn_vips.request import Seen, Work
from mediacdn_vips.thumbhash import LARGEST, thumbhash


def look(work: Work, descriptor: int) -> Seen:
    """Tell the facts. What is over the limits is not decoded: its header is all that is told. Raises: OverLimits, Undecodable, pyvips.Error."""
    source = Source(descriptor, work.limits)
    header = source.header
    width, height = header.shown
    frames = header.pages if header.animated else 1
    placeholder = colour = None
    try:
        source.check(work.limits, 1)
        small, rgba = _small(source)
    except OverLimits:
        pass
    except pyvips.Error as error:
        if not isinstance(guard.meaning(error), OverLimits):
            raise
    else:
        placeholder = b64encode(thumbhash(*small, rgba)).decode()
        colour = dominant(rgba)
    return Seen(
        width=width, height=height, frames=frames, has_alpha=header.has_alpha,
        placeholder=placeholder, dominant_colour=colour, tools=guard.tools(),
    )  # fmt: skip


def _small(source: Source) -> tuple[tuple[int, int], bytes]:
    """The first frame in at most LARGEST pixels an edge, upright: its size, and its bytes R, G, B, A."""
    header = source.header
    scale = min(1.0, LARGEST / max(header.width, header.height))
    image = source.load(None, 1, 1 / scale)
    across, down = max(1, round(header.width * scale)) / image.width, max(1, round(header.height * scale)) / image.height
    if image.hasalpha():
        image = image.premultiply().resize(across, vscale=down).unpremultiply().cast(image.format)
    else:
        image = image.resize(across, vscale=down)
    image = to_srgb(image).copy_memory().autorot()
    if not image.hasalpha():
        image = image.bandjoin(255)
    return (image.width, image.height), bytes(image.write_to_memory())


def dominant(rgba: bytes) -> str | None:
    """The mean of the colours that most of the pixels are near to, as #rrggbb; None when nothing is opaque."""
    pixels = [each for each in zip(rgba[0::4], rgba[1::4], rgba[2::4], rgba[3::4], strict=True) if each[3] >= 128]
    if not pixels:
        return None
    [(most, _)] = Counter((r >> 5, g >> 5, b >> 5) for r, g, b, _ in pixels).most_common(1)
    near = [each for each in pixels if (each[0] >> 5, each[1] >> 5, each[2] >> 5) == most]
    return "#" + "".join(f"{round(sum(each[at] for each in near) / len(near)):02x}" for at in range(3))
