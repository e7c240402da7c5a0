"""One HTTP/1.1 request at a time out of a connection's bytes, and an end that the peer can see: a subclass of uvicorn's protocol whose framing cannot be misread.

It answers for limits of size, pipelining, upgrades, refusals and the lingering close; deadlines.py adds the clocks, exchange.py speaks ASGI for one request.
"""

import asyncio
import string
from collections.abc import Sequence
from typing import Any, ClassVar, Never
from urllib.parse import unquote_to_bytes

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from mediacdn.config import Server
from mediacdn.errors import BadRequest, FieldsTooLarge, MediaError, UriTooLong
from mediacdn.http.dates import DateLine
from mediacdn.server.exchange import Exchange
from mediacdn.server.refusal import refusal
from mediacdn.server.zerocopy import EXTENSION, DirectSocket, Ended, Pour, send_views

MAX_FIELDS = 100
MAX_TARGET = 16_384
"""Bytes of a request target; RFC 9112 section 3 asks for at least 8,000 octets of a request line."""
MAX_HELD = 65_536
"""Bytes of pipelined requests kept while an earlier one is answered, beyond which reading pauses; one read may exceed it."""
MAX_TURN = 16
"""Requests that a connection has answered in one turn of the event loop; what it pipelined beyond them waits until the other connections had their turn."""
LINGER_TIME = 2.0
LINGER_BYTES = 8 * 1024 * 1024
CHUNKED = -1
BULK = 65_536
"""Bodies of at least so many bytes do not pass through the parser, which copies them; their length alone says where they end."""
_EXTENSIONS: dict[str, dict[str, Any]] = {EXTENSION: {}}
BLANK_LINE = b"\r\n\r\n"
FRAMING = frozenset((b"content-length", b"transfer-encoding", b"host", b"expect"))
HOST = (string.ascii_letters + string.digits + "-._~%!$&'()*+,;=:[]").encode()
"""What a Host can consist of, RFC 9112 section 3.2 and RFC 3986 section 3.2.2."""


class Framing(HttpToolsProtocol):
    """The bytes of one connection.

    They are given to the parser one message at a time: a head and a chunked body both end at a blank line, other bodies at their length. What follows a
    message that is still being answered is held unread, so answers keep their order and a refusal always belongs to the request being read.
    """

    settings: ClassVar[Server]
    date: ClassVar[DateLine]
    cycle: Exchange | None  # type: ignore[assignment]

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.url = b""
        self.headers = []
        self._left = 0  # of the request body: bytes, or CHUNKED; 0 between bodies
        self._head = 0  # bytes of a head that is not complete
        self._head_since = 0.0
        self._tail = b""  # the last bytes read, where a blank line may have begun
        self._held = b""
        self._held_at = 0
        self._turn_over = False
        self._in_head = False
        self._chunked = False
        self._bulk = False
        self._length = 0
        self._hosts = 0
        self._quiet = 0  # bytes of a chunked body since its last content
        self._fault: MediaError | None = None
        self._received = 0  # bytes of request bodies
        self._written = 0
        self._direct: DirectSocket | None = None
        self._pour: Pour | None = None
        self._idle_since = 0.0
        self._idle_limit = self.settings.header_timeout
        self._deaf = False  # the answer to the last request is given; what still comes is discarded
        self._discarded = 0
        self._linger_until = 0.0
        self._last_word = False  # the peer has ended its side

    def watch(self, at: float) -> None:
        """Something falls due at the loop's time `at`; who keeps the time overrides this."""

    def body_begins(self) -> None:
        """A request body is to come; who keeps the time overrides this."""

    def forgive(self) -> None:
        """The peer has sent more than the application takes: it is not the one that is slow; who keeps the time overrides this."""

    def stalls(self) -> None:
        """The peer does not take what it is sent at once; who keeps the time overrides this."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._deaf = True
        self._held = b""
        self.leave_off()
        if self._direct is not None:
            self._direct.close()
        super().connection_lost(exc)
        self.cycle = None

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._held and not self.busy():
            self._release()
        if self._last_word:
            self.loop.call_soon(self._part)

    def pour(self, head: bytes, file: int, at: int, count: int, ended: Ended, keep: Any = None) -> None:
        """Send `head` and a span of a file past the transport, whose buffer must be empty; see Pour for `ended` and `keep`. One at a time."""
        if self._direct is None:
            self._direct = DirectSocket(self.loop, self.transport)
        try:
            gone = self._direct.send_both(head, file, at, count)
        except OSError as error:
            ended(error)
            return
        self._written += gone
        of_file = max(0, gone - len(head))
        if of_file == count:
            ended(None)
            return

        def over(error: Exception | None) -> None:
            self._pour = None
            ended(error)

        self._pour = pour = Pour(self._direct, head[gone:], file, at + of_file, count - of_file, count=self.count, ended=over, keep=keep)
        if not pour.begin():
            self.stalls()

    def leave_off(self) -> None:
        """Stop pouring, when something is poured."""
        if self._pour is not None:
            self._pour.give_up(ConnectionResetError())

    def count(self, written: int) -> None:
        """Count bytes that went past the transport."""
        self._written += written

    def push(self, data: bytes | memoryview) -> None:
        """Write to the peer; every byte of an answer goes this way, so that its pace can be judged."""
        if type(data) is memoryview:
            self.push_all((data,))
        else:
            self._written += len(data)
            self.transport.write(data)

    def push_all(self, pieces: Sequence[bytes | bytearray | memoryview]) -> None:
        """`push` of several pieces at once, which are not joined where the loop can gather them."""
        self._written += sum(map(len, pieces))
        if memoryview not in map(type, pieces):
            self.transport.writelines(pieces)
        elif rest := send_views(self.transport, pieces):
            self.transport.write(rest)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            self._discard(len(data))
        elif self._held or (not self._left and self.busy()):
            self._hold(data, 0)
        else:
            self._take(data, 0)

    def eof_received(self) -> bool:  # type: ignore[override]
        """The peer says no more, yet may go on listening (RFC 1122 section 4.2.2.13): what it asked for is sent before the connection ends.

        One that left altogether is found out by the next bytes sent to it; a stream of events may have none for long, and who hangs up on it has left.
        A request that is not whole never will be, and is nobody's to answer.
        """
        self._last_word = True
        following = self.cycle is not None and self.cycle.endless and not self.cycle.response_complete
        return not self._deaf and not self._left and self.busy() and not following

    def _part(self) -> None:
        """Close after the peer's last word, once nothing is owed to it. Asked in a turn of its own: what was held is being taken in this one."""
        if self._left or not self.busy():
            self.transport.close()

    def busy(self) -> bool:
        """Whether the next request has to wait: one is being answered, the peer does not read what it was sent, or it is the turn of others."""
        cycle = self.cycle
        return (cycle is not None and not cycle.response_complete) or self.flow.write_paused or self._pour is not None or self._turn_over

    def _take(self, data: bytes, start: int) -> None:
        size = len(data)
        taken = 0
        tail, seam = self._tail, self._tail
        while start < size:
            left = self._left
            if left > 0:
                end = min(start + left, size)
                self._left = left - (end - start)
            else:
                end = _message_bound(data, start, seam)
                if not left:
                    self._head += end - start
            received = self._received
            try:
                if left > 0 and self._bulk:
                    self._carry(data[start:end])
                else:
                    self.parser.feed_data(data if end - start == size else memoryview(data)[start:end])
            except httptools.HttpParserUpgrade:
                self._decline_upgrade()
            except httptools.HttpParserError as exc:
                self.refuse(self._reason(exc))
            if self._deaf:
                return
            if left < 0:
                self._quiet = self._quiet + end - start if self._received == received else 0
                if self._quiet > self.settings.max_header_size:  # extensions and trailers reach no callback until they end
                    self.refuse(BadRequest("The chunked body has more framing than content"))
                    return
            start, seam = end, b""
            if start < size and not self._left:
                taken += 1
                if taken == MAX_TURN and not self.busy():
                    self._turn_over = True
                    self.loop.call_soon(self._next_turn)
                if self.busy():
                    self._hold(data, start)
                    return
        if self._head or self._left < 0:
            self._tail = (tail + data[-3:])[-3:]
            if self._head:
                self._await_head()

    def _await_head(self) -> None:
        if self._head > self.settings.max_header_size or len(self.headers) > MAX_FIELDS:
            self.refuse(FieldsTooLarge())
        elif not self._head_since:
            self._head_since = self.loop.time()
            self.watch(self._head_since + self.settings.header_timeout)

    def _hold(self, data: bytes, start: int) -> None:
        if self._held:
            self._held = self._held[self._held_at :] + data[start:]
            self._held_at = 0
        else:
            self._held, self._held_at = data, start
        if len(self._held) - self._held_at > MAX_HELD:
            self.flow.pause_reading()

    def _next_turn(self) -> None:
        self._turn_over = False
        if not self.transport.is_closing():
            self.answered()

    def _release(self) -> None:
        held, start, self._held = self._held, self._held_at, b""
        self.flow.resume_reading()
        self._take(held, start)

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._in_head = True
        self._chunked = False
        self._length = 0
        self._hosts = 0

    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > MAX_TARGET:
            self._fail(UriTooLong())

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        value = value.rstrip(b" \t")  # no part of it, RFC 9110 section 5.5; the parser takes off what stands before it, not what follows
        if name in FRAMING:
            self._frame(name, value)
        self.headers.append((name, value))

    def _frame(self, name: bytes, value: bytes) -> None:
        if name == b"host":
            self._hosts += 1
            if value.translate(None, HOST):
                self._fail(BadRequest("Host has characters that no host has"))
        elif name == b"content-length":  # digits, in range and once: the parser refuses all else
            self._length = int(value)
        elif name == b"expect":
            self.expect_100_continue = value.lower() == b"100-continue"
        elif value.lower() == b"chunked":
            self._chunked = True
        else:
            self._fail(BadRequest("Transfer codings other than chunked are not understood"))

    def on_headers_complete(self) -> None:
        self._in_head = False
        if len(self.headers) > MAX_FIELDS or self._head > self.settings.max_header_size:
            self._fail(FieldsTooLarge())
        version = self.parser.get_http_version()
        if version == "1.1":
            if self._hosts != 1:
                self._fail(BadRequest("HTTP/1.1 needs exactly one Host"))  # RFC 9112 section 3.2
        elif version != "1.0" or self._hosts > 1 or self._chunked:  # RFC 9112 section 6.1: chunks and HTTP/1.0 are faulty framing
            self._fail(BadRequest("The version of HTTP, or what it cannot have, is refused"))
        self._head = 0
        self._head_since = 0.0
        self._tail = b""
        self._quiet = 0
        self._left = CHUNKED if self._chunked else self._length
        self._bulk = self._left >= BULK and not self.parser.should_upgrade()
        if self._left:
            self.body_begins()
        self.serve(version)
        # What now still comes are trailers: they are dropped (RFC 9110 section 6.5.1), or a body could add an Authorization to its own head.
        self.headers = []

    def serve(self, version: str) -> None:
        """Start to answer the request whose head is complete: `url`, `headers`, the parser's method; its body, if any, follows through on_body."""
        url = self.url
        if b"#" in url:
            self._fail(BadRequest("A request target has no fragment"))
        target = httptools.parse_url(url)
        raw_path = target.path or b"/"
        if target.host is not None:  # absolute form: its authority stands in for Host, RFC 9112 section 3.2.2
            authority = target.host if target.port is None else b"%s:%d" % (target.host, target.port)
            self.headers = [(name, authority if name == b"host" else value) for name, value in self.headers]
        path = unquote_to_bytes(raw_path).decode("utf-8", "replace") if b"%" in raw_path else raw_path.decode("ascii")
        parser = self.parser
        scope = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "method": parser.get_method().decode("ascii"),
            "root_path": self.root_path,
            "path": self.root_path + path,
            "raw_path": self.root_path.encode("ascii") + raw_path,
            "query_string": target.query or b"",
            "headers": self.headers,
            "state": self.app_state.copy(),
            "extensions": _EXTENSIONS if self.scheme == "http" else {},  # sendfile(2) knows no TLS
        }
        modern = version == "1.1"
        self.cycle = exchange = Exchange(
            self,
            scope,
            asyncio.Event(),
            expect_continue=modern and self.expect_100_continue,  # RFC 9110 section 10.1.1: not from HTTP/1.0
            keep_alive=modern and parser.should_keep_alive(),
        )
        self._start_asgi_task(exchange, self.app)

    def on_body(self, body: bytes) -> None:
        self._received += len(body)
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.arrived(body)

    def _carry(self, body: bytes) -> None:
        """Take a piece of a body past the parser, which never hears of it: the next message has another."""
        self.on_body(body)
        if not self._left:
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            self.on_message_complete()

    def on_message_complete(self) -> None:
        if self._left and self.parser.should_upgrade():  # see _decline_upgrade: the body is still to come
            return
        self._left = 0
        self._tail = b""
        cycle = self.cycle
        if cycle is not None:
            cycle.more_body = False
            cycle.message_event.set()

    def _decline_upgrade(self) -> None:
        """Go on in HTTP/1.1 (RFC 9110 section 7.8). The parser believes that the request has no body: one that has is read by a parser told nothing of the upgrade,
        or its body would be taken for the next request.
        """
        if self._left:
            relay = _Relay(self)
            self.parser = httptools.HttpRequestParser(relay)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            framing = b"Transfer-Encoding: chunked" if self._left < 0 else b"Content-Length: %d" % self._left
            self.parser.feed_data(b"POST / HTTP/1.1\r\n" + framing + BLANK_LINE)
            relay.live = True

    def _fail(self, error: MediaError) -> Never:
        """Stop the parser from inside one of its callbacks; _take finds out and refuses."""
        self._fault = error
        raise error

    def _reason(self, exc: httptools.HttpParserError) -> MediaError:
        if self._fault is not None:
            return self._fault
        cause = exc.__context__
        if isinstance(exc, httptools.HttpParserCallbackError) and not isinstance(cause, httptools.HttpParserInvalidURLError):
            self.logger.error("A request could not be started", exc_info=cause or exc)
            return MediaError()
        return BadRequest("The request is not well-formed HTTP/1.1")

    def refuse(self, error: MediaError) -> None:
        """Answer the request being read with a problem document and end the connection; when its answer has begun, cut it off instead: never two answers."""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.give_up()
            if cycle.response_started:
                self._deaf = True
                self.transport.abort()
                return
        head = bool(self.url) and self.parser.get_method() == b"HEAD"
        self.push(refusal(error, self.date(), head=head))
        self._linger()

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        assert self.cycle is not None
        if self.cycle.keep_alive:
            self.answered()
        else:
            self.finished()

    def finished(self) -> None:
        """The last answer of the connection is given."""
        if self._left or self._held:
            self._linger()
        else:
            self._deaf = True
            self.transport.close()

    def answered(self) -> None:
        """The connection is free for its next request."""
        self._idle_since = self.loop.time()
        self._idle_limit = self.settings.idle_timeout
        if self._held and not self.busy():
            self._release()
        else:
            self.flow.resume_reading()
        if self._last_word:
            self.loop.call_soon(self._part)

    def _linger(self) -> None:
        """Say that no more will come, but read on for a while: to close on unread bytes resets the connection and takes the answer with it (RFC 9112 section 9.6)."""
        self._deaf = True
        self._held = b""
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        self.transport.write_eof()
        self._linger_until = self.loop.time() + LINGER_TIME
        self.watch(self._linger_until)

    def _discard(self, size: int) -> None:
        self._discarded += size
        if self._discarded > LINGER_BYTES:
            self.flow.pause_reading()


def _message_bound(data: bytes, start: int, tail: bytes) -> int:
    """Where the first blank line after `start` ends, or the end of the data; it may have begun in `tail`. To find one too many does no harm; to miss one would."""
    if tail:
        seam = (tail + data[start : start + 3]).find(BLANK_LINE)
        if seam >= 0:
            return start + seam + 4 - len(tail)
    found = data.find(BLANK_LINE, start)
    return len(data) if found < 0 else found + 4


class _Relay:
    """Passes a parser's findings on to a connection once the head that the parser was primed with is past."""

    def __init__(self, connection: Framing) -> None:
        self.live = False
        self._connection = connection
        self.on_body = connection.on_body
        self.on_message_complete = connection.on_message_complete

    def on_message_begin(self) -> None:
        if self.live:
            self._connection.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if self.live:
            self._connection.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.live:
            self._connection.on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.live:
            self._connection.on_headers_complete()
