"""What the OpenAPI document says beyond the handlers' signatures: which problems an operation answers with, which credentials and which header fields it takes."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import (
    Components,
    OpenAPIHeader,
    OpenAPIResponse,
    Operation,
    Parameter,
    RequestBody,
    Schema,
    SecurityRequirement,
    SecurityScheme,
)
from litestar.openapi.spec.enums import OpenAPIType
from litestar.plugins import OpenAPISchemaPlugin
from litestar.typing import FieldDefinition
from msgspec import Struct

from mediacdn.errors import (
    BadRequest,
    BrokenMultipart,
    ContentRefused,
    ContentRejected,
    DigestMismatch,
    EncodingRefused,
    Forbidden,
    Gone,
    HostNotAllowed,
    IdempotencyInFlight,
    IdempotencyMismatch,
    InspectionUnavailable,
    InsufficientScope,
    InvalidParameter,
    InvalidSignature,
    InvalidToken,
    LinkExpired,
    LinkRevoked,
    MediaError,
    MediaExpired,
    NotFound,
    PreconditionFailed,
    Quarantined,
    QuotaExceeded,
    RangeNotSatisfiable,
    RequestTimeout,
    StorageFull,
    TooLarge,
    TooManyRequests,
    TypeMismatch,
    TypeNotAllowed,
    Unauthorized,
    Unavailable,
)


class Problem(Struct, frozen=True):
    """An RFC 9457 problem document. `code` is stable; some codes add members of their own."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str


WITH_TOKEN: list[SecurityRequirement] = [{"token": []}]
WITH_TOKEN_OR_NOTHING: list[SecurityRequirement] = [{}, {"token": []}]
WITH_TOKEN_LINK_OR_NOTHING: list[SecurityRequirement] = [{}, {"token": []}, {"link": []}]

SCHEMES = Components(
    security_schemes={
        "token": SecurityScheme(type="http", scheme="bearer", bearer_format="JWT", description="A token of the Authentication Service."),
        "link": SecurityScheme(
            type="apiKey", name="sig", security_scheme_in="query", description="A signed link: all its parameters stand as they were made."
        ),
    }
)

ANYWHERE = (BadRequest, InvalidParameter, HostNotAllowed)
NEEDS_TOKEN = (Unauthorized, InvalidToken, InsufficientScope, Unavailable)
READS_RECORD = (*NEEDS_TOKEN, NotFound, Gone, MediaExpired, Quarantined)
ACTS = (*READS_RECORD, Forbidden)
READS_BYTES = (*READS_RECORD, InvalidSignature, LinkRevoked, LinkExpired, PreconditionFailed, RangeNotSatisfiable)
UPLOADS = (
    *NEEDS_TOKEN, BrokenMultipart, ContentRefused, ContentRejected, InspectionUnavailable, QuotaExceeded, NotFound, RequestTimeout, IdempotencyInFlight, TooLarge, TypeMismatch,
    TypeNotAllowed, EncodingRefused, DigestMismatch, IdempotencyMismatch, TooManyRequests, StorageFull,
)  # fmt: skip

TEXT = Schema(type=OpenAPIType.STRING)
Fields = Mapping[str, tuple[str, Schema]]
"""Header fields that an operation reads: what each says, and its shape. None is ever required."""
IF_MATCH: Fields = {
    "If-Match": ("Go on only if the ETag is one of these, else 412", TEXT),
    "If-Unmodified-Since": ("Go on only if nothing changed since, else 412", TEXT),
}
CONDITIONS: Fields = {
    "If-None-Match": ("The ETags of copies that are at hand: 304 if one of them is still right", TEXT),
    "If-Modified-Since": ("The same by date; If-None-Match goes before it", TEXT),
    **IF_MATCH,
}
RANGES: Fields = {
    "Range": ("bytes=first-last, bytes=first- or bytes=-count; several with commas, at most 100", TEXT),
    "If-Range": ("An ETag or date: the range counts only if it is still right", TEXT),
}
MEDIA_HEADERS: Mapping[str, str] = {
    "ETag": '"sha256:<hex>", of the bytes that are sent',
    "Last-Modified": "When the media was stored",
    "Accept-Ranges": "bytes",
    "Repr-Digest": "SHA-256 of the whole (RFC 9530)",
    "Cache-Control": "How long and by whom the answer may be kept",
    "Cache-Status": "What the edge knew of it (RFC 9211)",
    "Content-Disposition": "inline for types that run nothing, else attachment; with the file's name",
}
"""Those of answers with a media's bytes."""


@dataclass
class OptionalBody(Operation):
    """OpenAPI of an operation whose body may be left out; the framework calls every body required."""

    def __post_init__(self) -> None:
        assert isinstance(self.request_body, RequestBody)
        self.request_body.required = False


class ClosedStructs(OpenAPISchemaPlugin):
    """Says `additionalProperties: false` of the Structs that refuse unknown fields, which the framework's own description leaves out."""

    def is_plugin_supported_field(self, field_definition: FieldDefinition) -> bool:
        kind = field_definition.annotation
        return isinstance(kind, type) and issubclass(kind, Struct) and kind.__struct_config__.forbid_unknown_fields

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: Any) -> Schema:
        others = (each for each in schema_creator.plugins if isinstance(each, OpenAPISchemaPlugin) and each is not self)
        framework = next(each for each in others if each.is_plugin_supported_field(field_definition))
        described = framework.to_openapi_schema(field_definition, schema_creator)
        described.additional_properties = False
        return described


def reading(fields: Fields, kind: type[Operation] = Operation, *, answered: Mapping[str, str] | None = None) -> type[Operation]:
    """An operation whose handler reads these header fields by itself, so that its signature does not tell of them; `answered` are those of its answers with a media's bytes."""

    @dataclass  # which has __init__ call the other
    class Reading(kind):  # type: ignore[valid-type, misc]
        def __post_init__(self) -> None:
            if hasattr(kind, "__post_init__"):
                super().__post_init__()
            operation: Operation = self
            described = [
                Parameter(name=name, param_in="header", description=text, schema=schema) for name, (text, schema) in fields.items()
            ]
            operation.parameters = [*(operation.parameters or []), *described]
            for status in ("200", "206") if answered else ():
                response = (operation.responses or {}).get(status)
                if isinstance(response, OpenAPIResponse):
                    response.headers = {name: OpenAPIHeader(schema=TEXT, description=text) for name, text in (answered or {}).items()}

    return Reading


def problems(*errors: type[MediaError]) -> dict[int, ResponseSpec]:
    """The `responses` of a handler that may raise these, beside what every operation may answer; statuses with their codes in words."""
    by_status: dict[int, list[type[MediaError]]] = {}
    every: set[type[MediaError]] = {*ANYWHERE, *errors}
    for error in sorted(every, key=lambda each: (each.status, each.code)):
        by_status.setdefault(error.status, []).append(error)
    return {
        status: ResponseSpec(
            Problem,
            generate_examples=False,
            description="; ".join(f"{error.code}: {error.title}" for error in group),
            media_type="application/problem+json",
        )
        for status, group in by_status.items()
    }


def answers(
    data: Any, description: str | None = None, media_type: str = "application/json", *, status: int = 200
) -> dict[int, ResponseSpec]:
    """One more success that a handler's signature does not tell."""
    return {
        status: ResponseSpec(data, generate_examples=False, description=description or HTTPStatus(status).phrase, media_type=media_type)
    }
