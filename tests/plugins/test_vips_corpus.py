"""With MEDIACDN_CORPUS, a folder of pictures valid and hostile: every one gets an answer soon, and what is valid comes out as another decoder shows it."""

import io
import os
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageOps

from mediacdn import Kit, MediaError, OverLimits, Undecodable
from mediacdn_vips import FactsConfig, ImageConfig, open_facts, open_image
from tests.plugins.pictures import difference, look, make

pytestmark = pytest.mark.anyio
KIT: Any = Kit("", None, None, None)  # type: ignore[arg-type]
NOT_READ = {".jp2", ".j2k", ".ico", ".bmp"}
# CIELAB of eight bits, and planes of tiles: libvips does not read them.
REFUSED = {"pil__lab.tif", "pil__lab-red.tif", "pil__lab-green.tif", "pil__tiff_tiled_planar_16bit_RGB.tiff"}
OTHERWISE = {
    "pil__hopper_webp.tif": "Pillow cannot decode it",
    "pil__xmp_tags_orientation.avif": "Pillow turns it by its XMP as well as by the file's own rotation",
}


def flat(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    paper = Image.new("RGBA", image.size, "white")
    paper.alpha_composite(image.convert("RGBA"))
    return paper.convert("RGB").resize(size, Image.Resampling.LANCZOS)


if corpus := os.environ.get("MEDIACDN_CORPUS"):
    FILES = [file for file in sorted(Path(corpus).rglob("*")) if file.is_file()]

    async def test_every_file_has_an_answer_soon() -> None:
        tally: Counter[str] = Counter()
        async with open_image(ImageConfig(children=1, jobs=100_000), KIT) as image, open_facts(FactsConfig(jobs=100_000), KIT) as facts:
            for each in (image, facts):
                await each._box.start()
            pids = (image._box.pids, facts._box.pids)
            for file in FILES:
                content, began, outcomes = file.read_bytes(), time.monotonic(), []
                for call in (
                    make(image, content, w=200, h=200, format="webp"),
                    make(image, content, format="avif", w=50),
                    look(facts, content),
                ):
                    try:
                        await call
                        outcomes.append("made")
                    except (Undecodable, OverLimits) as error:
                        outcomes.append(error.code)
                assert time.monotonic() - began < 15, file.name
                assert len(set(outcomes)) == 1, (file.name, outcomes)
                tally[outcomes[0]] += 1
            assert (image._box.pids, facts._box.pids) == pids  # not even a child was lost
        assert tally["made"] > 250

    async def test_valid_pictures_are_upright_and_in_colour() -> None:
        wrong, refused = [], set()
        async with open_image(ImageConfig(), KIT) as image:
            for file in FILES:
                if file.parent.name != "valid" or file.suffix in NOT_READ:
                    continue
                content = file.read_bytes()
                try:
                    made = Image.open(io.BytesIO((await make(image, content, w=200, h=200, format="png"))[0]))
                except MediaError:
                    refused.add(file.name)
                    continue
                if file.name in OTHERWISE:
                    continue
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    other = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
                    if other.mode.startswith("I"):  # Pillow cuts sixteen bits of grey off where it should scale them
                        other = other.convert("I").point(lambda value: value / 257).convert("L")
                    bound = 40 if other.mode == "CMYK" else 6  # converted without a profile by each in its own way
                    if difference(flat(made, made.size), flat(other, made.size)) > bound:
                        wrong.append(file.name)
        assert wrong == []
        assert refused == REFUSED
