"""Running jobs: lease, heartbeat, outcome. Whoever loses the lease stops; whatever it still writes meets the fence."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from random import Random

import structlog

from mediacdn.catalog.leases import Held, LeaseLost, LeaseRows
from mediacdn.config import Jobs
from mediacdn.errors import CatalogUnavailable, MediaError, StorageUnavailable
from mediacdn.jobs.backoff import hopeless, pause
from mediacdn.model import Change, Division, Job, NewJob, StepRun

log = structlog.get_logger("mediacdn.jobs")


LONG = 0.2
"""Seconds after which it is worth a transaction to say what a job is at."""


OUTAGES = (StorageUnavailable, CatalogUnavailable)
"""What is no fault of a job, and costs it no attempt: it would be out of them before an outage of seconds is over."""
PATIENCE = timedelta(days=1)
"""How old a job may grow by outages; one that is older has its attempts counted."""
SOON = 5.0
"""The longest pause then, in terms of `backoff_base`."""


class Running:
    """A job in the hands of this process."""

    def __init__(self, job: Job, rows: LeaseRows) -> None:
        self.job = job
        self.held = Held(job.id, job.fence)
        self.steps = list(job.steps)
        self.share = 0.0
        self.lost = False
        self._rows = rows

    async def note(self, steps: Sequence[StepRun]) -> None:
        """Write the timeline down before going on. Raises: LeaseLost, CatalogUnavailable."""
        self.steps = list(steps)
        if not await self._rows.note(self.held, self.steps, self.share):
            raise LeaseLost

    @asynccontextmanager
    async def noted_if_long(self, steps: Sequence[StepRun]) -> AsyncIterator[None]:
        """Write the timeline down once the body has taken so long that somebody may look; a short job's is written with its outcome alone.

        Who has lost the lease meanwhile hears of it by the next heartbeat.
        """
        self.steps = list(steps)
        writing: list[asyncio.Task[None]] = []
        loop = asyncio.get_running_loop()
        later = loop.call_later(LONG, lambda: writing.append(loop.create_task(self._note_now())))
        try:
            yield
        finally:
            later.cancel()
            for each in writing:
                each.cancel()
                await asyncio.wait({each})  # a statement on its way ends first: nothing older is written after the outcome

    async def _note_now(self) -> None:
        with suppress(MediaError):
            await self._rows.note(self.held, self.steps, self.share)

    async def divide(self, division: Division, units: Sequence[NewJob]) -> None:
        """Give it back, to be leased again as soon as one of its units has ended: the caller raises Waiting. Raises: LeaseLost, CatalogUnavailable."""
        if not await self._rows.divide(self.held, division, units, self.steps, self.share):
            raise LeaseLost

    async def failed_unit(self) -> tuple[str, str] | None:
        """Tell the error code and message of a unit that failed, if one has."""
        return None if self.job.division is None else await self._rows.failed_unit(self.job.id)

    def progress(self, share: float) -> None:
        """How much is done, from 0 to 1; told with the next heartbeat."""
        self.share = max(self.share, min(share, 1.0))


class Waiting(Exception):
    """The job waits for its units, and was given back."""


class GivenUp(Exception):
    """It has failed for good, by what its units came to: a stable code, and a sentence for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


Work = Callable[[Running], Awaitable[None]]
"""Does a job of one kind, idempotently: it may have been done before, in part or whole."""


class Runner:
    """Runs jobs by id, each kind by its `Work`. `told` hears of changes that transitions made."""

    def __init__(
        self,
        rows: LeaseRows,
        kinds: Mapping[str, Work],
        told: Callable[[Sequence[Change]], Awaitable[None]],
        settings: Jobs,
    ) -> None:
        self._rows = rows
        self._kinds = kinds
        self._told = told
        self._settings = settings
        self._random = Random()  # noqa: S311 - it spreads load, it keeps no secret
        self._running: dict[Running, asyncio.Task[None]] = {}
        self._ending = False

    async def run(self, id: str) -> None:
        """Run a job, if it can be had. Raises nothing but CatalogUnavailable: its fate stands in its row."""
        if self._ending:
            return
        job, changes = await self._rows.lease(id, self._settings.lease)
        await self._told(changes)
        if job is None:
            return
        running = Running(job, self._rows)
        task = asyncio.ensure_future(self._attempt(running))
        self._running[running] = task
        try:
            await asyncio.wait({task})
        finally:
            del self._running[running]
        if not task.cancelled():
            task.result()
        if job.parent is not None:
            await self.run(job.parent)  # it waits for this, and has what is there published before the next of its units is made

    async def beat(self) -> None:
        """Prolong every lease, three times in its length; a job whose lease is lost is stopped."""
        while True:
            await asyncio.sleep(self._settings.lease / 3)
            held = {running.held: running for running in self._running}
            with suppress(MediaError):  # the next beat comes in time, or the lease runs out and the fence holds
                kept = await self._rows.beat({each: running.share for each, running in held.items()}, self._settings.lease)
                for each in held.keys() - kept:
                    self._stop(held[each])

    async def end(self, grace: float) -> None:
        """Let what runs come to its end for `grace` seconds, then stop it and give it back."""
        self._ending = True
        if self._running:
            await asyncio.wait(self._running.values(), timeout=grace)
        for task in list(self._running.values()):
            task.cancel()
        if self._running:
            await asyncio.wait(list(self._running.values()), timeout=5)

    async def _attempt(self, running: Running) -> None:
        job = running.job
        try:
            work = self._kinds.get(job.kind)
            if work is None:
                raise RuntimeError(f"no plugin of this worker does jobs of kind {job.kind}")
            await work(running)
        except asyncio.CancelledError:
            if not running.lost:
                with suppress(MediaError):
                    await self._rows.release(running.held)
                log.info("job given back", job=job.id, job_kind=job.kind)
        except Waiting:
            log.debug("job waits for its units", job=job.id, job_kind=job.kind)
        except LeaseLost:
            log.info("job taken away", job=job.id, job_kind=job.kind)
        except Exception as error:
            await self._failed(running, error)
        else:
            there, changes = await self._rows.complete(running.held, running.steps)
            await self._told(changes)
            log.info("job completed" if there else "job taken away", job=job.id, job_kind=job.kind, code=job.code, media=job.media_id)

    async def _failed(self, running: Running, error: Exception) -> None:
        job, settings = running.job, self._settings
        public = isinstance(error, MediaError | GivenUp)
        again_in = None
        away = isinstance(error, OUTAGES) and job.lease_until is not None and job.lease_until - job.created_at < PATIENCE
        if away:
            again_in = self._random.uniform(0, SOON * settings.backoff_base)
        elif not isinstance(error, GivenUp) and not hopeless(error) and job.attempts < job.max_attempts:
            again_in = pause(job.attempts, settings.backoff_base, settings.backoff_max, self._random)
        log.warning(
            "job failed",
            job=job.id,
            job_kind=job.kind,
            code=job.code,
            media=job.media_id,
            attempt=job.attempts,
            again_in=again_in,
            error=str(error) or type(error).__name__,
            exc_info=None if public else error,
        )
        _, changes = await self._rows.fail(
            running.held,
            running.steps,
            code=error.code if isinstance(error, MediaError | GivenUp) else MediaError.code,
            message=_told(error),
            again_in=again_in,
            counted=not away,
        )
        await self._told(changes)

    def _stop(self, running: Running) -> None:
        task = self._running.get(running)
        if task is not None:  # else it came to its end while the beat was on its way
            running.lost = True
            task.cancel()


def _told(error: Exception) -> str:
    if isinstance(error, GivenUp):
        return error.message
    return error.detail if isinstance(error, MediaError) else "The work failed on a fault of the server"
