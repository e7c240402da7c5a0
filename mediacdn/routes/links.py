"""Signed links: made for callers who may read, one or many; the redirect to a fresh one, ours or elsewhere, and a CDN's cookies."""

from datetime import UTC, datetime
from typing import Annotated, Any

from litestar import Request, Response, get, post
from litestar.datastructures import Cookie, ResponseHeader
from msgspec import Meta, Struct
from msgspec.structs import asdict

from mediacdn import signing
from mediacdn.access import Access, Caller
from mediacdn.config import Signing
from mediacdn.derivation.variants import Variants
from mediacdn.errors import Forbidden, InvalidArgument, InvalidParameter, MediaError, NotFound, TooLarge, Unavailable
from mediacdn.http.peers import address_matches
from mediacdn.interfaces import Clock
from mediacdn.keyring import RingFile
from mediacdn.links import Elsewhere
from mediacdn.model import Media, Scope
from mediacdn.routes.contract import NEEDS_TOKEN, READS_RECORD, WITH_TOKEN, problems
from mediacdn.routes.media import Id
from mediacdn.routes.records import Records
from mediacdn.routes.views import Addresses

Asked = Request[Any, Any, Any]


class Wish(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The link wanted. `expires` is its lifetime in seconds, `ip` an address or prefix it is bound to, `sub` whom it is for."""

    expires: Annotated[int, Meta(ge=1)] | None = None
    variant: str | None = None
    prefix: bool = False
    disposition: str | None = None
    sub: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    ip: Annotated[str, Meta(min_length=1, max_length=64)] | None = None


class WishFor(Wish, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One link of a batch."""

    id: str


class Batch(Struct, frozen=True, forbid_unknown_fields=True):
    items: Annotated[list[WishFor], Meta(min_length=1, max_length=500)]


class Signed(Struct, frozen=True):
    url: str
    expires_at: datetime


class SignedItem(Struct, frozen=True, omit_defaults=True):
    """One outcome of a batch: a link, or the error's stable code."""

    id: str
    url: str | None = None
    expires_at: datetime | None = None
    code: str | None = None
    detail: str | None = None


class SignedBatch(Struct, frozen=True):
    items: list[SignedItem]


class Signer:
    """Makes links within the configured limits and the caller's own rights."""

    def url(self, path: str) -> str:
        """What `path` gave, as callers see it."""
        return self._addresses.url(path)

    def __init__(self, *, ring: RingFile, config: Signing, variants: Variants, addresses: Addresses, clock: Clock) -> None:
        self._ring = ring
        self._variants = variants
        self._config = config
        self._addresses = addresses
        self._clock = clock

    @property
    def longest(self) -> int:
        """Seconds that a link may last at most."""
        return self._config.max_expires

    def sign(self, media: Media, caller: Caller, wish: Wish) -> Signed:
        """Raises: InvalidParameter, InvalidArgument, NotFound for an unknown preset, Forbidden."""
        path, expires_at = self.path(media, caller, wish)
        return Signed(self._addresses.url(path), expires_at)

    def path(self, media: Media, caller: Caller, wish: Wish) -> tuple[str, datetime]:
        """The same without what stands before it in a URL: host and base path."""
        wanted = None if wish.variant is None else self._variants.resolve(wish.variant)
        if wish.disposition not in (None, "attachment", "inline"):
            raise InvalidParameter('\'disposition\' is "attachment" or "inline"')
        if wish.prefix and wish.disposition is not None:
            raise InvalidParameter("A prefix link cannot carry a disposition")
        if wish.ip is not None:
            address_matches("192.0.2.1", wish.ip)
        now = int(self._clock.now().timestamp())
        lifetime = min(wish.expires or self._config.default_expires, self._config.max_expires)
        if wish.expires is not None and wish.expires > self._config.max_expires:
            raise InvalidParameter(f"'expires' is at most {self._config.max_expires} seconds")
        iat, exp = signing.rounded(now, lifetime, self._config.window, media.links_valid_from)
        principal = caller.principal
        if principal is not None and principal.expires_at is not None and not caller.has(Scope.ADMIN) and principal.id != media.owner:
            exp = min(exp, int(principal.expires_at.timestamp()))
        if exp <= now:
            raise Forbidden("The caller's own token has expired")
        disposition = wish.disposition if wish.disposition == "attachment" else None  # inline is what a link means without it
        ring = self._ring.ring()
        path = f"/v1/media/{media.id}"
        if wanted is not None:
            path += "/thumb" if wanted.preset == "thumb" else f"/v/{wanted.text}"
        if wish.prefix:
            covers = () if wanted is None or wanted.preset is not None else (wanted.text,)
            token = signing.mint_prefix(ring, media.id, exp=exp, iat=iat, covers=covers, sub=wish.sub, ip=wish.ip)
            url = f"/s/{token}{path}"
        else:
            url = signing.sign_query(ring, path, exp=exp, iat=iat, sub=wish.sub, ip=wish.ip, disposition=disposition)
        return url, datetime.fromtimestamp(exp, UTC)


async def direct(signer: Signer, elsewhere: Elsewhere, media: Media, caller: Caller) -> str | None:
    """The link elsewhere that a record of this media carries for this caller, None where it carries none."""
    if not elsewhere.in_records:
        return None
    try:
        path, until = signer.path(media, caller, Wish())
    except Forbidden:  # the caller's token ends now
        return None
    away = await elsewhere.link(media.card, f"/v1/media/{media.id}" if media.public else path, until, attachment=False)
    return None if away is None else away[0]


async def download_url(signer: Signer, elsewhere: Elsewhere, media: Media, caller: Caller) -> str:
    """A fresh link that downloads the original: ours, the storage's or the CDN's, as the configuration says. Raises: NotFound, Forbidden."""
    if not media.digest:
        raise NotFound("The media has no bytes yet")
    path, until = signer.path(media, caller, Wish(disposition="attachment"))
    away = await elsewhere.link(media.card, path, until, attachment=True)
    return signer.url(path) if away is None else away[0]


def link_routes(records: Records, signer: Signer, elsewhere: Elsewhere, access: Access) -> list[Any]:
    """The handlers of this file."""

    @post(
        "/v1/media/{media_id:str}/sign",
        guards=[records.known],
        status_code=200,
        responses=problems(*READS_RECORD, Forbidden, TooLarge, InvalidArgument),
        security=WITH_TOKEN,
        tags=["links"],
    )
    async def sign(request: Asked, media_id: Id, data: Wish) -> Signed:
        """A signed link to a media that the caller may read."""
        caller = await records.caller(request)
        return signer.sign(await records.readable(caller, media_id), caller, data)

    @post(
        "/v1/sign", guards=[records.known], status_code=200, responses=problems(*NEEDS_TOKEN, TooLarge), security=WITH_TOKEN, tags=["links"]
    )
    async def sign_batch(request: Asked, data: Batch) -> SignedBatch:
        """Signed links to many media; each item succeeds or fails by itself."""
        caller = await records.caller(request)
        access.needs(caller, Scope.READ)
        items = []
        for wish in data.items:
            try:
                media = await records.readable(caller, wish.id)
                made = signer.sign(media, caller, Wish(**{name: value for name, value in asdict(wish).items() if name != "id"}))
                items.append(SignedItem(wish.id, made.url, made.expires_at))
            except MediaError as error:
                if error.status >= 500:
                    raise
                items.append(SignedItem(wish.id, code=error.code, detail=error.detail))
        return SignedBatch(items)

    @get(
        "/v1/media/{media_id:str}/download",
        status_code=302,
        media_type="text/plain",
        responses=problems(*READS_RECORD, Forbidden),
        response_headers=[ResponseHeader(name="Location", description="The signed link", documentation_only=True)],
        security=WITH_TOKEN,
        tags=["links"],
    )
    async def download(request: Asked, media_id: Id) -> Response[bytes]:
        """Redirect to a fresh link that downloads the original: ours, the storage's or the CDN's, as the configuration says."""
        caller = await records.caller(request)
        url = await download_url(signer, elsewhere, await records.readable(caller, media_id), caller)
        return Response(b"", status_code=302, media_type="text/plain", headers={"Location": url, "Cache-Control": "no-store"})

    @post(
        "/v1/media/{media_id:str}/cookies",
        guards=[records.known],
        status_code=200,
        responses=problems(*READS_RECORD, Forbidden, Unavailable),
        security=WITH_TOKEN,
        tags=["links"],
    )
    async def cookies(request: Asked, media_id: Id) -> Response[Signed]:
        """Cookies of the CDN for all that lies beneath a media, such as a stream's segments; `url` is where it begins there. 404 where there are none."""
        caller = await records.caller(request)
        media = await records.readable(caller, media_id)
        path, until = signer.path(media, caller, Wish(prefix=True))
        found = await elsewhere.cookies(media.card, path, until)
        if found is None:
            raise NotFound("There are no cookies for this media")
        given, ends = found
        seconds = int((ends - datetime.now(UTC)).total_seconds())
        made = [
            Cookie(key=name, value=value, path=given.path, domain=given.domain, max_age=seconds, secure=True, httponly=True, samesite="lax")
            for name, value in given.values.items()
        ]
        return Response(Signed(given.url, ends), headers={"Cache-Control": "no-store"}, cookies=made)

    return [sign, sign_batch, download, *([cookies] if elsewhere.has_cookies else [])]
