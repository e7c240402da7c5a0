"""Jobs of kind `recipe`: the steps of a recipe one after another, each written down before the next begins, the last one with the outcome. What an earlier attempt has made is found, not made again."""

from collections.abc import Callable
from contextlib import nullcontext, suppress
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from mediacdn.catalog.database import Catalog
from mediacdn.catalog.packages import UNIT
from mediacdn.derivation.maker import Maker
from mediacdn.derivation.units import unit_step
from mediacdn.errors import Gone, MediaError
from mediacdn.interfaces import Clock
from mediacdn.jobs.backoff import hopeless
from mediacdn.jobs.runner import GivenUp, Running, Waiting
from mediacdn.model import Derivation, Division, Job, JobState, Made, Media, NewJob, State, StepRun, Unit
from mediacdn.recipes.registry import Registry, SettledStep


class Asked(Struct, frozen=True, kw_only=True):
    """The arguments of a unit's job: of the recipe, whose step it is a unit of, and the units that it reads."""

    arguments: dict[str, Any]
    step: str
    unit: Unit
    after: list[Unit]


class RecipeWork:
    """Does recipes' jobs, and those of their units."""

    def __init__(self, catalog: Catalog, registry: Registry, maker: Maker, clock: Clock, new_id: Callable[[], str]) -> None:
        self._catalog = catalog
        self._registry = registry
        self._maker = maker
        self._new_id = new_id
        self._now: Callable[[], datetime] = clock.now

    async def __call__(self, running: Running) -> None:
        job = running.job
        assert job.code is not None
        assert job.media_id is not None
        settled = self._registry.settle(self._registry.find(job.code), job.arguments)
        media = await self._source(job.media_id)
        steps = self._timeline(running.steps, settled.steps)
        for number, step in enumerate(settled.steps):
            media = await self._step(running, steps, number, step, media, settled.derivation(job.media_id, step))

    async def _step(self, running: Running, steps: list[StepRun], number: int, step: SettledStep, media: Media, by: Derivation) -> Media:
        """Do one step, or find it done; give what the next one reads."""
        before, parts = steps[number], len(steps)
        made_already = await self._catalog.derivatives.find(step.derivation_key(media.id))
        if made_already is not None:
            await self._catalog.derivatives.credit(made_already.id, by)
            if before.state is not JobState.COMPLETED or before.output != made_already.id:
                now = self._now()
                steps[number] = replace(
                    before,
                    state=JobState.COMPLETED,
                    started_at=before.started_at or now,
                    ended_at=now,
                    input=media.digest,
                    output=made_already.id,
                )
                running.steps = list(steps)
            running.progress((number + 1) / parts)
            return made_already
        if before.state is JobState.COMPLETED and before.output is None and before.input == media.digest:
            return media  # it only looked, and has told what it saw
        begun = before.started_at if running.job.division is not None else None
        steps[number] = StepRun(
            name=step.name, action=step.action, state=JobState.PROCESSING, started_at=begun or self._now(), input=media.digest
        )
        if number:
            await running.note(steps)  # with what the step before this one came to, which may have been long
        try:
            async with nullcontext() if number else running.noted_if_long(steps):
                made, derived = await self._made(running, number, parts, step, media, by)
        except (MediaError, GivenUp) as error:
            told = error.message if isinstance(error, GivenUp) else error.detail
            steps[number] = replace(steps[number], state=JobState.FAILED, ended_at=self._now(), error_code=error.code, error_message=told)
            running.steps = list(steps)
            last = isinstance(error, GivenUp) or hopeless(error) or running.job.attempts >= running.job.max_attempts
            if last and running.job.division is not None:
                with suppress(MediaError):  # it is the whole that failed; what is left of it is seen to when somebody retries
                    await self._maker.withdraw(media, step)
            if step.continue_on_error and last:
                return media
            raise
        steps[number] = replace(
            steps[number], state=JobState.COMPLETED, ended_at=self._now(), output=derived and derived.id, tools=made.tools
        )
        running.steps = list(steps)
        running.progress((number + 1) / parts)
        return derived or media

    async def _made(
        self, running: Running, number: int, parts: int, step: SettledStep, media: Media, by: Derivation
    ) -> tuple[Made, Media | None]:
        """Do the step at once, or what there is to do of one that is divided: have what is missing made by whoever is free, or join what is there.

        Raises: Waiting, when it goes on as soon as more is there; GivenUp; as Maker.run.
        """
        job = running.job
        begun = job.division is not None and job.division.step == step.name
        units = job.division.units if job.division is not None and begun else await self._maker.units(media, step)
        if not units:
            return await self._maker.run(media, step, lambda share: running.progress((number + min(share, 1.0)) / parts), running.held, by)
        if begun and (failed := await running.failed_unit()) is not None:
            raise GivenUp(*failed)
        made = await self._maker.made(media, step, units)
        if len(made) == len(units):
            return await self._maker.join(media, step, made, running.held, by)
        await self._maker.grow(media, step, made, running.held)
        running.progress((number + len(made) / len(units)) / parts)
        wanted = [each for each in units if each.name not in made and all(name in made for name in each.after)]
        named = {each.name: each for each in units}
        jobs = [self._unit_job(job, step, each, [named[name] for name in each.after], media) for each in wanted]
        await running.divide(Division(step.name, units), jobs)
        raise Waiting

    def _unit_job(self, job: Job, step: SettledStep, unit: Unit, after: list[Unit], media: Media) -> NewJob:
        asked = Asked(arguments=job.arguments, step=step.name, unit=unit, after=after)
        return NewJob(
            id=self._new_id(), kind=UNIT, lane=job.lane, media_id=media.id, code=job.code, arguments=msgspec.to_builtins(asked),
            fingerprint=f"{job.id}/{unit_step(step, unit).derivation_key(media.id)}", priority=job.priority + unit.priority,
            max_attempts=job.max_attempts, created_by=job.created_by, tracked=False, parent=job.id,
        )  # fmt: skip

    async def unit(self, running: Running) -> None:
        """Do a job of kind `unit`: a unit that another job waits for, or find it done."""
        job = running.job
        assert job.code is not None
        assert job.media_id is not None
        asked = msgspec.convert(job.arguments, Asked)
        settled = self._registry.settle(self._registry.find(job.code), asked.arguments)
        step = next(each for each in settled.steps if each.name == asked.step)
        media = await self._source(job.media_id)
        made = await self._maker.made(media, step, [asked.unit, *asked.after])
        if asked.unit.name in made:
            return
        lacking = [each.name for each in asked.after if each.name not in made]
        if lacking:
            raise Gone(f"What {', '.join(lacking)} had made is not there any more")
        steps = [StepRun(name=asked.unit.name, action=step.action, state=JobState.PROCESSING, started_at=self._now(), input=media.digest)]
        async with running.noted_if_long(steps):
            await self._maker.unit(media, step, asked.unit, made, running.progress, running.held)

    async def _source(self, media_id: str) -> Media:
        media = await self._catalog.media.get(media_id)
        if media is None or media.state is not State.LIVE or (media.expires_at is not None and media.expires_at <= self._now()):
            raise Gone("The media is gone, or withheld")
        return media

    @staticmethod
    def _timeline(noted: list[StepRun], steps: tuple[SettledStep, ...]) -> list[StepRun]:
        """What an earlier attempt has written down, where it was about the same steps."""
        if [(each.name, each.action) for each in noted] == [(each.name, each.action) for each in steps]:
            return list(noted)
        return [StepRun(name=each.name, action=each.action) for each in steps]
