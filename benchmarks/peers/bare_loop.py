"""What the event loop alone costs: uvloop and llhttp around a dict of bodies, with no framework, signature, state, log or counter. Nothing in Python on this loop can be faster.

python -m benchmarks.peers.bare_loop PORT FOLDER FILL
"""

import asyncio
import sys
from pathlib import Path

import httptools

from mediacdn.server import loop


class Bare(asyncio.Protocol):
    """A connection: GET of a name out of `bodies`."""

    answers: dict[bytes, bytes]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._url = url

    def on_message_complete(self) -> None:
        self._transport.write(self.answers[self._url])


def answer(body: bytes, fill: str) -> bytes:
    """The whole answer, made once: a head that is as long as everybody's."""
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\nX-Fill: %b\r\n\r\n%b" % (
        len(body),
        fill.encode(),
        body,
    )


async def main(port: int, folder: Path, fill: str) -> None:
    small = (file for file in folder.iterdir() if file.stat().st_size < 100_000)  # noqa: ASYNC240 (before anybody waits)
    Bare.answers = {b"/" + file.name.encode(): answer(file.read_bytes(), fill) for file in small}
    server = await asyncio.get_running_loop().create_server(Bare, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    loop.run(main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
