"""The hot lane: reads whose answer is at hand leave here, before the application is woken; whatever is unusual goes on to it untouched.

llhttp has parsed every byte and framing.py has judged the head, as for any request. What to answer is not decided here: the application hands in a callable
through the server's lifespan state (`hot`), which decides with the same code as its routes.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from mediacdn.errors import ObjectCorrupt
from mediacdn.server.deadlines import Deadlines
from mediacdn.server.exchange import JOINED
from mediacdn.server.framing import BLANK_LINE, MAX_FIELDS

HOT = "hot"
"""Its name in the lifespan state."""
LONGEST = 8192
"""Bytes of a head that is compared with the one before."""
MOST_AT_ONCE = 32
"""Answers that leave together at the most, so that the first of them does not wait for long."""
LESSONS = 8
"""How often in a row a connection's fields may differ from those before, until they are no longer compared."""
_LINE_END = b" HTTP/1.1\r\n"
_VARYING = re.compile(rb"\r\n([Ii]f-[Nn]one-[Mm]atch|[Rr]ange): ([!-~](?:[ -~]*[!-~])?)(?=\r\n)")
"""The fields that differ from one request of a reader to its next, as nearly everybody spells them."""
_VARIED = frozenset((b"if-none-match", b"range"))


class Prepared(Protocol):
    """A whole answer: the lines of its head's fields, Content-Length among them and Date not, and a body of `pieces`, or of `count` bytes of the open file `file` at `offset`."""

    @property
    def status(self) -> int: ...
    @property
    def head(self) -> tuple[bytes, ...]: ...
    @property
    def pieces(self) -> Sequence[bytes | bytearray | memoryview]: ...
    @property
    def file(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def count(self) -> int: ...
    @property
    def keep(self) -> Any: ...
    @property
    def sent(self) -> Callable[[int], None]: ...


class Hot(Protocol):
    """What answers. `meet` makes of a head's fields what all requests with just these fields have in common, None when it leaves them to the application; `answer` is
    asked for each, with what was met and perhaps one further field."""

    def meet(self, headers: Sequence[tuple[bytes, bytes]], client: tuple[str, int] | None) -> Any | None: ...
    def answer(self, method: str, url: bytes, met: Any, further: tuple[bytes, bytes] | None = None) -> Prepared | None: ...


class Lane(Deadlines):
    """A connection whose GETs and HEADs may be answered at once.

    Answers that were decided in one turn of the event loop leave together at its end: deciding and sending, each at a stretch, take about three quarters of
    the processor time that they take in turns.

    A reader says the same of itself in every request. Fields that came once, through the parser's callbacks, are known again by their bytes: then a parser without
    callbacks checks the message as strictly, and what the fields meant is at hand. At most one line of `_VARYING` may differ.
    """

    _ending = False
    _block = b""
    """The known fields: from the end of the request line to the blank line, both included."""
    _met: Any = None
    _known: Any = None
    _echo: httptools.HttpRequestParser | None = None
    _bare = True
    """Whether the known fields have none of `_VARIED`, and room for one."""
    _lessons = LESSONS
    _declined = False
    _late: Prepared | None = None
    """What is decided and has not left; nothing else is done with the connection before it has."""
    _leaving: ClassVar[list["Lane"]] = []

    def __init_subclass__(cls) -> None:
        cls._leaving = []  # of one event loop: a server has a class of its own (deadline_protocol)

    def data_received(self, data: bytes) -> None:
        if self._late is not None:
            self._leave()
        unusual = self._deaf or self._held or self._left or self._head or len(data) > LONGEST
        if unusual or not data.startswith(b"GET ") or self.busy():
            super().data_received(data)
        elif not (self._block and self._again(data)):
            self._met = None
            super().data_received(data)
            self._declined = False
            if self._met is not None and self._lessons:
                self._learn(data)

    def _again(self, data: bytes) -> bool:
        """Answer a request whose fields are known; False leaves it as it came."""
        end = data.find(_LINE_END, 4)
        block, further = self._block, None
        if end < 0:
            return False
        end += 9
        if len(data) - end != len(block) or not data.endswith(block):
            found = _VARYING.search(data, end) if self._bare else None
            if found is None or data[end : found.start()] + data[found.end() :] != block:
                return False
            further = found[1].lower(), found[2]
        if self._echo is None:
            self._echo = httptools.HttpRequestParser(_SILENT)
        try:
            self._echo.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):  # the other parser is to say what is wrong with it
            self._block, self._echo = b"", None
            return False
        self._lessons = LESSONS
        hot: Hot | None = self.app_state.get(HOT)
        prepared = None
        if hot is not None and not self.transport.is_closing():
            try:
                prepared = hot.answer("GET", data[4 : end - 9], self._known, further)
            except Exception:  # a fault of ours must not cost an answer that the application can give
                self.logger.exception("The hot lane failed")
        if prepared is None or (prepared.count and self.transport.get_write_buffer_size()):
            self._declined = True
            return False
        self._late = prepared
        leaving = self._leaving
        leaving.append(self)
        if len(leaving) == 1:
            self.loop.call_soon(self._leave_all)
        elif len(leaving) >= MOST_AT_ONCE:
            self._leave_all()
        return True

    @classmethod
    def _leave_all(cls) -> None:
        leaving, cls._leaving = cls._leaving, []
        for each in leaving:
            try:
                each._leave()
            except Exception:  # what is wrong with one answer must not hold up the others
                each.logger.exception("The hot lane failed")
                each.transport.abort()

    def _leave(self) -> None:
        prepared, self._late = self._late, None
        if prepared is not None:
            self._deliver(prepared)

    def _learn(self, data: bytes) -> None:
        """Keep the fields of a request that came alone and whole, and that the lane may answer."""
        end = data.find(b"\r\n")
        if not data.endswith(_LINE_END[:-2], 0, end) or data.find(BLANK_LINE) != len(data) - 4 or self.settings.max_header_size < LONGEST:
            return
        self._lessons -= 1
        block, (met, headers) = data[end:], self._met
        varied = [name for name, _ in headers if name in _VARIED]
        found = _VARYING.search(block)
        # One that is spelled in a way that _VARYING does not know stays: then a second would be one too many.
        self._bare = len(varied) == (found is not None) and len(headers) < MAX_FIELDS
        if found is not None:
            hot: Hot | None = self.app_state.get(HOT)
            name, block = found[1].lower(), block[: found.start()] + block[found.end() :]
            met = hot.meet([each for each in headers if each[0] != name], self.client) if hot is not None and self._bare else None
        self._block, self._known = (block, met) if met is not None else (b"", None)

    def eof_received(self) -> bool:  # type: ignore[override]
        self._leave()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        prepared, self._late = self._late, None
        if prepared is not None:
            prepared.sent(0)
        super().connection_lost(exc)

    def _inspect(self, now: float) -> float | None:
        self._leave()
        return super()._inspect(now)

    def shutdown(self) -> None:
        """End gracefully, as uvicorn asks: a file on its way, which it knows nothing of, is sent to its end first."""
        self._leave()
        if self._pour is not None and (self.cycle is None or self.cycle.response_complete):
            self._ending = True
        else:
            super().shutdown()

    def serve(self, version: str) -> None:
        prepared = None if self._declined else self._prepared(version)
        if prepared is None or (prepared.count and self.transport.get_write_buffer_size()):
            super().serve(version)
        else:
            self._deliver(prepared)

    def _deliver(self, prepared: Prepared) -> None:
        if prepared.count:
            self._send_file(prepared)
        else:
            self._send(prepared)

    def _prepared(self, version: str) -> Prepared | None:
        hot: Hot | None = self.app_state.get(HOT)
        if hot is None or version != "1.1" or self._left or self.expect_100_continue:
            return None
        parser = self.parser
        method = parser.get_method()
        if method not in (b"GET", b"HEAD") or not parser.should_keep_alive() or parser.should_upgrade() or self.transport.is_closing():
            return None
        try:
            met = hot.meet(self.headers, self.client)
            if met is None:
                return None
            self._met = met, self.headers
            return hot.answer(method.decode(), self.url, met)
        except Exception:  # a fault of ours must not cost an answer that the application can give
            self.logger.exception("The hot lane failed")
            return None

    def _top(self, prepared: Prepared) -> tuple[bytes, ...]:
        return STATUS_LINE[prepared.status], b"date: ", self.date(), b"\r\n", *prepared.head, b"\r\n"

    def _send(self, prepared: Prepared) -> None:
        pieces = prepared.pieces
        size = len(pieces[0]) if len(pieces) == 1 else sum(map(len, pieces))
        if size <= JOINED:
            self.push(b"".join((STATUS_LINE[prepared.status], b"date: ", self.date(), b"\r\n", *prepared.head, b"\r\n", *pieces)))
        else:
            self.push_all([b"".join(self._top(prepared)), *pieces])
        prepared.sent(size)
        self.server_state.total_requests += 1
        self.answered()

    def _send_file(self, prepared: Prepared) -> None:
        """Send from the page cache; what the socket does not take at once follows while the connection waits with its next request."""
        later = False

        def ended(error: Exception | None) -> None:
            prepared.sent(prepared.count if error is None else 0)
            self.server_state.total_requests += 1
            if error is not None:
                if isinstance(error, ObjectCorrupt):
                    self.logger.error("answer broken off: %s", error.detail)
                self.transport.abort()
            elif self._ending:
                self.finished()
            elif later:
                self.answered()

        self.pour(b"".join(self._top(prepared)), prepared.file, prepared.offset, prepared.count, ended, prepared.keep)
        later = self.busy()
        if not later:
            self.answered()


class _Silent:
    """Who hears nothing of what a parser finds."""


_SILENT = _Silent()
