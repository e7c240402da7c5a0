"""What the API shows of tasks and jobs, as Structs that are both the JSON and its OpenAPI schema."""

from datetime import datetime
from typing import Any

from msgspec import UNSET, Struct, UnsetType

from mediacdn.model import Job, JobState, StepRun


class Fault(Struct, frozen=True):
    """What went wrong, as a problem document would say it."""

    code: str | None
    message: str | None


class TaskStep(Struct, frozen=True, kw_only=True):
    """A step of the timeline. `input` is the digest of the bytes that it read, `output` the id of the media that it made or found made."""

    name: str
    action: str
    status: JobState
    started_at: datetime | None
    ended_at: datetime | None
    input: str | None
    output: str | None
    tools: dict[str, str]
    error: Fault | UnsetType = UNSET


class Task(Struct, frozen=True, kw_only=True):
    """A recipe asked for a media. `code` names its version, `args` are in normal form, `progress` is from 0 to 1.

    `error` is what the last attempt ended with; a Pending task that has one is tried again.
    """

    id: str
    media_id: str
    code: str
    args: dict[str, Any]
    status: JobState
    progress: float
    attempts: int
    error: Fault | UnsetType = UNSET
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    steps: list[TaskStep]


class JobShown(Struct, frozen=True, kw_only=True):
    """A job as administrators see it. `due_at` is when it may run, while it waits; `leased_until` how long its worker has it, unless that is heard of again."""

    id: str
    kind: str
    lane: str
    priority: int
    status: JobState
    media_id: str | None
    code: str | None
    args: dict[str, Any]
    required: bool
    progress: float
    attempts: int
    max_attempts: int
    due_at: datetime
    leased_until: datetime | None
    created_by: str | None
    error: Fault | UnsetType = UNSET
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    steps: list[TaskStep]


class TaskPage(Struct, frozen=True):
    """One page of a media's tasks, newest first; `next` is the cursor of the following page."""

    items: list[Task]
    next: str | None


class JobPage(Struct, frozen=True):
    """One page of jobs, newest first; `next` is the cursor of the following page."""

    items: list[JobShown]
    next: str | None


def show_task(job: Job) -> Task:
    """A job of kind "recipe" as the API shows it."""
    return Task(
        id=job.id,
        media_id=job.media_id or "",
        code=job.code or "",
        args=job.arguments,
        status=job.state,
        progress=job.progress,
        attempts=job.attempts,
        error=_fault(job),
        created_at=job.created_at,
        started_at=job.started_at,
        ended_at=job.ended_at,
        steps=_steps(job),
    )


def show_job(job: Job) -> JobShown:
    """Any job as the API shows it to administrators."""
    return JobShown(
        id=job.id,
        kind=job.kind,
        lane=job.lane,
        priority=job.priority,
        status=job.state,
        media_id=job.media_id,
        code=job.code,
        args=job.arguments,
        required=job.required,
        progress=job.progress,
        attempts=job.attempts,
        max_attempts=job.max_attempts,
        due_at=job.run_at,
        leased_until=job.lease_until,
        created_by=job.created_by,
        error=_fault(job),
        created_at=job.created_at,
        started_at=job.started_at,
        ended_at=job.ended_at,
        steps=_steps(job),
    )


def _steps(job: Job) -> list[TaskStep]:
    return [
        TaskStep(
            name=step.name,
            action=step.action,
            status=step.state,
            started_at=step.started_at,
            ended_at=step.ended_at,
            input=step.input,
            output=step.output,
            tools=step.tools,
            error=_fault(step),
        )
        for step in job.steps
    ]


def _fault(of: Job | StepRun) -> Fault | UnsetType:
    return UNSET if of.error_code is None and of.error_message is None else Fault(of.error_code, of.error_message)
