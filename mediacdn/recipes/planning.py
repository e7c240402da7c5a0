"""Which jobs a media gets when it is recorded: what the plugins' plans ask for, as rows. A plan that does not fit costs its job and no upload."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import structlog

from mediacdn.errors import MediaError
from mediacdn.http.media_types import matches
from mediacdn.model import Media, NewJob, Plan
from mediacdn.recipes.registry import Registry

KIND = "recipe"
"""The kind of a job that runs a recipe."""

log = structlog.get_logger("mediacdn.recipes")


class Planner:
    """Makes jobs of plans. `plans(media)` asks the plugins, which `policy` overrules by recipe and media types; `attempts` is how often a job is tried."""

    def __init__(
        self,
        registry: Registry,
        plans: Callable[[Media], Iterable[Plan]],
        new_id: Callable[[], str],
        attempts: int,
        policy: Mapping[str, Sequence[str]] = {},
    ) -> None:
        self._registry = registry
        self._plans = plans
        self._new_id = new_id
        self._attempts = attempts
        self._policy = policy

    def __call__(self, media: Media) -> Sequence[NewJob]:
        """Jobs for a media that is about to be recorded, each recipe with the same arguments once. Never raises: an upload is worth more than its thumbnail."""
        found: dict[str, NewJob] = {}
        try:
            for plan in self._wanted(media):
                job = self._job(media, plan)
                if job is not None and job.fingerprint is not None:
                    found.setdefault(job.fingerprint, job)
        except Exception:
            log.exception("jobs cannot be planned", media=media.id, media_type=media.media_type)
        return list(found.values())

    def _wanted(self, media: Media) -> Iterator[Plan]:
        """The plugins' plans that the policy leaves, and those that are the policy's own."""
        asked = {name: any(matches(each, media.media_type) for each in types) for name, types in self._policy.items()}
        refused = {_code(name) for name, wanted in asked.items() if not wanted}
        planned = set()
        for plan in self._plans(media):
            planned.add(_code(plan.recipe))
            if _code(plan.recipe) not in refused:
                yield plan
        if media.source_id is None:
            yield from (Plan(recipe=name) for name, wanted in asked.items() if wanted and _code(name) not in planned)

    def _job(self, media: Media, plan: Plan) -> NewJob | None:
        if self._registry.left_out(plan.recipe):
            return None  # the log has said so at the start
        try:
            recipe = self._registry.find(plan.recipe)
            settled = self._registry.settle(recipe, plan.arguments)
        except MediaError as error:
            log.warning("a plan does not fit", recipe=plan.recipe, error=error.detail)
            return None
        if not any(matches(each, media.media_type) for each in self._registry.accepts(recipe)):
            return None
        return NewJob(
            id=self._new_id(),
            kind=KIND,
            lane=settled.lane,
            media_id=media.id,
            code=settled.name,
            arguments=settled.arguments,
            fingerprint=settled.fingerprint(media.id),
            required=plan.required,
            priority=plan.priority,
            max_attempts=self._attempts,
            created_by=media.owner,
        )


def _code(name: str) -> str:
    return name.partition("@")[0]
