"""`GET /example/hello/{id}`: a greeting for those who may read the media."""

from typing import Any

from litestar import Request, get
from litestar.handlers import HTTPRouteHandler

from mediacdn import Core


def hello_route(core: Core) -> HTTPRouteHandler:
    """Make the handler. Litestar reads the annotations of the function inside, so they are real types, not text."""

    @get("/example/hello/{media_id:str}", media_type="application/json")
    async def hello(media_id: str, request: Request[Any, Any, Any]) -> dict[str, Any]:
        """Greet the caller with the title and size of a media that it may read."""
        principal = await core.authenticate(request.headers)
        card = await core.authorize(principal, "read", media_id)
        record = await core.record(card.id)
        return {"hello": principal.id if principal else "whoever you are", "id": card.id, "title": record["title"], "size": card.size}

    return hello
