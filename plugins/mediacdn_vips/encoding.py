"""Pixels to bytes: one function a format, with what this server thinks a good picture for the web is."""

from typing import Any, Literal

import pyvips

ALPHA = {"png", "webp", "avif", "gif"}
ANIMATED = {"gif", "webp"}
_QUALITY = {"jpeg": 80, "webp": 80, "avif": 55}

_COST = {"jpeg": (0, 10.5), "webp": (0, 13), "avif": (90 << 20, 19), "gif": (0, 24), "png": (0, 4)}
"""Bytes of memory that making a picture takes, measured: at all, and a pixel, its own among them."""

MediaType = Literal["image/jpeg", "image/png", "image/webp", "image/avif", "image/gif"]
_TYPES: dict[str, MediaType] = {
    "jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp", "avif": "image/avif", "gif": "image/gif",
}  # fmt: skip


def media_type(format: str) -> MediaType:
    return _TYPES[format]


def most(format: str, memory: int, frames: int) -> int:
    """Pixels of a frame that can be written in so many bytes of memory, where so many frames stand beside the one that is written."""
    at_all, each = _COST[format]
    return max(0, int((memory - at_all) / (each + 4 * (frames - 1))))


def encode(frames: list[Any], format: str, descriptor: int, *, quality: int | None, effort: int) -> None:
    """Write the frames to the descriptor. The same frames and settings give the same bytes. Raises: pyvips.Error."""
    image = frames[0] if len(frames) == 1 else _roll(frames)
    target = pyvips.Target.new_to_descriptor(descriptor)
    quality = quality or _QUALITY.get(format)
    if format == "jpeg":
        image.jpegsave_target(target, Q=quality, optimize_coding=True, keep="none")
    elif format == "png":
        image.pngsave_target(target, compression=6, keep="none")
    elif format == "webp":
        image.webpsave_target(target, Q=quality, effort=effort, keep="none")
    elif format == "avif":
        image.heifsave_target(target, Q=quality, compression="av1", effort=effort, bitdepth=8, keep="none")
    else:
        image.gifsave_target(target, effort=max(1, effort), keep="none")


def _roll(frames: list[Any]) -> Any:
    first = frames[0]
    image = pyvips.Image.arrayjoin(frames, across=1).copy()
    image.set_type(pyvips.GValue.gint_type, "page-height", first.height)
    image.set_type(pyvips.GValue.gint_type, "n-pages", len(frames))
    if first.get_typeof("delay"):
        image.set_type(pyvips.GValue.array_int_type, "delay", first.get("delay")[: len(frames)])
    return image
