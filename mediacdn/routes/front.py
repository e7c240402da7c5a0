"""What stands before every route: request id, the client behind trusted proxies, allowed hosts, cross-origin fields, the access log and its metrics."""

import re
import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterator, Mapping
from random import Random
from typing import Any

import structlog
from msgspec import Struct
from msgspec.structs import replace
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

from mediacdn.accel import ASKED_BY, WAY
from mediacdn.config import Cors, Server
from mediacdn.errors import HostNotAllowed, MediaError
from mediacdn.http.cors import cors_fields, preflight_fields
from mediacdn.http.fields import Fields, field_lines, field_pairs, joined
from mediacdn.http.peers import client_address, host_allowed, parse_networks, peer_trusted
from mediacdn.logs import access_log
from mediacdn.routes.bodies import ClientGone
from mediacdn.routes.problem import render

log = structlog.get_logger("mediacdn.access")
Asgi = Callable[[Any, Any, Any], Awaitable[None]]

# A media's bytes, as against its record and the acts on it: open to any origin.
# The router takes runs of slashes for one and ignores a last one, so that is what an act's path may look like too.
_MEDIA_READ = re.compile(
    r"(?:/s/[^/]+)?/v1/media/[0-9A-Z]{26}(?:/+(?!/|(?:record|variants|download|explain|sign|cookies|quarantine|revoke|source|ancestors|descendants|derivatives)(?:/|$)|tasks).*)?"
)
_PARAMETER = re.compile(r"\{(\w+):(\w+)\}")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,128}")


_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class RequestMetrics:
    """Counted by route template, so that ids never become labels; in plain numbers, which are put into families when somebody asks."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests: dict[tuple[str, str, int], tuple[list[int], list[float]]] = {}
        self._seconds: dict[str, list[float]] = {}
        self._sent = 0
        registry.register(self)

    def count(self, method: str, route: str, status: int, seconds: float, sent: int) -> None:
        """Count one answer."""
        known = self._requests.get((method, route, status))
        if known is None:
            # One count a bucket, then what is over the last, then the sum.
            times = self._seconds.setdefault(route, [0.0] * (len(_BUCKETS) + 2))
            known = self._requests.setdefault((method if method in _METHODS else "other", route, status), ([0], times))
        counted, times = known
        counted[0] += 1
        times[bisect_left(_BUCKETS, seconds)] += 1
        times[-1] += seconds
        self._sent += sent

    def collect(self) -> Iterator[Metric]:
        """Tell the registry."""
        requests = CounterMetricFamily("mediacdn_requests", "Requests answered", labels=["method", "route", "status"])
        for (method, route, status), ((number,), _) in list(self._requests.items()):
            requests.add_metric([method, route, str(status)], number)
        yield requests
        took = HistogramMetricFamily("mediacdn_request_seconds", "Time to the end of the answer", labels=["route"])
        for route, times in list(self._seconds.items()):
            buckets, total = [], 0.0
            for edge, count in zip((*map(str, _BUCKETS), "+Inf"), times[:-1], strict=True):
                total += count
                buckets.append((edge, total))
            took.add_metric([route], buckets=buckets, sum_value=times[-1])
        yield took
        yield CounterMetricFamily("mediacdn_sent_bytes", "Bytes of bodies sent", value=self._sent)


class Met(Struct, frozen=True):
    """What is known of a request before its route: the client behind trusted proxies, the request's id, and what the answer to it tells of its origin."""

    peer: str | None
    request_id: str
    cors: bytes
    """Field lines."""
    host_allowed: bool
    hands_over: bool = False
    """Whether it came by a trusted proxy that sends files of ours itself, and asked to be told which."""

    @property
    def extra(self) -> Fields:
        """The fields that every answer to it carries."""
        return field_pairs([self.lines])

    @property
    def lines(self) -> bytes:
        """The same as they are sent."""
        return b"%bx-request-id: %b\r\n" % (self.cors, self.request_id.encode())


class Front:
    """An ASGI application around the framework's; the hot lane, which answers past it, asks the same `meet`, `complete` and `tell`."""

    def __init__(
        self,
        inner: Asgi,
        server: Server,
        cors: Cors,
        registry: CollectorRegistry,
        methods: Callable[[str], list[str]],
        options: Callable[[str], Fields] = lambda path: [],
    ) -> None:
        """`methods` names those of a path, `options` what an OPTIONS request for it is told besides."""
        self._inner = inner
        self._methods = methods
        self._options = options
        self._base = server.base_path
        self._mounted: list[re.Pattern[str]] = []
        self._hosts = server.allowed_hosts
        self._accel = bool(server.accel)
        self._trusted = parse_networks(server.trusted_proxies)
        self._cors = cors
        self._anyone = self._told(None, media_read=True) if "*" in cors.media_origins else None
        self._metrics = RequestMetrics(registry)
        self._access = access_log()
        self._random = Random()  # noqa: S311 - request ids are to differ, not to be secret, and every answer has one

    def mount(self, path: str, at: str) -> None:
        """Say that the route `path` of the core's own is also at `at`: where the one reads media, so does the other."""
        if _MEDIA_READ.fullmatch(_PARAMETER.sub(lambda found: "0" * 26 if found[1] == "media_id" else "x", path)):
            pieces = _PARAMETER.split(at)
            shape = [".+" if each == "path" else "[^/]+" for each in pieces[2::3]]
            whole = "".join(re.escape(text) + more for text, more in zip(pieces[0::3], [*shape, ""], strict=True))
            self._mounted.append(re.compile(whole))

    def _reads_media(self, path: str) -> bool:
        return _MEDIA_READ.fullmatch(path) is not None or any(each.fullmatch(path) for each in self._mounted)

    def meet(self, client: str | None, method: str, fields: Mapping[str, str], *, media_read: bool) -> Met:
        """Find out who comes and what its answer carries. `client` is the connection's other end, None for a unix socket; `method` may be the one a preflight asks for."""
        return self.met(self.greet(client, method, fields, media_read=media_read))

    def greet(self, client: str | None, method: str, fields: Mapping[str, str], *, media_read: bool) -> Met:
        """`meet` as far as it is the same for every request with these fields: the request's id is empty unless a trusted proxy gives it."""
        peer = client_address(client, fields.get("x-forwarded-for"), self._trusted)
        given = fields.get("x-request-id")
        request_id = given if given and client != peer and _REQUEST_ID.fullmatch(given) else ""
        read = media_read and method in ("GET", "HEAD")
        told = self._anyone if read and self._anyone is not None else self._told(fields.get("origin"), media_read=read)
        hands_over = self._accel and fields.get(ASKED_BY) == WAY and peer_trusted(client, self._trusted)
        return Met(peer, request_id, told, not self._hosts or host_allowed(fields.get("host", ""), self._hosts), hands_over)

    def met(self, greeted: Met) -> Met:
        """One request of those that were greeted so: with an id of its own."""
        return greeted if greeted.request_id else replace(greeted, request_id=self.new_id())

    def new_id(self) -> str:
        """An id for a request that brings none."""
        return "%016x" % self._random.getrandbits(64)  # noqa: UP031 - a quarter quicker than a format string

    def _told(self, origin: str | None, *, media_read: bool) -> bytes:
        return field_lines(cors_fields(origin, media_read=media_read, media_origins=self._cors.media_origins, origins=self._cors.origins))

    def complete(self, headers: Any, met: Met) -> Fields:
        """The answer's fields with those that every answer carries; nothing is stored by a cache unless its route said so."""
        fields = [*headers, *met.extra]
        names = {name.lower() for name, _ in headers}
        if b"cache-control" not in names:
            fields.append((b"cache-control", b"no-store"))
        if b"x-content-type-options" not in names:
            fields.append((b"x-content-type-options", b"nosniff"))
        return joined(fields) if b"x-accel-redirect" in names else fields

    def tell(
        self,
        request_id: str,
        peer: str | None,
        method: str,
        target: bytes,
        route: str,
        status: int,
        sent: int,
        subject: str | None,
        began: float,
    ) -> None:
        """Count and log one answer that has ended. `target` is the path with its query as sent (the log masks it); `began` is of the monotonic clock, in seconds."""
        took = time.monotonic() - began
        self._metrics.count(method, route, status, took, sent)
        self._access(request_id, peer, subject, method, target, status, sent, took)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        began = time.monotonic()
        fields: dict[str, str] = {}
        for raw, value in scope["headers"]:
            name = _LOOKED_AT.get(raw)
            if name is not None:
                text = value.decode("latin-1")
                fields[name] = f"{fields[name]}, {text}" if name == "x-forwarded-for" and name in fields else text
        method = scope["method"]
        asked_method = fields.get("access-control-request-method") if method == "OPTIONS" else None  # elsewhere it asks nothing
        media_read = self._reads_media(scope["path"].removeprefix(self._base))
        met = self.meet(scope["client"][0] if scope.get("client") else None, asked_method or method, fields, media_read=media_read)
        read = media_read and (asked_method or method) in ("GET", "HEAD")
        scope["peer"], scope["request_id"], scope["hands_over"] = met.peer, met.request_id, met.hands_over
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
                message = {**message, "headers": self.complete(message.get("headers", []), met)}
            await send(message)

        try:
            if not met.host_allowed:
                await _problem(sending, HostNotAllowed(), met.request_id)
            elif method == "OPTIONS" and asked_method is not None and "origin" in fields:
                allowed = b"access-control-allow-origin: " in met.cors
                preflight = preflight_fields(media_read=read, max_age=self._cors.max_age) if allowed else []
                told = self._options(scope["path"].removeprefix(self._base))
                await sending({"type": "http.response.start", "status": 204, "headers": [*preflight, *told]})
                await sending({"type": "http.response.body", "body": b""})
            elif method == "OPTIONS" and (known := self._methods(scope["path"])):
                told = self._options(scope["path"].removeprefix(self._base))
                await sending({"type": "http.response.start", "status": 204, "headers": [(b"allow", ", ".join(known).encode()), *told]})
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
            log.error("answer broken off", request_id=met.request_id, code=reason.code, detail=reason.detail)
            raise reason from None
        finally:
            target = scope["raw_path"] + b"?" + scope["query_string"] if scope["query_string"] else scope["raw_path"]
            route = scope.get("path_template") or "unknown"
            self.tell(met.request_id, met.peer, method, target, route, status, sent, scope.get("subject"), began)


_LOOKED_AT = {
    name.encode(): name for name in ("host", "origin", "x-forwarded-for", "x-request-id", "access-control-request-method", ASKED_BY)
}
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


async def _problem(send: Any, error: MediaError, request_id: str) -> None:
    headers, body = render(error, request_id)
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
