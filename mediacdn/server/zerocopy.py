"""Bytes of files from the page cache to the socket by sendfile(2), past the transport while it has nothing queued.

Python never reads the file: nothing is copied, and a file that has become shorter is an end that is seen, not a fault of memory. The transport still does
the waiting: when the socket is full, one small piece goes through it, and its drained buffer tells that there is room again.
"""

import os
import socket
from asyncio import Transport
from contextlib import suppress

EXTENSION = "http.response.zerocopysend"
"""ASGI's name for this, and the type of its message: file (a descriptor or what has fileno()), offset, count, more_body."""
PLUG = 65_536


class DirectSocket:
    """A connection's own descriptor beside its transport, made when first needed. Every method expects that the transport's buffer is empty."""

    def __init__(self, transport: Transport) -> None:
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
        with suppress(BlockingIOError):
            return os.sendfile(self._socket.fileno(), file, at, count)
        return None
