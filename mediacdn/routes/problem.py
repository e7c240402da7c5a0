"""Failures as RFC 9457 problem documents: the only place where an error meets HTTP."""

from typing import Any

import msgspec
import structlog
from litestar import Litestar, Request, Response
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException, ValidationException
from litestar.types import Method

from mediacdn.errors import BadRequest, InvalidParameter, MediaError, MethodNotAllowed, NotFound, TooLarge, Unauthorized, UnsupportedType
from mediacdn.routes.bodies import ClientGone

METHODS: tuple[Method, ...] = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
log = structlog.get_logger("mediacdn.routes")

_BY_STATUS: dict[int, type[MediaError]] = {
    400: BadRequest,
    401: Unauthorized,
    404: NotFound,
    405: MethodNotAllowed,
    413: TooLarge,
    415: UnsupportedType,
}


def translate(exc: Exception) -> MediaError:
    """Any exception as a MediaError; the framework's keep their status, all else is 500 without a word of its own."""
    if isinstance(exc, MediaError):
        return exc
    if isinstance(exc, ValidationException):
        reasons = exc.extra if isinstance(exc.extra, list) else []
        if any(isinstance(each, dict) and each.get("message") == f"'{each.get('key')}'" for each in reasons) or exc.detail.endswith(
            "'data'"
        ):
            return InvalidParameter("A JSON body is expected")
        said = "; ".join(f"{each.get('key') or 'body'}: {_plain(str(each.get('message')))}" for each in reasons if isinstance(each, dict))
        return InvalidParameter(said or exc.detail)
    if isinstance(exc, MethodNotAllowedException):
        return MethodNotAllowed()
    if isinstance(exc, NotFoundException):
        return NotFound()
    if isinstance(exc, RecursionError):  # of the JSON decoder, which reads bodies before any handler runs
        return BadRequest("The JSON is nested too deeply")
    if isinstance(exc, HTTPException) and exc.status_code < 500:
        return _BY_STATUS.get(exc.status_code, BadRequest)(exc.detail)
    return MediaError()


def _plain(message: str) -> str:
    """What the JSON decoder says, without a pattern that tells nobody anything."""
    return "its form is not the one that /schema describes" if " matching regex " in message else message


def document(error: MediaError, request_id: str) -> dict[str, Any]:
    """The members of the problem document (RFC 9457 section 3)."""
    return {
        "type": f"urn:mediacdn:error:{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "request_id": request_id,
        **error.extra,
    }


def render(error: MediaError, request_id: str) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Header fields and body of the answer."""
    body = msgspec.json.encode(document(error, request_id))
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        *((name.lower().encode(), value.encode()) for name, value in error.headers.items()),
    ]
    return headers, body


def known_methods(app: Litestar, path: str) -> list[str]:
    """The methods that this path answers (RFC 9110 section 10.2.1), none for an unknown one; the framework itself names but one handler's."""
    known: list[str] = []
    for method in METHODS:
        try:
            app.asgi_router.handle_routing(path=path, method=method)
        except HTTPException:
            continue
        known.append(method)
    return known


def on_error(request: Request[Any, Any, Any], exc: Exception) -> Response[bytes]:
    """Litestar's exception handler for everything."""
    if isinstance(exc, ClientGone):  # no fault of ours and nobody to tell: a status for the log alone
        return Response(b"", status_code=499)
    error = translate(exc)
    if isinstance(error, MethodNotAllowed):
        error.headers["Allow"] = ", ".join(known_methods(request.app, request.scope["path"]))
    request_id = str(request.scope.get("request_id", ""))
    if error.status >= 500 and not isinstance(exc, MediaError):
        log.error("unexpected failure", request_id=request_id, exc_info=exc)
    headers, body = render(error, request_id)
    named = {name.decode(): value.decode() for name, value in headers if name not in (b"content-type", b"content-length")}
    return Response(body, status_code=error.status, headers=named, media_type="application/problem+json")
