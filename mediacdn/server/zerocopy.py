"""Bytes of files from the page cache to the socket by sendfile(2), past the transport while it has nothing queued.

Python never reads the file: nothing is copied, and a file that has become shorter is an end that is seen, not a fault of memory. A full socket is waited for on
a descriptor of our own (a duplicate, which the event loop watches beside the transport's), so nothing goes through the transport on the way.
"""

import os
import socket
from asyncio import AbstractEventLoop, Transport
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from mediacdn.errors import ObjectCorrupt

EXTENSION = "http.response.zerocopysend"
"""ASGI's name for this, and the type of its message: file (a descriptor or what has fileno()), offset, count, more_body."""

Ended = Callable[[Exception | None], None]


def send_views(transport: Transport, pieces: Sequence[bytes | bytearray | memoryview]) -> bytes:
    """Send what the socket takes now, and give a copy of the rest: in the transport's buffer a view would hold the whole that it is of for as long as its reader likes."""
    sent = 0
    if not transport.get_write_buffer_size() and not transport.is_closing():
        with suppress(OSError):  # a full socket; of a peer that is gone the transport will hear
            sent = os.writev(transport.get_extra_info("socket").fileno(), pieces)
    rest: list[memoryview] = []
    for piece in pieces:
        if sent < len(piece):
            rest.append(memoryview(piece)[sent:])
        sent = max(0, sent - len(piece))
    return b"".join(rest)


class DirectSocket:
    """A connection's own descriptor beside its transport, made when first needed. Every method expects that the transport's buffer is empty."""

    def __init__(self, loop: AbstractEventLoop, transport: Transport) -> None:
        self._loop = loop
        self._socket = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))

    def close(self) -> None:
        self._socket.close()

    def send(self, head: bytes) -> int:
        """Send what fits now, telling the kernel that more follows. Raises: OSError when the peer is gone."""
        try:
            return self._socket.send(head, socket.MSG_MORE | socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return 0

    def send_file(self, file: int, at: int, count: int) -> int | None:
        """Send of the file what fits now; 0 when it ends at `at`, None when nothing fits. The pages should be resident. Raises: OSError when the peer is gone."""
        try:
            return os.sendfile(self._socket.fileno(), file, at, count)
        except BlockingIOError:
            return None

    def send_both(self, head: bytes, file: int, at: int, count: int) -> int:
        """Send what fits now of a head and of a file's span after it, and give how much: most answers fit whole. Raises: OSError when the peer is gone."""
        sent = self.send(head)
        return sent if sent < len(head) else sent + (self.send_file(file, at, count) or 0)

    def wait(self, call: Callable[[], object]) -> None:
        """Call whenever the socket has room, until `rest`."""
        self._loop.add_writer(self._socket, call)

    def rest(self) -> None:
        self._loop.remove_writer(self._socket)


class Pour:
    """A head and a span of a file on their way to the socket.

    `begin` sends what fits, the rest follows whenever there is room; `ended` is called once, perhaps before `begin` returns: with None when all is
    with the kernel, with OSError when the peer is gone, with ObjectCorrupt when the file ended early. `file` is a descriptor, kept open by whoever `keep` is.
    """

    __slots__ = ("_at", "_count", "_direct", "_ended", "_file", "_head", "_keep", "_left", "_waiting")

    def __init__(
        self,
        direct: DirectSocket,
        head: bytes,
        file: int,
        at: int,
        left: int,
        *,
        count: Callable[[int], None],
        ended: Ended,
        keep: Any = None,
    ) -> None:
        self._direct = direct
        self._head = head
        self._file = file
        self._at = at
        self._left = left
        self._count = count
        self._ended = ended
        self._keep = keep
        self._waiting = False

    def begin(self) -> bool:
        """Whether it has ended already."""
        if self._go_on():
            return True
        self._waiting = True
        self._direct.wait(self._go_on)
        return False

    def give_up(self, reason: Exception) -> None:
        """The connection is gone."""
        self._end(reason)

    def _go_on(self) -> bool:
        try:
            done = self._send()
        except (OSError, ObjectCorrupt) as error:
            self._end(error)
            return True
        if done:
            self._end(None)
        return done

    def _send(self) -> bool:
        direct = self._direct
        if self._head:
            sent = direct.send(self._head)
            self._count(sent)
            self._head = self._head[sent:]
            if self._head:
                return False
        while self._left:
            gone = direct.send_file(self._file, self._at, self._left)
            if gone is None:
                return False
            if not gone:
                raise ObjectCorrupt("The stored object ended before its recorded size")
            self._count(gone)
            self._at += gone
            self._left -= gone
        return True

    def _end(self, error: Exception | None) -> None:
        if self._waiting:
            self._waiting = False
            self._direct.rest()
        self._keep = None
        self._ended(error)
