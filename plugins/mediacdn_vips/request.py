"""What the actions ask of their child and what it answers: the one shape that both sides know."""

from typing import Literal

from msgspec import Struct

Format = Literal["jpeg", "png", "webp", "avif", "gif"]
Fit = Literal["cover", "contain", "fill", "inside"]


class Limits(Struct, frozen=True):
    """What the header is held to before anything is decoded."""

    bytes: int
    pixels: int
    frames: int
    edge: int = 1 << 24
    resident: int = 0


class Spec(Struct, frozen=True, kw_only=True):
    """The arguments of `image`, in canonical order; None where the caller said nothing."""

    w: int | None = None
    h: int | None = None
    fit: Fit = "inside"
    gravity: str = "centre"
    format: Format | None = None
    quality: int | None = None
    dpr: float = 1.0
    blur: float | None = None
    sharpen: float | None = None
    rotate: int = 0
    page: int | None = None
    frame: int | None = None
    background: str | None = None
    watermark: str | None = None


class Work(Struct, frozen=True, kw_only=True):
    """One request: make a picture after `spec`, or look at one when there is none."""

    limits: Limits
    svg: bool = False
    effort: int = 4
    spec: Spec | None = None


class Seen(Struct, frozen=True, kw_only=True):
    """What the child answers. Width and height are as shown."""

    width: int
    height: int
    frames: int = 1
    has_alpha: bool = False
    media_type: Literal["", "image/jpeg", "image/png", "image/webp", "image/avif", "image/gif"] = ""
    placeholder: str | None = None
    dominant_colour: str | None = None
    tools: dict[str, str] = {}
