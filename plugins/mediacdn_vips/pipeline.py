"""From encoded bytes to encoded bytes: STEPS, read top to bottom, is all that happens to a picture."""

import os
from collections.abc import Callable
from typing import Any

import pyvips
from msgspec import Struct

from mediacdn import OverLimits
from mediacdn_vips import guard
from mediacdn_vips.colour import to_srgb
from mediacdn_vips.encoding import ALPHA, ANIMATED, encode, media_type, most
from mediacdn_vips.geometry import Plan, corner, plan
from mediacdn_vips.loading import BASE, Source
from mediacdn_vips.request import Limits, Seen, Spec, Work

_KEPT = {"page-height", "n-pages", "delay", "loop"}


class Picture(Struct):
    """A picture on its way. `frames` are its images, all of one size; `plan` is of the whole way, `turn` says that width and height still swap."""

    source: Source
    spec: Spec
    limits: Limits
    effort: int
    mark: int | None = None
    format: str = ""
    page: int | None = None
    count: int = 1
    turn: bool = False
    plan: Plan = Plan(1, 1, 1, 1)
    frames: list[Any] = []


def choose(picture: Picture) -> None:
    """Choose the output's format, the page, and whether an animation stays one."""
    spec, header = picture.spec, picture.source.header
    picture.format = spec.format or header.format or ("webp" if header.has_alpha else "jpeg")
    picture.page = picture.source.choose(spec.page, spec.frame)
    if picture.page is None and header.animated and picture.format in ANIMATED:
        picture.count = header.pages


def check(picture: Picture) -> None:
    """Hold the header to the limits; nothing has been decoded yet."""
    picture.source.check(picture.limits, picture.count)


def aim(picture: Picture) -> None:
    """Plan the sizes, as they will be seen."""
    header = picture.source.header
    picture.turn = header.turned != (picture.spec.rotate in (90, 270))
    width, height = (header.height, header.width) if picture.turn else (header.width, header.height)
    picture.plan = plan(width, height, picture.spec, picture.limits.edge, enlarge=header.loader == "svgload")
    pixels = max(picture.plan.width * picture.plan.height, picture.plan.box_width * picture.plan.box_height)
    limits = picture.limits
    allowed = limits.pixels // picture.count
    if limits.resident:
        allowed = min(allowed, most(picture.format, limits.resident - BASE, picture.count))
    if pixels > allowed:
        raise OverLimits(f"What would be made has more than {allowed} pixels")


def load(picture: Picture) -> None:
    """Open the pixels, shrunk as far as the decoder does it for nothing."""
    header = picture.source.header
    width, height = _stored(picture)
    picture.frames = [picture.source.load(picture.page, picture.count, min(header.width / width, header.height / height))]


def resize(picture: Picture) -> None:
    """Scale by Lanczos's filter, colour weighted by opacity. All frames at once: they lie one below the other."""
    [image] = picture.frames
    width, height = _stored(picture)
    across, down = width / image.width, height * picture.count / image.height
    if (across, down) != (1, 1):
        picture.frames = [_weighted(image, lambda each: each.resize(across, vscale=down))]


def colour(picture: Picture) -> None:
    """Bring the colours to sRGB, eight bits; after scaling, because there are fewer of them then."""
    picture.frames = [to_srgb(each) for each in picture.frames]


def settle(picture: Picture) -> None:
    """Run what was put together so far: decode, once. What follows may look at the pixels in any order."""
    [image] = picture.frames
    image = image.copy_memory()
    height = image.height // picture.count
    picture.frames = [image] if picture.count == 1 else [image.crop(0, at * height, image.width, height) for at in range(picture.count)]


def orient(picture: Picture) -> None:
    """Stand upright by the EXIF orientation, then turn as asked."""
    turn = picture.spec.rotate
    picture.frames = [each.autorot() if not turn else each.autorot().rot(f"d{turn}") for each in picture.frames]


def cut(picture: Picture) -> None:
    """Cut to the box of `cover`, at the point that `gravity` names. Frames of an animation are all cut where the first one is."""
    box = picture.plan
    first, across, down = picture.frames[0], 0.5, 0.5
    if picture.spec.fit != "cover" or (first.width, first.height) == (box.box_width, box.box_height):
        return
    if picture.spec.gravity == "smart":
        _, eye = first.smartcrop(box.box_width, box.box_height, interesting="attention", attention_x=True, attention_y=True)
        across, down = eye["attention_x"] / first.width, eye["attention_y"] / first.height
    elif picture.spec.gravity != "centre":
        across, down = map(float, picture.spec.gravity.split(":"))
    left, top = corner(first.width, box.box_width, across), corner(first.height, box.box_height, down)
    picture.frames = [each.crop(left, top, box.box_width, box.box_height) for each in picture.frames]


def pad(picture: Picture) -> None:
    """Lay the picture of `contain` into the middle of its box; around it is nothing, which `flatten` may paint."""
    box = picture.plan
    if picture.spec.fit == "contain" and (box.width, box.height) != (box.box_width, box.box_height):
        picture.frames = [
            _with_alpha(each).gravity("centre", box.box_width, box.box_height, extend="background", background=[0, 0, 0, 0])
            for each in picture.frames
        ]


def soften(picture: Picture) -> None:
    """Blur, or sharpen."""
    if (sigma := picture.spec.blur) is not None:
        picture.frames = [_weighted(each, lambda image: image.gaussblur(sigma)) for each in picture.frames]
    if (sharp := picture.spec.sharpen) is not None:
        picture.frames = [each.sharpen(sigma=sharp).cast("uchar") for each in picture.frames]


def watermark(picture: Picture) -> None:
    """Lay the configured picture into the lower right corner, at most a quarter as wide and high."""
    if picture.mark is None:
        return
    mark = Source(picture.mark, picture.limits)
    mark.check(picture.limits, 1)
    first = picture.frames[0]
    image = _with_alpha(to_srgb(mark.load(None, 1, 1)))
    scale = min(1.0, first.width / 4 / image.width, first.height / 4 / image.height)
    image = _weighted(image, lambda each: each.resize(scale)).copy_memory()
    gap = max(first.width, first.height) // 50
    at = (max(0, first.width - image.width - gap), max(0, first.height - image.height - gap))
    laid = [each.composite2(image, "over", x=at[0], y=at[1]).cast("uchar") for each in picture.frames]
    picture.frames = laid if first.hasalpha() else [each[0:3] for each in laid]


def flatten(picture: Picture) -> None:
    """Paint the background behind transparency: as asked, or white where the format knows none."""
    background = picture.spec.background or (None if picture.format in ALPHA else "ffffff")
    if background is not None:
        ink = list(bytes.fromhex(background))
        picture.frames = [each.flatten(background=ink) if each.hasalpha() else each for each in picture.frames]


def strip(picture: Picture) -> None:
    """Take everything off that is not pixels: EXIF, GPS, XMP, comments, profiles, thumbnails. Only an animation's timing stays."""
    for at, each in enumerate(picture.frames):
        bare = each.copy()
        for field in bare.get_fields():
            if field not in _KEPT:
                bare.remove(field)
        picture.frames[at] = bare


STEPS: tuple[Callable[[Picture], None], ...] = (
    choose,
    check,
    aim,
    load,
    resize,
    colour,
    settle,
    orient,
    cut,
    pad,
    soften,
    watermark,
    flatten,
    strip,
)


def make(work: Work, spec: Spec, source: int, output: int, mark: int | None = None) -> Seen:
    """Run the steps and write what comes of them to `output`. Raises: OverLimits, InvalidArgument, Undecodable, pyvips.Error."""
    picture = Picture(Source(source, work.limits), spec, work.limits, work.effort, mark)
    for step in STEPS:
        step(picture)
    os.lseek(output, 0, os.SEEK_SET)
    os.ftruncate(output, 0)
    try:
        encode(picture.frames, picture.format, output, quality=spec.quality, effort=picture.effort)
    except pyvips.Error as error:  # its pixels were decoded before: the picture is not at fault
        raise guard.meaning(error, OverLimits("What would be made needs more memory than is allowed")) from error
    first = picture.frames[0]
    return Seen(
        width=first.width, height=first.height, frames=len(picture.frames), has_alpha=bool(first.hasalpha()),
        media_type=media_type(picture.format), tools=guard.tools(),
    )  # fmt: skip


def _stored(picture: Picture) -> tuple[int, int]:
    """The planned size in the picture's own lie, before it is turned."""
    return (picture.plan.height, picture.plan.width) if picture.turn else (picture.plan.width, picture.plan.height)


def _weighted(image: Any, call: Callable[[Any], Any]) -> Any:
    """Call with colours weighted by their opacity, so that those of transparent pixels do not bleed."""
    if not image.hasalpha():
        return call(image)
    return call(image.premultiply()).unpremultiply().cast(image.format)


def _with_alpha(image: Any) -> Any:
    return image if image.hasalpha() else image.bandjoin(255).copy(interpretation="srgb")
