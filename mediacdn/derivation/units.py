"""Units: pieces of a step's work, each a derivative of its own, known by a key of its own, and found there by whoever joins them or goes on from them."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import msgspec
from msgspec.structs import replace

from mediacdn.catalog.packages import UNIT
from mediacdn.derivation.files import Original, Scratch
from mediacdn.errors import NotFound
from mediacdn.interfaces import Storage
from mediacdn.model import Media, PackageFile, Unit
from mediacdn.recipes.registry import SettledStep


class Stored:
    """What was made of a unit, as an action reads it (interfaces.UnitMade)."""

    def __init__(
        self, media: Media, files: Sequence[PackageFile], storage: Storage, scratch: Scratch, remember: Callable[[str, str], None]
    ) -> None:
        self.id = media.id
        self.facts = media.facts
        self._media = media
        self._files = {each.path: each for each in files}
        self._open = (storage, scratch, remember)

    def named(self, path: str) -> PackageFile:
        """Raises: NotFound."""
        if path not in self._files:
            raise NotFound("The unit has no such file")
        return self._files[path]

    @asynccontextmanager
    async def file(self, path: str) -> AsyncIterator[int]:
        found = self.named(path)
        shown = replace(self._media, storage_key=found.key, size=found.size, digest=found.digest, media_type=found.media_type)
        async with Original(shown, *self._open).file() as descriptor:
            yield descriptor


def unit_step(step: SettledStep, unit: Unit) -> SettledStep:
    """The unit as a step: of its own derivation key, and of the same storage as the whole."""
    told = msgspec.json.encode(unit.spec, order="deterministic").decode()
    return SettledStep(
        name=f"{step.name}/{unit.name}", action=f"{step.action}/unit", spec={**step.spec, "unit": told}, relationship=UNIT,
        saves_to=step.saves_to,
    )  # fmt: skip
