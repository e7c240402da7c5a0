"""One request and its answer over ASGI: uvicorn's cycle with bodies that are not copied, honest framing for old clients, and an end that the connection decides."""

import asyncio
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HEADER_RE, HEADER_VALUE_RE, STATUS_LINE, RequestResponseCycle

from mediacdn.errors import MediaError
from mediacdn.server.refusal import problem
from mediacdn.server.zerocopy import EXTENSION

if TYPE_CHECKING:
    from mediacdn.server.framing import Framing

HIGH_WATER = 262_144
"""Unread request body, in bytes, at which reading pauses; one read may exceed it."""
INTERIM = "http.response.interim"
"""A message of ours: `status` 1xx and `headers`, sent any number of times before the answer."""
LARGE = 32_768
"""Pieces of a request body of so many bytes on average are handed on one by one; smaller ones are joined, which is less work than as many turns."""
EVENTS = b"text/event-stream"
"""The type of answers that end when they will: nobody who has hung up waits for the rest."""
JOINED = 65_536
"""Bodies up to this many bytes are joined with their framing; larger ones are handed on as they are."""


_known_names: dict[bytes, bytes] = {}
"""Field names that were found fit to be sent, to their lower case: an app says the same few over and over, and a search a field is dear."""


def _learn(name: bytes) -> bytes:
    if not name or HEADER_RE.search(name):
        raise RuntimeError(f"header field {name!r} is not fit to be sent")
    if len(_known_names) >= 1000:
        _known_names.clear()
    return _known_names.setdefault(name, name.lower())


class Exchange(RequestResponseCycle):
    """The ASGI side of one request. `connection` owns the bytes: what is written goes through its `push` and `push_all`, and `on_response_complete` decides what follows."""

    def __init__(self, connection: "Framing", scope: Any, message_event: Any, *, expect_continue: bool, keep_alive: bool) -> None:
        # Not super().__init__: it takes apart and puts together again what is at hand, for each request.
        self.connection = connection
        self.scope = scope
        self.transport = connection.transport
        self.flow = connection.flow
        self.logger = connection.logger
        self.message_event = message_event
        self.on_response = connection.on_response_complete
        self.disconnected = False
        self.keep_alive = keep_alive
        self.waiting_for_100_continue = expect_continue
        self.more_body = True
        self.response_started = False
        self.response_complete = False
        self.chunked_encoding = False
        self.expected_content_length = 0
        self.bodiless = False
        self.endless = False
        self._chunks: list[bytes] = []
        self._unread = 0
        self._top: list[Any] = []

    def arrived(self, body: bytes) -> None:
        """Keep a piece of the request body until the application asks for it."""
        self._chunks.append(body)
        self._unread += len(body)
        if self._unread > HIGH_WATER:
            self.connection.forgive()
            self.flow.pause_reading()
        self.message_event.set()

    def give_up(self) -> None:
        """Tell the application that nobody listens any more."""
        self.disconnected = True
        self.message_event.set()

    async def receive(self) -> Any:
        if not self.disconnected and not self.response_complete:
            if self.waiting_for_100_continue and not self.transport.is_closing():
                self.connection.push(b"HTTP/1.1 100 Continue\r\n\r\n")
                self.waiting_for_100_continue = False
            if self.more_body and self._unread <= HIGH_WATER:
                self.flow.resume_reading()
            await self.message_event.wait()
            self.message_event.clear()
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        chunks = self._chunks
        if len(chunks) > 1 and self._unread >= LARGE * len(chunks):
            body = chunks.pop(0)
            self._unread -= len(body)
            self.message_event.set()
            return {"type": "http.request", "body": body, "more_body": True}
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._chunks = []
        self._unread = 0
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    async def send(self, message: Any) -> None:
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if message["type"] == INTERIM:
            self._interim(message)
        elif not self.response_started:
            self._start(message)
        elif self.response_complete:
            raise RuntimeError(f"{message['type']} sent after the answer was complete")
        elif message["type"] == EXTENSION:
            await self._send_file(message)
        else:
            self._continue(message)

    def _interim(self, message: Any) -> None:
        """Say something before the answer (RFC 9110 section 15.2); HTTP/1.0 knows no such thing, and after the answer has begun it is too late."""
        if self.scope["http_version"] == "1.0" or self.response_started or self.transport.is_closing():
            return
        lines = [STATUS_LINE[message["status"]]]
        for name, value in message["headers"]:
            if HEADER_VALUE_RE.search(value):
                raise RuntimeError("a header field's value is not fit to be sent")
            lines += (_known_names.get(name) or _learn(name), b": ", value, b"\r\n")
        self.connection.push(b"".join((*lines, b"\r\n")))

    def _start(self, message: Any) -> None:
        if message["type"] != "http.response.start":
            raise RuntimeError(f"expected http.response.start, got {message['type']}")
        status = message["status"]
        length: int | None = None
        lines = [STATUS_LINE[status], b"date: ", self.connection.date(), b"\r\n"]
        fields = message.get("headers", ())
        if HEADER_VALUE_RE.search(b"".join([value for _, value in fields])):
            raise RuntimeError("a header field's value is not fit to be sent")
        for given, value in fields:
            name = _known_names.get(given) or _learn(given)
            if name == b"content-length":
                length = int(value)
            elif name == b"connection":
                if b"close" in value.lower():
                    self.keep_alive = False
                continue
            elif name == b"content-type" and value == EVENTS:
                self.endless = True
            elif name == b"transfer-encoding":  # framing is the connection's, RFC 9112 section 6.1
                continue
            lines += (name, b": ", value, b"\r\n")
        self.bodiless = self.scope["method"] == "HEAD" or status in (204, 304)
        self.chunked_encoding = False
        if length is not None:
            self.expected_content_length = length
        elif not self.bodiless:
            if self.scope["http_version"] == "1.0":  # knows no chunks: the end of the connection is the end of the body
                self.keep_alive = False
            else:
                self.chunked_encoding = True
                lines.append(b"transfer-encoding: chunked\r\n")
            self.expected_content_length = -1
        if self.more_body:  # the rest of the request is not worth waiting for, RFC 9112 section 9.3
            self.keep_alive = False
        lines.append(b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n")
        self.response_started = True
        self.waiting_for_100_continue = False
        # Kept for the rest of this turn of the loop: most bodies follow at once, and then one write carries both.
        self._top = lines
        self.connection.loop.call_soon(self._flush)

    def _flush(self) -> None:
        if self._top and not self.transport.is_closing():
            self.connection.push(b"".join(self._top))
        self._top = []

    def _continue(self, message: Any) -> None:
        if message["type"] != "http.response.body":
            raise RuntimeError(f"expected http.response.body, got {message['type']}")
        body = message.get("body", b"")
        more = message.get("more_body", False)
        size = len(body)
        before = after = b""
        if self.bodiless:
            body, size = b"", 0
        elif self.chunked_encoding:
            if size:
                before, after = b"%x\r\n" % size, b"\r\n" if more else b"\r\n0\r\n\r\n"
            elif not more:
                after = b"0\r\n\r\n"
        elif self.expected_content_length >= 0:
            if size > self.expected_content_length:
                raise RuntimeError("the body is longer than its Content-Length")
            self.expected_content_length -= size
        top, self._top = self._top, []
        if size <= JOINED:
            if whole := b"".join((*top, before, body, after)):
                self.connection.push(whole)
        elif top or before:
            self.connection.push_all([b"".join((*top, before)), body, after])
        else:
            self.connection.push(body)
        if not more:
            self._complete()

    def _complete(self) -> None:
        if self.expected_content_length > 0 and not self.bodiless:
            raise RuntimeError("the body is shorter than its Content-Length")
        self.response_complete = True
        self.message_event.set()
        self.on_response()

    async def _send_file(self, message: Any) -> None:
        """Send a span of a file past the transport, taking turns with it when the socket is full."""
        file, at, left = message["file"], message["offset"], message["count"]
        if self.bodiless or self.chunked_encoding or not 0 < left <= self.expected_content_length:
            raise RuntimeError(f"{EXTENSION} sends a part of a body whose length was told")
        self.expected_content_length -= left
        head, self._top = b"".join(self._top), []
        connection, transport = self.connection, self.transport
        await self._emptied()
        if self.disconnected:
            return
        ended: asyncio.Future[Exception | None] = connection.loop.create_future()

        def over(error: Exception | None) -> None:
            if not ended.done():
                ended.set_result(error)

        connection.pour(head, file, at, left, over)
        try:
            error = ended.result() if ended.done() else await ended
        except asyncio.CancelledError:
            connection.leave_off()
            raise
        if error is not None:
            transport.abort()  # no clean end for a body that is not whole; a peer that is gone will be heard of, or is now
            if not isinstance(error, OSError):
                raise error
            self.disconnected = True
        elif not message.get("more_body", False):
            self._complete()

    async def _emptied(self) -> None:
        """Wait until the transport has nothing left."""
        transport = self.transport
        if not transport.get_write_buffer_size():
            self.disconnected = self.disconnected or transport.is_closing()
            return
        transport.set_write_buffer_limits(high=0)
        try:
            while transport.get_write_buffer_size() and not self.disconnected:
                if self.flow.write_paused:
                    await self.flow.drain()
                else:  # queued for the end of this turn of the loop
                    await asyncio.sleep(0)
        finally:
            if not transport.is_closing():
                transport.set_write_buffer_limits()

    async def send_500_response(self) -> None:
        fields, body = problem(MediaError())
        await self.send({"type": "http.response.start", "status": 500, "headers": [*fields, (b"connection", b"close")]})
        await self.send({"type": "http.response.body", "body": body})
