"""One server process of several, as it sees its parent: it says when it is ready, does what it is told, asks for the sum of all metrics, and ends when the parent has.

The parent's side is cli/crew.py; what a drain is, is run.py's.
"""

import asyncio
import os
import select
import socket
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Protocol

from prometheus_client import CollectorRegistry

from mediacdn.errors import Unavailable
from mediacdn.server import messages
from mediacdn.server.messages import Adopt, Ask, Counted, Drain, Hurry, Leaving, Order, Ready, Refused, Release, Report, Total, Word
from mediacdn.server.totals import read

PATIENCE = 3.0
"""Seconds for the sum of all metrics; the parent waits for a process that does not answer a third of it."""
_GRACE = 10.0


class Ordered(Protocol):
    """A running server as orders need it."""

    def drain(self, delay: float | None = None) -> None: ...

    def hurry(self) -> None: ...

    async def adopt(self, slot: int, sockets: Sequence[socket.socket]) -> None: ...

    def release(self, slot: int) -> None: ...


class Member:
    """This process in its slot. `slots` are the listening sockets of all, `bound` is where they listen, `patience` the seconds that a graceful end may take."""

    def __init__(
        self,
        link: socket.socket,
        slots: Sequence[Sequence[socket.socket]],
        slot: int,
        bound: str,
        registry: CollectorRegistry,
        patience: float,
    ) -> None:
        self.bound = bound
        self.sockets = [each.dup() for each in slots[slot]]
        self._link = link
        self._slots = {number: sockets for number, sockets in enumerate(slots) if sockets is not slots[slot]}
        for each in slots[slot]:
            each.close()
        self._registry = registry
        self._patience = patience
        self._writer: asyncio.StreamWriter | None = None
        self._asked = 0
        self._awaited: dict[int, asyncio.Future[bytes]] = {}
        threading.Thread(target=self._tethered, name="tether", daemon=True).start()

    @asynccontextmanager
    async def heard(self, server: Ordered) -> AsyncIterator[None]:
        """Let the parent command `server` inside."""
        reader, self._writer = await asyncio.open_unix_connection(sock=self._link.dup())
        hearing = asyncio.create_task(self._hear(reader, server))
        try:
            yield
        finally:
            hearing.cancel()
            self._tell(Counted(0, read(self._registry)))
            self._writer.close()
            with suppress(OSError, asyncio.CancelledError):
                await self._writer.wait_closed()
            self._writer = None

    def ready(self) -> None:
        self._tell(Ready())

    def leaving(self) -> None:
        self._tell(Leaving())

    def refuse(self, sentence: str) -> None:
        """Say why this process cannot start, when its loop has ended."""
        with suppress(OSError):
            self._link.setblocking(True)
            self._link.sendall(messages.framed(Refused(sentence)))

    async def total(self) -> bytes:
        """The metrics of all processes in Prometheus' text format. Raises: Unavailable."""
        self._asked += 1
        number = self._asked
        awaited: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._awaited[number] = awaited
        self._tell(Ask(number, read(self._registry)))
        try:
            async with asyncio.timeout(PATIENCE):
                return await awaited
        except TimeoutError:
            raise Unavailable("The metrics of the other server processes did not arrive") from None
        finally:
            del self._awaited[number]

    def _tell(self, word: Word) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(messages.framed(word))

    async def _hear(self, reader: asyncio.StreamReader, server: Ordered) -> None:
        frames = messages.orders()
        with suppress(ConnectionError):
            while chunk := await reader.read(65536):
                for order in frames.feed(chunk):
                    await self._obey(order, server)
        self._forget_others()
        server.drain(0)  # the parent is gone: nobody would restart, stop or count this process any more

    async def _obey(self, order: Order, server: Ordered) -> None:
        match order:
            case Drain():
                self._forget_others()
                server.drain()
            case Hurry():
                server.hurry()
            case Adopt(slot):
                if slot in self._slots:
                    await server.adopt(slot, [each.dup() for each in self._slots[slot]])
            case Release(slot):
                server.release(slot)
            case Report(number):
                self._tell(Counted(number, read(self._registry)))
            case Total(number, text):
                awaited = self._awaited.get(number)
                if awaited is not None and not awaited.done():
                    awaited.set_result(text)

    def _forget_others(self) -> None:
        """Close the others' listening sockets: connections would queue where their owner has stopped to accept."""
        for sockets in self._slots.values():
            for each in sockets:
                each.close()
        self._slots.clear()

    def _tethered(self) -> None:
        """Leave by force when the parent is gone and an orderly end does not come, because the loop is stuck."""
        poll = select.poll()
        poll.register(self._link, 0)  # no events asked for: a hang-up is always told
        poll.poll()
        time.sleep(self._patience + _GRACE)
        os._exit(1)
