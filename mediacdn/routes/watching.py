"""A task as a stream of server-sent events: its state whenever it changes, until it ends, the reader may not read it any more, or the server drains.

The events follow the row, so a task can be watched through any server process, whoever runs it.
"""

import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import anyio
import msgspec

from mediacdn.catalog.jobs import JobRows
from mediacdn.errors import MediaError, Overloaded, TooManyRequests
from mediacdn.model import Job
from mediacdn.routes.task_views import show_task
from mediacdn.tasks import ENDED

STREAMS, OWN = 200, 20
"""At most so many in a process, and of one caller in it: each reads its row up to four times a second."""
AGAIN = {"Retry-After": "5"}
FAST, SLOW = 0.25, 1.0
"""Seconds between two looks at the row: right after it changed, and when it has not for a while."""
PING = 15.0
RETRY = 2000
HEADERS = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store"), (b"x-accel-buffering", b"no")]

Allowed = Callable[[], Awaitable[None]]
"""Raises a MediaError once the reader may not read any more."""


class Watching:
    """The streams of one process."""

    def __init__(self, rows: JobRows, draining: Callable[[], bool], *, most: int = STREAMS, own: int = OWN, ping: float = PING) -> None:
        self._rows = rows
        self._draining = draining
        self._most = most
        self._own = own
        self._ping = ping
        self._open: Counter[str] = Counter()

    def watch(self, who: str, job: Job, seen: str | None, allowed: Allowed) -> "Watch":
        """The answer to a reader who may read now and has `seen` the event of this id. Raises: TooManyRequests, Overloaded."""
        if self._open[who] >= self._own:
            raise TooManyRequests(
                f"At most {self._own} streams are open for one caller; ask for the task itself, or come again", headers=AGAIN
            )
        if self._open.total() >= self._most:
            raise Overloaded("Too many streams are open in this server process; ask for the task itself, or come again", headers=AGAIN)
        return Watch(self, who, job, seen, allowed)

    def enter(self, who: str) -> None:
        self._open[who] += 1

    def leave(self, who: str) -> None:
        self._open[who] -= 1
        if not self._open[who]:
            del self._open[who]

    async def events(self, job: Job, seen: str | None, allowed: Allowed) -> AsyncGenerator[bytes, None]:
        """What is sent, event by event; nothing whose id is `seen`."""
        yield f"retry: {RETRY}\n\n".encode()
        current: Job | None = job
        while current is not None:
            mark = str(current.revision)
            if mark != seen:
                yield _event("task", mark, msgspec.json.encode(show_task(current)))
                seen = mark
            if current.state in ENDED:
                yield _event("end", ended_mark(current), msgspec.json.encode({"id": current.id, "status": current.state}))
                return
            async for ping in self._unchanged(current, allowed):
                yield ping
            try:
                current = await self._rows.get(job.id)
                await allowed()
            except MediaError:
                return  # who comes again is told why

    async def _unchanged(self, job: Job, allowed: Allowed) -> AsyncGenerator[bytes, None]:
        """Wait for another revision, with a sign of life now and then. Ends too when there is nothing to wait for."""
        pause, spoke = FAST, time.monotonic()
        while True:
            await anyio.sleep(pause)
            pause = min(SLOW, pause * 1.2)
            if time.monotonic() - spoke >= self._ping:
                yield b": still here\n\n"
                spoke = time.monotonic()
            if self._draining():
                raise _Over
            try:
                await allowed()
                revision = await self._rows.revision(job.id)
            except MediaError:
                raise _Over from None
            if revision != job.revision:
                return


class _Over(Exception):
    """Nothing more is sent; the client comes again by itself, and is told why or served elsewhere."""


class Watch:
    """One stream, as an ASGI application."""

    def __init__(self, watching: Watching, who: str, job: Job, seen: str | None, allowed: Allowed) -> None:
        self._watching = watching
        self._who = who
        self._job = job
        self._seen = seen
        self._allowed = allowed

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Send until the end, or until the client has left."""
        self._watching.enter(self._who)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._send, send, group.cancel_scope)
                while (await receive())["type"] != "http.disconnect":
                    pass
                group.cancel_scope.cancel()
        finally:
            self._watching.leave(self._who)

    async def _send(self, send: Any, over: anyio.CancelScope) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        try:
            async with aclosing(self._watching.events(self._job, self._seen, self._allowed)) as events:
                async for event in events:
                    await send({"type": "http.response.body", "body": event, "more_body": True})
        except _Over:
            pass
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        over.cancel()


def ended_mark(job: Job) -> str:
    """The id of the last event: whoever has seen it needs no other."""
    return f"{job.revision}-end"


def _event(name: str, id: str, data: bytes) -> bytes:
    return b"event: %b\nid: %b\ndata: %b\n\n" % (name.encode(), id.encode(), data)
