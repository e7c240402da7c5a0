"""Both doors of one application for tests: the same app, opened once, behind a protocol with the hot lane and behind one without, in a thread with its own loop."""

import asyncio
import re
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import uvicorn
import uvloop
from uvicorn.lifespan.on import LifespanOn
from uvicorn.server import ServerState

from mediacdn import signing
from mediacdn.app import create_app
from mediacdn.catalog.migrate import migrate
from mediacdn.cli.token import minted
from mediacdn.config import Config
from mediacdn.drivers import SystemClock
from mediacdn.keyring import open_keyring
from mediacdn.plugins import Plugins
from mediacdn.server.deadlines import Deadlines, deadline_protocol
from mediacdn.server.lane import Lane

HOST = "t.example"
RESET = b"<reset>"
NARROW = 4096
"""Bytes of the sockets' buffers at the narrow doors: writes pause all the time there."""
_DATE = re.compile(rb"\r\ndate: [A-Z][^\r\n]+ GMT\r\n")
_REQUEST_ID = re.compile(rb'(\r\nx-request-id: |"request_id":")(?:[0-9a-f]{16}|[0-9a-f]{32})(?=\r\n|")')
_BOUNDARY = re.compile(rb"boundary=([0-9a-f]{32})\r\n")


class Said(NamedTuple):
    """What each door said to the same bytes, without what differs from one moment to the next; and how many requests the lane answered by itself."""

    lane: bytes
    route: bytes
    by_lane: int

    @property
    def status(self) -> int:
        return int(self.route[9:12])


class Door:
    """One listening address; `by_lane` counts the requests that never reached the application."""

    def __init__(self, kind: type[Deadlines]) -> None:
        self.by_lane = 0
        door = self

        class Watched(kind):  # type: ignore[misc,valid-type]
            def _again(self, data: bytes) -> bool:
                answered: bool = super()._again(data)
                door.by_lane += answered
                return answered

            def serve(self, version: str) -> None:
                exchange = self.cycle
                super().serve(version)
                door.by_lane += self.cycle is exchange  # who goes on to the application gets an Exchange

        self.kind = Watched
        self.address = ("", 0)

    def connect(self, receive_buffer: int = 0) -> socket.socket:
        client = socket.socket()
        if receive_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.settimeout(20)
        client.connect(self.address)
        return client


class Doors:
    """The running pair, and what tests need of the server behind it. `now` is the server's clock: it stands still, and may be set."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.data = Path(config.server.data)
        self.base = config.server.base_path
        self.now = datetime.now(UTC)
        self.lane, self.route, self.narrow_lane, self.narrow_route = (Door(kind) for kind in (Lane, Deadlines, Lane, Deadlines))
        self.last = request("/the-last-request", ("Connection", "close"))
        self.client: httpx.Client
        self._tokens: dict[str, str] = {}

    async def serve(self, ready: threading.Event, end: asyncio.Event) -> None:
        """Serve until `end`."""
        plugins = Plugins.load(self.config.plugins)
        await migrate(self.config.database, self.data)
        for scope in ("read", "write", "admin"):
            self._tokens[scope] = await minted(self.config, plugins, scope, scope, timedelta(days=1))
        app = create_app(self.config, plugins=plugins)
        lifespan = LifespanOn(self._settled(app, self.route))
        await lifespan.startup()
        assert not lifespan.should_exit
        loop, members, servers = asyncio.get_running_loop(), ServerState(), []
        for door, narrow in ((self.lane, False), (self.route, False), (self.narrow_lane, True), (self.narrow_route, True)):
            listener = socket.create_server(("127.0.0.1", 0), backlog=100)
            if narrow:  # accepted sockets have it from the one that listens
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, NARROW)
            settled = self._settled(app, door)

            def made(settled: uvicorn.Config = settled) -> asyncio.Protocol:
                kind: Any = settled.http_protocol_class
                return kind(config=settled, server_state=members, app_state=lifespan.state)  # type: ignore[no-any-return]

            servers.append(await loop.create_server(made, sock=listener))
            door.address = listener.getsockname()
        ready.set()
        await end.wait()
        for each in servers:
            each.close()
        for connection in list(members.connections):
            connection.transport.abort()
        await asyncio.gather(*members.tasks, return_exceptions=True)
        await lifespan.shutdown()

    def _settled(self, app: Any, door: Door) -> uvicorn.Config:
        config = uvicorn.Config(
            app,
            http=deadline_protocol(self.config.server, door.kind),
            ws="none",
            lifespan="on",
            interface="asgi3",
            log_config=None,
            proxy_headers=False,
        )
        config.load()
        return config

    def upload(self, body: bytes, **params: str) -> str:
        """Store a media as "write" and give its id."""
        answer = self.client.post("/v1/media", content=body, params=params, headers={"Host": HOST, "Authorization": self.bearer("write")})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def act(self, method: str, path: str) -> None:
        """Do what an admin may."""
        answer = self.client.request(method, path, headers={"Host": HOST, "Authorization": self.bearer("admin")})
        assert answer.is_success, answer.text

    def bearer(self, scope: str) -> str:
        return f"Bearer {self._tokens[scope]}"

    def signed(self, media: str, lifetime: int = 3600, ago: int = 0, below: str = "", **more: Any) -> str:
        """A target with a signature, issued `ago` seconds before now and good for `lifetime` from then."""
        iat = int(self.now.timestamp()) - ago
        return self.base + signing.sign_query(self._ring, f"/v1/media/{media}{below}", exp=iat + lifetime, iat=iat, **more)

    def prefixed(self, media: str, lifetime: int = 3600, ago: int = 0, below: str = "", **more: Any) -> str:
        iat = int(self.now.timestamp()) - ago
        return f"{self.base}/s/{signing.mint_prefix(self._ring, media, exp=iat + lifetime, iat=iat, **more)}/v1/media/{media}{below}"

    @property
    def _ring(self) -> signing.KeyRing:
        return open_keyring(self.config.signing, self.data).ring()

    def ask(self, *pieces: bytes, at_once: bool = False, sip: int = 0, hang_up: bool = False) -> Said:
        """Say `pieces` to both doors and hear all that they answer, up to the end of the connection.

        A last request has the connection closed: it is sent with the last piece (`at_once`), or when the first answer's head is here. With `sip` it is the
        narrow doors that are asked, and read so many bytes at a time, slowly at first. `hang_up` says nothing more after it, so that what is not whole is not waited for.
        """
        doors = (self.narrow_lane, self.narrow_route) if sip else (self.lane, self.route)
        before = doors[0].by_lane
        lane, route = (_steady(self._heard(door, pieces, at_once or hang_up, sip, hang_up)) for door in doors)
        return Said(lane, route, doors[0].by_lane - before)

    def _heard(self, door: Door, pieces: Sequence[bytes], at_once: bool, sip: int, hang_up: bool) -> bytes:
        ended = at_once
        with door.connect(NARROW if sip else 0) as client:
            for number, piece in enumerate(pieces, 1):
                client.sendall(piece + self.last if at_once and number == len(pieces) else piece)
                if number < len(pieces):
                    time.sleep(0.0005)  # or the pieces would be read as one
            if hang_up:
                client.shutdown(socket.SHUT_WR)
            heard, sips = bytearray(), 0
            while True:
                if sip and sips < 5:
                    time.sleep(0.001)
                    sips += 1
                try:
                    piece = client.recv(sip or 262_144)
                except ConnectionResetError:
                    return bytes(heard) + RESET
                if not piece:
                    return bytes(heard)
                heard += piece
                if not ended and (head := heard.find(b"\r\n\r\n")) >= 0:
                    ended = True
                    if b"\r\nconnection: close" not in heard[:head]:
                        client.sendall(self.last)


def _steady(answers: bytes) -> bytes:
    """Take out the time, the ids that the server made up, and the boundaries; each has a length of its own, so nothing else can hide there."""
    steady = _REQUEST_ID.sub(rb"\1#", _DATE.sub(b"\r\ndate: #\r\n", answers))
    for boundary in set(_BOUNDARY.findall(steady)):
        steady = steady.replace(boundary, b"#boundary")
    return steady


def request(
    target: str | bytes, *fields: tuple[str, str | bytes], method: str = "GET", host: str | None = HOST, rest: bytes = b""
) -> bytes:
    """A request's bytes; text goes as Latin-1. `rest` follows its head."""
    lines = [method.encode() + b" " + _raw(target) + b" HTTP/1.1"]
    if host is not None:
        lines.append(b"Host: " + _raw(host))
    lines += [_raw(name) + b": " + _raw(value) for name, value in fields]
    return b"\r\n".join(lines) + b"\r\n\r\n" + rest


def _raw(text: str | bytes) -> bytes:
    return text.encode("latin-1") if isinstance(text, str) else text


def reordered(target: str) -> str:
    """The same link with its parameters the other way round."""
    path, _, query = target.partition("?")
    return f"{path}?{'&'.join(reversed(query.split('&')))}"


@contextmanager
def doors(config: Config) -> Iterator[Doors]:
    """Open both doors."""
    pair = Doors(config)
    ready, end = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []
    failed: list[BaseException] = []

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        await pair.serve(ready, end)

    def body() -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(main())
        except BaseException as error:  # told to the test, which waits for `ready`
            failed.append(error)
            ready.set()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SystemClock, "now", lambda _: pair.now)
        thread = threading.Thread(target=body)
        thread.start()
        assert ready.wait(30)
        if failed:
            raise failed[0]
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{pair.route.address[1]}{pair.base}", trust_env=False, timeout=30) as pair.client:
                yield pair
        finally:
            loops[0].call_soon_threadsafe(end.set)
            thread.join(20)
            assert not thread.is_alive()
            assert not failed
