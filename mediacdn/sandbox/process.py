"""One child process as its parent sees it: started with an environment of its own, spoken to over a socket, its stderr drained, killed with all of its group.

Nothing that it says is trusted: a reply is bounded in size before it is read and in shape as it is decoded, and descriptors that it might send are
never received.
"""

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
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

    def __init__(self, process: asyncio.subprocess.Process, line: socket.socket) -> None:
        self.asked = 0
        self._process = process
        self._line = line
        self._tail = bytearray()
        self._draining = asyncio.get_running_loop().create_task(self._drain())

    @classmethod
    async def spawn(cls, environment: Mapping[str, str]) -> "Child":
        """Start a child, which waits for `prepare`; from here on somebody must kill it and see it `buried`. Raises: OSError."""
        ours, theirs = socket.socketpair()
        try:
            ours.setblocking(False)
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-I", "-B", "-c", _BOOT, str(theirs.fileno()), *(each for each in sys.path if os.path.isabs(each)),
                    stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
                    pass_fds=(theirs.fileno(),), env={**_ENVIRONMENT, **environment}, cwd="/", start_new_session=True,
                )  # fmt: skip
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
        return self._process.returncode is None

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
            code = await asyncio.wait_for(self._process.wait(), 1)
        except TimeoutError:
            return None
        self._kill_group()
        await asyncio.wait([self._draining], timeout=0.2)  # for its last words
        return code

    async def buried(self) -> None:
        """Wait until the killed child is reaped and its stderr is read."""
        await self._process.wait()
        self._line.close()
        await asyncio.wait([self._draining], timeout=1)  # a grandchild that left the group may hold the pipe
        self._draining.cancel()
        self._process._transport.close()  # type: ignore[attr-defined]  # the pipe, should a grandchild hold it

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

    async def _drain(self) -> None:
        # A full pipe stops its writer for ever, at no processor time: somebody must always read.
        assert self._process.stderr is not None
        while chunk := await self._process.stderr.read(_TAIL):
            self._tail = (self._tail + chunk)[-_TAIL:]
