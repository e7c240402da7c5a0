"""What the edge keeps: slices of objects by key, each with the time it was stored and how long it may be served. Times are unix seconds."""

from collections.abc import Callable
from typing import NamedTuple

from msgspec import Struct


class Key(NamedTuple):
    """A slice's name in every tier. `generation` carries the epoch of the last purge of all in its upper bits, so that either makes older copies dead."""

    media: str
    variant: str
    generation: int
    number: int

    def __str__(self) -> str:
        return f"{self.media}/{self.variant}/{self.generation}/{self.number}"


class Entry(Struct, weakref=True):
    """One slice. `stored` moves when the origin confirmed that the object is still there, and memory writes the generation of its key down; everything else never changes.

    `total` is the object's whole size: an entry whose media has another one is not its copy. Who serves it again and again may refer to it weakly: what memory lets go is gone.
    """

    body: bytes
    total: int
    stored: float
    ttl: float
    grace: float
    pinned: bool = False
    generation: int = -1

    def usable(self, now: float) -> bool:
        """Whether it may be served at all: fresh, or stale within its grace."""
        return now < self.stored + self.ttl + self.grace

    def stale(self, now: float) -> bool:
        return now >= self.stored + self.ttl


Known = Callable[[], Entry | None]
"""A weak reference to an entry."""
