"""Who may see and change titles: a movie or an episode is as visible as its media, a series says for itself whether it is public; owners and administrators write."""

import re
from typing import Any, TypeVar

from litestar import Request
from litestar.connection import ASGIConnection

from mediacdn import Core, Episode, Forbidden, MediaError, Movie, NotFound, Principal, Scope, Season, Series, Unauthorized

Asked = Request[Any, Any, Any]
T = TypeVar("T", Movie, Series, Season, Episode)
Title = Movie | Series | Season | Episode

ULID = "^[0-7][0-9A-HJKMNP-TV-Z]{25}$"
_ULID = re.compile(ULID)


class Rights:
    """The rules, on top of those that the core has for media."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def caller(self, connection: ASGIConnection[Any, Any, Any, Any]) -> Principal | None:
        """Raises: InvalidToken, AuthUnavailable."""
        if "principal" not in connection.scope:
            found = await self._core.authenticate(dict(connection.headers))
            connection.scope["principal"] = found  # type: ignore[typeddict-unknown-key]
            connection.scope["subject"] = None if found is None else found.id  # type: ignore[typeddict-unknown-key]
        return connection.scope["principal"]  # type: ignore[typeddict-item,no-any-return]

    async def known(self, connection: ASGIConnection[Any, Any, Any, Any], _: Any) -> None:
        """A guard: who writes is found out before a body is read. Raises: Unauthorized, InvalidToken, InsufficientScope."""
        self._core.needs(await self.caller(connection), Scope.WRITE)

    async def writer(self, request: Asked) -> Principal:
        """Whoever came past the guard."""
        return self._core.needs(await self.caller(request), Scope.WRITE)

    async def readable(self, principal: Principal | None, kind: type[T], id: str) -> T:
        """The title, when this caller may see it. Raises: Unauthorized, for private and unknown ones alike; NotFound; what reading its media answers."""
        title = await self._found(principal, kind, id)
        await self._read(principal, title)
        return title

    async def writable(self, principal: Principal, kind: type[T], id: str) -> T:
        """The title, when this caller may change it, also one whose media is gone. Raises: NotFound, Forbidden."""
        title = await self._found(principal, kind, id)
        if title.owner != principal.id and Scope.ADMIN not in principal.scopes:
            await self._read(principal, title)  # whoever may not even see it is told no more than that
            raise Forbidden()
        return title

    async def shows(self, principal: Principal | None, title: Title) -> bool:
        """Whether a listing shows it: asked of each, since an authorizer may have its say."""
        try:
            await self._read(principal, title)
        except MediaError as error:
            if error.status >= 500:
                raise
            return False
        return True

    async def own_media(self, principal: Principal, media_id: str) -> str:
        """A media that this caller may give to a title: one that it may change. Raises: NotFound, Forbidden."""
        return (await self._core.authorize(principal, "write", media_id)).id

    async def _found(self, principal: Principal | None, kind: type[T], id: str) -> T:
        try:
            if not _ULID.fullmatch(id):
                raise NotFound()
            return await self._core.titles.get(kind, id)
        except NotFound:
            if principal is None:
                raise Unauthorized() from None
            raise

    async def _read(self, principal: Principal | None, title: Title) -> None:
        if isinstance(title, Movie | Episode):
            await self._core.authorize(principal, "read", title.media_id)
        elif not title.public:
            reader = self._core.needs(principal, Scope.READ)
            if self._core.visible_to(reader) not in (None, title.owner):
                raise NotFound()
