"""What the edge asks of its two tiers. Neither raises: what cannot be read is a miss, what cannot be kept is not kept."""

from typing import Protocol

from mediacdn.edge.entries import Entry, Key


class Sized(Protocol):
    """What a tier holds: bytes of bodies with their overhead, and copies."""

    @property
    def bytes(self) -> int: ...

    @property
    def entries(self) -> int: ...


class Memory(Sized, Protocol):
    """Copies of this process; everything is at once. While it is `roomy`, whoever has an entry need not ask for it."""

    @property
    def roomy(self) -> bool: ...

    def get(self, key: Key) -> Entry | None: ...

    def peek(self, key: Key) -> Entry | None: ...

    def put(self, key: Key, entry: Entry) -> bool: ...

    def drop(self, key: Key) -> None: ...

    def clear(self) -> None: ...


class Disk(Sized, Protocol):
    """Copies that the server processes of a node share."""

    async def get(self, key: Key) -> Entry | None: ...

    async def put(self, key: Key, entry: Entry) -> bool: ...

    async def renew(self, key: Key, stored: float) -> None: ...

    async def count(self, key: Key) -> int: ...

    async def drop(self, key: Key) -> None: ...

    async def clear(self) -> None: ...
