"""Uploads in more than one request: tus 1.0 and the IETF's resumable uploads, two languages for the same sessions under /v1/uploads."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from litestar import Request, Response
from msgspec import Struct

from mediacdn.access import Access
from mediacdn.config import Limits
from mediacdn.errors import (
    ChecksumMismatch,
    DigestMismatch,
    EncodingRefused,
    InvalidParameter,
    InvalidToken,
    MediaError,
    MethodNotAllowed,
    NotFound,
    OffsetMismatch,
    ProtocolUnknown,
    Unavailable,
    UnsupportedType,
)
from mediacdn.http import resumable, tus
from mediacdn.http.dates import http_date
from mediacdn.http.digests import parse_sha256
from mediacdn.http.fields import Fields
from mediacdn.ingest import Stored
from mediacdn.interfaces import Clock
from mediacdn.model import Principal, Scope, Upload
from mediacdn.routes import parameters
from mediacdn.routes.bodies import raw
from mediacdn.routes.callers import Callers, header_map
from mediacdn.routes.stored import StoredAnswers
from mediacdn.routes.views import Addresses
from mediacdn.terms import Intake
from mediacdn.uploads.ending import Refused
from mediacdn.uploads.sessions import Uploads

WAIT = 5.0
"""Seconds that a question about a complete upload waits for its media to be recorded."""
LONGEST = 16_384
"""Characters of Upload-Metadata that are kept."""
Asked = Request[Any, Any, Any]
PATH = "/v1/uploads"
INTERIM = "http.response.interim"
"""The server's own message for an answer before the answer."""


class UploadState(Struct, frozen=True):
    """How far an upload has come. `state`: open, complete (its media is being recorded), done, failed. `media_id` and `location` are there when it is done."""

    id: str
    state: str
    received: int
    size: int | None
    expires_at: datetime
    media_id: str | None = None
    location: str | None = None
    code: str | None = None
    detail: str | None = None


def options(largest: int) -> Callable[[str], Fields]:
    """What OPTIONS tells of the paths of this file (tus: section OPTIONS; the IETF's draft: section 4.1.4)."""
    told = {
        **tus.fields(largest),
        "Accept-Patch": f"{resumable.CONTENT_TYPE}, {tus.CONTENT_TYPE}",
        "Upload-Limit": resumable.limit(largest),
    }
    pairs = [(name.lower().encode(), value.encode()) for name, value in told.items()]
    return lambda path: pairs if path.startswith(PATH) else []


class Resumable:
    """The two protocols over the sessions."""

    def __init__(
        self,
        *,
        uploads: Uploads,
        callers: Callers,
        access: Access,
        limits: Limits,
        addresses: Addresses,
        answers: StoredAnswers,
        clock: Clock,
    ) -> None:
        self._uploads = uploads
        self._callers = callers
        self._access = access
        self._limits = limits
        self._addresses = addresses
        self._answers = answers
        self._clock = clock

    # Beginnings.

    async def begin(self, request: Asked) -> Response[Any]:
        """POST /v1/uploads, in either language."""
        headers = header_map(request.scope)
        principal = self._access.needs(await self._callers.by_token(request.scope), Scope.WRITE)
        if headers.get("content-encoding", "identity").strip().lower() not in ("identity", ""):
            raise EncodingRefused()
        if "tus-resumable" in headers:
            return await self._begin_tus(request, headers, principal)
        if resumable.boolean(headers, "upload-complete") is not None:
            return await self._begin_draft(request, headers, principal)
        raise ProtocolUnknown("An upload begins with Tus-Resumable or Upload-Complete", headers={"Tus-Version": tus.VERSION})

    async def _begin_tus(self, request: Asked, headers: dict[str, str], principal: Principal) -> Response[Any]:
        _spoken(headers)
        told = headers.get("upload-metadata", "")
        if len(told) > LONGEST + self._limits.max_metadata_size * 2:
            raise InvalidParameter("Upload-Metadata is too long")
        size = tus.count(headers, "upload-length")
        intake = parameters.from_metadata(told, self._limits, self._clock.now(), size=None)
        role, urls = tus.concat(headers["upload-concat"]) if "upload-concat" in headers else ("whole", [])
        if role == "final":
            return await self._join(headers, principal, urls, intake, told)
        if (size is None) is (headers.get("upload-defer-length") is None) or headers.get("upload-defer-length", "1") != "1":
            raise InvalidParameter("Give Upload-Length, or Upload-Defer-Length: 1")
        body = headers.get("content-type") == tus.CONTENT_TYPE
        coming = tus.count(headers, "content-length")
        if not body and coming:
            raise UnsupportedType(f"The bytes of an upload are {tus.CONTENT_TYPE}")
        concat = headers.get("upload-concat", "")
        upload, token = await self._uploads.create(principal, intake, size=size, role=role, told=told, concat=concat)
        location = {"Location": self._addresses.url(f"{PATH}/{token}")}
        if body or size == 0:
            checksum = tus.checksum(headers["upload-checksum"]) if "upload-checksum" in headers else None
            upload = await self._uploads.append(upload, raw(request.receive), offset=0, coming=coming, checksum=checksum)
            location["Upload-Offset"] = str(upload.received)
        stored = await self._end(upload)
        return _empty(201, {**self._tus(upload), **_media(stored), **location})

    async def _join(self, headers: dict[str, str], principal: Principal, urls: list[str], intake: Intake, told: str) -> Response[Any]:
        if "upload-length" in headers or "upload-defer-length" in headers:
            raise InvalidParameter("The length of a final upload is that of its parts")
        tokens = [url.rpartition("/")[2] for url in urls]
        upload, token = await self._uploads.join(principal, tokens, intake, told=told, concat=headers["upload-concat"])
        stored = await self._end(upload)
        return _empty(201, {**self._tus(upload), **_media(stored), "Location": self._addresses.url(f"{PATH}/{token}")})

    async def _begin_draft(self, request: Asked, headers: dict[str, str], principal: Principal) -> Response[Any]:
        found = parameters.from_query(request.scope["query_string"])
        for name, value in parameters.from_headers(headers).items():
            parameters.put(found, name, value)
        complete, coming = resumable.boolean(headers, "upload-complete"), tus.count(headers, "content-length")
        told = {each for each in (resumable.integer(headers, "upload-length"), coming if complete else None) if each is not None}
        if len(told) > 1:
            raise _inconsistent()
        size = told.pop() if told else None
        sha256 = parse_sha256(headers["repr-digest"]) if "repr-digest" in headers else None
        intake = parameters.intake(found, self._limits, self._clock.now(), media_type=headers.get("content-type"), sha256=sha256, size=None)
        upload, token = await self._uploads.create(principal, intake, size=size)
        location = self._addresses.url(f"{PATH}/{token}")
        tell = await self._announced(request, headers, {"Location": location, "Upload-Limit": self._limit(upload)})
        upload = await self._appended(request, headers, upload, 0, coming, size, complete, tell)
        if not complete:
            return _empty(201, {**self._draft(upload), "Location": location})
        return await self._answer(upload, principal)

    # Going on.

    async def resume(self, request: Asked, token: str, method: str) -> Response[Any]:
        """HEAD, GET, PATCH and DELETE of one upload."""
        method = request.headers.get("x-http-method-override", method).upper() if method == "POST" else method
        headers = header_map(request.scope)
        if "tus-resumable" in headers:
            _spoken(headers)
        if b"%" in request.scope["raw_path"]:
            raise NotFound("There is no such upload")
        principal = await self._principal(request)
        upload = await self._uploads.find(token, principal)
        if method in ("HEAD", "GET"):
            return await self._told(upload, headers, body=method == "GET")
        if method == "PATCH":
            return await self._patch(request, headers, upload)
        if method == "DELETE":
            await self._uploads.cancel(upload)
            return _empty(204, self._spoken_tus(headers))
        raise MethodNotAllowed()

    async def _principal(self, request: Asked) -> Principal | None:
        """Who comes, if that can be told: the URL is what opens an upload, also when the token it began with has run out."""
        try:
            return (await self._callers.by_token(request.scope)).principal
        except (InvalidToken, Unavailable):
            return None

    async def _told(self, upload: Upload, headers: dict[str, str], *, body: bool) -> Response[Any]:
        stored, refused = None, None
        if upload.state != "open" and upload.role != "partial":
            try:
                stored = (
                    await self._uploads.endings.finish(upload, patience=WAIT) if upload.role != "direct" else await self._direct(upload)
                )
            except Refused as error:
                refused = error
            except MediaError:
                stored = None  # of the moment: somebody tries again
        if refused is not None and not body:
            raise refused
        fields = {**self._draft(upload), **self._spoken_tus(headers), **_media(stored)}
        if upload.size is None:
            fields["Upload-Defer-Length"] = "1"
        if upload.told:
            fields["Upload-Metadata"] = upload.told
        if upload.concat:
            fields["Upload-Concat"] = upload.concat
        if not body:
            return _empty(200 if "tus-resumable" in headers else 204, fields)
        media = stored.media.id if stored is not None else None
        state = "failed" if refused is not None else "done" if stored is not None else upload.state
        shown = UploadState(
            upload.id, state, upload.received, upload.size, upload.expires_at, media,
            self._addresses.url(f"/v1/media/{media}") if media else None,
            None if refused is None else refused.code, None if refused is None else refused.detail,
        )  # fmt: skip
        return Response(shown, headers=fields)

    async def _direct(self, upload: Upload) -> Stored | None:
        return await self._uploads.endings.outcome(upload) if upload.state in ("done", "failed") else None

    async def _patch(self, request: Asked, headers: dict[str, str], upload: Upload) -> Response[Any]:
        content_type, coming = headers.get("content-type"), tus.count(headers, "content-length")
        if content_type == tus.CONTENT_TYPE:
            _spoken(headers)
            offset = tus.count(headers, "upload-offset")
            if offset is None:
                raise InvalidParameter("Upload-Offset is missing")
            checksum = tus.checksum(headers["upload-checksum"]) if "upload-checksum" in headers else None
            size = tus.count(headers, "upload-length")
            upload = await self._uploads.append(upload, raw(request.receive), offset=offset, coming=coming, size=size, checksum=checksum)
            return _empty(204, {**self._tus(upload), **_media(await self._end(upload)), "Upload-Offset": str(upload.received)})
        if content_type == resumable.CONTENT_TYPE:
            offset, complete = resumable.integer(headers, "upload-offset"), resumable.boolean(headers, "upload-complete")
            if offset is None or complete is None:
                raise InvalidParameter("Upload-Offset and Upload-Complete are needed")
            tell = await self._announced(request, headers, None)
            size = resumable.integer(headers, "upload-length")
            upload = await self._appended(request, headers, upload, offset, coming, size, complete, tell)
            if not complete and upload.state == "open":
                return _empty(204, self._draft(upload))
            return await self._answer(upload, Principal(upload.owner))
        raise UnsupportedType(
            f"A PATCH is {tus.CONTENT_TYPE} or {resumable.CONTENT_TYPE}",
            headers={"Accept-Patch": f"{resumable.CONTENT_TYPE}, {tus.CONTENT_TYPE}"},
        )

    async def _appended(
        self,
        request: Asked,
        headers: dict[str, str],
        upload: Upload,
        offset: int,
        coming: int | None,
        size: int | None,
        complete: bool | None,
        tell: Callable[[int], Awaitable[None]] | None,
    ) -> Upload:
        """Append as the draft has it, whose faults have types of their own (section 7)."""
        sha256 = parse_sha256(headers["content-digest"]) if "content-digest" in headers else None
        checksum = None if sha256 is None else tus.Checksum("sha256", bytes.fromhex(sha256))
        try:
            return await self._uploads.append(
                upload, raw(request.receive), offset=offset, coming=coming, size=size, complete=complete, checksum=checksum, tell=tell
            )
        except OffsetMismatch as error:
            error.extra["type"] = f"{resumable.PROBLEMS}mismatching-upload-offset"
            raise
        except ChecksumMismatch:
            raise DigestMismatch("The bytes received do not have the declared Content-Digest") from None
        except InvalidParameter as error:
            raise _inconsistent(error.detail) from None

    async def _announced(
        self, request: Asked, headers: dict[str, str], first: dict[str, str] | None
    ) -> Callable[[int], Awaitable[None]] | None:
        """Tell a client that understands it where the upload is (section 4.2), and later how far it has come; gives what tells the latter."""
        if not resumable.announces(headers):
            return None
        version = (b"upload-draft-interop-version", str(resumable.INTEROP).encode())

        async def say(fields: dict[str, str]) -> None:
            pairs = [(name.lower().encode(), value.encode()) for name, value in fields.items()]
            message: Any = {"type": INTERIM, "status": 104, "headers": [version, *pairs]}
            await request.send(message)

        async def tell(received: int) -> None:
            await say({"Upload-Offset": str(received)})

        if first is not None:
            await say(first)
        return tell

    # Ends.

    async def _end(self, upload: Upload) -> Stored | None:
        if upload.role == "partial" or upload.state == "open":
            return None
        return await self._uploads.endings.finish(upload)

    async def _answer(self, upload: Upload, principal: Principal) -> Response[Any]:
        """What a POST of the whole would have been answered (the draft's section 4.4)."""
        try:
            stored = await self._end(upload)
        except Refused as error:
            error.headers["Upload-Complete"] = "?1"
            raise
        assert stored is not None
        return await self._answers.response(principal, stored, {**self._draft(upload), **_media(stored), "Upload-Complete": "?1"})

    def _limit(self, upload: Upload) -> str:
        return resumable.limit(self._limits.largest, int((upload.expires_at - self._clock.now()).total_seconds()))

    def _draft(self, upload: Upload) -> dict[str, str]:
        fields = {
            "Upload-Offset": str(upload.received),
            "Upload-Complete": "?0" if upload.state == "open" else "?1",
            "Upload-Limit": self._limit(upload),
            "Upload-Expires": http_date(upload.expires_at),
            "Cache-Control": "no-store",
        }
        return fields if upload.size is None else {**fields, "Upload-Length": str(upload.size)}

    def _tus(self, upload: Upload) -> dict[str, str]:
        return {"Tus-Resumable": tus.VERSION, "Upload-Expires": http_date(upload.expires_at)}

    @staticmethod
    def _spoken_tus(headers: dict[str, str]) -> dict[str, str]:
        return {"Tus-Resumable": tus.VERSION} if "tus-resumable" in headers else {}


def _spoken(headers: dict[str, str]) -> None:
    """Raises: ProtocolUnknown for another version of tus than ours (core protocol, Tus-Resumable)."""
    if headers.get("tus-resumable") != tus.VERSION:
        raise ProtocolUnknown(f"The version of tus here is {tus.VERSION}", headers={"Tus-Version": tus.VERSION})


def _inconsistent(detail: str = "The declared lengths of the upload contradict each other") -> InvalidParameter:
    return InvalidParameter(detail, type=f"{resumable.PROBLEMS}inconsistent-upload-length")


def _media(stored: Stored | None) -> dict[str, str]:
    return {} if stored is None else {"Upload-Media-Id": stored.media.id}


def _empty(status: int, fields: dict[str, str]) -> Response[Any]:
    return Response(None, status_code=status, headers=fields, media_type="text/plain")
