"""What forms of a media there are, and one more made ahead of its first reader."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any

from litestar import Request, get, post
from msgspec import Meta, Struct

from mediacdn.catalog.variants import VariantRows
from mediacdn.derivation.variants import Variants
from mediacdn.errors import InvalidArgument, OverLimits, Overloaded, TooLarge, TooManyRequests, Undecodable
from mediacdn.model import Media
from mediacdn.routes.contract import READS_RECORD, WITH_TOKEN, problems
from mediacdn.routes.links import Signer, Wish
from mediacdn.routes.media import Id
from mediacdn.routes.records import Records
from mediacdn.routes.views import Addresses

Asked = Request[Any, Any, Any]
WAITING = 16
"""Ad-hoc forms that one caller may have asked for at once in a process; they are made one after the other, so that they leave room for those of others."""


class FormView(Struct, frozen=True, omit_defaults=True):
    """A form of a media. A preset needs no signature; the format of one that names none is chosen for each reader, so that nothing else is told of it."""

    variant: str
    url: str
    media_type: str | None = None
    size: int | None = None
    digest: str | None = None
    width: int | None = None
    height: int | None = None
    made_at: datetime | None = None


class FormList(Struct, frozen=True):
    presets: list[FormView]
    kept: list[FormView]


class FormWish(Struct, frozen=True, forbid_unknown_fields=True):
    """The form wanted: a preset's name, or name=value,… in any order."""

    variant: Annotated[str, Meta(min_length=1, max_length=256, examples=["thumb"])]


class Turns:
    """One at a time for each caller."""

    def __init__(self) -> None:
        self._asked: Counter[str] = Counter()
        self._locks: dict[str, asyncio.Lock] = {}

    @asynccontextmanager
    async def turn(self, who: str) -> AsyncIterator[None]:
        """Wait for the caller's turn, and keep it until the context is left. Raises: TooManyRequests."""
        if self._asked[who] >= WAITING:
            raise TooManyRequests(f"{WAITING} forms that you asked for are still being made", headers={"Retry-After": "2"})
        self._asked[who] += 1
        try:
            async with self._locks.setdefault(who, asyncio.Lock()):
                yield
        finally:
            self._asked[who] -= 1
            if not self._asked[who]:
                del self._asked[who], self._locks[who]


def variant_routes(records: Records, variants: Variants, rows: VariantRows, signer: Signer, addresses: Addresses) -> list[Any]:
    """The handlers of this file."""

    turns = Turns()

    def path(media: Media, name: str) -> str:
        return addresses.url(f"/v1/media/{media.id}/thumb" if name == "thumb" else f"/v1/media/{media.id}/v/{name}")

    @get("/v1/media/{media_id:str}/variants", responses=problems(*READS_RECORD), security=WITH_TOKEN, tags=["variants"])
    async def listed(request: Asked, media_id: Id) -> FormList:
        """The presets that a media can be had in, and the ad-hoc variants of it that are kept, the latest first; `url` is their path, to be signed."""
        media = await records.readable(await records.caller(request), media_id)
        names = sorted(variants.presets) if variants.makes(media.media_type) else []
        kept = [
            FormView(each.text, path(media, each.text), each.media_type, each.size, each.digest, each.width, each.height, each.made_at)
            for each in await rows.of_media(media.id)
            if not each.text.startswith("/")  # which is composed, and has its own address
        ]
        return FormList([FormView(name, path(media, name)) for name in names], kept)

    @post(
        "/v1/media/{media_id:str}/variants",
        guards=[records.known],
        status_code=200,
        responses=problems(*READS_RECORD, InvalidArgument, Undecodable, OverLimits, Overloaded, TooLarge, TooManyRequests),
        security=WITH_TOKEN,
        tags=["variants"],
    )
    async def made(request: Asked, media_id: Id, data: FormWish) -> FormView:
        """Have a form made now, where it is not there: what it is, and a signed link to it."""
        caller = await records.caller(request)
        media = await records.readable(caller, media_id)
        wanted = variants.resolve(data.variant)
        if wanted.preset is None:
            async with turns.turn(caller.principal.id if caller.principal is not None else ""):
                form = await variants.form(media.card, wanted, request.headers.get("accept"))
        else:
            form = await variants.form(media.card, wanted, request.headers.get("accept"))
        card = form.card
        link = signer.sign(media, caller, Wish(variant=data.variant))
        return FormView(wanted.text, link.url, card.media_type, card.size, card.digest, card.width, card.height, card.modified)

    return [listed, made]
