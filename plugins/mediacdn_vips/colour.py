"""Whatever space a picture's numbers are in, to sRGB of eight bits with three bands, and a fourth where there is transparency."""

from typing import Any

import pyvips

_PROFILE = "icc-profile-data"


def to_srgb(image: Any) -> Any:
    """Convert by the embedded profile; without one, or when it is broken, by what the pixels are said to be."""
    if image.get_typeof(_PROFILE):
        try:
            return _eight(image.icc_transform("srgb", embedded=True, intent="relative", depth=8))
        except pyvips.Error:  # a profile of another space, or damaged: the picture itself may be whole
            image = image.copy()
            image.remove(_PROFILE)
    if image.interpretation in ("multiband", "error", "histogram", "matrix", "fourier"):
        colours = 3 if image.bands >= 3 else 1
        image = image[0:colours].copy(interpretation="srgb" if colours == 3 else "b-w")
        if image.format != "uchar":
            image = image.cast("ushort").copy(interpretation="rgb16" if colours == 3 else "grey16")
    return _eight(image.colourspace("srgb"))


def _eight(image: Any) -> Any:
    wanted = 4 if image.hasalpha() else 3
    if image.bands < 3:  # grey, perhaps with transparency
        image = image.colourspace("srgb")
    elif image.bands > wanted:
        image = image[0:wanted]
    return image.cast("uchar")
