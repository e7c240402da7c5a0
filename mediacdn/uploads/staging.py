"""Where the bytes of an upload wait for its end: what a writer asks of such a place, whichever it is."""

from typing import Protocol

from mediacdn.catalog.uploads import Step
from mediacdn.ingest import Staged
from mediacdn.model import Upload


class Pen(Protocol):
    """One writer's hold on the place. Nothing that it writes is in the way of another writer's, before or after it."""

    async def write(self, batch: bytes) -> bool:
        """Take the next bytes; True asks for `settle` before any more. Raises: StorageFull, StorageUnavailable."""
        ...

    async def settle(self, *, last: bool) -> Step | None:
        """Make durable what can be, all of it when this is the `last` call, and tell what is; None when nothing more is. Raises: StorageFull, StorageUnavailable."""
        ...

    async def close(self, *, undo: bool) -> None:
        """Let go; with `undo` also of what no Step has told. Never raises."""
        ...


class Place(Protocol):
    """A kind of staging."""

    async def open(self, upload: Upload, *, fresh: bool) -> Pen:
        """Go on writing where `upload.received` says. `fresh`: whoever wrote before may not have let go. Raises: StorageUnavailable, UploadGone."""
        ...

    async def whole(self, upload: Upload, digest: str | None) -> Staged:
        """All bytes of a complete upload. Raises: StorageUnavailable, UploadGone when they are not there."""
        ...

    async def drop(self, upload: Upload) -> None:
        """Remove whatever is left of it; idempotent. Raises: StorageUnavailable."""
        ...
