"""One child process as its parent sees it: started with an environment of its own, spoken to over a socket, its stderr drained, killed with all of its group.

Nothing that it says is trusted: a reply is bounded in size before it is read and in shape as it is decoded, and descriptors that it might send are
never received.
"""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress

import msgspec

from mediacdn.sandbox.wire import HEADER, LARGEST_REPLY, Reply, Setup, framed

_BOOT = "import sys; sys.path[:] = sys.argv[2:]; from mediacdn.sandbox.child import main; main(int(sys.argv[1]))"
_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
_START = 30.0
"""Seconds that a child may take from exec to its first word; on a busy machine the imports alone take some of them."""
_TAIL = 4096
_PAGE = os.sysconf("SC_PAGE_SIZE")
_FOLDERS = re.compile(r"(?:/[^\s/:'\"]+)+/")
_decode = msgspec.msgpack.Decoder(Reply).decode


class Unsent(Exception):
    """The child was gone before it had the request: another one may have it."""


class Broken(Exception):
    """The child ended, or said what no child says, while it had the request."""


class Child:
    """A child that is ready. `asked` counts its requests."""

    def __init__(self, process: "subprocess.Popen[bytes]", line: socket.socket) -> None:
        assert process.stderr is not None
        self.asked = 0
        self._process = process
        self._line = line
        self._tail = bytearray()
        self._heard, self._over = asyncio.Event(), asyncio.Event()
        self._stderr = process.stderr
        os.set_blocking(self._stderr.fileno(), False)
        self._pid_file = os.pidfd_open(process.pid)
        loop = self._loop = asyncio.get_running_loop()
        loop.add_reader(self._stderr.fileno(), self._drain)
        loop.add_reader(self._pid_file, self._ended)

    @classmethod
    async def spawn(cls, environment: Mapping[str, str], thread: Executor) -> "Child":
        """Start a child, which waits for `prepare`; from here on somebody must kill it and see it `buried`. It dies with the `thread`. Raises: OSError."""
        ours, theirs = socket.socketpair()
        try:
            ours.setblocking(False)
            with theirs:
                # On a thread: a fork from a large process takes its loop tens of milliseconds, and Popen's vfork stops the calling thread alone.
                given = {**_ENVIRONMENT, **environment}
                starting = asyncio.get_running_loop().run_in_executor(thread, _started, theirs.fileno(), given)
                try:
                    process = await asyncio.shield(starting)
                except asyncio.CancelledError:
                    await asyncio.wait({starting})
                    if starting.exception() is None:
                        await cls(starting.result(), ours)._given_up()
                    raise
        except BaseException:
            ours.close()
            raise
        return cls(process, ours)

    async def prepare(self, setup: Setup) -> None:
        """Tell the child its limits, and wait until it has imported what it is to call. Raises: Broken."""
        try:
            async with asyncio.timeout(_START):
                await asyncio.get_running_loop().sock_sendall(self._line, framed(setup))
                await self._reply()
        except OSError as error:  # TimeoutError is one
            raise Broken("it did not become ready") from error

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return not self._over.is_set()

    @property
    def memory(self) -> int:
        """Bytes that it holds, in memory or promised: what it has freed without giving it back as well."""
        try:
            with open(f"/proc/{self.pid}/statm", "rb", buffering=0) as file:
                return int(file.read().split()[5]) * _PAGE
        except (OSError, IndexError):
            return 0

    async def ask(self, frame: bytes, descriptors: Sequence[int]) -> Reply:
        """Have the child do one request; whoever gives up waiting must kill it. Raises: Unsent, Broken."""
        self.asked += 1
        try:
            sent = socket.send_fds(self._line, [frame], descriptors)
        except OSError as error:
            raise Unsent from error
        try:
            if sent < len(frame):
                await asyncio.get_running_loop().sock_sendall(self._line, frame[sent:])
            return await self._reply()
        except ConnectionResetError as error:  # what a Unix socket says when its other end closed without having read everything
            raise Unsent from error
        except OSError as error:
            raise Broken(f"its socket failed: {error.strerror}") from error

    def kill(self) -> None:
        """End the child and whatever it started, at once; idempotent."""
        with suppress(OSError):
            self._line.shutdown(socket.SHUT_RDWR)  # wakes who waits for an answer; closing would not
        if self.alive:  # else the group's number may by now be somebody else's
            self._kill_group()

    async def fate(self) -> int | None:
        """How the child ended by itself: its exit code, negative for a signal; None when it did not within a second."""
        try:
            await asyncio.wait_for(self._over.wait(), 1)
        except TimeoutError:
            return None
        self._kill_group()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._heard.wait(), 0.2)  # its last words
        return self._process.returncode

    async def buried(self) -> None:
        """Wait until the killed child is reaped and its stderr is read."""
        await self._over.wait()
        self._line.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._heard.wait(), 1)  # a grandchild that left the group may hold the pipe
        if not self._heard.is_set():
            self._hang_up()

    async def _given_up(self) -> None:
        self.kill()
        await self.buried()

    @property
    def last_words(self) -> str:
        """The end of its stderr, for logs: no control characters, no folders of this machine."""
        text = self._tail.decode("utf-8", "replace")
        return _FOLDERS.sub("", "".join(each if each.isprintable() or each == "\n" else "?" for each in text)).strip()

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def _reply(self) -> Reply:
        (length,) = HEADER.unpack(await self._exactly(HEADER.size))
        if length > LARGEST_REPLY:
            raise Broken(f"its reply would be {length} bytes")
        body = await self._exactly(length)
        try:
            return _decode(body)
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            raise Broken("its reply is no reply") from error

    async def _exactly(self, length: int) -> bytes:
        loop = asyncio.get_running_loop()
        gathered = bytearray()
        while len(gathered) < length:
            chunk = await loop.sock_recv(self._line, length - len(gathered))
            if not chunk:
                raise Broken("it hung up")
            gathered += chunk
        return bytes(gathered)

    def _drain(self) -> None:
        # A full pipe stops its writer for ever, at no processor time: somebody must always read.
        try:
            chunk = os.read(self._stderr.fileno(), 65536)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if chunk:
            self._tail = (self._tail + chunk)[-_TAIL:]
        else:
            self._hang_up()

    def _hang_up(self) -> None:
        self._loop.remove_reader(self._stderr.fileno())
        self._stderr.close()
        self._heard.set()

    def _ended(self) -> None:
        self._process.wait()  # it has ended: this takes its exit code, and no time
        self._loop.remove_reader(self._pid_file)
        os.close(self._pid_file)
        self._over.set()


def _started(line: int, environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(  # noqa: S603 - every word is ours
        [sys.executable, "-I", "-B", "-c", _BOOT, str(line), *(each for each in sys.path if os.path.isabs(each))],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, bufsize=0,
        pass_fds=(line,), env=environment, cwd="/", start_new_session=True,
    )  # fmt: skip
