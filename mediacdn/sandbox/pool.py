"""The Sandbox: a few warm children, one request at a time each, a short queue before them, and a new child for every one that is spent or spoilt.

`anyio.to_process` and pebble do not serve here. Both hand their children the parent's whole environment (anyio at exec, pebble by fork or spawn), so secrets
lie in /proc/PID/environ of a process that runs untrusted bytes; both carry pickles in both directions, so a child that was taken over has the parent run
what it likes; neither passes descriptors, so a child needs paths and the right to open them; neither sets limits nor a process group of its own, bounds
who waits, or drains stderr: a decoder that warns into an undrained pipe hangs at no processor time, which no limit but the wall clock's sees.
What stays: a child keeps what it could read until it is replaced, and runs as the parent's user unless it is told another; what else it can do is what the
kernel's fence lets it (fence.py). Give it read-only descriptors of what it decodes.
"""

import asyncio
import os
import signal
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Any

import structlog

from mediacdn.errors import InvalidArgument, MediaError, OverLimits, Overloaded, Unavailable, Undecodable
from mediacdn.model import Fence
from mediacdn.sandbox.process import Broken, Child, Unsent
from mediacdn.sandbox.wire import LARGEST_REQUEST, MOST_DESCRIPTORS, Request, Setup, framed

_ERRORS: dict[str, type[MediaError]] = {kind.code: kind for kind in (Undecodable, OverLimits, InvalidArgument)}
WARM_AFTER = 1.0
_DETAIL = 300
_MEMORY = ("alloc", "memory")
_log = structlog.get_logger("mediacdn.sandbox")


class Sandbox:
    """Children that run one function on untrusted bytes; `open_sandbox` opens it."""

    def __init__(self, setup: Setup, environment: Mapping[str, str], children: int, queue: int) -> None:
        self._setup = setup
        self._environment = dict(environment)
        self._starter = ThreadPoolExecutor(1, "sandbox")  # a thread of its own: the kernel kills children with the thread that started them
        self._queue = queue
        self._slots = [_Slot(self._spawn, self._prepare, setup.jobs, setup.resident // 2) for _ in range(children)]
        self._free = list(self._slots)
        self._waiters: deque[asyncio.Future[_Slot]] = deque()
        self._open = True

    async def run(self, request: Mapping[str, Any], descriptors: Sequence[int] = (), *, deadline: float) -> dict[str, Any]:
        """Have a child call the function with `request` and duplicates of `descriptors`, and give what it answered.

        `request` is plain data of at most 64 KiB, with at most 8 descriptors, which stay the caller's. `deadline` is in seconds of wall clock from when a child
        has the request. On cancellation the child is killed. The answer comes from a process that untrusted bytes may have taken over: check it.
        Raises: Undecodable, OverLimits, InvalidArgument from the child or from how it ended; Overloaded when too many wait; Unavailable when no child starts.
        """
        frame = framed(Request(dict(request), len(descriptors)))
        if len(frame) > LARGEST_REQUEST or len(descriptors) > MOST_DESCRIPTORS:
            raise ValueError("a sandbox takes 64 KiB and 8 descriptors at a time")
        slot = await self._take()
        try:
            return await self._served(slot, frame, descriptors, deadline)
        finally:
            slot.tidy()
            self._give(slot)

    @property
    def pids(self) -> list[int]:
        """The children that are there now, for metrics and tests."""
        return [slot.child.pid for slot in self._slots if slot.child is not None and slot.child.alive]

    async def start(self) -> None:
        """Start every child. Raises: Unavailable."""
        await asyncio.gather(*(slot.ready() for slot in self._slots))

    async def warm(self, after: float) -> None:
        """Start the first child in `after` seconds; the others are started when they are wanted. What keeps it from starting is logged, and told who wants it."""
        await asyncio.sleep(after)
        with suppress(Unavailable):
            await self._slots[0].ready()

    async def close(self) -> None:
        """Kill every child and wait until they are gone; who still waits hears Unavailable."""
        self._open = False
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(Unavailable())
        await asyncio.gather(*(slot.close() for slot in self._slots))
        self._starter.shutdown(wait=False)

    async def _served(self, slot: "_Slot", frame: bytes, descriptors: Sequence[int], deadline: float) -> dict[str, Any]:
        for _ in range(2):
            child = await slot.ready()
            try:
                async with asyncio.timeout(deadline):
                    reply = await child.ask(frame, descriptors)
            except Unsent:
                slot.spoil()
                continue
            except TimeoutError:
                slot.spoil()
                _log.warning("sandbox child killed at its deadline", call=self._setup.call, deadline=deadline, stderr=child.last_words)
                raise OverLimits(f"It takes longer than {deadline:g} s") from None
            except Broken as error:
                if not self._open:
                    raise Unavailable from None
                fate = await child.fate()
                slot.spoil()
                raise self._verdict(child, fate, str(error)) from None
            except BaseException:
                slot.spoil()
                raise
            if reply.failed:
                fate = await child.fate()
                slot.spoil()
                if reply.code != OverLimits.code:
                    raise self._verdict(child, fate, "it failed")
            if reply.body is not None:
                return reply.body
            kind = _ERRORS.get(reply.code, Undecodable)
            raise kind("".join(filter(str.isprintable, reply.detail[:_DETAIL])) or None)
        raise Unavailable("No child of the sandbox stays alive")

    def _verdict(self, child: Child, fate: int | None, what: str) -> MediaError:
        """Name the error for a child that did not answer as it should."""
        said = child.last_words
        name = signal.Signals(-fate).name if fate is not None and fate < 0 and -fate in set(signal.Signals) else None
        _log.warning("sandbox child failed", call=self._setup.call, what=what, code=fate, signal=name, stderr=said)
        if name == "SIGXCPU":
            return OverLimits("It takes more processor time than is allowed")
        # SIGKILL that is not ours is the kernel's, out of memory; libraries abort when they cannot allocate.
        if name == "SIGKILL" or (name in ("SIGABRT", "SIGTRAP") and any(word in said[-500:].lower() for word in _MEMORY)):
            return OverLimits("It needs more memory than is allowed")
        return Undecodable()

    async def _spawn(self) -> Child:
        try:
            return await Child.spawn(self._environment, self._starter)
        except OSError as error:
            _log.error("no child of the sandbox starts", call=self._setup.call, error=error.strerror)
            raise Unavailable("The sandbox has no child") from error

    async def _prepare(self, child: Child) -> None:
        try:
            await child.prepare(self._setup)
        except Broken as error:
            fate = await child.fate()
            _log.error("no child of the sandbox starts", call=self._setup.call, error=str(error), code=fate, stderr=child.last_words)
            raise Unavailable("The sandbox has no child") from error

    async def _take(self) -> "_Slot":
        if not self._open:
            raise Unavailable()
        if self._free:
            return self._free.pop(next((at for at in reversed(range(len(self._free))) if self._free[at].child is not None), -1))
        if len(self._waiters) >= self._queue:
            raise Overloaded(headers={"Retry-After": "2"})
        waiter: asyncio.Future[_Slot] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._give(waiter.result())
            with suppress(ValueError):
                self._waiters.remove(waiter)
            raise

    def _give(self, slot: "_Slot") -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(slot)
                return
        self._free.append(slot)


class _Slot:
    """The place of one child: who is there, and who is on the way."""

    def __init__(self, spawn: Callable[[], Awaitable[Child]], prepare: Callable[[Child], Awaitable[None]], jobs: int, kept: int) -> None:
        self.child: Child | None = None
        self._kept = kept
        self._spawn = spawn
        self._prepare = prepare
        self._jobs = jobs
        self._closed = False
        self._filling: asyncio.Task[None] | None = None
        self._burials: set[asyncio.Task[None]] = set()

    async def ready(self) -> Child:
        """The child of this place, started if need be. Raises: Unavailable."""
        if self.child is not None and not self.child.alive:
            self.spoil()
        if self.child is None:
            await asyncio.shield(self._begin())
        assert self.child is not None
        return self.child

    def spoil(self) -> None:
        """Kill the child; the next one is started when it is wanted, or by `tidy`."""
        if self.child is not None:
            self._bury(self.child)
            self.child = None

    def tidy(self) -> None:
        """Let a child go that has done its share, or keeps so much memory that the next request may lack it; have the next one start meanwhile."""
        if self.child is not None and (self.child.asked >= self._jobs or 0 < self._kept < self.child.memory):
            self.spoil()
        if self.child is None and not self._closed:
            self._begin()

    async def close(self) -> None:
        """Kill who is there or on the way, and wait until they are gone."""
        self._closed = True
        if self._filling is not None:
            self._filling.cancel()
            await asyncio.wait([self._filling])
        self.spoil()
        if self._burials:
            await asyncio.wait(self._burials)

    def _begin(self) -> "asyncio.Task[None]":
        if self._closed:
            raise Unavailable
        if self._filling is None:
            self._filling = asyncio.get_running_loop().create_task(self._fill())
            self._filling.add_done_callback(self._filled)
        return self._filling

    async def _fill(self) -> None:
        child = await self._spawn()
        try:
            await self._prepare(child)
        except BaseException:
            self._bury(child)
            raise
        self.child = child

    def _bury(self, child: Child) -> None:
        child.kill()
        burial = asyncio.get_running_loop().create_task(child.buried())  # a task of its own: no cancellation leaves a corpse
        self._burials.add(burial)
        burial.add_done_callback(self._burials.discard)

    def _filled(self, filling: "asyncio.Task[None]") -> None:
        self._filling = None
        if not filling.cancelled():
            filling.exception()  # retrieved: whoever waits has it, and it is logged


@asynccontextmanager
async def open_sandbox(
    *,
    call: str,
    children: int = 2,
    queue: int = 64,
    jobs: int = 200,
    memory: int = 1 << 30,
    resident: int = 300_000_000,
    processor: float = 30.0,
    output: int = 64 << 20,
    files: int = 32,
    environment: Mapping[str, str] | None = None,
    user: str = "",
    warm: bool = False,
    fence: Fence | None = None,
) -> AsyncIterator[Sandbox]:
    """Have up to `children` processes that import `call` ("module:function", called with the request and a list of descriptors), and keep them warm.

    Each is started when it is wanted; with `warm` the first one a moment after this, which costs nobody's start.

    `memory` is bytes of address space and `resident` of it those in real memory, 0 for as much as there is; `processor` seconds of processor time for each request, `output` the largest file in bytes, `files` open descriptors;
    a child is replaced after `jobs` requests; at most `queue` callers wait. The children's environment is PATH, LANG and `environment`.
    They have no network where the kernel lets them leave it; `user` is who they become, which only root can have them do.
    `fence` is the kit's: behind it they open nothing but Python's and the system's libraries, and start nothing. A function that has a program read the bytes in
    its stead is opened with `Fence("off")`, and calls `enclose` in the program's process.
    """
    setup = Setup(
        call=call,
        parent=os.getpid(),
        memory=memory,
        resident=resident,
        processor=processor,
        output=output,
        files=files,
        jobs=jobs,
        user=user,
        fence=fence or Fence(),
    )
    box = Sandbox(setup, environment or {}, children, queue)
    warming = asyncio.create_task(box.warm(WARM_AFTER)) if warm else None
    try:
        yield box
    finally:
        if warming is not None:
            warming.cancel()
        await box.close()
