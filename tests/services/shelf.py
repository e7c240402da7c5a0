"""A small server after the contract, for tests of its client: it keeps media in memory, notes every request, and fails as it is told to."""

import asyncio
import hashlib
import json
from base64 import b64encode
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote

from aiohttp import web

Fault = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


class Shelf:
    """`media` maps ids to bytes. Each request takes the next of `faults`, which answers in the shelf's place, or does its harm and answers None."""

    def __init__(self) -> None:
        self.media: dict[str, bytes] = {}
        self.faults: deque[Fault] = deque()
        self.seen: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.cut_after: deque[int] = deque()
        """How many bytes of the next bodies are sent before their connection breaks."""
        self.if_range = True
        """Whether If-Range is honoured."""
        self.lie: str | None = None
        """A digest to claim in place of the true one."""
        self.origin = ""

    def add(self, key: str, content: bytes) -> None:
        self.media[key] = content

    @property
    def asked(self) -> list[str]:
        return [f"{each.method} {each.path}" for each in self.seen]

    def record(self, key: str) -> dict[str, Any]:
        content = self.media[key]
        digest = hashlib.sha256(content).hexdigest()
        return {"id": key, "owner": "o", "size": len(content), "digest": digest, "media_type": "image/png", "urls": {}, "new_member": 1}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        if self.faults:
            fault = self.faults.popleft()
            answered = await fault(request)
            if answered is not None:
                return answered
        if request.method == "POST" and request.path == "/v1/media":
            return await self._store(request)
        if request.path == "/v1/media":
            return self._page(request)
        key, _, rest = request.path.removeprefix("/v1/media/").partition("/")
        if key not in self.media:
            return problem(404, "not_found")
        if request.method == "DELETE" and not rest:
            del self.media[key]
            return web.Response(status=204)
        if rest == "sign":
            return web.json_response({"url": f"/v1/media/{key}?sig=x", "expires_at": "2030-01-01T00:00:00Z"})
        if rest:
            return web.json_response(self.record(key), headers={"ETag": '"r1"'})
        return await self._send(request, self.media[key])

    async def _store(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.bodies.append(body)
        known = next((key for key, content in self.media.items() if content == body), None)
        key = known or f"01ARZ3NDEKTSV4RRFFQ69G{len(self.media):04}"
        self.media[key] = body
        return web.json_response(self.record(key), status=200 if known else 201)

    def _page(self, request: web.Request) -> web.Response:
        ids = sorted(self.media)
        start = int(request.query.get("cursor", "0"))
        stop = start + int(request.query["limit"])
        items = [self.record(key) for key in ids[start:stop]]
        return web.json_response({"items": items, "next": str(stop) if stop < len(ids) else None})

    async def _send(self, request: web.Request, content: bytes) -> web.StreamResponse:
        sha256 = hashlib.sha256(content)
        digest = self.lie or sha256.hexdigest()
        etag = f'"sha256:{digest}"'
        headers = {"ETag": etag, "Repr-Digest": f"sha-256=:{b64encode(bytes.fromhex(digest)).decode()}:", "Content-Type": "image/png"}
        status, start, stop = 200, 0, len(content)
        wanted = request.headers.get("Range")
        if wanted is not None and (not self.if_range or request.headers.get("If-Range", etag) == etag):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, stop = int(first), min(int(last) + 1 if last else len(content), len(content))
            if start >= len(content):
                return problem(416, "range_not_satisfiable")
            status = 206
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
        response = web.StreamResponse(status=status, headers=headers)
        response.content_length = stop - start
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        if self.cut_after:
            await response.write(content[start : min(stop, start + self.cut_after.popleft())])
            assert request.transport is not None
            await asyncio.sleep(0.02)
            request.transport.abort()
            return response
        await response.write(content[start:stop])
        return response


def problem(status: int, code: str, **headers: str) -> web.Response:
    document = {"type": "about:blank", "title": "t", "status": status, "detail": f"detail of {code}", "code": code, "request_id": "r1"}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.Response(status=status, text=json.dumps(document), content_type="application/problem+json", headers=named)


def refuse(status: int, code: str, **headers: str) -> Fault:
    """Answer with a problem document, without reading the body."""

    async def fault(request: web.Request) -> web.StreamResponse:
        return problem(status, code, **headers)

    fault.early = True  # type: ignore[attr-defined]
    return fault


def refuse_late(status: int, code: str) -> Fault:
    """Answer with a problem document once the body is read."""

    async def fault(request: web.Request) -> web.StreamResponse:
        await request.read()
        return problem(status, code)

    return fault


async def reset(request: web.Request) -> web.StreamResponse:
    """Break the connection in place of an answer, the request's body read."""
    await request.read()
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


def filename_of(request: web.Request) -> str:
    return unquote(request.headers["X-Media-Filename"].removeprefix("UTF-8''"))


@asynccontextmanager
async def open_shelf() -> AsyncIterator[Shelf]:
    shelf = Shelf()
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", shelf.answer, expect_handler=_expect(shelf))
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    shelf.origin = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[attr-defined]
    try:
        yield shelf
    finally:
        await runner.cleanup()


def _expect(shelf: Shelf) -> Callable[[web.Request], Awaitable[web.StreamResponse | None]]:
    """Say 100 (Continue), unless a refusal is due: that one is the answer, and the body never comes."""

    async def handle(request: web.Request) -> web.StreamResponse | None:
        early = bool(shelf.faults) and getattr(shelf.faults[0], "early", False)
        if not early and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")  # type: ignore[attr-defined]
        return None

    return handle
