"""The arguments of `image`, in the one order in which they are written."""

from collections.abc import Iterable

from mediacdn import Argument

_SHARE = r"(?:0(?:\.[0-9]{1,4})?|1(?:\.0{1,4})?)"


def arguments(edge: int, watermarks: Iterable[str]) -> tuple[Argument, ...]:
    """List them; `edge` bounds width and height, `watermarks` are the names of the configured ones."""
    marks = tuple(sorted(watermarks))
    return (
        Argument(name="w", type="integer", min=1, max=edge, summary="Width in pixels, times dpr"),
        Argument(name="h", type="integer", min=1, max=edge, summary="Height in pixels, times dpr"),
        Argument(name="fit", default="inside", allowed=("cover", "contain", "fill", "inside"), summary="How the picture gets into w by h: cut, padded, stretched, or no larger. Only fill enlarges"),
        Argument(name="gravity", default="centre", pattern=f"centre|smart|{_SHARE}:{_SHARE}", summary="What cover keeps: the centre, what catches the eye, or a point as shares of width and height"),
        Argument(name="format", allowed=("jpeg", "png", "webp", "avif", "gif"), summary="By default the picture's own where it can be written, else jpeg, or webp with transparency"),
        Argument(name="quality", type="integer", min=1, max=100, summary="Of jpeg, webp and avif"),
        Argument(name="dpr", type="number", default=1.0, min=0.5, max=4, summary="Device pixels for each of w and h"),
        Argument(name="blur", type="number", min=0.3, max=100, summary="Standard deviation in pixels of the output"),
        Argument(name="sharpen", type="number", min=0.3, max=10, summary="Standard deviation in pixels of the output"),
        Argument(name="rotate", type="integer", default=0, allowed=(0, 90, 180, 270), summary="Degrees clockwise, after the picture stands upright and before w and h"),
        Argument(name="page", type="integer", min=0, max=9999, summary="Of a document of pages such as TIFF, from 0"),
        Argument(name="frame", type="integer", min=0, max=9999, summary="Of an animation, from 0; the output is a still"),
        Argument(name="background", pattern="[0-9a-f]{6}", summary="Colour rrggbb behind transparency and around contain"),
        *((Argument(name="watermark", allowed=marks, summary="A configured picture, laid into the lower right corner"),) if marks else ()),
    )  # fmt: skip
