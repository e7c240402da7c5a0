"""Asks the inspectors about an upload while it streams in: each batch goes to all of them, none sees another's, and what they say is one outcome.

Who raises, answers what is no verdict, or keeps the upload waiting past the deadline has failed; `on_failure` says what that means. Of what is known
at one time a rejection outweighs a failure, and that a quarantine; the first two end the upload where it is. An inspector that is through before the upload's end is not given the rest.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Literal

import anyio
import structlog
from msgspec import Struct

from mediacdn.errors import ContentRejected, InspectionUnavailable
from mediacdn.interfaces import Inspector
from mediacdn.model import Incoming, Verdict

REASON = 300
FAREWELL = 1.0
"""Seconds that a cancelled inspector has to end before nobody waits for it any more."""
OUTCOMES = ("accept", "reject", "quarantine")

log = structlog.get_logger("mediacdn.inspection")


class Inspection(Struct, frozen=True):
    """The inspectors of this process by name. `deadline` is how many seconds one may keep an upload waiting: for a batch to be taken, for the verdict after the last."""

    inspectors: Mapping[str, Inspector]
    deadline: float = 30.0
    on_failure: Literal["refuse", "quarantine", "accept"] = "refuse"
    count: Callable[[str, str], None] | None = None
    """Told, of each inspector and upload, the verdict's outcome, or "failed"."""

    @asynccontextmanager
    async def of(self, upload: Incoming) -> AsyncIterator["Watch | None"]:
        """Have the inspectors begin, and end with the context; None when there are none."""
        if not self.inspectors:
            yield None
            return
        watch = Watch(self, upload)
        try:
            yield watch
        finally:
            await watch.end()


class Watch:
    """The inspection of one upload."""

    def __init__(self, inspection: Inspection, upload: Incoming) -> None:
        self._rules = inspection
        self._upload = upload
        self._failed: dict[str, str] = {}
        self._seats = {name: _Seat(each, upload, name) for name, each in inspection.inspectors.items()}

    async def feed(self, batch: bytes) -> None:
        """Show the next batch to all. Raises: ContentRejected and InspectionUnavailable, as soon as they are certain."""
        await self._each(lambda seat: seat.feed(batch))
        self._weigh()

    async def verdict(self) -> str | None:
        """Tell that this was all: give the reasons for a quarantine, None to accept. Raises: ContentRejected, InspectionUnavailable."""
        await self._each(lambda seat: seat.finish())
        reasons = [each.reason for each in self._weigh() if each.outcome == "quarantine"]
        if self._failed and self._rules.on_failure == "quarantine":
            reasons.append(f"not inspected by {', '.join(self._failed)}")
        return "; ".join(filter(None, map(_words, reasons))) if reasons else None

    async def end(self) -> None:
        """Cancel who still inspects. One that does not end soon is left to itself: it has nothing more to see."""
        if (count := self._rules.count) is not None:
            for name, seat in self._seats.items():
                verdict = self._heard(name, seat)
                if name in self._failed or verdict is not None:  # else the upload broke off before its word
                    count(name, "failed" if verdict is None else verdict.outcome)
        tasks = [seat.task for seat in self._seats.values()]
        for each in tasks:
            each.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait(tasks, timeout=FAREWELL)
        for each in tasks:
            each.add_done_callback(_retrieved)

    async def _each(self, wait: Callable[["_Seat"], Awaitable[None]]) -> None:
        await asyncio.gather(*(self._within(name, seat, wait) for name, seat in self._seats.items() if name not in self._failed))

    async def _within(self, name: str, seat: "_Seat", wait: Callable[["_Seat"], Awaitable[None]]) -> None:
        try:
            async with asyncio.timeout(self._rules.deadline):
                await wait(seat)
        except TimeoutError:
            self._fail(name, f"no answer within {self._rules.deadline:g} s")
            seat.task.cancel()

    def _heard(self, name: str, seat: "_Seat") -> Verdict | None:
        """What an inspector has said, None when it has failed or not yet ended."""
        if name in self._failed or not seat.task.done():
            return None
        error = asyncio.CancelledError() if seat.task.cancelled() else seat.task.exception()
        if error is not None:
            self._fail(name, f"{type(error).__name__}: {error}")
            return None
        verdict = seat.task.result()
        if not isinstance(verdict, Verdict) or verdict.outcome not in OUTCOMES:
            self._fail(name, "its answer is no verdict")
            return None
        return verdict

    def _weigh(self) -> list[Verdict]:
        """The verdicts so far, when they let the upload go on. Raises: ContentRejected, InspectionUnavailable."""
        heard = [(name, verdict) for name, seat in self._seats.items() if (verdict := self._heard(name, seat)) is not None]
        for name, verdict in heard:
            if verdict.outcome == "reject":
                reason = _words(verdict.reason)
                log.info("an upload is rejected", inspector=name, reason=reason, media=self._upload.id, owner=self._upload.owner)
                raise ContentRejected(reason or None)
        if self._failed and self._rules.on_failure == "refuse":
            raise InspectionUnavailable()
        return [verdict for _, verdict in heard]

    def _fail(self, name: str, why: str) -> None:
        if name not in self._failed:
            self._failed[name] = why
            log.error("an inspector failed", inspector=name, error=why, media=self._upload.id, so=self._rules.on_failure)


class _Seat:
    """One inspector at work: a batch lies before it at a time."""

    def __init__(self, inspector: Inspector, upload: Incoming, name: str) -> None:
        self._batch: bytes | None = None
        self._given, self._free = asyncio.Event(), asyncio.Event()
        self._free.set()
        self.task: asyncio.Task[Verdict] = asyncio.create_task(self._work(inspector, upload), name=f"inspect:{name}")
        self.task.add_done_callback(lambda _: self._free.set())

    async def feed(self, batch: bytes | None) -> None:
        """Lay a batch down when there is room for it; None is the end. Nothing is laid before one that is through."""
        await self._free.wait()
        if not self.task.done():
            self._batch = batch
            self._free.clear()
            self._given.set()

    async def finish(self) -> None:
        await self.feed(None)
        await asyncio.wait([self.task])

    async def _work(self, inspector: Inspector, upload: Incoming) -> Verdict:
        async with aclosing(self._chunks()) as chunks:
            return await inspector.inspect(upload, chunks)

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        while True:
            await self._given.wait()
            self._given.clear()
            batch, self._batch = self._batch, None
            self._free.set()
            if batch is None:
                return
            yield batch


def _words(reason: object) -> str:
    return "".join(filter(str.isprintable, str(reason or "")[:REASON]))


def _retrieved(task: "asyncio.Task[Verdict]") -> None:
    if not task.cancelled():
        task.exception()
