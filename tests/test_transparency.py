"""What the header of a picture says of alpha and motion, against pictures that Pillow wrote."""

import io
from typing import Any

import pytest
from PIL import Image

from mediacdn.formats.transparency import HEAD, transparency


def drawn(mode: str, kind: str, **options: Any) -> bytes:
    image = Image.effect_noise((96, 64), 60).convert("RGB").convert(mode)
    if "A" in mode:
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    frames = [image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)] if options.pop("moves", False) else None
    kept = io.BytesIO()
    image.save(kept, kind, **({"save_all": True, "append_images": frames, **options} if frames else options))
    return kept.getvalue()


@pytest.mark.parametrize(
    ("kind", "mode", "options", "told"),
    [
        ("WEBP", "RGB", {}, (False, False)),
        ("WEBP", "RGB", {"lossless": True}, (False, False)),
        ("WEBP", "RGB", {"exif": b"Exif\0\0" + bytes(40)}, (False, False)),
        ("WEBP", "RGBA", {}, (True, False)),
        ("WEBP", "RGBA", {"lossless": True}, (True, False)),
        ("WEBP", "RGB", {"moves": True}, (False, True)),
        ("PNG", "RGB", {}, (False, None)),
        ("PNG", "L", {}, (False, None)),
        ("PNG", "RGBA", {}, (True, None)),
        ("PNG", "LA", {}, (True, None)),
        ("PNG", "P", {}, (False, None)),
        ("PNG", "P", {"transparency": 0}, (True, None)),
        ("AVIF", "RGB", {}, (False, False)),
        ("AVIF", "RGBA", {}, (True, False)),
        ("GIF", "RGB", {}, (None, None)),
    ],
)
def test_it_says_what_it_is(kind: str, mode: str, options: dict[str, Any], told: tuple[bool | None, bool | None]) -> None:
    assert transparency(f"image/{kind.lower()}", drawn(mode, kind, **dict(options))[:HEAD]) == told


@pytest.mark.parametrize("kind", ["WEBP", "PNG", "AVIF"])
def test_what_is_cut_off_or_broken_is_not_guessed_at(kind: str) -> None:
    whole = drawn("RGBA", kind)[:HEAD]
    for size in range(min(len(whole), 400)):
        assert transparency(f"image/{kind.lower()}", whole[:size])[0] in (True, None)
        transparency(f"image/{kind.lower()}", whole[:size] + bytes(64))
        transparency(f"image/{kind.lower()}", whole[:size] + b"\xff" * 64)
