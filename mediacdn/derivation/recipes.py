"""Jobs of kind `recipe`: the steps of a recipe one after another, each written down before the next begins, the last one with the outcome. What an earlier attempt has made is found, not made again."""

from collections.abc import Callable
from contextlib import nullcontext
from datetime import datetime

from msgspec.structs import replace

from mediacdn.catalog.database import Catalog
from mediacdn.derivation.maker import Maker
from mediacdn.errors import Gone, MediaError
from mediacdn.interfaces import Clock
from mediacdn.jobs.backoff import hopeless
from mediacdn.jobs.runner import Running
from mediacdn.model import Derivation, JobState, Media, State, StepRun
from mediacdn.recipes.registry import Registry, SettledStep


class RecipeWork:
    """Does recipes' jobs."""

    def __init__(self, catalog: Catalog, registry: Registry, maker: Maker, clock: Clock) -> None:
        self._catalog = catalog
        self._registry = registry
        self._maker = maker
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
        steps[number] = StepRun(name=step.name, action=step.action, state=JobState.PROCESSING, started_at=self._now(), input=media.digest)
        if number:
            await running.note(steps)  # with what the step before this one came to, which may have been long
        try:
            async with nullcontext() if number else running.noted_if_long(steps):
                made, derived = await self._maker.run(
                    media, step, lambda share: running.progress((number + min(share, 1.0)) / parts), running.held, by
                )
        except MediaError as error:
            steps[number] = replace(
                steps[number], state=JobState.FAILED, ended_at=self._now(), error_code=error.code, error_message=error.detail
            )
            running.steps = list(steps)
            if step.continue_on_error and (hopeless(error) or running.job.attempts >= running.job.max_attempts):
                return media
            raise
        steps[number] = replace(
            steps[number], state=JobState.COMPLETED, ended_at=self._now(), output=derived and derived.id, tools=made.tools
        )
        running.steps = list(steps)
        running.progress((number + 1) / parts)
        return derived or media

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
