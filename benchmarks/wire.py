"""Many clients in one process: keep-alive connections on an event loop that ask and read whole answers, from several addresses of loopback where a server counts them by address."""

import asyncio
from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any, TypeVar
from urllib.parse import urlsplit

import uvloop

from benchmarks.browser import HEADERS, LENGTH, Answer

PER_ADDRESS = 900
"""Connections from one address: below the server's default bound."""
T = TypeVar("T")


class Wire:
    """A connection. After an error it is broken and must be opened again."""

    def __init__(self, host: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._host, self.reader, self.writer = host, reader, writer

    @classmethod
    async def open(cls, url: str, number: int = 0) -> "Wire":
        """Connect, the `number`th of this process: 900 share an address."""
        parts = urlsplit(url)
        assert parts.hostname is not None
        reader, writer = await asyncio.open_connection(
            parts.hostname, parts.port, local_addr=(f"127.0.0.{1 + number // PER_ADDRESS}", 0), limit=1_048_576
        )
        return cls(parts.netloc, reader, writer)

    def request(self, path: str, header: str = "", method: str = "GET") -> bytes:
        """The bytes of a request, as a browser's."""
        further = f"{header}\r\n" if header else ""
        return f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\n{HEADERS}{further}\r\n".encode()

    async def ask(self, path: str, header: str = "", method: str = "GET") -> Answer:
        """Ask, and read the whole answer. Raises: OSError, asyncio.IncompleteReadError when it is cut."""
        self.writer.write(self.request(path, header, method))
        return await self.answer(method)

    async def answer(self, method: str = "GET") -> Answer:
        """Read the next answer."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        status, length = int(head[9:12]), LENGTH.search(head)
        bodiless = method == "HEAD" or status in (204, 304)
        if length is None and not bodiless:
            raise OSError(f"an answer of unknown length: {head!r}")
        body = b"" if bodiless or length is None else await self.reader.readexactly(int(length[1]))
        return Answer(status, head, body)

    def close(self) -> None:
        self.writer.close()


async def opened(url: str, number: int, numbers: "count[int]") -> list[Wire]:
    """Open so many connections, a hundred at a time so that no queue of a listening socket overflows."""
    wires: list[Wire] = []
    while len(wires) < number:
        wires += await asyncio.gather(*(Wire.open(url, next(numbers)) for _ in range(min(100, number - len(wires)))))
    return wires


def run(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run on a loop of its own."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work())
