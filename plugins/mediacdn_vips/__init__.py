"""Actions `image` and `image-facts`: pictures scaled, turned, re-encoded and looked at by libvips, in child processes."""

from mediacdn import Driver, Recipe, Step, hookimpl
from mediacdn_vips.actions import open_facts, open_image
from mediacdn_vips.config import FactsConfig, ImageConfig

__all__ = ["FactsConfig", "ImageConfig", "mediacdn_drivers", "mediacdn_recipes", "open_facts", "open_image"]


@hookimpl
def mediacdn_drivers() -> list[Driver]:
    return [
        Driver(seam="action", name="image", config=ImageConfig, open=open_image),
        Driver(seam="action", name="image-facts", config=FactsConfig, open=open_facts),
    ]


@hookimpl
def mediacdn_recipes() -> list[Recipe]:
    """The thumbnail is a still, also of an animation: a film of a thousand frames is not refused one for its length."""
    spec = {"w": 320, "h": 320, "fit": "inside", "format": "webp", "frame": 0}
    return [
        Recipe(
            code="thumb",
            title="Thumbnail",
            summary="A still of at most 320 by 320 pixels",
            steps=(Step(name="thumb", action="image", spec=spec, relationship="thumbnail"),),
            accepts=("image/*",),
        )
    ]
