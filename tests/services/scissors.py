"""A TCP relay that cuts connections: what a flaky network does to a download or an upload, at a place that the test chooses."""

import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from select import select

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with no patience: closing resets, as a peer does that died."""


class Scissors:
    """Relays from `port` of 127.0.0.1 to `target`; `cuts` holds, for the connections to come, after how many bytes towards the client each is reset, or
    `upwards` towards the server. Connections beyond the list run through. `seen` counts them all, `cut` those that were reset."""

    def __init__(self, target: int, cuts: Sequence[int], *, upwards: bool = False) -> None:
        self.cuts = list(cuts)
        self.seen = self.cut = 0
        self.target = target
        self._upwards = upwards
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        """Take no more connections, and wait for those there are: their clients are through, or a test has failed to end them."""
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the accept, which a close alone would leave waiting
        for each in self._threads:
            each.join(10)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.seen += 1
                relaying = threading.Thread(target=self._relay, args=(client, self.cuts.pop(0) if self.cuts else None), daemon=True)
                self._threads.append(relaying)
                relaying.start()

    def _relay(self, client: socket.socket, left: int | None) -> None:
        with client, self._connected() as server, suppress(OSError):
            while True:
                for source in select([client, server], [], [])[0]:
                    answer = (source is server) is not self._upwards
                    chunk = source.recv(65536 if left is None or not answer else min(65536, left))
                    if not chunk:
                        return
                    (client if source is server else server).sendall(chunk)
                    if answer and left is not None:
                        left -= len(chunk)
                        if left == 0:
                            self.cut += 1
                            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                            if self._upwards:
                                server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                            return

    def _connected(self) -> socket.socket:
        try:
            return socket.create_connection(("127.0.0.1", self.target))
        except OSError:  # a server that was killed: the client finds a connection that ends
            return socket.socket()


@contextmanager
def scissors(target: int, cuts: Sequence[int], *, upwards: bool = False) -> Iterator[Scissors]:
    """Relay to the server on port `target` until the context is left."""
    relay = Scissors(target, cuts, upwards=upwards)
    try:
        yield relay
    finally:
        relay.close()
