"""What libvips may do in the child, a written list of loaders and no cache of operations, and what its complaints mean. Importing it shuts everything else, before the first byte comes."""

import pyvips

from mediacdn import OverLimits, Undecodable

_MEMORY = ("out of memory", "insufficient memory", "alloc")
_OUTPUT = ("write error", "file too large", "unable to write")
_LARGE = ("too large", "exceeds", "limit")

LOADERS = ("Jpeg", "Png", "Webp", "Nsgif", "Tiff", "Heif")

pyvips.block_untrusted_set(True)
pyvips.operation_block_set("VipsForeignLoad", True)
for _each in LOADERS:
    pyvips.operation_block_set(f"VipsForeignLoad{_each}", False)
pyvips.cache_set_max(0)  # nothing of one picture stays for the next


def allow_svg() -> None:
    pyvips.operation_block_set("VipsForeignLoadSvg", False)


def meaning(error: pyvips.Error, otherwise: OverLimits | None = None) -> OverLimits | Undecodable:
    """What to tell of it, where libvips says why; else `otherwise`, by default that the picture is damaged."""
    text = str(error).lower()
    if any(word in text for word in _MEMORY):
        return OverLimits("It needs more memory than is allowed")
    if any(word in text for word in _OUTPUT):
        return OverLimits("What would be made is larger than is allowed")
    if any(word in text for word in _LARGE):
        return OverLimits("It is larger than can be decoded or written")
    return otherwise or Undecodable("The picture is damaged, cut short, or of a kind that is not read here")


def tools() -> dict[str, str]:
    """The versions that made the bytes."""
    return {"libvips": ".".join(str(pyvips.version(part)) for part in range(3)), "pyvips": str(pyvips.__version__)}
