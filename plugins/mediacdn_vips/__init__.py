"""Actions `image` and `image-facts`: pictures scaled, turned, re-encoded and looked at by libvips, in child processes."""

from mediacdn import Driver, Media, Plan, Recipe, Step, hookimpl
from mediacdn_vips.actions import open_facts, open_image
from mediacdn_vips.config import FactsConfig, ImageConfig

__all__ = ["FactsConfig", "ImageConfig", "mediacdn_drivers", "mediacdn_plan_jobs", "mediacdn_recipes", "open_facts", "open_image"]


@hookimpl
def mediacdn_drivers() -> list[Driver]:
    return [
        Driver(seam="action", name="image", config=ImageConfig, open=open_image),
        Driver(seam="action", name="image-facts", config=FactsConfig, open=open_facts),
    ]


@hookimpl
def mediacdn_plan_jobs(media: Media) -> list[Plan]:
    """A thumbnail and what is to be known of a picture, ahead of longer work; what its recipes do not read is left out by the core."""
    return [Plan(recipe="thumb", priority=2), Plan(recipe="look", priority=2)] if media.kind == "image" else []


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
        ),
        Recipe(
            code="look",
            title="Facts of a picture",
            summary="Size as shown, placeholder, dominant colour; makes no bytes",
            steps=(Step(name="look", action="image-facts"),),
            accepts=("image/*",),
        ),
    ]
