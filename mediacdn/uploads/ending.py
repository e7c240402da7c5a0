"""What is handed to ingest at an upload's end, and what is said when nothing comes of it."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from mediacdn.errors import MediaError
from mediacdn.ingest import Staged


class Refused(MediaError):
    """An upload whose bytes are all here was refused; the answer is that of the refusal, whenever it is asked for."""

    def __init__(self, kept: Mapping[str, Any], headers: dict[str, str] | None = None) -> None:
        super().__init__(str(kept.get("detail") or self.title), headers=headers, **dict(kept.get("extra") or {}))
        # Instance values in the place of the class's: the class of the refusal is another process's.
        vars(self).update({name: kept[name] for name in ("status", "code", "title") if name in kept})


class Joined:
    """Several staged uploads as one, one after another."""

    def __init__(self, parts: Sequence[Staged]) -> None:
        self._parts = parts
        self.size = sum(each.size for each in parts)

    async def chunks(self) -> AsyncIterator[bytes]:
        for each in self._parts:
            await each.head()  # a storage of parts puts them together for it
            async for chunk in each.chunks():
                yield chunk
