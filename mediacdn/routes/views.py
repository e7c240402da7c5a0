"""What the API shows of a media, as Structs that are both the JSON and its OpenAPI schema."""

from datetime import datetime
from typing import Any

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from mediacdn.http.digests import etag
from mediacdn.model import Job, JobState, Media, State, Status, StepRun


class Urls(Struct, frozen=True):
    """Where the media's forms are; null where there is none."""

    original: str
    thumb: str | None
    variants: str | None
    manifest: str | None
    download: str


class Record(Struct, frozen=True, kw_only=True):
    """A media's record. Sizes are bytes, times RFC 3339 UTC, `duration` seconds, `digest` hexadecimal SHA-256."""

    id: str
    owner: str
    title: str | None
    filename: str | None
    public: bool
    status: Status
    error_message: str | None
    kind: str
    media_type: str
    size: int
    digest: str
    etag: str
    width: int | None
    height: int | None
    duration: float | None
    frame_rate: float | None
    codecs: str | None
    placeholder: str | None
    tags: tuple[str, ...]
    metadata: dict[str, Any]
    storage: str
    storage_key: str | None
    storage_etag: str | None
    source_id: str | None
    derivation_key: str | None
    relationship: str | None
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None
    quarantined: bool
    upload_time: datetime
    urls: Urls
    ignored: tuple[str, ...] | UnsetType = UNSET


class Page(Struct, frozen=True):
    """One page of records, newest first; `next` is the cursor of the following page."""

    items: list[Record]
    next: str | None


def record_etag(media: Media) -> str:
    """The validator of the record itself, which changes when the bytes do not."""
    return f'"{media.id}.{media.version}"'


def anonymous(media: Media) -> Media:
    """What an uploader of the same bytes may know of a media that it may not read: that it is here, and what it uploaded itself."""
    return replace(media, owner="", title=None, filename=None, tags=(), metadata={}, expires_at=None, storage_key="", storage_etag="")


class Addresses:
    """URLs as callers see them: under `server.public_url` where it is set, else relative to the host they called; never made from Host."""

    def __init__(self, public_url: str | None, base_path: str) -> None:
        self._prefix = (public_url or "").rstrip("/") + base_path

    def url(self, path: str) -> str:
        return self._prefix + path

    def record(self, media: Media, *, storage: bool, ignored: tuple[str, ...] | UnsetType = UNSET) -> Record:
        """The record; without `storage`, where the bytes lie is left out."""
        original = self.url(f"/v1/media/{media.id}")
        return Record(
            id=media.id,
            owner=media.owner,
            title=media.title,
            filename=media.filename,
            public=media.public,
            status=media.status,
            error_message=media.error_message,
            kind=media.kind,
            media_type=media.media_type,
            size=media.size,
            digest=media.digest,
            etag=etag(media.digest).strip('"'),
            width=media.width,
            height=media.height,
            duration=media.duration,
            frame_rate=media.frame_rate,
            codecs=media.codecs,
            placeholder=media.placeholder,
            tags=media.tags,
            metadata=media.metadata,
            storage=media.storage,
            storage_key=media.storage_key if storage else None,
            storage_etag=media.storage_etag if storage else None,
            source_id=media.source_id,
            derivation_key=media.derivation_key,
            relationship=media.relationship,
            created_at=media.created_at,
            updated_at=media.updated_at,
            expires_at=media.expires_at,
            quarantined=media.state is State.QUARANTINED,
            upload_time=media.created_at,
            urls=Urls(original, None, None, None, f"{original}/download"),
            ignored=ignored,
        )


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
