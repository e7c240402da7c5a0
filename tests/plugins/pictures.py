"""Pictures that the tests paint, and what an action is handed with them."""

import io
import os
import struct
import tempfile
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from PIL import Image, ImageCms, ImageDraw

from mediacdn import Action, Made, Media

CORNERS = {"red": (0.15, 0.15), "lime": (0.85, 0.15), "blue": (0.15, 0.85), "yellow": (0.85, 0.85)}
INK = {"red": (255, 0, 0), "lime": (0, 255, 0), "blue": (0, 0, 255), "yellow": (255, 255, 0), "white": (255, 255, 255), "black": (0, 0, 0)}


class Given:
    """A source of these bytes."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    @property
    def media(self) -> Media:
        now = datetime.now(UTC)
        return Media(id="01", owner="me", size=len(self.content), created_at=now, updated_at=now)

    @asynccontextmanager
    async def file(self) -> AsyncIterator[int]:
        with tempfile.TemporaryFile() as file:
            file.write(self.content)
            file.flush()
            file.seek(0)
            descriptor = os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY)
            try:
                yield descriptor
            finally:
                os.close(descriptor)


class Taken:
    """A sink in memory."""

    def __init__(self) -> None:
        self._file = os.memfd_create("taken")

    def __enter__(self) -> "Taken":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def file(self) -> int:
        return self._file

    async def progress(self, share: float) -> None:
        pass

    def bytes(self) -> bytes:
        return os.pread(self._file, os.fstat(self._file).st_size, 0)


def filled(action: Action, **spec: Any) -> dict[str, Any]:
    """A spec as the core gives it: in order, with defaults."""
    return {each.name: spec.get(each.name, each.default) for each in action.arguments}


async def make(action: Action, content: bytes, **spec: Any) -> tuple[bytes, Made]:
    with Taken() as sink:
        made = await action.run(Given(content), filled(action, **spec), sink)
        return sink.bytes(), made


async def look(action: Action, content: bytes) -> Made:
    """What an action that writes nothing says."""
    with Taken() as sink:
        made = await action.run(Given(content), {}, sink)
        assert sink.bytes() == b""
        return made


async def picture(action: Action, content: bytes, **spec: Any) -> Image.Image:
    """What was made, opened by an independent decoder."""
    found = Image.open(io.BytesIO((await make(action, content, **spec))[0]))
    found.load()
    return found


def corners(width: int = 120, height: int = 80) -> Image.Image:
    """Red, lime, blue and yellow quarters, from the upper left."""
    image = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(image)
    for name, (x, y) in CORNERS.items():
        left, top = (0 if x < 0.5 else width // 2), (0 if y < 0.5 else height // 2)
        draw.rectangle((left, top, left + width // 2, top + height // 2), fill=INK[name])
    return image


def scene(width: int = 600, height: int = 400) -> Image.Image:
    """Something with gradients and edges, as photographs have."""
    across = Image.linear_gradient("L").rotate(90).resize((width, height))
    down = Image.linear_gradient("L").resize((width, height))
    image = Image.merge("RGB", (across, down, Image.radial_gradient("L").resize((width, height))))
    draw = ImageDraw.Draw(image)
    draw.ellipse((width // 8, height // 4, width // 2, height // 4 * 3), fill=(30, 120, 220))
    draw.rectangle((width // 2, height // 2, width // 8 * 7, height // 8 * 7), fill=(220, 140, 40))
    return image


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def oriented(image: Image.Image, orientation: int, format: str = "JPEG") -> bytes:
    """`image` stored so that it is shown upright by this EXIF orientation."""
    T = Image.Transpose
    stored = {2: T.FLIP_LEFT_RIGHT, 3: T.ROTATE_180, 4: T.FLIP_TOP_BOTTOM, 5: T.TRANSPOSE, 6: T.ROTATE_90, 7: T.TRANSVERSE, 8: T.ROTATE_270}
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(format, {})
    turned = image.transpose(stored[orientation]) if orientation in stored else image
    return encoded(turned, format, exif=exif.tobytes(), **lossless)


def near(found: Any, wanted: tuple[int, ...], by: int = 24) -> bool:
    return all(abs(a - b) <= by for a, b in zip(found, wanted, strict=False))


def shows(image: Image.Image, by: int = 24) -> dict[str, bool]:
    """Whether each corner is the colour it should be."""
    flat = image.convert("RGB")
    return {name: near(flat.getpixel((int(x * image.width), int(y * image.height))), INK[name], by) for name, (x, y) in CORNERS.items()}


UPRIGHT = dict.fromkeys(CORNERS, True)


def difference(one: Image.Image, other: Image.Image) -> float:
    """The mean difference of two pictures' numbers, 0 to 255."""
    a, b = one.convert("RGB").tobytes(), other.convert("RGB").tobytes()
    assert len(a) == len(b), (one.size, other.size)
    return sum(abs(x - y) for x, y in zip(a, b, strict=True)) / len(a)


def swapped_profile() -> bytes:
    """A profile of a space in which red and blue changed places: what says (255, 0, 0) looks blue."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, blue = profile.index(b"rXYZ"), profile.index(b"bXYZ")
    profile[red : red + 4], profile[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(profile)


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack("!I", len(body)) + name + body + struct.pack("!I", zlib.crc32(name + body))


def png(width: int, height: int, depth: int, kind: int, rows: bytes) -> bytes:
    """A PNG of these filtered rows, also of kinds that nobody else writes."""
    head = struct.pack("!IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(rows, 9)) + _chunk(b"IEND", b"")


def png_bomb(width: int, height: int) -> bytes:
    """One bit a pixel, all of them black: a few hundred kilobytes, and gigabytes once decoded."""
    squeeze = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    body = b"".join(squeeze.compress(row * 100) for _ in range(height // 100)) + squeeze.flush()
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", struct.pack("!IIBBBBB", width, height, 1, 0, 0, 0, 0))
        + _chunk(b"IDAT", body)
        + _chunk(b"IEND", b"")
    )


def animation(format: str, count: int = 4, size: tuple[int, int] = (120, 80)) -> bytes:
    """Frames of white whose stripe moves, 100 ms each, for ever."""
    frames = []
    for at in range(count):
        frame = Image.new("RGB", size, "white")
        ImageDraw.Draw(frame).rectangle(
            (at * size[0] // count, 0, max(at * size[0] // count, (at + 1) * size[0] // count - 1), size[1]),
            fill=(255, 0, 0) if at % 2 else (0, 0, 255),
        )
        frames.append(frame)
    options = {"lossless": True} if format == "WEBP" else {}
    return encoded(frames[0], format, save_all=True, append_images=frames[1:], duration=100, loop=0, **options)
