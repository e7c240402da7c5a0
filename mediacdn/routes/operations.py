"""What operators and machines ask of the server itself: health, readiness, limits and capabilities, metrics."""

import ipaddress
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio
from litestar import Request, Response, get
from msgspec import Struct
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from mediacdn.config import Config
from mediacdn.errors import MediaError, Unauthorized
from mediacdn.http.peers import host_allowed
from mediacdn.model import Scope
from mediacdn.routes.callers import Callers
from mediacdn.routes.contract import WITH_TOKEN_OR_NOTHING, answers, problems
from mediacdn.routes.views import Addresses

_PROXIED = frozenset((b"forwarded", b"via", b"x-real-ip", b"x-client-ip", b"cf-connecting-ip", b"true-client-ip"))
Asked = Request[Any, Any, Any]
Check = Callable[[], Awaitable[None]]


class Health(Struct, frozen=True):
    status: str


class Readiness(Struct, frozen=True, omit_defaults=True):
    """`status` is ready, degraded (all works, some of it slower), unready or draining; `checks` names each dependency's state, for operators only."""

    status: str
    checks: dict[str, str] = {}


class WellKnown(Struct, frozen=True):
    """Limits and capabilities. Sizes are bytes."""

    base_uri: str
    auth_required: bool
    max_upload_size: int
    max_upload_size_by_type: dict[str, int]
    storage_mode: str
    region: str | None
    capabilities: list[str]


CAPABILITIES = [
    "ranges",
    "signed_urls",
    "prefix_links",
    "deduplication",
    "idempotency",
    "quarantine",
    "retention",
    "digests",
    "tus",
    "resumable_uploads",
]


def operation_routes(
    *,
    config: Config,
    callers: Callers,
    addresses: Addresses,
    exposition: Callable[[], Awaitable[bytes]],
    checks: Mapping[str, Check],
    lesser: Mapping[str, Check],
    draining: Callable[[], bool],
    storage_mode: str,
    region: str | None,
) -> list[Any]:
    """The handlers of this file."""

    async def operator(request: Asked) -> bool:
        """Whether the caller may see inside: by `server.metrics`, from loopback without a proxy between, or with an admin token."""
        if config.server.metrics == "anyone":
            return True
        if config.server.metrics == "loopback" and _local(request.scope):
            return True
        try:
            return (await callers.by_token(request.scope)).has(Scope.ADMIN)
        except MediaError:
            return False

    @get("/healthz", responses=problems(), tags=["operations"])
    async def healthz() -> Health:
        """200 as long as the process answers."""
        return Health("ok")

    @get(
        "/readyz",
        responses={**answers(Readiness, "A dependency does not answer, or the server is about to stop", status=503), **problems()},
        security=WITH_TOKEN_OR_NOTHING,
        tags=["operations"],
    )
    async def readyz(request: Asked) -> Response[Readiness]:
        """200 when every dependency answers that is needed, else 503."""
        states: dict[str, str] = {}

        async def ask(name: str, check: Check, seconds: float) -> None:
            try:
                with anyio.fail_after(seconds):
                    await check()
                states[name] = "ok"
            except (MediaError, TimeoutError) as error:
                states[name] = getattr(error, "code", "timeout")

        async with anyio.create_task_group() as group:
            for name, check in checks.items():
                group.start_soon(ask, name, check, 3.0)
            for name, check in lesser.items():
                group.start_soon(ask, name, check, 1.0)
        ready = not draining() and all(states[name] == "ok" for name in checks)
        well = "ready" if all(states[name] == "ok" for name in lesser) else "degraded"
        status = well if ready else "draining" if draining() else "unready"
        shown = dict(sorted(states.items())) if await operator(request) else {}
        return Response(Readiness(status, shown), status_code=200 if ready else 503, headers={} if ready else {"Retry-After": "5"})

    @get("/.well-known", responses=problems(), tags=["operations"])
    async def well_known() -> Response[WellKnown]:
        """Limits and capabilities of this server."""
        return Response(
            WellKnown(
                base_uri=addresses.url("/v1/media"),
                auth_required=True,
                max_upload_size=config.limits.max_upload_size,
                max_upload_size_by_type=config.limits.by_type,
                storage_mode=storage_mode,
                region=region,
                capabilities=CAPABILITIES,
            ),
            headers={"Cache-Control": "public, max-age=300"},
        )

    @get("/metrics", media_type="text/plain", responses=problems(Unauthorized), security=WITH_TOKEN_OR_NOTHING, tags=["operations"])
    async def metrics(request: Asked) -> Response[bytes]:
        """Prometheus exposition."""
        if not await operator(request):
            raise Unauthorized()
        return Response(await exposition(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return [healthz, readyz, well_known, metrics]


_LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")


def _local(scope: Any) -> bool:
    """Whether the request was made on this machine. A field that only proxies write means that one stands between, trusted or not."""
    if any(name in _PROXIED or name.startswith(b"x-forwarded-") for name, _ in scope["headers"]):
        return False
    if not host_allowed(next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), ""), _LOCAL_HOSTS):
        return False  # a name that somebody else's DNS points here
    peer = scope.get("peer")
    if peer is None:
        return bool(scope.get("client") is None)  # a unix socket
    try:
        return ipaddress.ip_address(peer).is_loopback
    except ValueError:
        return False
