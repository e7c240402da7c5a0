"""A real server in a thread of its own, with the limits that a test asks for, and a client that is a bare socket."""

import asyncio
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop

from mediacdn.config import Server
from mediacdn.server.deadlines import Deadlines, deadline_protocol
from mediacdn.server.run import serve


class Client(socket.socket):
    """A connection whose answers are read whole."""

    def __init__(self, address: tuple[str, int] | str, receive_buffer: int = 0) -> None:
        super().__init__(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer:
            self.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.settimeout(10)
        self.connect(address)
        self.rest = b""

    def answer(self, head: bool = False) -> tuple[int, dict[str, str], bytes]:
        """Status, fields and body of the next answer. Raises EOFError when the connection ends before one is complete."""
        while b"\r\n\r\n" not in self.rest:
            self._more()
        top, _, self.rest = self.rest.partition(b"\r\n\r\n")
        status, *lines = top.decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        code = int(status.split()[1])
        if code == 100 or head or code in (204, 304):
            return code, fields, b""
        if "content-length" in fields:
            while len(self.rest) < int(fields["content-length"]):
                self._more()
            body, self.rest = self.rest[: int(fields["content-length"])], self.rest[int(fields["content-length"]) :]
        elif fields.get("transfer-encoding") == "chunked":
            body = b""
            while match := self._chunk():
                body += match
        else:
            body = self.everything()
        return code, fields, body

    def _chunk(self) -> bytes:
        while not (match := re.match(rb"([0-9a-f]+)\r\n", self.rest)):
            self._more()
        size, start = int(match[1], 16), match.end()
        while len(self.rest) < start + size + 2:
            self._more()
        piece, self.rest = self.rest[start : start + size], self.rest[start + size + 2 :]
        return piece

    def _more(self) -> None:
        piece = self.recv(262_144)
        if not piece:
            raise EOFError(self.rest)
        self.rest += piece

    def everything(self) -> bytes:
        """All bytes until the peer ends the connection, cleanly or not."""
        taken, self.rest = self.rest, b""
        try:
            while piece := self.recv(262_144):
                taken += piece
        except ConnectionError:
            pass
        return taken

    def ended_after(self) -> float:
        """Seconds until the server ended the connection."""
        begun = time.monotonic()
        self.everything()
        return time.monotonic() - begun


class Running:
    """A started server: where it is, its protocol class, and connections to it."""

    def __init__(self, address: tuple[str, int] | str, protocol: type[Deadlines]) -> None:
        self.address = address
        self.protocol = protocol
        self._clients: list[Client] = []

    def connect(self, receive_buffer: int = 0) -> Client:
        client = Client(self.address, receive_buffer)
        self._clients.append(client)
        return client

    def close(self) -> None:
        for each in self._clients:
            each.close()


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    """start(application=app, loop="uvloop", **settings): every server is stopped, and must stop, at the end of the test."""
    stops: list[Callable[[], None]] = []

    def begin(application: Any = app, loop: str = "uvloop", **limits: Any) -> Running:
        settings = Server(**({"host": "127.0.0.1", "port": 0, "shutdown_timeout": 1.0} | limits))
        protocol = deadline_protocol(settings)
        bound: list[str] = []
        started = threading.Event()
        running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = []

        async def main() -> None:
            task = asyncio.current_task()
            assert task is not None
            running.append((asyncio.get_running_loop(), task))
            await serve(application, settings, ready=lambda where: (bound.append(where), started.set())[0], protocol=protocol)

        def body() -> None:
            with asyncio.Runner(loop_factory=LOOPS[loop]) as runner, pytest.raises(asyncio.CancelledError):
                runner.run(main())

        thread = threading.Thread(target=body)
        thread.start()
        assert started.wait(10)
        where = bound[0].removeprefix("http://")
        address: Any = where.removeprefix("unix:") if where.startswith("unix:") else ("127.0.0.1", int(where.rpartition(":")[2]))
        server = Running(address, protocol)

        def stop() -> None:
            server.close()
            its_loop, task = running[0]
            its_loop.call_soon_threadsafe(task.cancel)
            thread.join(10)
            assert not thread.is_alive()

        stops.append(stop)
        return server

    yield begin
    for each in stops:
        each()


async def app(scope: Any, receive: Any, send: Any) -> None:
    """/echo answers its body; /early answers 413 without reading; /read?N takes its body N bytes/s slow; /big/N sends N bytes in one piece; all else answers method and path."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    path = scope["path"]
    status, content, chunked = 200, memoryview(f"{scope['method']} {path}".encode()), False
    if path == "/early":
        status, content = 413, memoryview(b"too large")
    elif path == "/wait":
        await asyncio.sleep(0.6)
    elif path.startswith("/big/"):
        content = memoryview(bytes(int(path[5:])))
    elif path in ("/echo", "/chunked", "/lazy"):
        taken, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            taken, more = taken + message["body"], message["more_body"]
            if path == "/lazy":
                await asyncio.sleep(0.4)
        content, chunked = memoryview(taken), path == "/chunked"
    elif path == "/fields":
        content = memoryview(b"\n".join(name + b"=" + value for name, value in scope["headers"]))
    elif path == "/broken":
        raise LookupError("on purpose")
    headers = [] if chunked else [(b"content-length", b"%d" % len(content))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


@pytest.fixture(name="app")
def the_app() -> Any:
    return app
