"""The routes of uploads in more than one request: what each takes and answers, for the framework and for the OpenAPI document."""

from typing import Annotated, Any

from litestar import HttpMethod, Response, post, route
from litestar.datastructures import ResponseHeader
from litestar.openapi.spec import Schema
from litestar.openapi.spec.enums import OpenAPIType
from litestar.params import Parameter as Param

from mediacdn.errors import (
    ChecksumMismatch,
    Conflict,
    MethodNotAllowed,
    NotFound,
    OffsetMismatch,
    ProtocolUnknown,
    TakenOver,
    Unavailable,
    UploadGone,
)
from mediacdn.routes.contract import TEXT, UPLOADS, WITH_TOKEN, WITH_TOKEN_OR_NOTHING, Fields, answers, problems, reading
from mediacdn.routes.uploads import PATH, Asked, Resumable, UploadState
from mediacdn.routes.views import Record

Token = Annotated[
    str, Param(description="What POST /v1/uploads put at the end of the upload's URL: whoever has it may go on with the upload")
]

_NUMBER = Schema(type=OpenAPIType.INTEGER, minimum=0)
_FIELDS: Fields = {
    "Tus-Resumable": ("1.0.0: the request speaks tus", TEXT),
    "Upload-Complete": ("?0 or ?1: it speaks the IETF's draft", TEXT),
    "Upload-Length": ("Bytes of the whole", _NUMBER),
    "Upload-Offset": ("Bytes that were received before", _NUMBER),
    "Upload-Metadata": ("tus: the parameters of POST /v1/media by their names, `filetype` and `sha256`", TEXT),
    "Upload-Checksum": ("tus: algorithm and Base64 of this request's bytes", TEXT),
    "Upload-Concat": ("tus: partial, or final and URLs", TEXT),
}
"""None is required of every request: which are, the protocol says."""
_UPLOAD = reading(_FIELDS)

_FOUND = (NotFound, UploadGone, ProtocolUnknown, Conflict, OffsetMismatch, TakenOver, ChecksumMismatch)
_LOCATION = ResponseHeader(name="Location", description="The upload's URL", documentation_only=True)
_ID = ResponseHeader(name="Upload-Media-Id", description="The media, once it is stored", documentation_only=True)


def upload_routes(sessions: Resumable) -> list[Any]:
    """The handlers of this file."""

    @post(
        PATH,
        operation_class=_UPLOAD,
        status_code=201,
        request_max_body_size=None,
        responses={**answers(Record, "The record of the same bytes, which are here already"), **problems(*UPLOADS, *_FOUND)},
        response_headers=[_LOCATION, _ID],
        security=WITH_TOKEN,
        tags=["uploads"],
    )
    async def begin(request: Asked) -> Response[Any]:
        """Begin an upload that can be resumed, by tus 1.0 or the IETF's draft; it may bring the first bytes, or all."""
        return await sessions.begin(request)

    @route(
        PATH + "/{token:str}",
        http_method=[HttpMethod.GET, HttpMethod.HEAD],
        responses={
            **answers(UploadState, "How far it has come"),
            **answers(None, "HEAD of the draft", status=204),
            **problems(*UPLOADS, *_FOUND),
        },
        response_headers=[_ID],
        security=WITH_TOKEN_OR_NOTHING,
        tags=["uploads"],
    )
    async def told(request: Asked, token: Token) -> Response[Any]:
        """How many bytes are durable, and the media once there is one."""
        return await sessions.resume(request, token, request.method)

    @route(
        PATH + "/{token:str}",
        http_method=[HttpMethod.PATCH, HttpMethod.POST],
        operation_class=_UPLOAD,
        request_max_body_size=None,
        responses={
            **answers(None, "The bytes are durable", status=204),
            **answers(Record, "The draft: the record, once all is here"),
            **problems(*UPLOADS, *_FOUND, MethodNotAllowed),
        },
        response_headers=[_ID],
        security=WITH_TOKEN_OR_NOTHING,
        tags=["uploads"],
    )
    async def append(request: Asked, token: Token) -> Response[Any]:
        """Append bytes at Upload-Offset; the last ones store the media. POST stands for what X-HTTP-Method-Override says."""
        return await sessions.resume(request, token, request.method)

    @route(
        PATH + "/{token:str}",
        http_method=[HttpMethod.DELETE],
        responses={**answers(None, "It is gone", status=204), **problems(*_FOUND, Unavailable)},
        security=WITH_TOKEN_OR_NOTHING,
        tags=["uploads"],
    )
    async def cancel(request: Asked, token: Token) -> Response[None]:
        """Give an unfinished upload up."""
        return await sessions.resume(request, token, "DELETE")

    return [begin, told, append, cancel]
