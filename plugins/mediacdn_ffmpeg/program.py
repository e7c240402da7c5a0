"""Where ffmpeg is: named by the configuration, found on PATH, or brought by imageio-ffmpeg. It is a program of its own, never linked."""

import asyncio
import os
import shutil
from importlib.util import find_spec

from msgspec import Struct

from mediacdn import ConfigError

FIX = "as root: apt-get install -y --no-install-recommends ffmpeg; or pip install 'mediacdn[ffmpeg]', which brings one; or name it in [recipes.hls] ffmpeg"
_NEEDED = {"-encoders": ("libx264", "aac"), "-protocols": ("fd",), "-filters": ("scale", "split")}


class Program(Struct, frozen=True):
    """An ffmpeg that can do what is asked of it; `tonemaps` says that it can also bring HDR to what every screen shows."""

    path: str
    version: str
    tonemaps: bool


async def find(named: str) -> Program:
    """Find the program. Raises: ConfigError."""
    candidates = [shutil.which(named) or named] if named else [each for each in (shutil.which("ffmpeg"), _brought()) if each]
    told = []
    for path in candidates:
        try:
            version, *found = await asyncio.gather(_said(path, "-version"), *(_said(path, flag) for flag in _NEEDED))
        except (OSError, TimeoutError) as error:
            told.append(f"{path} does not run: {error}")
            continue
        there = [set(each.split()) for each in found]
        lacks = [word for words, has in zip(_NEEDED.values(), there, strict=True) for word in words if word not in has]
        if not lacks:
            number = version.split(" ", 3)[2][:60] if version.startswith("ffmpeg version ") else "unknown"
            return Program(path, number, {"zscale", "tonemap"} <= there[-1])
        told.append(f"{path} lacks {', '.join(lacks)}")
    raise ConfigError(
        "no ffmpeg can be used: " + ("; ".join(told) or "install it, name it in [recipes.hls] ffmpeg, or add the extra ffmpeg")
    )


def _brought() -> str | None:
    if find_spec("imageio_ffmpeg") is None:
        return None
    import imageio_ffmpeg

    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError:
        return None


async def _said(path: str, flag: str) -> str:
    process = await asyncio.create_subprocess_exec(
        path, "-hide_banner", flag, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        env={"PATH": os.environ.get("PATH", "")},
    )  # fmt: skip
    try:
        out, _ = await asyncio.wait_for(process.communicate(), 20)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    return out.decode(errors="replace")
