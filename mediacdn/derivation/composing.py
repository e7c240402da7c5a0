"""What is written when it is asked for, of what is there by then: manifests that list what was attached since they were made, and such of other kinds over the same files.

A composed file is kept like an ad-hoc variant, under a name with its digest in it, and delivered like any object: as long as the media's card stays what it was, nobody
composes it again, and what another card makes of it has an address of its own at the edge.
"""

import re
from collections.abc import Mapping, Sequence
from hashlib import sha256

from msgspec.structs import replace

from mediacdn.catalog.database import Catalog
from mediacdn.catalog.packages import SUBTITLES
from mediacdn.derivation.maker import Maker
from mediacdn.derivation.variants import Form
from mediacdn.errors import StorageUnavailable
from mediacdn.interfaces import Action, Composer, Storage
from mediacdn.model import ByteRange, Card, Extract, Media

FRESH_WHILE_GROWING = 1
"""Seconds for which the manifest of a package that grows may be kept; players ask for it again every few."""


class Composing:
    """Has files composed, bound to the actions that can."""

    def __init__(self, catalog: Catalog, storages: Mapping[str, Storage], maker: Maker, actions: Mapping[str, Action], most: int) -> None:
        """`most` is the number of variants that a media keeps."""
        self._catalog = catalog
        self._storages = storages
        self._maker = maker
        self._most = most
        able = [each for each in actions.values() if isinstance(each, Composer)]
        self._composers = [(re.compile(pattern), each) for each in able for pattern in each.composes]

    async def form(self, card: Card, below: str) -> Form | None:
        """What is composed for the path `below`, with its slash; None where nobody has anything to say of it. Raises: MediaError."""
        composer = next((each for pattern, each in self._composers if pattern.fullmatch(below[1:])), None)
        there = Below(self._catalog, self._storages, card)
        composed = None if composer is None else await composer.compose(below[1:], there)
        if composed is None:
            return None
        text = f"{below}~{sha256(composed.content).hexdigest()[:16]}"
        kept = await self._catalog.variants.find(card.id, text)
        if kept is None:
            kept = await self._maker.composed(card, text, composed.content, composed.media_type, self._most)
        shown = replace(
            card, storage=kept.storage, key=kept.key, size=kept.size, digest=kept.digest, media_type=kept.media_type, modified=kept.made_at,
            width=None, height=None, duration=None, filename=None, fresh_for=FRESH_WHILE_GROWING if there.growing else None,
        )  # fmt: skip
        return Form(shown, text, False, composed.derived)


class Below:
    """See `interfaces.Published`."""

    def __init__(self, catalog: Catalog, storages: Mapping[str, Storage], card: Card) -> None:
        self._catalog = catalog
        self._storages = storages
        self.card = card
        self.growing = False
        """Whether anything that was read is not whole yet."""

    async def read(self, path: str, most: int = 1 << 20) -> Extract | None:
        name, _, rest = path.partition("/")
        if name == "subtitles":
            media = await self._catalog.packages.output(self.card.id, SUBTITLES + rest)
            if media is None:
                return None
            return Extract(media.id, await self._bytes(media.storage, media.storage_key, min(media.size, most)))
        found = await self._catalog.packages.find(self.card.id, name, rest)
        if found is None:
            return None
        self.growing |= found.growing
        return Extract(found.media_id, await self._bytes(found.storage, found.file.key, min(found.file.size, most)), found.growing)

    async def subtitles(self) -> Sequence[Media]:
        return await self._catalog.packages.subtitles(self.card.id)

    async def _bytes(self, storage: str, key: str, size: int) -> bytes:
        if storage not in self._storages:
            raise StorageUnavailable("The storage of this object is not configured")
        if not size:
            return b""
        async with self._storages[storage].open(key, ByteRange(0, size)) as chunks:
            return b"".join([chunk async for chunk in chunks])
