"""Where a miss is read."""

from msgspec import Struct


class Origin(Struct, frozen=True):
    """A storage's name, a key in it, and what must be there: `size` bytes of lower-case hexadecimal SHA-256 `digest`."""

    storage: str
    key: str
    size: int
    digest: str
