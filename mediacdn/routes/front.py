"""What stands before every route: request id, the client behind trusted proxies, allowed hosts, cross-origin fields, the access log and its metrics."""

import re
import time
from collections.abc import Awaitable, Callable
from secrets import token_hex
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram

from mediacdn.config import Cors, Server
from mediacdn.errors import HostNotAllowed, MediaError
from mediacdn.http.cors import cors_fields, preflight_fields
from mediacdn.http.peers import client_address, host_allowed, parse_networks
from mediacdn.routes.bodies import ClientGone
from mediacdn.routes.problem import render
from mediacdn.signing import mask

log = structlog.get_logger("mediacdn.access")
Asgi = Callable[[Any, Any, Any], Awaitable[None]]

# A media's bytes, as against its record and the acts on it: open to any origin.
# The router takes runs of slashes for one and ignores a last one, so that is what an act's path may look like too.
_MEDIA_READ = re.compile(
    r"(?:/s/[^/]+)?/v1/media/[0-9A-Z]{26}(?:/+(?!/|(?:record|download|explain|sign|quarantine|revoke|source)(?:/|$)|tasks).*)?"
)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,128}")


class RequestMetrics:
    """Counted by route template, so that ids never become labels."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter("mediacdn_requests", "Requests answered", ["method", "route", "status"], registry=registry)
        self.seconds = Histogram("mediacdn_request_seconds", "Time to the end of the answer", ["route"], registry=registry)
        self.sent = Counter("mediacdn_sent_bytes", "Bytes of bodies sent", registry=registry)
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def count(self, method: str, route: str, status: int, seconds: float, sent: int) -> None:
        """Count one answer. The labelled children are kept: finding them anew costs as much as counting."""
        key = (method if method in _METHODS else "other", route, status)
        children = self._children.get(key)
        if children is None:
            children = self._children[key] = (self.requests.labels(*key), self.seconds.labels(route))
        children[0].inc()
        children[1].observe(seconds)
        if sent:
            self.sent.inc(sent)


class Front:
    """An ASGI application around the framework's."""

    def __init__(self, inner: Asgi, server: Server, cors: Cors, registry: CollectorRegistry, methods: Callable[[str], list[str]]) -> None:
        self._inner = inner
        self._methods = methods
        self._base = server.base_path
        self._hosts = server.allowed_hosts
        self._trusted = parse_networks(server.trusted_proxies)
        self._trusts_socket = "unix" in server.trusted_proxies
        self._cors = cors
        self._metrics = RequestMetrics(registry)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        began = time.monotonic()
        host = origin = forwarded = given_id = asked_method = None
        for name, value in scope["headers"]:
            if name == b"host":
                host = value.decode("latin-1")
            elif name == b"origin":
                origin = value.decode("latin-1")
            elif name == b"x-forwarded-for":
                forwarded = f"{forwarded}, {value.decode('latin-1')}" if forwarded else value.decode("latin-1")
            elif name == b"x-request-id":
                given_id = value.decode("latin-1")
            elif name == b"access-control-request-method":
                asked_method = value.decode("latin-1")
        peer = scope["client"][0] if scope.get("client") else None
        scope["peer"] = client_address(peer, forwarded, self._trusted)
        request_id = given_id if given_id and peer != scope["peer"] and _REQUEST_ID.fullmatch(given_id) else token_hex(8)
        scope["request_id"] = request_id
        method = scope["method"]
        read = (asked_method or method) in ("GET", "HEAD") and _MEDIA_READ.fullmatch(scope["path"].removeprefix(self._base)) is not None
        extra = cors_fields(origin, media_read=read, media_origins=self._cors.media_origins, origins=self._cors.origins)
        extra.append((b"x-request-id", request_id.encode()))
        status = sent = 0

        async def sending(message: Any) -> None:
            nonlocal status, sent
            kind = message["type"]
            if kind == "http.response.body":
                sent += len(message.get("body", b""))
            elif kind == "http.response.zerocopysend":
                sent += message["count"]
            elif kind == "http.response.start":
                status = message["status"]
                message = {**message, "headers": complete(message.get("headers", []), extra)}
            await send(message)

        try:
            if self._hosts and not host_allowed(host or "", self._hosts):
                await _problem(sending, HostNotAllowed(), request_id)
            elif method == "OPTIONS" and asked_method is not None and origin is not None:
                allowed = any(name == b"access-control-allow-origin" for name, _ in extra)
                fields = preflight_fields(media_read=read, max_age=self._cors.max_age) if allowed else []
                await sending({"type": "http.response.start", "status": 204, "headers": fields})
                await sending({"type": "http.response.body", "body": b""})
            elif method == "OPTIONS" and (known := self._methods(scope["path"])):
                await sending({"type": "http.response.start", "status": 204, "headers": [(b"allow", ", ".join(known).encode())]})
                await sending({"type": "http.response.body", "body": b""})
            else:
                await self._inner(scope, receive, sending)
        except ClientGone:
            status = 499
        except Exception as error:  # after the head was sent: the only honest end is a broken connection
            reason = error if isinstance(error, MediaError) else error.__cause__  # the framework wraps what comes too late for it
            if not isinstance(reason, MediaError):
                raise
            status = reason.status
            log.error("answer broken off", request_id=request_id, code=reason.code, detail=reason.detail)
            raise reason from None
        finally:
            took = time.monotonic() - began
            route = scope.get("path_template") or "unknown"
            self._metrics.count(method, route, status, took, sent)
            log.info(
                "request",
                request_id=request_id,
                client=scope["peer"],
                subject=scope.get("subject"),
                method=method,
                path=mask(
                    scope["raw_path"].decode("latin-1") + ("?" + scope["query_string"].decode("latin-1") if scope["query_string"] else "")
                ),
                status=status,
                bytes=sent,
                ms=round(took * 1000, 2),
            )


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def complete(headers: Any, extra: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The answer's fields with those that every answer carries; nothing is stored by a cache unless its route said so."""
    fields = [*headers, *extra]
    names = {name.lower() for name, _ in headers}
    if b"cache-control" not in names:
        fields.append((b"cache-control", b"no-store"))
    if b"x-content-type-options" not in names:
        fields.append((b"x-content-type-options", b"nosniff"))
    return fields


async def _problem(send: Any, error: MediaError, request_id: str) -> None:
    headers, body = render(error, request_id)
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
