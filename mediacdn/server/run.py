"""Run an ASGI application on our protocol until it is told to stop: sockets, uvicorn's settings, signals and the order of a graceful end."""

import asyncio
import gc
import math
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import uvicorn

from mediacdn.config import Server
from mediacdn.errors import StartupError
from mediacdn.server import listening, loop
from mediacdn.server.deadlines import Deadlines, deadline_protocol
from mediacdn.server.lane import Lane
from mediacdn.server.listening import Listener
from mediacdn.server.member import Member
from mediacdn.server.prompt import wake_promptly

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def run(
    app: Any,
    settings: Server,
    *,
    ready: Callable[[str], None] | None = None,
    on_drain: Callable[[], None] | None = None,
    drain_delay: float = 0.0,
    protocol: type[Deadlines] | None = None,
    member: Member | None = None,
) -> None:
    """`serve` on a uvloop of its own; returns after a graceful stop, so that the process may exit with 0. Raises: StartupError."""
    loop.run(serve(app, settings, ready=ready, on_drain=on_drain, drain_delay=drain_delay, protocol=protocol, member=member))


async def serve(
    app: Any,
    settings: Server,
    *,
    ready: Callable[[str], None] | None = None,
    on_drain: Callable[[], None] | None = None,
    drain_delay: float = 0.0,
    protocol: type[Deadlines] | None = None,
    member: Member | None = None,
) -> None:
    """Serve `app` until SIGTERM or SIGINT, or until cancelled.

    `ready` is called once requests are taken, with "http://HOST:PORT" (the real port where 0 was asked) or "unix:PATH". On the first signal `on_drain` is
    called and everything is still served for `drain_delay` seconds, in which a balancer can see that /readyz turned; then listening stops, idle
    connections close, and answers under way have `settings.shutdown_timeout` seconds; a second signal ends that wait. `protocol` stands in for the
    plain deadlines, made for the same settings. With a `member` this process is one of several: it accepts on the member's sockets, its parent's orders end
    it, and a signal of its own only drains it, once. Raises: StartupError, when the address is taken or the application's lifespan fails.
    """
    listener = listening.listen(settings) if member is None else Listener([member.sockets], member.bound)
    config = uvicorn.Config(
        app,
        http=protocol or deadline_protocol(settings, Lane),
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        backlog=listening.BACKLOG,
        timeout_keep_alive=math.ceil(settings.idle_timeout),
        timeout_graceful_shutdown=math.ceil(settings.shutdown_timeout),
    )
    server = _Server(config, listener.bound, ready, on_drain, drain_delay, member)
    try:
        async with nullcontext() if member is None else member.heard(server):
            await server.serve(listener.sockets)
    except SystemExit as exc:  # uvicorn's way to say that the lifespan failed; what failed is in the log
        raise StartupError("the application did not start") from exc
    finally:
        listener.close()
    if server.cancelled:
        raise asyncio.CancelledError


class _Server(uvicorn.Server):
    """uvicorn's server with a say at the start and at the end. uvicorn raises its signal again when all is done, which would make a graceful stop end with 143."""

    def __init__(
        self,
        config: uvicorn.Config,
        bound: str,
        ready: Callable[[str], None] | None,
        on_drain: Callable[[], None] | None,
        drain_delay: float,
        member: Member | None,
    ) -> None:
        super().__init__(config)
        self._bound = bound
        self._ready = ready
        self._on_drain = on_drain
        self._drain_delay = drain_delay
        self._member = member
        self._adopted: dict[int, list[asyncio.Server]] = {}
        self._draining = False
        self.cancelled = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What stands now stays: the collector need not walk through it again, nor come after every few requests.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)
        wake_promptly()
        if self._ready is not None:
            self._ready(self._bound)
        if self._member is not None:
            self._member.ready()

    async def main_loop(self) -> None:
        try:
            await super().main_loop()
        except asyncio.CancelledError:  # still end in order; uvicorn would leave its connections and the lifespan open
            self.cancelled = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        own = asyncio.get_running_loop()
        caught = []
        for each in SIGNALS:
            with suppress(ValueError, RuntimeError):  # only the main thread may; elsewhere cancellation is the way to stop
                own.add_signal_handler(each, self._signalled, each)
                caught.append(each)
        try:
            yield
        finally:
            for each in caught:
                own.remove_signal_handler(each)

    def _signalled(self, which: signal.Signals) -> None:
        if self._member is None:
            self.hurry() if self._draining else self.drain()
        elif which == signal.SIGTERM:
            # Sent to the whole group it reaches the parent too, whose order is then the second of the same: only an order hurries, and Ctrl-C is the parent's.
            self.drain()

    def drain(self, delay: float | None = None) -> None:
        """Begin to end: serve on for `delay` seconds (as settled at the start by default), then finish what is under way. Once; further calls do nothing."""
        if self._draining:
            return
        self._draining = True
        if self._on_drain is not None:
            self._on_drain()
        asyncio.get_running_loop().call_later(self._drain_delay if delay is None else delay, self._finish)

    def hurry(self) -> None:
        """End without waiting for anything."""
        self._draining = self.should_exit = self.force_exit = True

    def _finish(self) -> None:
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._member is not None:
            self._member.leaving()
        await super().shutdown(sockets)

    async def adopt(self, slot: int, sockets: Sequence[socket.socket]) -> None:
        """Accept on the sockets of another slot too, which become ours to close."""
        if self.should_exit or not self.started or slot in self._adopted:
            for each in sockets:
                each.close()
            return
        own = asyncio.get_running_loop()
        self._adopted[slot] = [await own.create_server(self._protocol, sock=each, backlog=self.config.backlog) for each in sockets]
        self.servers += self._adopted[slot]

    def release(self, slot: int) -> None:
        """Accept no longer for another slot; what was accepted stays."""
        for each in self._adopted.pop(slot, ()):
            each.close()
            self.servers.remove(each)

    def _protocol(self) -> asyncio.Protocol:
        kind: Any = self.config.http_protocol_class
        made: asyncio.Protocol = kind(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
        return made
