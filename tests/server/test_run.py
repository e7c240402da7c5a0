"""A server process from its start to its end: where it listens, what refuses the start, and what a signal does."""

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mediacdn.config import Server
from mediacdn.errors import StartupError
from mediacdn.server.listening import listen
from mediacdn.server.run import serve

GET = b"GET / HTTP/1.1\r\nHost: t\r\n\r\n"

PROGRAM = textwrap.dedent("""
    import asyncio, sys
    from mediacdn.config import Server
    from mediacdn.server.run import run

    draining = []

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": message["type"] + ".complete"})
                if message["type"] == "lifespan.shutdown":
                    print("closed", flush=True)
                    return
        if scope["path"] == "/wait":
            await asyncio.sleep(1)
        status = 503 if draining else 200
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    run(app, Server(port=0, shutdown_timeout=3), ready=lambda bound: print(bound, flush=True), on_drain=lambda: draining.append(1), drain_delay=float(sys.argv[1]))
""")


class Process:
    def __init__(self, delay: float) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(delay)], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.bound = self.process.stdout.readline().strip()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", int(self.bound.rpartition(":")[2])), timeout=5)

    def end(self) -> tuple[int, str]:
        output, _ = self.process.communicate(timeout=10)
        return self.process.returncode, output


@pytest.fixture
def process() -> Iterator[Callable[..., Process]]:
    begun: list[Process] = []

    def begin(delay: float = 0.0) -> Process:
        begun.append(Process(delay))
        return begun[-1]

    yield begin
    for each in begun:
        each.process.kill()
        each.process.communicate()


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_with_0(process: Any, sign: signal.Signals) -> None:
    server = process()
    assert server.bound.startswith("http://127.0.0.1:")
    with server.connect() as client:
        client.sendall(GET)
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
        server.process.send_signal(sign)
        assert client.recv(4096) == b""  # an idle connection is not waited for
    assert server.end() == (0, "closed\n")


def test_an_answer_under_way_is_finished(process: Any) -> None:
    server = process()
    with server.connect() as client:
        client.sendall(GET.replace(b"/ ", b"/wait "))
        time.sleep(0.3)
        server.process.terminate()
        answer = client.recv(4096)
        assert answer.endswith(b"ok")
        assert b"connection: close" in answer
    assert server.end() == (0, "closed\n")


def test_readiness_turns_before_listening_stops(process: Any) -> None:
    server = process(delay=1.0)
    server.process.terminate()
    time.sleep(0.3)
    with server.connect() as client:
        client.sendall(GET)
        assert client.recv(4096).startswith(b"HTTP/1.1 503")
    assert server.end()[0] == 0
    with pytest.raises(ConnectionRefusedError):
        server.connect()


def test_a_second_signal_ends_the_wait(process: Any) -> None:
    server = process()
    with server.connect() as client:
        client.sendall(GET.replace(b"/ ", b"/wait "))
        time.sleep(0.2)
        server.process.terminate()
        time.sleep(0.3)
        begun = time.monotonic()
        server.process.terminate()
        assert server.end()[0] == 0
        assert time.monotonic() - begun < 1


def test_nodelay_is_inherited_from_the_listener() -> None:
    listener = listen(Server(port=0))
    with socket.create_connection(listener.sockets[0].getsockname()), listener.sockets[0]:
        listener.sockets[0].setblocking(True)
        accepted, _ = listener.sockets[0].accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_all_addresses_of_a_host_share_one_port() -> None:
    listener = listen(Server(host="localhost", port=0))
    assert len({each.getsockname()[1] for each in listener.sockets}) == 1
    assert listener.bound == f"http://localhost:{listener.sockets[0].getsockname()[1]}"
    listener.close()


def test_a_taken_port_refuses_the_start() -> None:
    listener = listen(Server(port=0))
    with pytest.raises(StartupError, match="Address already in use"):
        listen(Server(port=listener.sockets[0].getsockname()[1]))
    listener.close()


def test_a_unix_socket_is_for_its_user_and_group_and_goes_with_the_server(tmp_path: Path) -> None:
    path = tmp_path / "s"
    listener = listen(Server(uds=str(path)))
    assert listener.bound == f"unix:{path}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    listener.close()
    assert not path.exists()


def test_a_stale_socket_is_replaced_a_live_one_is_not(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(path)
    dead.close()
    listener = listen(Server(uds=path))
    with pytest.raises(StartupError, match="another server does"):
        listen(Server(uds=path))
    os.unlink(path)
    successor = listen(Server(uds=path))
    listener.close()
    assert os.path.exists(path)  # the successor's
    successor.close()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_nothing_but_a_socket_is_removed(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "s"
    path.write_text("precious") if kind == "file" else path.mkdir()
    with pytest.raises(StartupError, match="another kind"):
        listen(Server(uds=str(path)))
    assert path.exists()


@pytest.mark.anyio
async def test_a_failed_lifespan_refuses_the_start(caplog: pytest.LogCaptureFixture) -> None:
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no such disk"})

    with pytest.raises(StartupError):
        await serve(failing, Server(port=0))
    assert "no such disk" in caplog.text


@pytest.mark.anyio
async def test_cancelling_closes_the_lifespan() -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            seen.append(message["type"])
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return

    started = asyncio.Event()
    task = asyncio.create_task(serve(app, Server(port=0), ready=lambda bound: started.set()))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["lifespan.startup", "lifespan.shutdown"]
