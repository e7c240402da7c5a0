"""Tasks: recipes that somebody asks to have done to a media. A task is a job of kind "recipe", known by its id; equal wishes are one task, by its fingerprint."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any

from msgspec import Struct

from mediacdn.catalog.database import Catalog
from mediacdn.errors import Conflict, InvalidArgument, NotFound, Unprocessable
from mediacdn.http.media_types import matches
from mediacdn.interfaces import Clock
from mediacdn.model import Change, Derivation, Job, JobState, Media, NewJob, Recipe, State, Status
from mediacdn.recipes.planning import KIND
from mediacdn.recipes.registry import Registry
from mediacdn.ulids import is_ulid

ENDED = (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)
_WITHOUT_BYTES = (Status.REGISTERED, Status.FETCHING, Status.CANCELLED)


class Stale(Struct, frozen=True):
    """A derivative that an older version of a recipe made, while there is a `newest`; `source` is what the recipe was asked for, with `arguments`."""

    id: str
    source: str
    recipe: str
    newest: str
    arguments: dict[str, Any] = {}


class Tasks:
    """Asking, finding, cancelling and retrying. Rights are the caller's business; `told` hears of what moved media's status, `ring` of jobs to be done."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        registry: Registry,
        told: Callable[[Sequence[Change]], Awaitable[None]],
        new_id: Callable[[], str],
        clock: Clock,
        attempts: int,
        most: int = 0,
        ring: Callable[[Iterable[Job]], None] = lambda jobs: None,
    ) -> None:
        self.registry = registry
        self._catalog = catalog
        self._told = told
        self._new_id = new_id
        self._clock = clock
        self._attempts = attempts
        self._most = most
        self._ring = ring

    async def ask(
        self, media: Media, name: str, arguments: Any, *, by: str | None, track: bool = True, bounded: bool = True
    ) -> tuple[Job, bool]:
        """Have a recipe done to a media, or find the task that does it, or did; True when it is to be run because of this.

        Without `track` a single step leaves no task behind when it has ended well; what has more of them is always tracked.
        A task that failed or was cancelled starts again, and so does a completed one of whose outputs one is deleted or expired.
        Who asks has at most `limits.tasks_per_caller` that have not ended, unless not `bounded`.
        Raises: NotFound (no such recipe), InvalidArgument, Unprocessable (it takes no media of this type), Conflict (there are no bytes to be read), TooManyTasks.
        """
        recipe = self.registry.find(name)
        settled = self.registry.settle(recipe, arguments)
        self._fits(recipe, media)
        fingerprint = settled.fingerprint(media.id)
        known = await self._catalog.jobs.by_fingerprint(fingerprint)
        again = known is not None and known.state is JobState.COMPLETED and await self._lacks(known)
        new = NewJob(
            id=self._new_id(),
            kind=KIND,
            lane=settled.lane,
            media_id=media.id,
            code=settled.name,
            arguments=settled.arguments,
            fingerprint=fingerprint,
            max_attempts=self._attempts,
            created_by=by,
            tracked=track or len(settled.steps) > 1,
        )
        job, started, changes = await self._catalog.jobs.ask(new, again=again, most=self._most if bounded else 0)
        if started:
            self._ring([job])
        await self._told(changes)
        return job, started

    async def get(self, id: str) -> Job:
        """Read a task. Raises: NotFound."""
        job = await self._catalog.jobs.get(id) if is_ulid(id) else None
        if job is None or job.kind != KIND or job.media_id is None:
            raise NotFound("There is no such task")
        return job

    async def of_media(self, media_id: str, *, limit: int, after: str | None = None) -> tuple[list[Job], str | None]:
        """List a media's tasks, newest first."""
        return await self._catalog.jobs.page(limit=limit, after=after, kind=KIND, media_id=media_id, tracked=True)

    async def cancel(self, id: str) -> Job:
        """Cancel a job of any kind. Raises: NotFound; Conflict, when it has ended otherwise."""
        job, changes = await self._catalog.jobs.cancel(id)
        await self._told(changes)
        return job

    async def retry(self, id: str) -> Job:
        """Start a failed or cancelled job of any kind again. Raises: NotFound; Conflict, when it is neither."""
        job, changes = await self._catalog.jobs.retry(id)
        self._ring([job])
        await self._told(changes)
        return job

    async def stale(self) -> AsyncIterator[Stale]:
        """Go through what older versions of recipes made, in or out of this program by now, that the newest would make otherwise and has not made yet."""
        for newest in self.registry.newest():
            after = ("", "")
            while page := await self._catalog.derivatives.made_before(newest.code, newest.version, limit=500, after=after):
                after = (page[-1][0].id, page[-1][1].fingerprint)
                for media, by in page:
                    if not await self._replaced(media, by, newest):
                        yield Stale(media.id, by.media_id, f"{by.code}@{by.version}", newest.name, by.arguments)

    async def _replaced(self, media: Media, by: Derivation, newest: Recipe) -> bool:
        """Whether the newest version makes the same, or has made its own."""
        assert media.source_id is not None
        try:
            settled = self.registry.settle(newest, by.arguments)
        except InvalidArgument:  # it does not take what the old one took
            return False
        if any(step.derivation_key(media.source_id) == media.derivation_key for step in settled.steps):
            return True
        done = await self._catalog.derivatives.steps_done(settled.fingerprint(by.media_id))
        return by.step in done if by.step in {step.name for step in settled.steps} else bool(done)

    def _fits(self, recipe: Recipe, media: Media) -> None:
        accepts = self.registry.accepts(recipe)
        if not any(matches(each, media.media_type) for each in accepts):
            raise Unprocessable(
                f"The recipe {recipe.name} takes {', '.join(accepts)}, and the media is {media.media_type}",
                accepts=list(accepts),
                media_type=media.media_type,
            )
        if not self._here(media):
            raise Conflict("The media is withheld, deleted or expired: nothing is made of it")
        if media.status in _WITHOUT_BYTES:
            raise Conflict("The media has no bytes yet")

    def _here(self, media: Media) -> bool:
        return media.state is State.LIVE and (media.expires_at is None or media.expires_at > self._clock.now())

    async def _lacks(self, job: Job) -> bool:
        """Whether something that the job had made is gone; what is withheld is not."""
        for output in {step.output for step in job.steps if step.output is not None}:
            card = await self._catalog.media.card(output)
            if card is None or card.state is State.DELETED or (card.expires_at is not None and card.expires_at <= self._clock.now()):
                return True
        return False
