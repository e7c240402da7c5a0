"""The drivers' tables in the configuration."""

from msgspec import Struct


class FactsConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much a picture may cost, and where its decoder runs. Sizes are bytes, times are seconds."""

    max_bytes: int = 256 << 20
    """Of the encoded picture."""
    max_pixels: int = 50_000_000
    """Width times height times the frames that must be decoded, read from the header before anything else is."""
    max_frames: int = 300
    """Of an animation that stays one."""
    svg: bool = False
    """Whether SVG is drawn, in the child as everything; otherwise it is refused."""
    children: int = 1
    queue: int = 64
    """Callers that may wait for a child; the next one is told to come again."""
    jobs: int = 200
    """Pictures after which a child is replaced."""
    deadline: float = 15.0
    processor: float = 15.0
    memory: int = 1 << 30
    """Of a child's address space."""
    user: str = ""
    """Whom children become, where the server runs as root; that user must be able to read its installation."""
    resident: int = 300_000_000
    """Of a child's real memory. Formats that are decoded whole need the more of it the larger the picture: by default AVIF may have 13 megapixels, HEIC 24."""


class ImageConfig(FactsConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same for pictures that are made."""

    children: int = 2
    max_edge: int = 8192
    """Pixels that may be asked for as a width or height, after `dpr`."""
    output: int = 64 << 20
    """Bytes of the largest file that may be made."""
    effort: int = 4
    """How hard AVIF and WebP are compressed, 0 (fast) to 6 (small)."""
    watermarks: dict[str, str] = {}
    """Names that `watermark` may say, and the picture's file for each."""

    def __post_init__(self) -> None:
        if not 0 <= self.effort <= 6:
            raise ValueError("effort must be from 0 to 6")
