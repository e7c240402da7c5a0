"""What the OpenAPI document says beyond the handlers' signatures: which problems an operation answers with, and which credentials it takes."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Components, Operation, RequestBody, Schema, SecurityRequirement, SecurityScheme
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
