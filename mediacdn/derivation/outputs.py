"""What recipes have made of a media, found by the path below it: `hls/master.m3u8` is a file of the package `hls`, `poster` the derivative of this relationship.

The card that is given is the media's own but for its bytes, as for variants: whoever may read the one may read the other, and what kills the one kills the other.
"""

import re
from collections import OrderedDict

from msgspec.structs import replace

from mediacdn.catalog.database import Catalog
from mediacdn.catalog.packages import SUBTITLES
from mediacdn.derivation.composing import FRESH_WHILE_GROWING, Composing
from mediacdn.derivation.variants import Form, Known, keep, named
from mediacdn.errors import NotFound, ProcessingFailed
from mediacdn.http.languages import LONGEST, language_tag
from mediacdn.model import Card, Status

KEPT = 100_000
SINGLE = {
    "poster": "poster", "mp4": "mp4", "opus": "opus", "preview": "preview", "waveform": "waveform", "waveform.png": "waveform-picture",
    "storyboard.vtt": "storyboard",
}  # fmt: skip
"""Derivatives that are read by a name alone, and the relationships that these are."""
MOUNTS = ("hls", "dash", "storyboard")
"""Relationships of packages, and where nothing stands but what is composed."""
STREAMS = ("hls", "dash")
MANIFESTS = frozenset({"application/vnd.apple.mpegurl", "application/dash+xml"})
BELOW = rf"/(?:{'|'.join(map(re.escape, SINGLE))}|subtitles/[A-Za-z0-9-]{{1,{LONGEST}}}|(?:{'|'.join(MOUNTS)})(?:/[A-Za-z0-9_][A-Za-z0-9._-]*){{1,8}})"
"""The paths that there can be."""
_BELOW = re.compile(BELOW)


class Outputs:
    """Finds outputs, and remembers them for as long as the media's card stays what it was."""

    def __init__(self, catalog: Catalog, composing: Composing | None = None) -> None:
        self._media = catalog.media
        self._packages = catalog.packages
        self._composing = composing
        self._known: OrderedDict[tuple[str, str], Known] = OrderedDict()

    def peek(self, card: Card, below: str) -> Form | None:
        """The form that `form` would give, when it is known already; does no I/O."""
        known = self._known.get((card.id, below))
        return None if known is None or known.of is not card else known.form

    def forget(self, form: Form) -> None:
        """Look for it anew: its bytes, or the media that it was, are not there any more."""
        self._known.pop((form.card.id, form.mark.rpartition("~")[0]), None)

    async def form(self, card: Card, below: str) -> Form:
        """What is at the path `below`, with its slash, a media that the caller may read. Raises: NotFound; ProcessingFailed for a stream that will not come."""
        known = self.peek(card, below)
        if known is not None:
            return known
        if not _BELOW.fullmatch(below):
            raise NotFound()
        name, _, path = below[1:].partition("/")
        try:
            form = await self._found(card, name, path, below)
        except NotFound:
            if card.status is not Status.FAILED or name not in STREAMS:
                raise
            media = await self._media.get(card.id)  # whoever waits for a stream need wait no longer
            raise ProcessingFailed(media.error_message if media is not None else None) from None
        keep(self._known, (card.id, below), Known(card, form), KEPT)
        return form

    async def _found(self, card: Card, name: str, path: str, below: str) -> Form:
        form = None if self._composing is None else await self._composing.form(card, below)
        if form is not None:
            return form
        if name == "subtitles":
            return await self._single(card, SUBTITLES + (language_tag(path) or path), below)
        return await (self._file(card, name, path, below) if path else self._single(card, SINGLE[name], below))

    async def _file(self, card: Card, mount: str, path: str, below: str) -> Form:
        found = await self._packages.find(card.id, mount, path)
        if found is None:
            raise NotFound(f"There is no such file of the {mount} of this media{_yet(card)}")
        file = found.file
        shown = replace(
            card, storage=found.storage, key=file.key, size=file.size, digest=file.digest, media_type=file.media_type,
            modified=found.made_at, width=None, height=None, duration=None, filename=None,
            fresh_for=FRESH_WHILE_GROWING if found.growing and file.media_type in MANIFESTS else None,
        )  # fmt: skip
        return Form(shown, f"{below}~{file.digest[:16]}", False, found.media_id)

    async def _single(self, card: Card, relationship: str, below: str) -> Form:
        media = await self._packages.output(card.id, relationship)
        if media is None:
            raise NotFound(f"There is no {relationship} of this media{_yet(card)}")
        shown = replace(
            card, storage=media.storage, key=media.storage_key, size=media.size, digest=media.digest, media_type=media.media_type,
            modified=media.created_at, width=media.width, height=media.height, duration=media.duration, filename=named(card, media.media_type),
        )  # fmt: skip
        return Form(shown, f"{below}~{media.digest[:16]}", False, media.id)


def _yet(card: Card) -> str:
    """Why it may be missing: those who are told READY by nobody ask too early, and should ask again."""
    return " yet: it is being worked at" if card.status in (Status.UPLOADED, Status.PROCESSING) else ""
