"""The client's verbs about titles: movies, series, seasons and episodes, each as the API shows it."""

from collections.abc import AsyncIterator
from typing import Any, Literal
from urllib.parse import quote

import msgspec

from mediacdn.client.transport import Transport

Kind = Literal["movies", "series", "seasons", "episodes"]
_ABOVE = {"seasons": "series", "episodes": "seasons"}


class TitleVerbs:
    """What `Client` can do about titles, of a server with the plugin `titles`. `below` is the id of the series that seasons, or the season that episodes, are of."""

    _transport: Transport

    async def titles(self, kind: Kind, below: str | None = None) -> AsyncIterator[dict[str, Any]]:
        """Go through movies or series, newest first, or through seasons or episodes by number."""
        params = {"limit": "100"}
        while True:
            page = await self._transport.read(
                await self._transport.ask("GET", _all(kind, below), repeatable=True, params=params), dict[str, Any]
            )
            for each in page["items"]:
                yield each
            if page["next"] is None:
                return
            params["cursor"] = page["next"]

    async def title(self, kind: Kind, id: str) -> dict[str, Any]:
        """One of them."""
        return await self._transport.read(await self._transport.ask("GET", _one(kind, id), repeatable=True), dict[str, Any])

    async def add_title(self, kind: Kind, below: str | None = None, **fields: Any) -> dict[str, Any]:
        """Make one. Raises also: MediaHeld, NumberTaken, Unprocessable."""
        body = msgspec.to_builtins(fields)
        return await self._transport.read(await self._transport.ask("POST", _all(kind, below), repeatable=False, json=body), dict[str, Any])

    async def change_title(self, kind: Kind, id: str, **changes: Any) -> dict[str, Any]:
        """Change one; None clears. Raises also: MediaHeld, NumberTaken, Unprocessable."""
        body = msgspec.to_builtins(changes)
        return await self._transport.read(await self._transport.ask("PATCH", _one(kind, id), repeatable=True, json=body), dict[str, Any])

    async def delete_title(self, kind: Kind, id: str, *, recursive: bool = False) -> None:
        """Delete one, and with `recursive` what is below it; media stay. Raises also: NotEmpty."""
        params = {"recursive": "true"} if recursive else {}
        (await self._transport.ask("DELETE", _one(kind, id), repeatable=True, done_already=frozenset({404}), params=params)).release()


def _all(kind: Kind, below: str | None) -> str:
    above = _ABOVE.get(kind)
    return f"/v1/{kind}" if above is None else f"/v1/{above}/{quote(below or '', safe='')}/{kind}"


def _one(kind: Kind, id: str) -> str:
    return f"/v1/{kind}/{quote(id, safe='')}"
