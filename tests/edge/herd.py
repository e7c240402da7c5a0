"""One server process of a herd: an edge over a shared folder, whose origin appends a line to a file for each read."""

import asyncio
import hashlib
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from mediacdn.model import ByteRange
from tests.edge.given import Far, bench, card, content, until


class Order(msgspec.Struct):
    """What a process does: so many concurrent reads of the whole object, once the file `go` is there; each chunk takes `pause` seconds."""

    folder: str
    size: int
    slice_size: int
    readers: int
    pause: float = 0.0

    @property
    def path(self) -> Path:
        return Path(self.folder)


class Tally(Far):
    """A storage that leaves a line for each read, with the process that did it."""

    def __init__(self, order: Order) -> None:
        super().__init__()
        self.order = order

    @asynccontextmanager
    async def open(self, key: str, span: ByteRange | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        line = b"%d %d\n" % (os.getpid(), 0 if span is None else span.start)
        fd = os.open(self.order.path / "reads", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(fd, line)
        os.close(fd)
        async with super().open(key, span) as chunks:
            yield self._slowly(chunks)

    async def _slowly(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            await asyncio.sleep(self.order.pause)
            yield chunk


async def run(order: Order) -> str:
    """Read as ordered; the digests of all that was read, once each."""
    async with bench(order.path, far=Tally(order), turns=True, slice_size=order.slice_size) as given:
        body = content(order.size)
        given.far.objects["a"] = body
        of = card(body)
        (order.path / f"ready-{os.getpid()}").touch()
        await until((order.path / "go").exists)
        answers = await asyncio.gather(*(given.read(of) for _ in range(order.readers)))
        await given.quiet()
        return " ".join({hashlib.sha256(b"".join(got)).hexdigest() for got, _ in answers})


if __name__ == "__main__":
    print(asyncio.run(run(msgspec.json.decode(sys.argv[1], type=Order))))
