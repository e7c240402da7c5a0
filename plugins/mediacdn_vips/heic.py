"""HEIC, which libvips's own build cannot decode for want of an HEVC decoder: by pillow-heif, where it is installed."""

import io
import os
from contextlib import closing
from importlib.util import find_spec
from typing import Any

import pyvips

from mediacdn import Undecodable

_HEVC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")


def is_heic(descriptor: int) -> bool:
    """Whether the file's brands (ISO/IEC 14496-12 section 4.3) name HEVC pictures and not AVIF."""
    head = os.pread(descriptor, 256, 0)
    if head[4:8] != b"ftyp":
        return False
    brands = head[8 : min(len(head), max(16, int.from_bytes(head[:4], "big")))]
    words = {brands[at : at + 4] for at in range(0, len(brands), 4)}
    return b"avif" not in words and not words.isdisjoint(_HEVC)


def open_heic(descriptor: int, page: int | None) -> Any:
    """The page's pixels, upright as libheif gives them; with None, an image of the right size without any. Raises: Undecodable."""
    if find_spec("pillow_heif") is None:
        raise Undecodable("HEIC is read where the server has the extra `heic`")
    import pillow_heif

    with closing(io.FileIO(os.dup(descriptor))) as file:
        file.seek(0)
        try:
            pages = pillow_heif.open_heif(file, convert_hdr_to_8bit=True)
            found = pages[pages.primary_index if page is None else page]
            width, height = found.size
            bands = len(found.mode)
            if page is None:
                image = pyvips.Image.black(width, height, bands=bands).copy(interpretation="srgb" if bands >= 3 else "b-w")
                image.set_type(pyvips.GValue.gint_type, "n-pages", len(pages))
            else:
                data, stride = found.data, found.stride
                rows = pyvips.Image.new_from_memory(bytes(data), stride, height, 1, "uchar")
                image = rows.crop(0, 0, width * bands, height)
                image = pyvips.Image.new_from_memory(image.write_to_memory(), width, height, bands, "uchar")
                image = image.copy(interpretation="srgb" if bands >= 3 else "b-w")
                if profile := found.info.get("icc_profile"):
                    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
        except (ValueError, RuntimeError, EOFError, SyntaxError, IndexError, OSError) as error:
            raise Undecodable("The picture is damaged or cut short") from error
    image.set_type(pyvips.GValue.gstr_type, "vips-loader", "heicload")
    return image
