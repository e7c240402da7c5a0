"""From a picture's size and what was asked to the sizes of scaling and cutting; pure numbers."""

from msgspec import Struct

from mediacdn import InvalidArgument
from mediacdn_vips.request import Spec


class Plan(Struct, frozen=True):
    """The picture is scaled to `width` by `height`, then cut or padded to `box_width` by `box_height`."""

    width: int
    height: int
    box_width: int
    box_height: int


def plan(width: int, height: int, spec: Spec, edge: int, *, enlarge: bool = False) -> Plan:
    """Plan for a picture that is shown `width` by `height`. Only `fit=fill` enlarges, unless `enlarge`: a drawing has no size of its own. Raises: InvalidArgument."""
    w, h = (None if each is None else max(1, round(each * spec.dpr)) for each in (spec.w, spec.h))
    for name, value in (("w", w), ("h", h)):
        if value is not None and value > edge:
            raise InvalidArgument(f"{name} times dpr may be at most {edge}")
    if w is None and h is None:
        return Plan(width, height, width, height)
    largest = float("inf") if enlarge or spec.fit == "fill" else 1.0
    if w is None or h is None:
        scale = min(largest, w / width if w is not None else (h or 1) / height)
        scaled = _scaled(width, height, scale, w, h)
        if max(scaled) > edge:
            raise InvalidArgument(f"the picture would be {scaled[0]} by {scaled[1]}; at most {edge} is allowed")
        return Plan(*scaled, *scaled)
    if spec.fit == "fill":
        return Plan(w, h, w, h)
    if spec.fit == "cover":
        scale = max(w / width, h / height)
        if scale > largest:  # a box of the shape that was asked for, as large as the picture has pixels
            w, h = max(1, min(width, round(w / scale))), max(1, min(height, round(h / scale)))
            scale = 1.0
        return Plan(max(w, round(width * scale)), max(h, round(height * scale)), w, h)
    scaled = _scaled(width, height, min(w / width, h / height, largest), w, h)
    return Plan(*scaled, *((w, h) if spec.fit == "contain" else scaled))


def _scaled(width: int, height: int, scale: float, w: int | None, h: int | None) -> tuple[int, int]:
    across, down = max(1, round(width * scale)), max(1, round(height * scale))
    return min(across, w or across), min(down, h or down)


def corner(size: int, box: int, focus: float) -> int:
    """Where a box begins in `size` pixels so that `focus`, a share of them, comes as near to its middle as can be."""
    return min(max(0, round(size * focus - box / 2)), size - box)
