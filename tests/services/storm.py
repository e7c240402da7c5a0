"""A relay before a real S3 server that spoils what passes through it, as a test says: refusals, lost answers, cut bodies, silence, lies about lengths."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web
from msgspec import Struct

Spoil = Callable[["Storm", web.Request], Awaitable[web.StreamResponse]]


class Rule(Struct):
    """What happens to the next `times` requests of this method whose query or path has `text` in it, after the first `after` of them."""

    method: str
    spoil: Spoil
    text: str = ""
    times: int = 1
    after: int = 0


class Storm:
    """The relay. `seen` holds every request as "METHOD /path?query"."""

    def __init__(self, target: str, client: aiohttp.ClientSession) -> None:
        self.rules: list[Rule] = []
        self.seen: list[str] = []
        self.endpoint = ""
        self._target = target
        self._client = client

    def on(self, method: str, spoil: Spoil, text: str = "", *, times: int = 1, after: int = 0) -> None:
        self.rules.append(Rule(method, spoil, text, times, after))

    def count(self, method: str, text: str = "") -> int:
        return sum(each.startswith(f"{method} ") and text in each for each in self.seen)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(f"{request.method} {request.raw_path}")
        for rule in self.rules:
            if rule.method == request.method and rule.text in request.raw_path and rule.times:
                if rule.after:
                    rule.after -= 1
                    continue
                rule.times -= 1
                return await rule.spoil(self, request)
        return await self.relay(request)

    async def relay(self, request: web.Request, *, cut: int | None = None, lost: bool = False) -> web.StreamResponse:
        """Pass the request on, and the answer back: only its first `cut` bytes, or nothing of it at all."""
        path = (
            request.raw_path if request.raw_path.startswith("/") else request.raw_path[len(self._target) :]
        )  # a proxy hears whole addresses
        url = aiohttp.client.URL(f"{self._target}{path}", encoded=True)
        data = request.content if request.can_read_body else None
        async with self._client.request(request.method, url, headers=request.headers, data=data, allow_redirects=False) as upstream:
            if lost:
                await upstream.read()
                return reset(request)
            headers = {name: value for name, value in upstream.headers.items() if name != "Transfer-Encoding"}
            response = web.StreamResponse(status=upstream.status, headers=headers)
            await response.prepare(request)
            if request.method == "HEAD":
                return response
            async for chunk in upstream.content.iter_chunked(65536):
                await response.write(chunk if cut is None else chunk[:cut])
                if cut is not None:
                    cut -= len(chunk)
                    if cut <= 0:
                        return reset(request)
            return response


def reset(request: web.Request) -> web.StreamResponse:
    """Break the connection."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def refusal(status: int, code: str) -> Spoil:
    """Answer with an error document, without asking the server."""

    async def spoil(storm: Storm, request: web.Request) -> web.StreamResponse:
        await request.read()
        return web.Response(status=status, text=f"<Error><Code>{code}</Code><Message>m</Message></Error>", content_type="application/xml")

    return spoil


def canned(status: int, body: bytes, **headers: str) -> Spoil:
    """Answer with exactly this; underscores of header names are hyphens."""

    async def spoil(storm: Storm, request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=body, headers={name.replace("_", "-"): value for name, value in headers.items()})

    return spoil


def cut(after: int) -> Spoil:
    """Pass on, and break the connection after so many bytes of the answer's body."""
    return lambda storm, request: storm.relay(request, cut=after)


async def lose_answer(storm: Storm, request: web.Request) -> web.StreamResponse:
    """Have it done, and break the connection in place of the answer."""
    return await storm.relay(request, lost=True)


async def drop(storm: Storm, request: web.Request) -> web.StreamResponse:
    """Break the connection at once."""
    return reset(request)


async def silence(storm: Storm, request: web.Request) -> web.StreamResponse:
    """Neither read nor answer, until the client is tired of it."""
    await asyncio.sleep(30)
    return reset(request)


def slowly(seconds: float) -> Spoil:
    """Pass on after a while."""

    async def spoil(storm: Storm, request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return await storm.relay(request)

    return spoil


@asynccontextmanager
async def open_storm(target: str) -> AsyncIterator[Storm]:
    """Relay to the server at `target` until the context is left."""
    own = ("Content-Type", "User-Agent", "Accept", "Accept-Encoding")
    async with aiohttp.ClientSession(skip_auto_headers=own, auto_decompress=False) as client:
        storm = Storm(target, client)
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", storm.answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        assert site._server is not None
        storm.endpoint = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[attr-defined]
        try:
            yield storm
        finally:
            await runner.cleanup()
