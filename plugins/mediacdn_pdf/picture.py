"""PDFium's pixels to the bytes of a picture, by libvips, which is given no file to load."""

import pyvips

from mediacdn import OverLimits
from mediacdn_pdf.request import Format

pyvips.operation_block_set("VipsForeignLoad", True)
pyvips.cache_set_max(0)


def write(pixels: bytes, width: int, height: int, stride: int, format: Format, descriptor: int) -> None:
    """Write RGBx rows of `stride` bytes to the descriptor. Raises: OverLimits."""
    image = pyvips.Image.new_from_memory(pixels, stride // 4, height, 4, "uchar")
    image = image.crop(0, 0, width, height)[0:3].copy(interpretation="srgb")
    target = pyvips.Target.new_to_descriptor(descriptor)
    try:
        if format == "jpeg":
            image.jpegsave_target(target, Q=85, optimize_coding=True, keep="none")
        elif format == "webp":
            image.webpsave_target(target, Q=85, keep="none")
        else:
            image.pngsave_target(target, compression=6, keep="none")
    except pyvips.Error as error:
        raise OverLimits("What would be made is larger than is allowed") from error
