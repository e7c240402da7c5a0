"""What runs in the sandbox's child of benchmarks.variants: libvips's own thumbnail of the picture, or ours, on the same descriptors."""

import os
import time
from typing import Any

import pyvips

from mediacdn_vips.child import run as ours


def run(request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
    """Do it, and tell the seconds that it took in here."""
    source, output = descriptors
    os.lseek(source, 0, os.SEEK_SET)
    began = time.perf_counter()
    if request["bare"]:
        os.lseek(output, 0, os.SEEK_SET)
        os.ftruncate(output, 0)
        image = pyvips.Image.thumbnail_source(pyvips.Source.new_from_descriptor(source), request["w"], height=100_000, size="down")
        target = pyvips.Target.new_to_descriptor(output)
        if request["format"] == "jpeg":
            image.jpegsave_target(target, Q=80, optimize_coding=True, keep="none")
        else:
            image.webpsave_target(target, Q=80, effort=4, keep="none")
    else:
        ours(request["work"], descriptors)
    return {"seconds": time.perf_counter() - began}
