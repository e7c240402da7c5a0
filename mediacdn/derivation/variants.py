"""Variants on demand: from a media's card and what is asked for, the card of its form, made now when nobody has asked before.

The card that is given is the media's own but for its bytes: whoever may read the one may read the other, and what kills the one kills the other.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from mediacdn.catalog.database import Catalog
from mediacdn.config import Variants as Settings
from mediacdn.derivation.maker import Maker
from mediacdn.errors import Gone, InvalidArgument, MediaError, NotFound, OverLimits, Undecodable
from mediacdn.formats.transparency import HEAD, transparency
from mediacdn.http.media_types import matches
from mediacdn.http.negotiation import Preferences, preferences
from mediacdn.interfaces import Action
from mediacdn.model import Card, Media
from mediacdn.recipes.arguments import Value
from mediacdn.recipes.fingerprints import derivation_key
from mediacdn.recipes.registry import SettledStep
from mediacdn.sniff import extension
from mediacdn.variants import Variant, canonical, choose_format, read_presets, resolve

ACTION = "image"
"""The action that makes variants."""
KEPT = 20_000
"""Forms whose cards are kept in the process; and so many times less, pictures that cannot be read."""
TEXTS = 5_000
"""What was asked for, as it was read."""
REFUSED_FOR = 30.0
FINAL = (Undecodable, OverLimits, InvalidArgument)
"""What is remembered of making a form: a picture stays as it is, while what is withheld may be released, and what is missing may come."""
OPAQUE = frozenset({"image/jpeg"})


class Form(Struct, frozen=True):
    """A form of a media: its card, the name under which the edge keeps it, and whether the request's Accept had a say in its format."""

    card: Card
    mark: str
    negotiated: bool
    derived: str | None = None
    """The id of the media that it is, where it is one: what happens to that happens to the form."""

    def of(self, card: Card) -> Card:
        """The form's card over another card of its media: the bytes are these, rights and visibility are that one's."""
        own = self.card
        return replace(
            card, storage=own.storage, key=own.key, size=own.size, digest=own.digest, media_type=own.media_type,
            modified=own.modified, width=own.width, height=own.height, duration=own.duration, filename=own.filename, fresh_for=own.fresh_for,
        )  # fmt: skip

    def asked(self, negotiated: bool) -> "Form":
        """The same form for who left its format to Accept, or who named it."""
        return self if self.negotiated == negotiated else replace(self, negotiated=negotiated)


class Known(Struct, frozen=True):
    """A form that was found, for as long as the media's card is `of`."""

    of: Card
    form: Form


class Variants:
    """Finds forms, and has them made: each once, however many ask at the same time."""

    def __init__(self, catalog: Catalog, maker: Maker, actions: Mapping[str, Action], settings: Settings) -> None:
        self._catalog = catalog
        self._maker = maker
        self._action = actions.get(ACTION)
        self._settings = settings
        self._presets = {} if self._action is None else read_presets(self._action.arguments, settings.presets)
        self._resolved: OrderedDict[str, Variant] = OrderedDict()
        self._known: OrderedDict[tuple[str, str], Known] = OrderedDict()
        self._looks: OrderedDict[str, tuple[Card, bool, bool]] = OrderedDict()
        self._refused: OrderedDict[tuple[str, str], tuple[MediaError, float]] = OrderedDict()
        self._making: dict[tuple[str, str], asyncio.Task[Form]] = {}

    @property
    def unsigned(self) -> bool:
        """Whether ad-hoc variants need no signed link."""
        return self._settings.unsigned

    @property
    def presets(self) -> frozenset[str]:
        """The names that need none either way."""
        return frozenset(self._presets)

    def makes(self, media_type: str) -> bool:
        """Whether there are forms of media of this type."""
        return self._action is not None and any(matches(each, media_type) for each in self._action.accepts)

    def resolve(self, text: str) -> Variant:
        """Read what is asked for. Raises: NotFound, InvalidArgument."""
        if self._action is None:
            raise NotFound("This server makes no variants")
        found = self._resolved.get(text)
        if found is None:
            found = resolve(text, self._action.arguments, self._presets)
            keep(self._resolved, text, found, TEXTS)
        return found

    def forget(self, form: Form) -> None:
        """Look for it anew: its bytes, or the media that it was, are not there any more."""
        for name in [name for name, known in self._known.items() if known.form.mark == form.mark and known.form.card.id == form.card.id]:
            del self._known[name]

    def peek(self, card: Card, text: str, accept: str | None) -> tuple[Form, bool] | None:
        """The form that `form` would give, when it is known already, and whether it is a preset; does no I/O."""
        wanted = self._resolved.get(text)
        if wanted is None:
            return None
        spec, negotiated = wanted.spec, "format" not in wanted.spec
        if negotiated:
            seen = self._looks.get(card.id)
            if seen is None or seen[0] is not card:
                return None
            spec = self._negotiated(wanted, accept, seen[1], seen[2])
        known = self._known.get((card.id, self._text(spec)))
        if known is None or known.of is not card:
            return None
        return known.form.asked(negotiated), wanted.preset is not None

    async def form(self, card: Card, wanted: Variant, accept: str | None) -> Form:
        """The form of a media that the caller may read. Raises: NotFound for a media of which there are none, Undecodable, OverLimits, Overloaded, Unavailable."""
        negotiated = "format" not in wanted.spec
        spec = wanted.spec
        if negotiated:
            spec = self._negotiated(wanted, accept, *await self._look(card))
        text = self._text(spec)
        known = self._known.get((card.id, text))
        if known is not None and known.of is card:
            return known.form.asked(negotiated)
        return (await self._made(card, wanted, spec, text)).asked(negotiated)

    def _negotiated(self, wanted: Variant, accept: str | None, alpha: bool, motion: bool) -> dict[str, Value]:
        moves = motion and wanted.spec.get("frame") is None
        return {**wanted.spec, "format": choose_format(_preferences(accept), self._settings.negotiate, alpha=alpha, motion=moves)}

    def _text(self, spec: Mapping[str, Value]) -> str:
        assert self._action is not None
        return canonical(self._action.arguments, spec)

    async def _made(self, card: Card, wanted: Variant, spec: Mapping[str, Any], text: str) -> Form:
        name = (card.id, text)
        refused = self._refused.get(name)
        if refused is not None and time.monotonic() < refused[1]:
            raise refused[0]
        making = self._making.get(name)
        if making is None:
            making = self._making[name] = asyncio.ensure_future(self._make(card, wanted, spec, text))
            making.add_done_callback(lambda done: self._over(name, done))
        return await asyncio.shield(making)

    async def _make(self, card: Card, wanted: Variant, spec: Mapping[str, Any], text: str) -> Form:
        derived = None
        if wanted.preset is not None:
            source = None if self.makes(card.media_type) else await self._source(card)
            media = await self._catalog.derivatives.find(derivation_key(source.id if source else card.id, ACTION, spec))
            if media is None:
                step = SettledStep(name=wanted.preset, action=ACTION, spec=dict(spec), relationship=wanted.preset)
                _, media = await self._maker.run(source or await self._source(card), step)
                assert media is not None
            derived = media.id
            shown = replace(
                card, storage=media.storage, key=media.storage_key, size=media.size, digest=media.digest, media_type=media.media_type,
                modified=media.created_at, width=media.width, height=media.height, duration=None, filename=named(card, media.media_type),
            )  # fmt: skip
        else:
            kept = await self._catalog.variants.find(card.id, text)
            if kept is None:
                source = await self._source(card)
                kept = await self._maker.variant(source, ACTION, spec, text, self._settings.max_per_media, of=card.id)
            shown = replace(
                card, storage=kept.storage, key=kept.key, size=kept.size, digest=kept.digest, media_type=kept.media_type,
                modified=kept.made_at, width=kept.width, height=kept.height, duration=None, filename=named(card, kept.media_type),
            )  # fmt: skip
        # With the digest in its name no copy of an earlier making, under an older configuration, can pass for this one.
        form = Form(shown, f"{wanted.preset or text}~{shown.digest[:16]}", "format" not in wanted.spec, derived)
        keep(self._known, (card.id, text), Known(card, form), KEPT)
        return form

    async def _source(self, card: Card) -> Media:
        """The picture that is made smaller: the media itself, or the one that was made to show it."""
        if not self.makes(card.media_type):
            picture = await self._catalog.derivatives.picture(card.id)
            if picture is None:
                raise NotFound(f"There is no picture of this {card.media_type}, or none yet")
            return picture
        media = await self._catalog.media.get(card.id)
        if media is None:
            raise Gone()
        return media

    async def _look(self, card: Card) -> tuple[bool, bool]:
        """Whether the picture has transparent parts, and whether it moves; as long as nobody has looked, what its header says, or what its type could have."""
        seen = self._looks.get(card.id)
        if seen is not None and seen[0] is card:
            return seen[1], seen[2]
        source = await self._source(card)
        facts = source.facts
        alpha, motion = facts.get("has_alpha"), int(facts.get("frames", 1)) > 1
        if alpha is None and source.media_type not in OPAQUE:
            with suppress(MediaError):  # which whoever makes the form will meet, and tell
                alpha, moves = transparency(source.media_type, await self._maker.head(source, HEAD))
                motion = motion or bool(moves)
        alpha = source.media_type not in OPAQUE if alpha is None else bool(alpha)
        keep(self._looks, card.id, (card, alpha, motion), KEPT)
        return alpha, motion

    def _over(self, name: tuple[str, str], done: "asyncio.Task[Form]") -> None:
        del self._making[name]
        error = None if done.cancelled() else done.exception()
        if isinstance(error, FINAL):
            keep(self._refused, name, (error, time.monotonic() + REFUSED_FOR), KEPT // 20)


@lru_cache(maxsize=512)
def _preferences(accept: str | None) -> Preferences:
    return preferences(accept)


def named(card: Card, media_type: str) -> str | None:
    """Tell the name that a form of the media is saved under."""
    return None if card.filename is None else f"{card.filename.rpartition('.')[0] or card.filename}.{extension(media_type)}"


def keep(kept: "OrderedDict[Any, Any]", name: Any, value: Any, most: int) -> None:
    """Remember a value as the latest of `most`."""
    kept[name] = value
    kept.move_to_end(name)
    if len(kept) > most:
        kept.popitem(last=False)
