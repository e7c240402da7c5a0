"""The hot lane: reads whose answer is at hand leave here, before the application is woken; whatever is unusual goes on to it untouched.

llhttp has parsed every byte and framing.py has judged the head, as for any request. What to answer is not decided here: the application hands in a callable
through the server's lifespan state (`hot`), which decides with the same code as its routes.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from mediacdn.errors import ObjectCorrupt
from mediacdn.server.deadlines import Deadlines
from mediacdn.server.exchange import JOINED

HOT = "hot"
"""Its name in the lifespan state."""


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


Hot = Callable[[str, bytes, Sequence[tuple[bytes, bytes]], tuple[str, int] | None], Prepared | None]


class Lane(Deadlines):
    """A connection whose GETs and HEADs may be answered at once."""

    _ending = False

    def shutdown(self) -> None:
        """End gracefully, as uvicorn asks: a file on its way, which it knows nothing of, is sent to its end first."""
        if self._pour is not None and (self.cycle is None or self.cycle.response_complete):
            self._ending = True
        else:
            super().shutdown()

    def serve(self, version: str) -> None:
        prepared = self._prepared(version)
        if prepared is None or (prepared.count and self.transport.get_write_buffer_size()):
            super().serve(version)
        elif prepared.count:
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
            return hot(method.decode(), self.url, self.headers, self.client)
        except Exception:  # a fault of ours must not cost an answer that the application can give
            self.logger.exception("The hot lane failed")
            return None

    def _top(self, prepared: Prepared) -> tuple[bytes, ...]:
        return STATUS_LINE[prepared.status], b"date: ", self.date(), b"\r\n", *prepared.head, b"\r\n"

    def _send(self, prepared: Prepared) -> None:
        pieces = prepared.pieces
        size = sum(map(len, pieces))
        if size <= JOINED:
            self.push(b"".join((*self._top(prepared), *pieces)))
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
