"""Where a miss is read."""

from msgspec import Struct

LOCAL = "local"
"""Why the edge leaves an object to its storage: its files are this machine's, and as near as a copy."""


class Origin(Struct, frozen=True):
    """A storage's name, a key in it, and what must be there: `size` bytes of lower-case hexadecimal SHA-256 `digest`."""

    storage: str
    key: str
    size: int
    digest: str


PATIENCE = 30.0
"""Seconds in which a storage must bring the next bytes, or say that an object is there: a read that hangs for ever would keep its place from all other storages'."""
