"""A reader of large answers that costs next to nothing: the kernel throws the bytes away (MSG_TRUNC, tcp(7)), so that the server is what is measured."""

import re
import selectors
import socket
import time
from collections.abc import Sequence
from itertools import cycle
from urllib.parse import urlsplit

CHUNK = 4 * 1024 * 1024
LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)


class Stream:
    """One keep-alive connection that asks for one path after the other; `answers` counts those that came whole."""

    def __init__(self, address: tuple[str, int], paths: Sequence[str], first: int) -> None:
        self.socket = socket.create_connection(address, 10)
        asks = [f"GET {path} HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\n\r\n".encode() for path in paths]
        self._asks = cycle([*asks[first % len(asks) :], *asks[: first % len(asks)]])
        self._head = b""
        self._left = 0
        self.answers = 0
        self.socket.sendall(next(self._asks))

    def read(self, scratch: bytearray) -> int:
        """Take what is there; tells how many bytes of bodies that was. Raises: RuntimeError for anything but a whole 200."""
        if self._left:
            got = self.socket.recv_into(scratch, min(self._left, CHUNK), socket.MSG_TRUNC)
            if not got:
                raise RuntimeError(f"the connection ended {self._left} bytes early")
        else:
            self._head += self.socket.recv(65536)
            head, found, rest = self._head.partition(b"\r\n\r\n")
            if not found:
                return 0
            length = LENGTH.search(head)
            if length is None or not head.startswith(b"HTTP/1.1 200 "):
                raise RuntimeError(head.decode("latin-1"))
            self._left, self._head, got = int(length[1]), b"", len(rest)
        self._left -= got
        if not self._left:
            self.answers += 1
            self.socket.sendall(next(self._asks))
        return got


def read(url: str, paths: Sequence[str], seconds: float, connections: int) -> tuple[int, int, float]:
    """Read `paths` in turn for about `seconds`; tells the whole answers, the bytes of bodies, and the seconds that they took."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    scratch = bytearray(CHUNK)
    total = 0
    with selectors.DefaultSelector() as ready:
        streams = [Stream((parts.hostname, parts.port), paths, number) for number in range(connections)]
        for each in streams:
            ready.register(each.socket, selectors.EVENT_READ, each)
        began = time.perf_counter()
        while time.perf_counter() - began < seconds:
            for key, _ in ready.select(1):
                total += key.data.read(scratch)
        took = time.perf_counter() - began
        for each in streams:
            each.socket.close()
    return sum(each.answers for each in streams), total, took
