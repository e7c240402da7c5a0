"""Server-sent events as an iterator that goes on by itself after a broken connection (WHATWG HTML, section 9.2)."""

import asyncio
from collections.abc import AsyncIterator

from mediacdn.client.transport import Transport
from mediacdn.errors import Unavailable

MAX_LINE = 16 * 1024 * 1024
"""The longest line of an event; a task with its steps is far below."""

BRIEF = 5.0
"""Seconds that a connection must have lasted to count as one that worked."""


class Parser:
    """Lines to events. `last_id` and `retry` (seconds) are what the stream said last."""

    def __init__(self) -> None:
        self.last_id: str | None = None
        self.retry: float | None = None
        self._kept = b""
        self._name = ""
        self._id: str | None = None
        self._data: list[str] = []

    def forget(self) -> None:
        """Drop what a broken connection left half said."""
        self._kept = b""
        self._name, self._id, self._data = "", self.last_id, []

    def feed(self, chunk: bytes) -> list[tuple[str, str]]:
        """Give the events, as name and data, that this chunk completes. Lines end with LF, CR LF or CR; a CR at the end waits for what follows."""
        self._kept += chunk
        found: list[tuple[str, str]] = []
        while True:
            ends = [at for at in (self._kept.find(b"\n"), self._kept.find(b"\r")) if at >= 0]
            at = min(ends, default=-1)
            if at < 0 or (self._kept[at : at + 1] == b"\r" and at + 1 == len(self._kept)):
                if len(self._kept) > MAX_LINE:
                    raise Unavailable("the server sends an event without an end")
                return found
            line = self._kept[:at]
            self._kept = self._kept[at + (2 if self._kept[at : at + 2] == b"\r\n" else 1) :]
            if line:
                self._field(line.decode(errors="replace"))
            else:
                found += self._dispatch()

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._name = value
        elif name == "data":
            self._data.append(value)
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry = int(value) / 1000

    def _dispatch(self) -> list[tuple[str, str]]:
        self.last_id = self._id
        event = [(self._name or "message", "\n".join(self._data))] if self._data else []
        self._name, self._data = "", []
        return event


async def follow(transport: Transport, path: str, *, wanted: str, last: str) -> AsyncIterator[str]:
    """The data of the events `wanted`, up to the event `last`. Raises: what the server answers, Unavailable when it cannot be reached."""
    from aiohttp import ClientError

    parser, loop = Parser(), asyncio.get_running_loop()
    brief = 0  # connections in a row that ended soon and brought nothing
    while True:
        headers = {"Accept": "text/event-stream"} | ({} if parser.last_id is None else {"Last-Event-ID": parser.last_id})
        response = await transport.ask("GET", path, repeatable=True, headers=headers)
        began, heard = loop.time(), False
        try:
            if response.status == 204:
                return
            async for chunk in response.content.iter_any():
                for name, data in parser.feed(chunk):
                    heard = True
                    if name == wanted:
                        yield data
                    elif name == last:
                        return
        except (ClientError, OSError, TimeoutError):
            pass  # resumed from the last event
        finally:
            response.close()
        parser.forget()
        brief = 0 if heard or loop.time() - began > BRIEF else brief + 1
        if brief >= transport.attempts:
            raise Unavailable(f"{transport.base}: the stream breaks off again and again")
        await asyncio.sleep(transport.pause(0) if not brief else parser.retry if parser.retry is not None else 1.0)
