"""A picture's header, held to the limits before anything is decoded, and then its pixels, at no more of them than are needed."""

import os
from typing import Any

import pyvips
from msgspec import Struct

from mediacdn import InvalidArgument, OverLimits, Undecodable
from mediacdn_vips.heic import is_heic, open_heic
from mediacdn_vips.request import Limits

_ANIMATED = {"gifload", "webpload"}
_PAGED = _ANIMATED | {"tiffload", "heifload"}
BASE = 80 << 20
"""Bytes of memory that a child has, and that a pipeline takes, whatever the picture."""
_WHOLE = {"heifload": 16, "heicload": 8.8, "webpload": 5.5}
"""Bytes of memory a pixel, measured, of what cannot be decoded by lines; of WebP its lossless kind alone. What the header does not tell, such as a JPEG's scans, the child's limit ends."""
_OWN = {"jpegload": "jpeg", "pngload": "png", "webpload": "webp", "gifload": "gif", "heifload": "avif"}


class Header(Struct, frozen=True, kw_only=True):
    """What the header says. `width` and `height` are as stored, of one page; `turned` tells that they swap when it stands upright."""

    loader: str
    width: int
    height: int
    pages: int
    turned: bool
    has_alpha: bool
    image: Any

    @property
    def animated(self) -> bool:
        return self.loader in _ANIMATED and self.pages > 1

    @property
    def format(self) -> str | None:
        """The format's name among those that can be written."""
        return _OWN.get(self.loader)

    @property
    def shown(self) -> tuple[int, int]:
        return (self.height, self.width) if self.turned else (self.width, self.height)


class Source:
    """One descriptor, opened by libvips as often as the pipeline wants; nothing but headers is read until pixels are asked for."""

    def __init__(self, descriptor: int, limits: Limits) -> None:
        self._descriptor = descriptor
        if os.fstat(descriptor).st_size > limits.bytes:
            raise OverLimits(f"Pictures of more than {limits.bytes} bytes are not decoded")
        self.header = self._header(0)

    def _header(self, page: int) -> Header:
        image = open_heic(self._descriptor, None) if is_heic(self._descriptor) else self._open()
        loader = str(image.get("vips-loader")).removesuffix("_source")
        pages = int(image.get("n-pages")) if loader in _PAGED and image.get_typeof("n-pages") else 1
        if page:
            image = self._open(page=page)
        turned = bool(image.get_typeof("orientation")) and int(image.get("orientation")) >= 5
        return Header(
            loader=loader,
            width=image.width,
            height=image.get_page_height(),
            pages=pages,
            turned=turned,
            has_alpha=bool(image.hasalpha()),
            image=image,
        )

    def choose(self, page: int | None, frame: int | None) -> int | None:
        """The page that is asked for; None when nobody asks. Raises: InvalidArgument when there is no such page."""
        header = self.header
        name, wanted = ("frame", frame) if header.loader in _ANIMATED and frame is not None else ("page", page)
        if wanted is None:
            return None
        if wanted >= header.pages:
            raise InvalidArgument(f"{name} may be at most {header.pages - 1} for this picture")
        if wanted:
            self.header = self._header(wanted)  # pages of one file differ in size
        return wanted

    def check(self, limits: Limits, frames: int) -> None:
        """Hold what will be decoded to the limits. Raises: OverLimits."""
        if frames > limits.frames:
            raise OverLimits(f"An animation may have at most {limits.frames} frames; this one has {frames}")
        if self.header.width * self.header.height * frames > limits.pixels:
            raise OverLimits(f"At most {limits.pixels} pixels are decoded; this picture has more")
        self.fit(limits)

    def fit(self, limits: Limits) -> None:
        """Hold what is decoded whole to the memory that there is. Raises: OverLimits."""
        header = self.header
        each = 0 if header.loader == "webpload" and not self._lossless() else _WHOLE.get(header.loader, 0)
        if limits.resident and header.width * header.height * each > limits.resident - BASE:
            raise OverLimits(f"At most {max(0, int((limits.resident - BASE) / each))} pixels are decoded of this format")

    def _lossless(self) -> bool:
        """Whether a still's pixels are a VP8L chunk (RFC 9649 section 2.6), in its plain or its extended file."""
        return b"VP8L" in os.pread(self._descriptor, 4096, 0)

    def load(self, page: int | None, frames: int, shrink: float) -> Any:
        """The pixels of one page, or of the first `frames` one below the other, shrunk up to `shrink` times where the format can do so as it decodes."""
        header = self.header
        if header.loader == "heicload":
            return open_heic(self._descriptor, page or 0)
        options: dict[str, Any] = {}
        if header.loader in _PAGED:
            options |= {"page": page or 0, "n": frames}
        # A block is averaged as it is decoded: cheap, but sharper than it should be. The last factor of two is left for the real filter, as libvips does.
        if header.loader == "jpegload":
            options["shrink"] = next((each for each in (8, 4, 2) if shrink >= 2 * each), 1)
        elif header.loader == "webpload" and shrink > 2:
            options["scale"] = 2 / shrink
        elif header.loader == "svgload":
            options["scale"] = 1 / shrink
        return self._open(**options)

    def _open(self, **options: Any) -> Any:
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        source = pyvips.Source.new_from_descriptor(self._descriptor)
        # `fail_on` here, not in thumbnail_source: that one swallows it, and the rest of a picture that was cut short comes out grey.
        image = pyvips.Image.new_from_source(source, "", access="sequential", fail_on="truncated", **options)
        if image.width < 1 or image.height < 1:
            raise Undecodable
        return image
