"""Every failure that a caller can see, as a tree; it answers for status, stable code and public sentence, and leaves rendering to the routes.

MediaError 500 internal_error
├── BadRequest 400 bad_request
│   ├── InvalidParameter 400 invalid_parameter
│   ├── BrokenMultipart 400 broken_multipart
│   └── HostNotAllowed 400 host_not_allowed
├── Unauthorized 401 unauthorized
│   └── InvalidToken 401 invalid_token
├── Forbidden 403 forbidden
│   ├── InsufficientScope 403 insufficient_scope
│   ├── InvalidSignature 403 invalid_signature
│   ├── LinkRevoked 403 link_revoked
│   ├── ContentRefused 403 content_refused
│   └── QuotaExceeded 403 quota_exceeded
├── NotFound 404 not_found
│   └── ProcessingFailed 404 processing_failed
├── MethodNotAllowed 405 method_not_allowed
├── RequestTimeout 408 request_timeout
├── Conflict 409 conflict
│   ├── DuplicateExists 409 duplicate_exists
│   ├── IdempotencyInFlight 409 idempotency_in_flight
│   ├── OffsetMismatch 409 offset_mismatch
│   ├── TakenOver 409 taken_over
│   ├── PartsMissing 409 parts_missing
│   ├── DirectUploadsOff 409 direct_uploads_off
│   ├── MediaHeld 409 media_held
│   ├── NumberTaken 409 number_taken
│   └── NotEmpty 409 not_empty
├── Gone 410 gone
│   ├── LinkExpired 410 link_expired
│   ├── MediaExpired 410 media_expired
│   └── UploadGone 410 upload_gone
├── PreconditionFailed 412 precondition_failed
│   └── ProtocolUnknown 412 protocol_unknown
├── TooLarge 413 too_large
├── UriTooLong 414 uri_too_long
├── UnsupportedType 415 unsupported_media_type
│   ├── TypeMismatch 415 type_mismatch
│   ├── TypeNotAllowed 415 type_not_allowed
│   └── EncodingRefused 415 content_encoding_refused
├── RangeNotSatisfiable 416 range_not_satisfiable
├── Unprocessable 422 unprocessable
│   ├── DigestMismatch 422 digest_mismatch
│   ├── ContentRejected 422 content_rejected
│   ├── IdempotencyMismatch 422 idempotency_mismatch
│   ├── InvalidArgument 422 invalid_argument
│   ├── Undecodable 422 undecodable
│   └── OverLimits 422 over_limits
├── TooManyRequests 429 too_many_requests
│   └── TooManyTasks 429 too_many_tasks
├── FieldsTooLarge 431 fields_too_large
├── ObjectCorrupt 500 object_corrupt
├── StartupError 500 startup_error
│   ├── ConfigError 500 config_error
│   └── PluginError 500 plugin_error
├── Unavailable 503 unavailable
│   ├── CatalogUnavailable 503 catalog_unavailable
│   ├── StorageUnavailable 503 storage_unavailable
│   ├── AuthUnavailable 503 auth_unavailable
│   ├── InspectionUnavailable 503 inspection_unavailable
│   └── Overloaded 503 overloaded
├── StorageFull 507 insufficient_storage
├── Quarantined 451 quarantined
└── ChecksumMismatch 460 checksum_mismatch
"""

from typing import Any, ClassVar


class MediaError(Exception):
    """A failure with an HTTP face.

    `status`, `code` and `title` belong to the class and never change for one class; `detail` is this occurrence in public words
    (no secret, no path, no stack); `headers` are added to the answer; `extra` are further members of the problem document (RFC 9457 section 3.2).
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "The server failed to answer this request"

    def __init__(self, detail: str | None = None, *, headers: dict[str, str] | None = None, **extra: Any) -> None:
        self.detail = detail if detail is not None else self.title
        self.headers = headers or {}
        self.extra = extra
        super().__init__(self.detail)


class BadRequest(MediaError):
    status, code, title = 400, "bad_request", "The request is malformed"


class InvalidParameter(BadRequest):
    code, title = "invalid_parameter", "A parameter has a value that is not allowed"


class BrokenMultipart(BadRequest):
    code, title = "broken_multipart", "The multipart body is malformed"


class HostNotAllowed(BadRequest):
    code, title = "host_not_allowed", "The Host header names no host of this server"


class Unauthorized(MediaError):
    status, code, title = 401, "unauthorized", "This needs credentials"

    def __init__(self, detail: str | None = None, *, headers: dict[str, str] | None = None, **extra: Any) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": "Bearer", **(headers or {})}, **extra)


class InvalidToken(Unauthorized):
    """The bearer token is refused (RFC 6750 section 3.1); the detail never tells more than the class of the fault."""

    code, title = "invalid_token", "The token is not valid"

    def __init__(self, detail: str | None = None, **extra: Any) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'}, **extra)


class Forbidden(MediaError):
    status, code, title = 403, "forbidden", "The caller may not do this"


class InsufficientScope(Forbidden):
    """The token is valid and not enough (RFC 6750 section 3.1)."""

    code, title = "insufficient_scope", "The token lacks the scope that this needs"

    def __init__(self, detail: str | None = None, *, headers: dict[str, str] | None = None, **extra: Any) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": 'Bearer error="insufficient_scope"', **(headers or {})}, **extra)


class InvalidSignature(Forbidden):
    code, title = "invalid_signature", "The link's signature does not cover this request"


class LinkRevoked(Forbidden):
    code, title = "link_revoked", "The link was revoked"


class ContentRefused(Forbidden):
    code, title = "content_refused", "This content is refused here"


class QuotaExceeded(Forbidden):
    code, title = "quota_exceeded", "The owner's storage quota is used up"


class NotFound(MediaError):
    status, code, title = 404, "not_found", "There is no such thing here"


class ProcessingFailed(NotFound):
    """What is asked for is not there, and nothing on the way will bring it: the media is FAILED. The detail is the record's `error_message`."""

    code, title = "processing_failed", "The processing of this media failed"


class MethodNotAllowed(MediaError):
    status, code, title = 405, "method_not_allowed", "The method is not known here"


class RequestTimeout(MediaError):
    status, code, title = 408, "request_timeout", "The request did not arrive in time"


class Conflict(MediaError):
    status, code, title = 409, "conflict", "The request conflicts with the present state"


class DuplicateExists(Conflict):
    code, title = "duplicate_exists", "Another media already holds this content with this visibility"


class IdempotencyInFlight(Conflict):
    code, title = "idempotency_in_flight", "A request with this Idempotency-Key is still running"


class OffsetMismatch(Conflict):
    code, title = "offset_mismatch", "The upload has received another number of bytes"


class TakenOver(Conflict):
    code, title = "taken_over", "Another request goes on with this upload"


class PartsMissing(Conflict):
    code, title = "parts_missing", "Parts of the upload are missing"


class DirectUploadsOff(Conflict):
    code, title = "direct_uploads_off", "This server takes no uploads past itself"


class MediaHeld(Conflict):
    """`held_by` of the problem document is the title's path."""

    code, title = "media_held", "A title holds this media"


class NumberTaken(Conflict):
    code, title = "number_taken", "Another season or episode has this number"


class NotEmpty(Conflict):
    code, title = "not_empty", "There is something below this"


class Gone(MediaError):
    status, code, title = 410, "gone", "This was here and is gone"


class LinkExpired(Gone):
    code, title = "link_expired", "The link has expired"


class MediaExpired(Gone):
    code, title = "media_expired", "The media has expired"


class UploadGone(Gone):
    code, title = "upload_gone", "The upload has expired or was given up"


class PreconditionFailed(MediaError):
    status, code, title = 412, "precondition_failed", "A precondition of the request does not hold"


class ProtocolUnknown(PreconditionFailed):
    """Neither a known version of tus nor a resumable upload of the IETF's draft."""

    code, title = "protocol_unknown", "The protocol of the upload is not known here"


class TooLarge(MediaError):
    status, code, title = 413, "too_large", "The upload is larger than allowed"


class UriTooLong(MediaError):
    status, code, title = 414, "uri_too_long", "The request target is longer than allowed"


class UnsupportedType(MediaError):
    status, code, title = 415, "unsupported_media_type", "The media type is not supported here"


class TypeMismatch(UnsupportedType):
    code, title = "type_mismatch", "The declared type contradicts the bytes"


class TypeNotAllowed(UnsupportedType):
    code, title = "type_not_allowed", "Media of this type are not accepted here"


class EncodingRefused(UnsupportedType):
    code, title = "content_encoding_refused", "Encoded request bodies are not accepted"


class RangeNotSatisfiable(MediaError):
    status, code, title = 416, "range_not_satisfiable", "No requested range lies inside the media"


class Unprocessable(MediaError):
    status, code, title = 422, "unprocessable", "The request is well-formed but cannot be followed"


class DigestMismatch(Unprocessable):
    code, title = "digest_mismatch", "The bytes do not have the declared digest"


class ContentRejected(Unprocessable):
    """An inspector rejects the upload; the detail is its reason."""

    code, title = "content_rejected", "An inspection rejects this content"


class IdempotencyMismatch(Unprocessable):
    code, title = "idempotency_mismatch", "This Idempotency-Key was used with another request"


class InvalidArgument(Unprocessable):
    """An argument of a recipe or a variant; the detail names it and its rule."""

    code, title = "invalid_argument", "An argument is not what the recipe takes"


class Undecodable(Unprocessable):
    """The media's bytes, not the request, are at fault: broken, truncated, or of a kind that the action does not read."""

    code, title = "undecodable", "The media cannot be decoded"


class OverLimits(Unprocessable):
    """Known from the header before anything is decoded, or because a limit of memory, processor or wall-clock time ended it."""

    code, title = "over_limits", "The media needs more than is allowed to decode it"


class TooManyRequests(MediaError):
    status, code, title = 429, "too_many_requests", "Too many requests"


class TooManyTasks(TooManyRequests):
    """Nobody knows when one of them will have ended: `Retry-After` is when it is worth asking."""

    code, title = "too_many_tasks", "As many tasks as one caller may have are waiting or running"


class FieldsTooLarge(MediaError):
    """The header fields are too many or too large (RFC 6585 section 5)."""

    status, code, title = 431, "fields_too_large", "The header fields are larger than allowed"


class ObjectCorrupt(MediaError):
    code, title = "object_corrupt", "The stored bytes are damaged"


class StartupError(MediaError):
    """Refuses the start of a process; seen on the command line, not over HTTP."""

    code, title = "startup_error", "The server cannot start"


class ConfigError(StartupError):
    code, title = "config_error", "The configuration is wrong"


class PluginError(StartupError):
    code, title = "plugin_error", "A plugin cannot be used"


class Quarantined(MediaError):
    """The media is withheld (RFC 7725)."""

    status, code, title = 451, "quarantined", "The media is withheld"


class ChecksumMismatch(MediaError):
    """The bytes of one request do not have their Upload-Checksum (tus 1.0, checksum)."""

    status, code, title = 460, "checksum_mismatch", "The bytes do not have the declared checksum"


class Unavailable(MediaError):
    status, code, title = 503, "unavailable", "A part that this needs is not available; try again"

    def __init__(self, detail: str | None = None, *, headers: dict[str, str] | None = None, **extra: Any) -> None:
        super().__init__(detail, headers={"Retry-After": "5", **(headers or {})}, **extra)


class CatalogUnavailable(Unavailable):
    code, title = "catalog_unavailable", "The catalog is not available; try again"


class StorageUnavailable(Unavailable):
    code, title = "storage_unavailable", "The storage is not available; try again"


class AuthUnavailable(Unavailable):
    code, title = "auth_unavailable", "The Authentication Service is not available; try again"


class InspectionUnavailable(Unavailable):
    code, title = "inspection_unavailable", "The upload cannot be inspected now; try again"


class Overloaded(Unavailable):
    code, title = "overloaded", "There is more to do than can be done soon"


class StorageFull(MediaError):
    """There is no room for the bytes (RFC 4918 section 11.5)."""

    status, code, title = 507, "insufficient_storage", "There is no room for this upload"
