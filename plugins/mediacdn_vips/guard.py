"""What libvips may do in the child: a written list of loaders, no cache of operations. Importing it shuts everything else, before the first byte comes."""

import pyvips

LOADERS = ("Jpeg", "Png", "Webp", "Nsgif", "Tiff", "Heif")

pyvips.block_untrusted_set(True)
pyvips.operation_block_set("VipsForeignLoad", True)
for _each in LOADERS:
    pyvips.operation_block_set(f"VipsForeignLoad{_each}", False)
pyvips.cache_set_max(0)  # nothing of one picture stays for the next


def allow_svg() -> None:
    pyvips.operation_block_set("VipsForeignLoadSvg", False)


def tools() -> dict[str, str]:
    """The versions that made the bytes."""
    return {"libvips": ".".join(str(pyvips.version(part)) for part in range(3)), "pyvips": str(pyvips.__version__)}
