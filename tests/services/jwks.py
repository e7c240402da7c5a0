"""A JWKS server for tests: it can rotate its keys, fail, be slow or answer anything at all, and counts what reaches it."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web


class JwksServer:
    """What the server answers now, for a test to change at any time; `hits` counts requests to any path."""

    def __init__(self, keys: Sequence[dict[str, Any]] = ()) -> None:
        self.keys: list[dict[str, Any]] = list(keys)
        self.status = 200
        self.delay = 0.0
        self.body: bytes | None = None
        """Sent instead of the key set where not None."""
        self.headers: dict[str, str] = {}
        self.hits = 0
        self.seen: list[str] = []
        self.origin = ""

    @property
    def url(self) -> str:
        return f"{self.origin}/jwks.json"

    @property
    def port(self) -> int:
        return int(self.origin.rpartition(":")[2])

    async def answer(self, request: web.Request) -> web.Response:
        self.hits += 1
        self.seen.append(request.path)
        await asyncio.sleep(self.delay)
        body = self.body if self.body is not None else json.dumps({"keys": self.keys}).encode()
        return web.Response(status=self.status, body=body, headers=self.headers, content_type="application/jwk-set+json")


@asynccontextmanager
async def jwks_server(keys: Sequence[dict[str, Any]] = ()) -> AsyncIterator[JwksServer]:
    """Serve `keys` on a free port of 127.0.0.1 until the context is left."""
    server = JwksServer(keys)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    server.origin = f"http://{host}:{port}"
    try:
        yield server
    finally:
        await runner.cleanup()
