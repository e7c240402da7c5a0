"""What recipes have made of a media, as GET and HEAD below it: streams, and derivatives that are read by their relationship's name."""

from typing import Annotated, Any

from litestar import HttpMethod, Request, route
from litestar.params import Parameter as Param
from litestar.response.base import ASGIResponse

from mediacdn.derivation.outputs import MOUNTS, SINGLE
from mediacdn.routes.contract import WITH_TOKEN_LINK_OR_NOTHING
from mediacdn.routes.media import ASKED, BYTES, Id, Reads

Asked = Request[Any, Any, Any]
Path = Annotated[str, Param(description="A manifest, such as `master.m3u8`, or what one refers to")]


def output_routes(reads: Reads) -> list[Any]:
    """The handlers of this file."""
    # The framework makes one operation of each path, and tells its path parameters by the handler's: hence a handler for each shape.
    methods = [HttpMethod.GET, HttpMethod.HEAD]

    def file(mount: str) -> list[Any]:
        @route(
            f"/v1/media/{{media_id:str}}/{mount}/{{path:path}}",
            http_method=methods, responses=BYTES, operation_class=ASKED, security=WITH_TOKEN_LINK_OR_NOTHING, tags=["streams"], name=f"read_{mount}",
        )  # fmt: skip
        async def read(request: Asked, media_id: Id, path: Path) -> ASGIResponse:
            """A file of what streams: manifests refer to the others by relative paths, which inherit a prefix link."""
            return await reads.answer(request.scope, media_id, rest=f"/{mount}/{path.lstrip('/')}")  # type: ignore[no-any-return]

        @route(
            f"/s/{{token:str}}/v1/media/{{media_id:str}}/{mount}/{{path:path}}",
            http_method=methods, responses=BYTES, operation_class=ASKED, tags=["streams"], name=f"read_{mount}_by_prefix",
        )  # fmt: skip
        async def read_by_prefix(request: Asked, token: str, media_id: Id, path: Path) -> ASGIResponse:
            """A file of what streams, below a prefix token."""
            return await reads.answer(request.scope, media_id, token, rest=f"/{mount}/{path.lstrip('/')}")  # type: ignore[no-any-return]

        return [read, read_by_prefix]

    def single(name: str) -> list[Any]:
        @route(
            f"/v1/media/{{media_id:str}}/{name}",
            http_method=methods, responses=BYTES, operation_class=ASKED, security=WITH_TOKEN_LINK_OR_NOTHING, tags=["streams"], name=f"read_{name}",
        )  # fmt: skip
        async def read(request: Asked, media_id: Id) -> ASGIResponse:
            """What a recipe has made of the media; 404 where none has."""
            return await reads.answer(request.scope, media_id, rest=f"/{name}")  # type: ignore[no-any-return]

        @route(
            f"/s/{{token:str}}/v1/media/{{media_id:str}}/{name}",
            http_method=methods, responses=BYTES, operation_class=ASKED, tags=["streams"], name=f"read_{name}_by_prefix",
        )  # fmt: skip
        async def read_by_prefix(request: Asked, token: str, media_id: Id) -> ASGIResponse:
            """What a recipe has made of the media, below a prefix token."""
            return await reads.answer(request.scope, media_id, token, rest=f"/{name}")  # type: ignore[no-any-return]

        return [read, read_by_prefix]

    return [*(each for mount in MOUNTS for each in file(mount)), *(each for name in SINGLE for each in single(name))]
