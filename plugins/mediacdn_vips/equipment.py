"""Which libvips there is and what it reads, asked of a process of its own: nobody but children loads it."""

import asyncio
import sys
from importlib.util import find_spec

import msgspec
from msgspec import Struct

from mediacdn import Tool

LOADERS = {
    "jpegload": "JPEG", "pngload": "PNG", "webpload": "WebP", "gifload": "GIF", "tiffload": "TIFF", "heifload": "AVIF", "svgload": "SVG",
}  # fmt: skip
PATIENCE = 15.0
_FIX = "make serve brings it; elsewhere pip install pyvips-binary, or as root: apt-get install libvips42"
_ASK = """
import json, sys, pyvips
told = {name: pyvips.type_find("VipsForeignLoad", name) != 0 for name in sys.argv[1:]}
print(json.dumps({"version": ".".join(str(pyvips.version(part)) for part in range(3)), "loaders": told}))
"""


class _Said(Struct, frozen=True):
    version: str
    loaders: dict[str, bool]


async def tools(*, svg: bool) -> list[Tool]:
    """Tell of libvips, its version and its loaders, and of what reads HEIC beside it."""
    wanted = [name for name in LOADERS if svg or name != "svgload"]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _ASK,
        *wanted,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, complaint = await asyncio.wait_for(process.communicate(), PATIENCE)
        said = msgspec.json.decode(out, type=_Said)
    except TimeoutError:
        process.kill()
        await process.wait()
        return [Tool("libvips", "it does not answer", _FIX, usable=False)]
    except msgspec.MsgspecError:
        last = complaint.decode(errors="replace").strip().rpartition("\n")[2]
        return [Tool("libvips", f"it cannot be loaded: {last[:200]}", _FIX, usable=False)]
    lacks = [LOADERS[name] for name in wanted if not said.loaders[name]]
    reads = [LOADERS[name] for name in wanted if said.loaders[name]]
    heic = "HEIC by pillow-heif" if find_spec("pillow_heif") else "no HEIC, for want of the extra heic"
    found = f"{said.version}, which reads {', '.join(reads)}; {heic}"
    return [
        Tool(
            "libvips",
            found + (f"; it lacks {', '.join(lacks)}" if lacks else ""),
            "pip install pyvips-binary has them all" if lacks else "",
        )
    ]
