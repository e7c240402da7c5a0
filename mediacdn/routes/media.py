"""Media in and out: POST, GET and HEAD under /v1/media, and the same reads below a prefix token."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

from litestar import HttpMethod, Request, Response, post, route
from litestar.datastructures import ResponseHeader
from litestar.openapi.spec import OpenAPIMediaType, Operation, Parameter, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType
from litestar.params import Parameter as Param
from litestar.response.base import ASGIResponse

from mediacdn.access import Access, Caller
from mediacdn.catalog.card import CardCache
from mediacdn.catalog.database import Catalog
from mediacdn.catalog.idempotency import Answered
from mediacdn.config import Limits
from mediacdn.delivery import Ask, Delivery
from mediacdn.derivation.outputs import Outputs
from mediacdn.derivation.variants import Variants
from mediacdn.errors import (
    EncodingRefused,
    Forbidden,
    IdempotencyMismatch,
    InvalidArgument,
    InvalidParameter,
    NotFound,
    ObjectCorrupt,
    OverLimits,
    Overloaded,
    TooLarge,
    Undecodable,
)
from mediacdn.http.digests import parse_hex_sha256
from mediacdn.idempotency import LEASE, Keys
from mediacdn.ingest import Ingest, Stored
from mediacdn.interfaces import Clock
from mediacdn.model import Principal, Scope, State
from mediacdn.routes import parameters
from mediacdn.routes.bodies import Form, raw
from mediacdn.routes.callers import Callers, header_map
from mediacdn.routes.contract import (
    CONDITIONS,
    MEDIA_HEADERS,
    RANGES,
    READS_BYTES,
    TEXT,
    UPLOADS,
    WITH_TOKEN,
    WITH_TOKEN_LINK_OR_NOTHING,
    Fields,
    answers,
    problems,
    reading,
)
from mediacdn.routes.sending import Senders
from mediacdn.routes.stored import StoredAnswers
from mediacdn.routes.views import Record
from mediacdn.terms import Intake
from mediacdn.ulids import is_ulid

FORM_SLACK = 1024 * 1024  # what a form's fields and framing may add to the file
"""How long a key stays taken when whoever took it died; lengthened every few seconds while the upload lasts."""
ULID = "^[0-7][0-9A-HJKMNP-TV-Z]{25}$"
# The pattern only documents: any other text names no media, which is 404 and not a malformed request.
Id = Annotated[str, Param(description="The media's ULID, upper case", schema_extra={"pattern": ULID})]


class Reads:
    """The Litestar door to `delivery.decide`."""

    def __init__(
        self,
        *,
        cards: CardCache,
        callers: Callers,
        access: Access,
        delivery: Delivery,
        senders: Senders,
        variants: Variants,
        outputs: Outputs,
        clock: Clock,
    ) -> None:
        self._variants = variants
        self._outputs = outputs
        self._cards = cards
        self._callers = callers
        self._access = access
        self._delivery = delivery
        self._senders = senders
        self._clock = clock

    async def answer(self, scope: Any, media_id: str, token: str | None = None, *, rest: str = "", form: str | None = None) -> Any:
        """Decide and open the answer to a read, of the original or of what is at the path `rest` below the media: the variant `form`, or an output of a recipe.

        Security first: nothing of the object is looked at before the caller's right is known.
        """
        if not is_ulid(media_id):
            raise NotFound()
        headers, presets = header_map(scope), self._variants.presets
        link = self._callers.query_link(scope) if token is None else self._callers.prefix_link(scope, token, media_id, rest, presets)
        card = self._cards.peek(media_id) or await self._cards.get(media_id)
        if link is not None or (card is not None and card.public):
            caller, verdict = Caller(None, link, scope.get("peer")), None
        else:
            caller = Caller(await self._callers.principal(headers), None, scope.get("peer"))
            verdict = await self._access.verdict(card, caller, "read")
        scope["subject"] = caller.principal.id if caller.principal is not None else link.sub if link is not None else None
        now = self._clock.now()
        if not rest:
            decided = self._delivery.decide(Ask(scope["method"], headers, caller, now, now.timestamp()), card, verdict)
            return await self._senders.sender(decided, scope)
        card = self._access.read(card, caller, now, verdict)
        wanted = None if form is None else self._variants.resolve(form)
        if wanted is not None and wanted.preset is None and link is None and not self._variants.unsigned:
            raise Forbidden("A variant that is no preset needs a signed link")
        for last in (False, True):
            if wanted is None:
                found = await self._outputs.form(card, rest)
            else:
                found = await self._variants.form(card, wanted, headers.get("accept"))
            now, shown = self._clock.now(), found.card
            # Making it may have taken a while: what holds now is asked of the card that is there now.
            current = self._cards.peek(media_id) or await self._cards.get(media_id)
            if current is not card:
                card = self._access.read(current, caller, now, verdict)
                shown = found.of(card)
            ask = Ask(scope["method"], headers, caller, now, now.timestamp(), found.mark, found.negotiated)
            try:
                if found.derived is not None:
                    derived = self._cards.peek(found.derived) or await self._cards.get(found.derived)
                    if derived is None or derived.state is State.DELETED:
                        raise ObjectCorrupt("The variant was deleted")
                    self._access.present(derived, now)
                return await self._senders.sender(self._delivery.decide(ask, shown, verdict), scope)
            except ObjectCorrupt:  # another process, or an administrator, has let go of it
                if last:
                    raise
                (self._outputs if wanted is None else self._variants).forget(found)
        raise NotFound


class Posts:
    """POST /v1/media."""

    def __init__(
        self,
        *,
        ingest: Ingest,
        catalog: Catalog,
        keys: Keys,
        callers: Callers,
        access: Access,
        limits: Limits,
        answers: StoredAnswers,
        clock: Clock,
    ) -> None:
        self._ingest = ingest
        self._catalog = catalog
        self._keys = keys
        self._callers = callers
        self._access = access
        self._limits = limits
        self._answers = answers
        self._clock = clock

    async def accept(self, scope: Any, receive: Any) -> Response[Record]:
        headers = header_map(scope)
        principal = self._access.needs(await self._callers.by_token(scope), Scope.WRITE)
        if headers.get("content-encoding", "identity").strip().lower() not in ("identity", ""):
            raise EncodingRefused()
        content_type = headers.get("content-type")
        is_form = content_type is not None and content_type.strip().lower().startswith("multipart/form-data")
        length = int(headers["content-length"]) if "content-length" in headers else None
        largest = self._ingest.terms.largest
        if is_form and length is not None and length > largest + FORM_SLACK:
            raise TooLarge(f"At most {largest} bytes are accepted", max_upload_size=largest)
        found = parameters.from_query(scope["query_string"])
        for name, value in parameters.from_headers(headers).items():
            parameters.put(found, name, value)
        await self._ingest.terms.admit(principal, None if is_form else length)
        body = raw(receive)
        if is_form:
            assert content_type is not None
            form = Form(content_type, body)

            def intake() -> Intake:
                merged = dict(form.fields)
                for name, value in found.items():
                    if name == "filename":
                        merged[name] = value
                    else:
                        parameters.put(merged, name, value)
                sha256 = parse_hex_sha256(form.sha256) if form.sha256 else None
                return parameters.intake(merged, self._limits, self._clock.now(), media_type=form.media_type, sha256=sha256, size=None)

            return await self._finish(principal, headers, form.file(), intake, metered=False)
        # curl --data-binary calls every body so when it is told nothing else: it is no claim about the bytes.
        declared = None if content_type is None or content_type.startswith("application/x-www-form-urlencoded") else content_type
        sha256 = parameters.declared_sha256(headers)
        once = parameters.intake(found, self._limits, self._clock.now(), media_type=declared, sha256=sha256, size=length)
        return await self._finish(principal, headers, body, lambda: once, metered=length is not None)

    async def _finish(
        self, principal: Principal, headers: dict[str, str], body: AsyncIterator[bytes], intake: Any, *, metered: bool
    ) -> Response[Record]:
        key = headers.get("idempotency-key")
        if key is None:
            return await self._answers.response(principal, await self._ingest.store(principal, body, intake, metered=metered))
        if not 1 <= len(key) <= 255 or not key.isprintable():
            raise InvalidParameter("Idempotency-Key is 1 to 255 printable characters")
        begun = await self._catalog.idempotency.begin(principal.id, "POST /v1/media", key, lease=LEASE)
        if isinstance(begun, Answered):
            if await self._ingest.digest(body) != begun.fingerprint:
                raise IdempotencyMismatch()
            media = await self._catalog.media.get(begun.media_id)
            if media is None:
                raise NotFound()
            if media.version > 1 or media.state is not State.QUARANTINED:  # else it was withheld when it was answered
                self._access.present(media.card, self._clock.now())  # what happened to the media since beats the answer of then
            return await self._answers.response(principal, Stored(media, created=begun.status == 201))
        async with self._keys.held(begun.token):
            stored = await self._ingest.store(principal, body, intake, metered=metered)
        await self._catalog.idempotency.finish(
            begun.token, status=201 if stored.created else 200, media_id=stored.media.id, fingerprint=stored.media.digest
        )
        return await self._answers.response(principal, stored)


_BINARY = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY)


_PARAMETERS = {
    "public": ("Whether anybody may read it", Schema(type=OpenAPIType.STRING, enum=[*parameters.TRUE, *parameters.FALSE])),
    "title": ("", Schema(type=OpenAPIType.STRING, max_length=parameters.MAX_TITLE)),
    "tags": ("Separated by commas", TEXT),
    "filename": ("The name that downloads get", TEXT),
    "expires_in": ("Seconds to live", Schema(type=OpenAPIType.INTEGER, minimum=1, maximum=9_999_999_999)),
    "expires_at": ("When it expires, instead of `expires_in`", Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.DATE_TIME)),
}

_DIGEST = Schema(type=OpenAPIType.STRING, pattern="^sha-256=:[A-Za-z0-9+/]{43}=:$")
_FIELDS: Fields = {
    "Idempotency-Key": ("A retry with the same key and bytes is answered as the first was, for 24 hours", TEXT),
    "Repr-Digest": ("SHA-256 of a raw body (RFC 9530): what arrives otherwise is refused", _DIGEST),
    "Content-Digest": ("The same", _DIGEST),
    "X-Content-SHA256": ("The same in hexadecimal", Schema(type=OpenAPIType.STRING, pattern="^[0-9A-Fa-f]{64}$")),
    **{
        f"X-Media-{'-'.join(word.capitalize() for word in name.split('_'))}": (
            f"The parameter `{name}`; text may be RFC 8187 encoded",
            TEXT,
        )
        for name in (*_PARAMETERS, "metadata")
    },
}


@dataclass
class UploadOperation(Operation):
    """OpenAPI of the upload, whose body the framework never parses."""

    def __post_init__(self) -> None:
        self.request_body = RequestBody(
            required=True,
            description="The media itself, or a form with one `file` part.",
            content={
                "application/octet-stream": OpenAPIMediaType(schema=_BINARY),
                "multipart/form-data": OpenAPIMediaType(
                    schema=Schema(type=OpenAPIType.OBJECT, required=["file"], properties={"file": _BINARY})
                ),
            },
        )
        self.parameters = [
            Parameter(name=name, param_in="query", required=False, description=description, schema=schema)
            for name, (description, schema) in _PARAMETERS.items()
        ]
        described = {"application/json": OpenAPIMediaType(schema=Schema(type=OpenAPIType.OBJECT))}
        self.parameters.append(Parameter(name="metadata", param_in="query", required=False, schema=None, content=described))


BYTES = {
    **answers(bytes, "The media", "*/*"),
    **answers(bytes, "The ranges asked for", "*/*", status=206),
    **answers(None, "Not modified", status=304),
    **problems(*READS_BYTES),
}
_FORMS = {**BYTES, **problems(InvalidArgument, Undecodable, OverLimits, Forbidden, Overloaded)}
Form_ = Annotated[str | None, Param(description="A preset's name, or name=value,… in any order")]
_UPLOADED = {**answers(Record, "The existing record of the same bytes"), **problems(*UPLOADS)}
_LOCATION = ResponseHeader(name="Location", description="Where the media is", documentation_only=True)
ASKED = reading({**CONDITIONS, **RANGES}, answered=MEDIA_HEADERS)
"""How a media's bytes are asked for."""


def media_routes(reads: Reads, posts: Posts) -> list[Any]:
    """The handlers of this file."""

    @post(
        "/v1/media",
        operation_class=reading(_FIELDS, UploadOperation),
        status_code=201,
        request_max_body_size=None,
        responses=_UPLOADED,
        response_headers=[_LOCATION],
        security=WITH_TOKEN,
        tags=["media"],
    )
    async def upload(request: Request[Any, Any, Any]) -> Response[Record]:
        """Store a media: 201 and its record, or 200 and the existing record when the same bytes are already here."""
        return await posts.accept(request.scope, request.receive)

    @route(
        "/v1/media/{media_id:str}",
        http_method=[HttpMethod.GET, HttpMethod.HEAD],
        responses=BYTES,
        operation_class=ASKED,
        security=WITH_TOKEN_LINK_OR_NOTHING,
        tags=["media"],
    )
    async def read(request: Request[Any, Any, Any], media_id: Id) -> ASGIResponse:
        """The media's bytes, whole or in ranges; private ones to a valid token or by a signed link."""
        return await reads.answer(request.scope, media_id)  # type: ignore[no-any-return]

    @route(
        "/s/{token:str}/v1/media/{media_id:str}",
        http_method=[HttpMethod.GET, HttpMethod.HEAD],
        responses=BYTES,
        operation_class=ASKED,
        tags=["media"],
    )
    async def read_by_prefix(request: Request[Any, Any, Any], token: str, media_id: Id) -> ASGIResponse:
        """The media's bytes below a prefix token."""
        return await reads.answer(request.scope, media_id, token)  # type: ignore[no-any-return]

    @route(
        ["/v1/media/{media_id:str}/thumb", "/v1/media/{media_id:str}/v/{variant:str}"],
        http_method=[HttpMethod.GET, HttpMethod.HEAD],
        responses=_FORMS,
        operation_class=ASKED,
        security=WITH_TOKEN_LINK_OR_NOTHING,
        tags=["media"],
    )
    async def read_variant(request: Request[Any, Any, Any], media_id: Id, variant: Form_ = None) -> ASGIResponse:
        """A preset, such as `thumb`, or an ad-hoc variant of a picture, such as `w=320,fit=cover,format=webp`; the latter by a signed link."""
        rest = "/thumb" if variant is None else f"/v/{variant}"
        return await reads.answer(request.scope, media_id, rest=rest, form=variant or "thumb")  # type: ignore[no-any-return]

    @route(
        ["/s/{token:str}/v1/media/{media_id:str}/thumb", "/s/{token:str}/v1/media/{media_id:str}/v/{variant:str}"],
        http_method=[HttpMethod.GET, HttpMethod.HEAD],
        responses=_FORMS,
        operation_class=ASKED,
        tags=["media"],
    )
    async def read_variant_by_prefix(request: Request[Any, Any, Any], token: str, media_id: Id, variant: Form_ = None) -> ASGIResponse:
        """A variant below a prefix token: any preset, and the ad-hoc ones that the token lists."""
        rest = "/thumb" if variant is None else f"/v/{variant}"
        return await reads.answer(request.scope, media_id, token, rest=rest, form=variant or "thumb")  # type: ignore[no-any-return]

    return [upload, read, read_by_prefix, read_variant, read_variant_by_prefix]
