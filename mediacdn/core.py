"""The Core that plugins' routes are given: the same rights and journeys as the core's own routes, behind one small face."""

from collections.abc import AsyncIterable, Callable, Mapping, Sequence
from copy import copy
from datetime import timedelta
from typing import Any

import msgspec

from mediacdn import signing
from mediacdn.access import Access, Caller
from mediacdn.catalog.card import CardCache
from mediacdn.catalog.database import Catalog
from mediacdn.errors import NotFound
from mediacdn.http.disposition import clean_filename
from mediacdn.ingest import Ingest
from mediacdn.interfaces import Clock, Titles
from mediacdn.keyring import RingFile
from mediacdn.links import Elsewhere
from mediacdn.model import Card, Principal, Scope
from mediacdn.routes.callers import Callers
from mediacdn.routes.links import Signer, Wish, download_url
from mediacdn.routes.media import Posts
from mediacdn.routes.records import Records
from mediacdn.routes.views import Addresses
from mediacdn.terms import Intake
from mediacdn.ulids import is_ulid


class MediaCore:
    """See `interfaces.Core`."""

    def __init__(
        self,
        *,
        callers: Callers,
        access: Access,
        cards: CardCache,
        catalog: Catalog,
        ingest: Ingest,
        ring: RingFile,
        addresses: Addresses,
        clock: Clock,
        posts: Posts,
        records: Records,
        signer: Signer,
        elsewhere: Elsewhere,
        handlers: Sequence[Any],
        reads: Callable[[str, str], None],
    ) -> None:
        """`handlers` are the core's own; `reads(path, at)` hears of what is mounted."""
        self._posts = posts
        self._records = records
        self._signer = signer
        self._elsewhere = elsewhere
        self._handlers = handlers
        self._reads = reads
        self._callers = callers
        self._access = access
        self._cards = cards
        self._catalog = catalog
        self._ingest = ingest
        self._ring = ring
        self._addresses = addresses
        self._clock = clock

    async def authenticate(self, headers: Mapping[str, str]) -> Principal | None:
        return await self._callers.principal({name.lower(): value for name, value in headers.items()})

    async def authorize(self, principal: Principal | None, action: str, media_id: str) -> Card:
        caller = Caller(principal)
        card = await self._cards.get(media_id) if is_ulid(media_id) else None
        verdict = await self._access.verdict(card, caller, action)
        if action == "read":
            return self._access.read(card, caller, self._clock.now(), verdict)
        return self._access.act(card, caller, self._clock.now(), action, verdict)

    async def record(self, media_id: str) -> Mapping[str, Any]:
        media = await self._catalog.media.get(media_id)
        if media is None:
            raise NotFound()
        shown: Mapping[str, Any] = msgspec.to_builtins(self._addresses.record(media, storage=self._access.sees_storage(Caller())))
        return shown

    async def ingest(
        self,
        principal: Principal,
        chunks: AsyncIterable[bytes],
        *,
        public: bool = False,
        filename: str | None = None,
        title: str | None = None,
    ) -> Mapping[str, Any]:
        self._access.needs(Caller(principal), Scope.WRITE)
        await self._ingest.terms.admit(principal, None)
        intake = Intake(public=public, filename=clean_filename(filename) if filename else None, title=title)
        stored = await self._ingest.store(principal, chunks, lambda: intake)
        shown: Mapping[str, Any] = msgspec.to_builtins(self._addresses.record(stored.media, storage=self._access.sees_storage(Caller())))
        return shown

    def sign(self, path: str, expires: timedelta) -> str:
        now = int(self._clock.now().timestamp())
        return self._addresses.url(signing.sign_query(self._ring.ring(), path, exp=now + int(expires.total_seconds()), iat=now))

    @property
    def titles(self) -> Titles:
        return self._catalog.titles

    def needs(self, principal: Principal | None, scope: Scope) -> Principal:
        return self._access.needs(Caller(principal), scope)

    def visible_to(self, principal: Principal | None) -> str | None:
        if principal is None or not principal.scopes & {Scope.READ, Scope.ADMIN}:
            return ""
        return None if self._access.sees_all(Caller(principal)) else principal.id

    def url(self, path: str) -> str:
        return self._addresses.url(path)

    async def link(self, principal: Principal | None, media_id: str, *, prefix: bool = False, expires: timedelta | None = None) -> str:
        caller = Caller(principal)
        media = await self._records.readable(caller, media_id)
        if prefix:
            wanted = None if expires is None else min(int(expires.total_seconds()), self._signer.longest)
            return self._signer.sign(media, caller, Wish(prefix=True, expires=wanted)).url
        return await download_url(self._signer, self._elsewhere, media, caller)

    async def output(self, media_id: str, relationship: str) -> str | None:
        found = await self._catalog.packages.output(media_id, relationship)
        return None if found is None else found.id

    async def upload(self, request: Any) -> Mapping[str, Any]:
        answer = await self._posts.accept(request.scope, request.receive)
        shown: Mapping[str, Any] = msgspec.to_builtins(answer.content)
        return shown

    def mount(self, method: str, path: str, at: str) -> Any:
        for each in self._handlers:
            if path in each.paths and method in each.http_methods:
                handler = copy(each)
                handler.paths, handler.name = {at}, None
                self._reads(path, at)
                return handler
        raise LookupError(f"the core has no {method} {path}")
