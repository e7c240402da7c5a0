"""The clocks of a connection: what uvicorn lacks against silent, slow and greedy peers; framing.py answers for the bytes.

A faster lane derives from `Deadlines`: it overrides `serve` (a request's head is complete), writes through `push`, calls `answered` when it has answered
without an Exchange, and leaves what it declines to `super().serve()`.
"""

import asyncio
import fcntl
import sys
import termios
from typing import Any, ClassVar

from uvicorn.config import Config
from uvicorn.server import ServerState

from mediacdn.config import Server
from mediacdn.errors import RequestTimeout, TooManyRequests
from mediacdn.http.dates import DateLine
from mediacdn.server.addresses import Addresses
from mediacdn.server.exchange import Exchange
from mediacdn.server.framing import LINGER_TIME, Framing
from mediacdn.server.patience import Patience

READING, WRITING = 1, 2


class Deadlines(Framing):
    """One connection. Made by `deadline_protocol`, which fills the class attributes from the settings.

    One timer a connection, never moved by a request that arrives whole: it finds out what it should have waited for when it fires.
    """

    addresses: ClassVar[Addresses]

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        settings = self.settings
        self._patience = Patience(settings.min_body_rate, settings.min_body_rate_window)
        self._step = settings.min_body_rate_window / 4
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._address: str | None = None
        self._turned_away = False
        self._forgiven = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._idle_since = self.loop.time()
        if self.client is not None:
            self._address = self.addresses.enter(self.client[0])
            if self._address is None:
                self._turn_away()
                return
        self.watch(self._idle_since + self._idle_limit)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._address is not None:
            self.addresses.leave(self._address)
            self._address = None
        if self._turned_away:
            self._turned_away = False
            self.addresses.turned_away -= 1
        super().connection_lost(exc)

    def _turn_away(self) -> None:
        """Say that the address has too many connections; under a flood, do not even say it."""
        if self.addresses.turned_away >= self.addresses.limit:
            self._deaf = True
            self.transport.abort()
            return
        self.addresses.turned_away += 1
        self._turned_away = True
        self.refuse(TooManyRequests("Too many connections from this address", headers={"Retry-After": "1"}))

    def pause_writing(self) -> None:
        super().pause_writing()
        self.stalls()

    def stalls(self) -> None:
        self.watch(self.loop.time() + self._step)

    def body_begins(self) -> None:
        self._patience.rest()
        self.watch(self.loop.time() + self._step)

    def forgive(self) -> None:
        self._forgiven = True

    def watch(self, at: float) -> None:
        """See that the timer fires no later than `at`."""
        if self._timer is not None:
            if at >= self._timer_at:
                return
            self._timer.cancel()
        self._timer_at = at
        self._timer = self.loop.call_at(at, self._tick)

    def _tick(self) -> None:
        self._timer = None
        at = self._inspect(self.loop.time())
        if at is not None:
            self.watch(at)

    def _inspect(self, now: float) -> float | None:
        """Act on what is overdue; when to look again, or None when the connection is ending by itself."""
        transport = self.transport
        pending = transport.get_write_buffer_size()
        if pending or self._pour is not None:
            self._linger_until = now + LINGER_TIME
            if self._patience.lasts(WRITING, self._written - pending - self._unacknowledged(), now):
                return now + self._step
            transport.abort()
            return None
        if transport.is_closing():
            return None
        if self._deaf:
            if now < self._linger_until:
                return self._linger_until
            transport.close()
            return None
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            return self._inspect_body(cycle, now)
        if self._head_since:
            due = self._head_since + self.settings.header_timeout
            if now < due:
                return due
            if self._in_head:
                self.refuse(RequestTimeout())
            else:  # blank lines before a request that never came
                transport.close()
            return None
        due = self._idle_since + self._idle_limit
        if now < due:
            return due
        transport.close()
        return None

    def _inspect_body(self, cycle: Exchange, now: float) -> float | None:
        if not self._left:
            self._patience.rest()
            return now + self.settings.min_body_rate_window
        excused = self._forgiven or self.flow.read_paused or cycle.waiting_for_100_continue
        self._forgiven = False
        if excused:
            self._patience.rest()
        elif not self._patience.lasts(READING, self._received, now):
            self.refuse(RequestTimeout("The body arrived too slowly"))
            return None
        return now + self._step

    def _unacknowledged(self) -> int:
        """Bytes that the kernel still has to deliver: without them a slow reader of a large socket buffer would look like none at all."""
        try:
            fd = self.transport.get_extra_info("socket").fileno()
            return int.from_bytes(fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        except (AttributeError, OSError):
            return 0


def deadline_protocol(settings: Server, kind: type[Deadlines] = Deadlines) -> type[Deadlines]:
    """The protocol class for uvicorn's `http` setting. Connections are counted by class, so make one for each server. Raises: ConfigError."""
    addresses = Addresses(settings.max_connections_per_address, settings.trusted_proxies)
    return type(kind.__name__, (kind,), {"settings": settings, "addresses": addresses, "date": DateLine()})
