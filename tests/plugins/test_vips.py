"""The plugin `vips`: what comes of pictures, looked at by another decoder."""

import asyncio
import io
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from PIL import Image, ImageOps

from mediacdn import Action, InvalidArgument, Kit, Media, MediaError, OverLimits, Recipe, Undecodable
from mediacdn.plugins import Plugins
from mediacdn_vips import FactsConfig, ImageConfig, open_facts, open_image
from mediacdn_vips.thumbhash import thumbhash
from tests.plugins.pictures import (
    INK,
    UPRIGHT,
    animation,
    corners,
    difference,
    encoded,
    look,
    make,
    near,
    oriented,
    picture,
    png,
    png_bomb,
    scene,
    shows,
    swapped_profile,
)

pytestmark = pytest.mark.anyio
KIT: Any = Kit("", None, None, None)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
async def image() -> AsyncIterator[Any]:
    async with open_image(ImageConfig(), KIT) as action:
        yield action


@pytest.fixture(scope="module")
async def facts() -> AsyncIterator[Any]:
    async with open_facts(FactsConfig(), KIT) as action:
        yield action


# Orientation


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
async def test_every_orientation_stands_upright(image: Action, facts: Any, orientation: int, format: str) -> None:
    content = oriented(corners(), orientation, format)
    for spec, size in (
        ({}, (120, 80)),
        ({"w": 60}, (60, 40)),
        ({"w": 60, "h": 60, "fit": "cover"}, (60, 60)),
        ({"h": 20, "fit": "fill"}, (30, 20)),
    ):
        shown = await picture(image, content, format="png", **spec)
        assert (shown.size, shows(shown)) == (size, UPRIGHT)
        assert not shown.getexif()
    seen = await look(facts, content)
    assert (seen.width, seen.height) == (120, 80)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("turn", [90, 180, 270])
async def test_rotate_turns_what_is_shown(image: Action, orientation: int, turn: int) -> None:
    shown = await picture(image, oriented(corners(), orientation), format="png", rotate=turn, w=40)
    assert shown.width == 40
    assert shows(shown.rotate(turn, expand=True)) == UPRIGHT


# Colour


def kinds() -> dict[str, bytes]:
    base = scene()
    veil = base.copy()
    veil.putalpha(Image.radial_gradient("L").resize(base.size))
    grey = base.convert("L")
    wide = b"".join(b"\0" + b"".join(bytes((value, value)) for value in grey.crop((0, y, 600, y + 1)).tobytes()) for y in range(400))
    deep = b"".join(b"\0" + b"".join(bytes((value, value)) for value in base.crop((0, y, 600, y + 1)).tobytes()) for y in range(400))
    return {
        "jpeg": encoded(base, "JPEG", quality=95),
        "progressive": encoded(base, "JPEG", quality=95, progressive=True),
        "cmyk": encoded(base.convert("CMYK"), "JPEG", quality=95),
        "grey": encoded(grey, "JPEG", quality=95),
        "png": encoded(base, "PNG"),
        "palette": encoded(base.quantize(256), "PNG"),
        "grey-alpha": encoded(veil.convert("LA"), "PNG"),
        "alpha": encoded(veil, "PNG"),
        "one-bit": encoded(grey.convert("1"), "PNG"),
        "grey-16": png(600, 400, 16, 0, wide),
        "rgb-16": png(600, 400, 16, 2, deep),
        "webp": encoded(base, "WEBP", quality=95),
        "gif": encoded(base, "GIF"),
        "avif": encoded(base, "AVIF", quality=90),
        "tiff": encoded(base, "TIFF", compression="tiff_lzw"),
        "tiff-cmyk": encoded(base.convert("CMYK"), "TIFF"),
    }


KINDS = kinds()


@pytest.mark.parametrize("kind", KINDS)
async def test_colours_are_those_that_another_decoder_sees(image: Action, kind: str) -> None:
    shown = await picture(image, KINDS[kind], format="png", w=150)
    other: Image.Image = Image.open(io.BytesIO(KINDS[kind]))
    if kind == "grey-16":
        other = Image.open(io.BytesIO(KINDS["grey"]))
    paper = Image.new("RGBA", other.size, "white")
    paper.alpha_composite(other.convert("RGBA"))
    wanted = paper.convert("RGB").resize((150, 100), Image.Resampling.LANCZOS)
    paper = Image.new("RGBA", shown.size, "white")
    paper.alpha_composite(shown.convert("RGBA"))
    # CMYK without a profile is converted by each in its own way: only much apart would be wrong.
    bound = 60 if "cmyk" in kind else 8 if kind == "one-bit" else 3
    assert difference(paper.convert("RGB"), wanted) < bound


async def test_a_profile_is_followed_and_a_broken_one_passed_over(image: Action) -> None:
    red = Image.new("RGB", (64, 64), (255, 0, 0))
    for kind in ("JPEG", "PNG", "TIFF", "WEBP"):
        shown = await picture(image, encoded(red, kind, icc_profile=swapped_profile()), format="png", w=32)
        assert near(shown.getpixel((16, 16)), (0, 0, 255)), kind
        shown = await picture(image, encoded(red, kind, icc_profile=b"\0" * 200), format="png", w=32)
        assert near(shown.getpixel((16, 16)), (255, 0, 0)), kind


async def test_transparent_pixels_do_not_bleed(image: Action) -> None:
    drawn = Image.new("RGBA", (200, 200), (0, 255, 0, 0))
    drawn.paste((255, 0, 0, 255), (0, 0, 101, 200))
    shown = await picture(image, encoded(drawn, "PNG"), format="png", w=50)
    assert all(near(pixel, (255, 0, 0), 4) for _, pixel in shown.getcolors(10_000) or () if pixel[3] > 8)


# Size


@pytest.mark.parametrize(
    ("spec", "size"),
    [
        ({"w": 60}, (60, 40)),
        ({"h": 40}, (60, 40)),
        ({"w": 60, "h": 60}, (60, 40)),
        ({"w": 60, "h": 60, "fit": "contain"}, (60, 60)),
        ({"w": 60, "h": 60, "fit": "cover"}, (60, 60)),
        ({"w": 60, "h": 60, "fit": "fill"}, (60, 60)),
        ({"w": 30, "dpr": 2}, (60, 40)),
        ({"w": 500}, (120, 80)),
        ({"w": 500, "h": 500}, (120, 80)),
        ({"w": 500, "h": 500, "fit": "contain"}, (500, 500)),
        ({"w": 500, "h": 500, "fit": "cover"}, (80, 80)),
        ({"w": 500, "h": 100, "fit": "cover"}, (120, 24)),
        ({"w": 500, "h": 500, "fit": "fill"}, (500, 500)),
        ({"w": 240, "fit": "fill"}, (240, 160)),
        ({"w": 1, "h": 1}, (1, 1)),
        ({"w": 1, "h": 80, "fit": "cover"}, (1, 80)),
    ],
)
async def test_sizes(image: Action, spec: dict[str, Any], size: tuple[int, int]) -> None:
    content = encoded(corners(), "PNG")
    bytes_, made = await make(image, content, **spec)
    assert Image.open(io.BytesIO(bytes_)).size == size == (made.width, made.height)


async def test_what_is_one_pixel_thin_stays_a_picture(image: Action) -> None:
    for size, wanted in (((2000, 1), (100, 1)), ((1, 2000), (1, 100)), ((1, 1), (1, 1))):
        shown = await picture(image, encoded(Image.new("RGB", size, "red"), "PNG"), w=100, h=100)
        assert (shown.size, shown.convert("RGB").getpixel((0, 0))) == (wanted, (255, 0, 0))


@pytest.mark.parametrize(("gravity", "colours"), [("0:0.5", "red"), ("1:0.5", "blue"), ("0.5:0", "lime"), ("centre", "lime"), ("0.9:1", "blue"), ("smart", "blue")])  # fmt: skip
async def test_gravity_says_what_cover_keeps(image: Action, gravity: str, colours: str) -> None:
    flag = Image.new("RGB", (300, 100), (0, 255, 0))
    flag.paste((255, 0, 0), (0, 0, 100, 100))
    flag.paste((0, 0, 255), (200, 0, 300, 100))
    if gravity == "smart":  # plain but for one detail
        flag = Image.new("RGB", (300, 100), (128, 128, 128))
        flag.paste(scene(80, 80).point(lambda value: 255 - value), (210, 10))
        shown = await picture(image, encoded(flag, "PNG"), w=100, h=100, fit="cover", gravity=gravity)
        assert len(shown.getcolors(10_000) or range(10_000)) > 1000
        return
    shown = await picture(image, encoded(flag, "PNG"), w=50, h=50, fit="cover", gravity=gravity)
    assert near(shown.convert("RGB").getpixel((25, 25)), INK[colours])


# Formats


@pytest.mark.parametrize("format", ["jpeg", "png", "webp", "avif", "gif"])
async def test_every_format_is_written_without_what_is_no_pixel(image: Action, format: str) -> None:
    exif = Image.Exif()
    exif[0x010E] = "TheSecretPlace"
    exif.get_ifd(0x8825)[1] = "N"
    exif.get_ifd(0x8825)[2] = (48.0, 51.0, 29.0)
    content = encoded(
        scene(), "JPEG", exif=exif, comment=b"TheSecretPlace", xmp=b"<x:xmpmeta>TheSecretPlace</x:xmpmeta>", icc_profile=swapped_profile()
    )
    assert Image.open(io.BytesIO(content)).getexif().get_ifd(0x8825)[2]
    bytes_, made = await make(image, content, format=format, w=200)
    assert made.media_type == f"image/{format}"
    shown = Image.open(io.BytesIO(bytes_))
    assert shown.get_format_mimetype() == made.media_type
    assert not shown.getexif()
    assert not {"exif", "icc_profile", "xmp", "comment", "photoshop"} & set(shown.info)
    for word in (b"Exif", b"Secret", b"xmp", b"ICC", b"48"):
        assert word not in bytes_ or word == b"48"
    again, _ = await make(image, content, format=format, w=200)
    assert again == bytes_


@pytest.mark.parametrize(
    ("kind", "type_"),
    [("jpeg", "jpeg"), ("png", "png"), ("webp", "webp"), ("gif", "gif"), ("avif", "avif"), ("tiff", "jpeg"), ("alpha", "png")],
)
async def test_without_a_format_it_keeps_its_own(image: Action, kind: str, type_: str) -> None:
    assert (await make(image, KINDS[kind], w=50))[1].media_type == f"image/{type_}"


async def test_quality_background_and_effects(image: Action) -> None:
    sizes = [len((await make(image, KINDS["jpeg"], format="jpeg", quality=each))[0]) for each in (10, 50, 95)]
    assert sizes == sorted(set(sizes))
    veil = encoded(Image.new("RGBA", (40, 40), (255, 0, 0, 0)), "PNG")
    assert near((await picture(image, veil, format="jpeg")).getpixel((5, 5)), INK["white"])
    assert near((await picture(image, veil, format="jpeg", background="0000ff")).getpixel((5, 5)), INK["blue"])
    assert (await picture(image, veil, format="webp")).convert("RGBA").getpixel((5, 5))[3] == 0  # type: ignore[index]
    assert (await picture(image, veil, format="webp", background="00ff00")).mode == "RGB"
    boxed = await picture(image, KINDS["jpeg"], format="png", w=100, h=100, fit="contain", background="ffff00")
    assert near(boxed.getpixel((50, 3)), INK["yellow"])
    plain, soft, hard = [await picture(image, KINDS["jpeg"], format="png", w=150, **each) for each in ({}, {"blur": 5}, {"sharpen": 2})]
    edges = [
        sum(abs(a - b) for a, b in zip(each.convert("L").tobytes(), each.convert("L").tobytes()[1:], strict=False))
        for each in (soft, plain, hard)
    ]
    assert edges == sorted(set(edges))


@pytest.mark.parametrize("to", ["gif", "webp"])
@pytest.mark.parametrize("of", ["GIF", "WEBP"])
async def test_an_animation_stays_one(image: Action, of: str, to: str) -> None:
    for spec in (
        {"w": 60},
        {"w": 40, "h": 40, "fit": "cover", "gravity": "0.5:0.5"},
        {"rotate": 90},
        {"w": 60, "h": 60, "fit": "contain"},
        {"blur": 1},
    ):
        bytes_, made = await make(image, animation(of), format=to, **spec)
        shown: Any = Image.open(io.BytesIO(bytes_))
        assert (shown.n_frames, made.facts["frames"], shown.size) == (4, 4, (made.width, made.height))
        delays = []
        for at in range(4):
            shown.seek(at)
            shown.load()
            delays.append(shown.info["duration"])
            if spec == {"w": 60}:
                stripe = shown.convert("RGB").getpixel((at * 15 + 7, 20))
                assert near(stripe, INK["red"] if at % 2 else INK["blue"], 60), at
        assert delays == [100] * 4
        assert shown.info["loop"] == 0
    again, _ = await make(image, animation(of), format=to, w=60)
    assert again == (await make(image, animation(of), format=to, w=60))[0]


async def test_a_frame_or_another_format_makes_a_still(image: Action) -> None:
    for at in range(4):
        shown: Any = await picture(image, animation("GIF"), frame=at, format="webp")
        assert shown.n_frames == 1
        assert near(shown.convert("RGB").getpixel((at * 30 + 15, 40)), INK["red"] if at % 2 else INK["blue"], 40)
    assert (await make(image, animation("GIF"), format="jpeg"))[1].facts["frames"] == 1
    with pytest.raises(InvalidArgument, match="frame"):
        await make(image, animation("GIF"), frame=4)


async def test_pages_of_a_document(image: Action) -> None:
    pages = [Image.new("RGB", (60 + 20 * at, 40), colour) for at, colour in enumerate(("red", "lime", "blue"))]
    content = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    for at, colour in enumerate(("red", "lime", "blue")):
        shown = await picture(image, content, page=at, format="png")
        assert (shown.size, near(shown.getpixel((10, 10)), INK[colour])) == ((60 + 20 * at, 40), True)
    with pytest.raises(InvalidArgument, match="page"):
        await make(image, content, page=3)


async def test_heic(image: Action, facts: Any) -> None:
    import pillow_heif

    T = Image.Transpose
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    pillow_heif.from_pillow(corners(128, 96).transpose(T.ROTATE_90)).save(buffer, quality=90, exif=exif.tobytes())
    content = buffer.getvalue()
    assert "image/heic" in image.accepts
    for spec in ({}, {"w": 64}):
        shown = await picture(image, content, format="jpeg", **spec)
        assert (shown.size, shows(shown, 60)) == ((64, 48) if spec else (128, 96), UPRIGHT)
        assert not shown.getexif()
    seen = await look(facts, content)
    assert (seen.width, seen.height) == (128, 96)
    with pytest.raises(Undecodable):
        await make(image, content[: len(content) // 2], format="jpeg")


# Limits and hostile pictures


def patched_jpeg(width: int, height: int) -> bytes:
    content = bytearray(KINDS["jpeg"])
    at = content.index(b"\xff\xc0")
    content[at + 5 : at + 9] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(content)


def resident(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


BOMBS = {
    "png 40000x40000": png_bomb(40_000, 40_000),
    "jpeg 65000x65000": patched_jpeg(65_000, 65_000),
    "gif of 500 frames": animation("GIF", 500, (8, 8)),
    "webp 16000x4000": encoded(Image.new("RGB", (16_000, 4000)), "WEBP", lossless=True, quality=0, method=0),
    "png 2147483647x1": png(2_147_483_647, 1, 1, 0, b"\0" * 64),
}


@pytest.mark.parametrize("bomb", BOMBS)
async def test_bombs_are_refused_before_they_are_decoded(bomb: str) -> None:
    async with open_image(ImageConfig(children=1), KIT) as image:
        await make(image, KINDS["png"], w=10, format="webp")
        [pid] = image._box.pids
        before = resident(pid)
        began = time.monotonic()
        with pytest.raises((OverLimits, Undecodable) if bomb == "png 2147483647x1" else OverLimits):
            await make(image, BOMBS[bomb], w=10, format="webp")
        assert time.monotonic() - began < 1
        assert image._box.pids == [pid]
        assert resident(pid) - before < 20_000  # kB


def wide(format: str, size: tuple[int, int] = (8000, 6000), **options: Any) -> bytes:
    return encoded(Image.new("RGB", size, "teal"), format, **options)


HUNGRY = {
    "avif": (lambda: wide("AVIF", (4600, 3100), speed=10), r"At most 13\d+ pixels"),
    "lossless webp": (lambda: wide("WEBP", lossless=True, quality=0, method=0), r"At most 39\d+ pixels"),
    "jpeg in many scans": (lambda: wide("JPEG", progressive=True, subsampling=0), "memory"),
}
"""Of pixels enough to be decoded, were they of a format that is decoded line by line."""


@pytest.mark.parametrize("kind", HUNGRY)
async def test_what_needs_much_memory_is_refused_within_it(kind: str) -> None:
    made, told = HUNGRY[kind]
    content = made()
    async with open_image(ImageConfig(children=1), KIT) as image, open_facts(FactsConfig(), KIT) as facts:
        with pytest.raises(OverLimits, match=told):
            await make(image, content, w=10, format="webp")
        seen = await look(facts, content)
        assert (seen.width, seen.placeholder) == (Image.open(io.BytesIO(content)).width, None)
        for pid in (*image._box.pids, *facts._box.pids):
            assert resident(pid) * 1024 < 300_000_000
    async with open_image(ImageConfig(children=1, resident=0), KIT) as image:
        assert (await make(image, content, w=10, format="webp"))[1].width == 10


async def test_what_is_decoded_by_lines_stays_within_it() -> None:
    contents = [
        wide("JPEG"),
        wide("WEBP", method=0),
        wide("PNG", compress_level=1),
        wide("TIFF", compression="tiff_deflate"),
        KINDS["avif"],
    ]
    async with open_image(ImageConfig(children=1), KIT) as image:
        for content in contents:
            assert (await make(image, content, w=512, format="jpeg"))[1].width in (128, 512)
            for pid in image._box.pids:
                assert resident(pid) * 1024 < 300_000_000


async def test_what_cannot_be_written_within_it_is_refused_before_it_is_decoded() -> None:
    content = wide("JPEG")
    async with open_image(ImageConfig(children=1), KIT) as image:
        for kind, most in (("jpeg", 20), ("webp", 16), ("avif", 6)):
            began = time.monotonic()
            with pytest.raises(OverLimits, match=rf"more than {most}\d{{6}} pixels"):
                await make(image, content, format=kind)
            assert time.monotonic() - began < 1
        for kind, across in (("jpeg", 5000), ("webp", 4600), ("png", 5000)):
            assert (await make(image, content, w=across, format=kind))[1].width == across
            assert all(resident(pid) * 1024 < 300_000_000 for pid in image._box.pids)


async def test_facts_of_a_bomb_are_its_header(facts: Any) -> None:
    seen = await look(facts, BOMBS["png 40000x40000"])
    assert (seen.width, seen.height, seen.placeholder) == (40_000, 40_000, None)


async def test_a_still_of_a_long_animation_is_made(image: Action) -> None:
    assert (await make(image, BOMBS["gif of 500 frames"], frame=0, format="webp"))[1].facts["frames"] == 1


@pytest.mark.parametrize("kind", ["jpeg", "progressive", "png", "webp", "gif", "avif", "tiff", "cmyk"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
async def test_a_picture_cut_short_is_refused(image: Action, facts: Any, kind: str, share: float) -> None:
    cut = KINDS[kind][: int(len(KINDS[kind]) * share)]
    for spec in ({"w": 50}, {}):
        with pytest.raises(Undecodable):
            await make(image, cut, format="png", **spec)
    with pytest.raises(Undecodable):
        await look(facts, cut)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 100,
        b"GIF89a" + b"\xff" * 100,
        b"\xff\xd8\xff" + b"\0" * 100,
        b'<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"><rect width="10" height="10"/></svg>',
        b"%PDF-1.7\n1 0 obj",
        b"P6 2 2 255\n" + b"\0" * 12,
        b"1,2,3\n4,5,6\n",
        b"push graphic-context\nviewbox 0 0 640 480\nimage over 0,0 0,0 'label:@/etc/passwd'\npop graphic-context",
        encoded(Image.new("RGB", (8, 8)), "BMP"),
        encoded(Image.new("RGB", (8, 8)), "ICO"),
        encoded(Image.new("RGB", (8, 8)), "JPEG2000"),
    ],
    ids=["empty", "zeros", "gif", "jpeg", "svg", "pdf", "ppm", "csv", "mvg", "bmp", "ico", "jp2"],
)
async def test_what_is_not_on_the_list_is_not_read(image: Action, facts: Any, content: bytes) -> None:
    with pytest.raises(Undecodable):
        await make(image, content, w=10)
    with pytest.raises(Undecodable):
        await look(facts, content)


async def test_svg_is_drawn_where_it_is_allowed_and_reads_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "other.png").write_bytes(encoded(Image.new("RGB", (10, 10), "red"), "PNG"))
    content = f"""<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="10" height="10"><rect width="10" height="10" fill="#00f"/>
<image width="10" height="10" xlink:href="file://{tmp_path}/other.png"/><image width="10" height="10" href="{tmp_path}/other.png"/></svg>""".encode()
    async with open_image(ImageConfig(svg=True, children=1), KIT) as image:
        assert "image/svg+xml" in image.accepts
        shown = await picture(image, content, format="png", w=200)
        assert (shown.size, near(shown.getpixel((100, 100)), INK["blue"])) == ((200, 200), True)
        with pytest.raises(OverLimits):
            await make(image, content.replace(b'width="10" height="10"><rect', b'width="90000" height="90000"><rect'), format="png")


@pytest.mark.parametrize(
    ("spec", "word"),
    [({"w": 9000}, "w"), ({"w": 4000, "dpr": 3}, "dpr"), ({"fit": "outside"}, "fit"), ({"w": "wide"}, "w"), ({"format": "bmp"}, "format")],
)
async def test_bad_arguments_are_named(image: Action, spec: dict[str, Any], word: str) -> None:
    with pytest.raises(InvalidArgument, match=word):
        await make(image, KINDS["png"], **spec)


async def test_limits_of_bytes_pixels_and_output() -> None:
    async with open_image(ImageConfig(children=1, max_bytes=1000, max_pixels=300_000, output=3000), KIT) as image:
        with pytest.raises(OverLimits, match="1000 bytes"):
            await make(image, KINDS["png"])
    async with open_image(ImageConfig(children=1, max_pixels=300_000, output=3000), KIT) as image:
        with pytest.raises(OverLimits, match="pixels"):
            await make(image, KINDS["png"], w=1000, h=1000, fit="fill")
        for kind in ("png", "jpeg", "webp", "avif", "gif"):
            with pytest.raises(OverLimits, match="larger than is allowed"):
                await make(image, encoded(Image.effect_noise((300, 300), 90), "PNG"), format=kind, quality=100)
        assert (await make(image, KINDS["png"], w=10))[1].width == 10


async def test_the_deadline_ends_it() -> None:
    async with open_image(ImageConfig(children=1, deadline=0.05, effort=6), KIT) as image:
        began = time.monotonic()
        with pytest.raises(OverLimits):
            await make(image, encoded(scene(4000, 3000), "JPEG"), format="avif")
        assert time.monotonic() - began < 1


# The rest


async def test_facts(facts: Any) -> None:
    seen = await look(facts, encoded(corners(300, 200), "PNG"))
    assert (seen.width, seen.height, seen.media_type) == (300, 200, "")
    assert seen.facts == {"frames": 1, "has_alpha": False, "dominant_colour": seen.facts["dominant_colour"]}
    red = Image.new("RGB", (300, 200), (200, 30, 40))
    red.paste((0, 0, 255), (0, 0, 100, 100))
    assert (await look(facts, encoded(red, "PNG"))).facts["dominant_colour"] == "#c81e28"
    clear = await look(facts, encoded(Image.new("RGBA", (30, 30)), "PNG"))
    assert clear.facts == {"frames": 1, "has_alpha": True}
    assert clear.placeholder
    assert (await look(facts, animation("WEBP"))).facts["frames"] == 4
    for kind in KINDS.values():
        seen = await look(facts, kind)
        assert (seen.width, seen.height) == (600, 400)
        assert 20 <= len(seen.placeholder) <= 40


@pytest.mark.parametrize(
    ("width", "height", "veiled", "wanted"),
    [(100, 67, False, "IQcKVZ6xhYdwh4d6iFiIeVCCBteI"), (60, 60, True, "5LeFLQ44sJWxhn9IuFClCLdKeHhwiId4eA==")],
)
def test_thumbhash_is_what_another_implementation_says(width: int, height: int, veiled: bool, wanted: str) -> None:
    drawn = scene(width, height).convert("RGBA")
    if veiled:
        drawn.putalpha(Image.linear_gradient("L").resize((width, height)))
    assert b64encode(thumbhash(width, height, drawn.tobytes())).decode() == wanted


async def test_a_watermark_is_laid_into_the_corner(tmp_path: Path) -> None:
    (tmp_path / "mark.png").write_bytes(encoded(Image.new("RGBA", (400, 400), (255, 0, 0, 255)), "PNG"))
    async with open_image(ImageConfig(children=1, watermarks={"ours": str(tmp_path / "mark.png")}), KIT) as image:
        assert image.arguments[-1].allowed == ("ours",)
        shown = await picture(image, encoded(Image.new("RGB", (400, 300), "white"), "PNG"), format="png", watermark="ours")
        assert near(shown.getpixel((370, 270)), INK["red"])
        assert near(shown.getpixel((200, 150)), INK["white"])
        moving: Any = await picture(image, animation("GIF"), format="gif", watermark="ours")
        assert moving.n_frames == 4


async def test_the_loop_answers_while_pictures_are_made(image: Action) -> None:
    longest = 0.0
    content = encoded(scene(3000, 2000), "JPEG")
    works = [asyncio.create_task(make(image, content, w=320, format="webp")) for _ in range(8)]
    while not all(each.done() for each in works):
        at = time.monotonic()
        await asyncio.sleep(0.001)
        longest = max(longest, time.monotonic() - at)
    made = [each.result()[0] for each in works]
    assert len(set(made)) == 1  # both children make the same bytes
    assert longest < 0.1


def test_the_hooks() -> None:
    plugins = Plugins.load(["vips"])
    for name in ("image", "image-facts"):
        assert plugins.driver("action", name).name == name
    from mediacdn_vips import mediacdn_recipes

    thumb, look = mediacdn_recipes()
    assert isinstance(thumb, Recipe)
    assert (thumb.name, thumb.steps[0].relationship, thumb.accepts) == ("thumb@1", "thumbnail", ("image/*",))
    assert (look.name, look.steps[0].action, look.accepts) == ("look@1", "image-facts", ("image/*",))
    now = datetime.now(UTC)
    picture = Media(id="01", owner="me", created_at=now, updated_at=now)
    assert [plan.recipe for plan in plugins.plans(replace(picture, kind="image"))] == ["thumb", "look"]
    assert plugins.plans(picture) == []


async def test_thumb_is_what_the_action_takes(image: Action) -> None:
    from mediacdn_vips import mediacdn_recipes

    [step] = mediacdn_recipes()[0].steps
    assert set(step.spec) <= {each.name for each in image.arguments}
    _, made = await make(image, encoded(scene(1200, 600), "JPEG"), **step.spec)
    assert (made.width, made.height, made.media_type) == (320, 160, "image/webp")


async def test_uprightness_as_pillow_has_it(image: Action) -> None:
    for orientation in range(1, 9):
        content = oriented(scene(), orientation)
        wanted = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).resize((150, 100), Image.Resampling.LANCZOS)
        assert difference(await picture(image, content, w=150, format="png"), wanted) < 3


def test_errors_are_public() -> None:
    assert {kind.status for kind in (Undecodable, OverLimits, InvalidArgument)} == {422}
    assert issubclass(Undecodable, MediaError)
