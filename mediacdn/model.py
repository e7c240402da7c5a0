"""The values that every room passes to the next: frozen Structs without behaviour beyond what follows from their own fields."""

from collections.abc import Awaitable, Callable
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Literal

from msgspec import Struct


class Status(StrEnum):
    """Where a media's processing stands; ingest sets the first value, later moves are a worker's."""

    REGISTERED = "REGISTERED"
    FETCHING = "FETCHING"
    UPLOADED = "UPLOADED"
    PROCESSING = "PROCESSING"
    READY = "READY"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class State(StrEnum):
    """Whether a media may be read at all. Expiry is not here: it is `expires_at` against the clock, true without anybody writing it."""

    LIVE = "live"
    QUARANTINED = "quarantined"
    DELETED = "deleted"


class Scope(StrEnum):
    READ = "media:read"
    WRITE = "media:write"
    ADMIN = "media:admin"


class ByteRange(Struct, frozen=True):
    """Bytes `start` up to, not including, `stop` of an object."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        return self.stop - self.start


class ObjectInfo(Struct, frozen=True):
    """Bytes at a key, as their storage sees them. `etag` is the storage's own version mark, not the media's ETag."""

    key: str
    size: int
    modified: datetime
    etag: str = ""


class Part(Struct, frozen=True):
    """One part of a multipart upload, as its storage holds it. `tag` is the storage's own mark of the part's bytes, such as an ETag; `size` is 0 where unknown."""

    number: int
    tag: str
    size: int = 0


class PartsBegun(Struct, frozen=True):
    """An upload of parts that is neither completed nor aborted."""

    key: str
    upload: str
    begun: datetime


class Piece(Struct, frozen=True):
    """Some of the bytes of an upload that has not ended, as they are staged: `size` bytes from `start`, under a number that one writer alone ever had."""

    number: int
    start: int
    size: int
    mark: str = ""


class Upload(Struct, frozen=True, kw_only=True):
    """An upload in more than one request, whole. Its id is that of the media that comes of it, unless the same bytes are there already.

    `role`: a "whole" media, a "partial" one to be joined to others, the "final" one that joins them, or one that goes "direct" to the storage.
    `state`: "open", "complete" (all bytes are here, and the media is still to be recorded), then "done", "failed" or "gone".
    `received` bytes are durable. `fence` moves with every writer; `held` says that the last one has not let go.
    """

    id: str
    secret: str
    owner: str
    role: str = "whole"
    state: str = "open"
    size: int | None = None
    metered: bool = False
    received: int = 0
    intake: dict[str, Any] = {}
    told: str = ""
    concat: str = ""
    fence: int = 0
    held: bool = False
    lease_until: datetime | None = None
    storage: str = ""
    key: str = ""
    parts: str = ""
    part_size: int = 0
    next_number: int = 1
    tail: str = ""
    tail_size: int = 0
    mark: str = ""
    staged: bool = True
    media_id: str | None = None
    created: bool | None = None
    error: dict[str, Any] | None = None
    created_at: datetime
    expires_at: datetime


class Principal(Struct, frozen=True):
    """Who a verified credential speaks for. `expires_at` is the credential's own end; `claims` is for authorizer drivers."""

    id: str
    scopes: frozenset[str] = frozenset()
    expires_at: datetime | None = None
    claims: dict[str, Any] = {}


class Link(Struct, frozen=True):
    """A signed URL whose shape, kid, signature and expiry already hold; `covers` lists what a prefix token opens, None for a query link (one path)."""

    iat: int
    exp: int
    kid: str
    sub: str | None = None
    ip: str | None = None
    disposition: str | None = None
    media: str | None = None
    covers: tuple[str, ...] | None = None


class Card(Struct, frozen=True):
    """What delivery must know of one media, small enough to keep in the process: who may read it, whether, and which bytes it is.

    `generation` moves when bytes already published change or a purge was asked; it is part of every edge key.
    `links_valid_from` (unix seconds) kills links issued before it. `digest` is lower-case hexadecimal SHA-256 of the content.
    """

    id: str
    owner: str
    public: bool
    state: State
    status: Status
    generation: int
    links_valid_from: int
    expires_at: datetime | None
    storage: str
    key: str
    size: int
    digest: str
    media_type: str
    modified: datetime
    filename: str | None = None
    width: int | None = None
    height: int | None = None
    duration: float | None = None
    tags: tuple[str, ...] = ()
    fresh_for: int | None = None
    """Seconds for which an answer may be kept, where these bytes are soon not the last ones."""


class Tool(Struct, frozen=True):
    """A program or library of this machine that an action works by: what was found of it (version, where, what it can), and what to do where something is missing."""

    name: str
    found: str
    fix: str = ""
    usable: bool = True
    """Whether the action works with what is there."""


class Cookies(Struct, frozen=True):
    """What opens a part of a CDN to one reader: the cookies, the domain and path that they are for, and the absolute URL at which that part begins."""

    url: str
    values: dict[str, str]
    domain: str
    path: str


class Admission(Struct, frozen=True):
    """What a cache policy says of one media's copy. Times are seconds; `rule` names what decided, for people.

    `tiers` is where a copy may go: of "memory" and "disk"; none means that it is not kept. A copy is fresh for `ttl`, then stale for `grace`.
    """

    rule: str
    tiers: tuple[str, ...]
    ttl: float
    grace: float
    pinned: bool = False


class Change(Struct, frozen=True):
    """A committed change that makes cards untrue: its number in the catalog's gapless sequence, and whose; None for every media (a purge of all)."""

    seq: int
    media_id: str | None


class Media(Struct, frozen=True, kw_only=True):
    """One media's row, whole. Sizes are bytes, times are UTC, `digest` is lower-case hexadecimal SHA-256."""

    id: str
    owner: str
    title: str | None = None
    filename: str | None = None
    public: bool = False
    status: Status = Status.READY
    error_message: str | None = None
    kind: str = "file"
    media_type: str = "application/octet-stream"
    size: int = 0
    digest: str = ""
    width: int | None = None
    height: int | None = None
    duration: float | None = None
    frame_rate: float | None = None
    codecs: str | None = None
    placeholder: str | None = None
    facts: dict[str, Any] = {}
    """What actions found out besides; the caller's own are in `metadata`."""
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = {}
    storage: str = "default"
    storage_key: str = ""
    storage_etag: str = ""
    source_id: str | None = None
    derivation_key: str | None = None
    relationship: str | None = None
    manifest: str | None = None
    """Where below the media what streams begins, such as hls/master.m3u8."""
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None = None
    state: State = State.LIVE
    quarantine_reason: str | None = None
    generation: int = 1
    links_valid_from: int = 0
    version: int = 1
    """Counts the record's changes; the record's own ETag is made of it."""

    @property
    def card(self) -> Card:
        return Card(
            self.id, self.owner, self.public, self.state, self.status, self.generation, self.links_valid_from, self.expires_at,
            self.storage, self.storage_key, self.size, self.digest, self.media_type, self.created_at,
            self.filename, self.width, self.height, self.duration, self.tags,
        )  # fmt: skip


class Incoming(Struct, frozen=True, kw_only=True):
    """An upload as it is known when its first bytes are here. `size` is what was declared, None where nothing was; `id` is the media's, if one comes of it."""

    id: str
    owner: str
    media_type: str
    size: int | None = None
    public: bool = False
    filename: str | None = None
    tags: tuple[str, ...] = ()


class Verdict(Struct, frozen=True):
    """What an inspector says of an upload. `reason` is told to the uploader of what is rejected, and kept for administrators with what is quarantined."""

    outcome: Literal["accept", "reject", "quarantine"]
    reason: str | None = None


class Argument(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an action or a recipe may be told by one name. `min` and `max` bound a number's value or a string's length; `pattern` matches a whole string."""

    name: str
    type: Literal["string", "integer", "number", "boolean"] = "string"
    required: bool = False
    default: str | int | float | bool | None = None
    allowed: tuple[str | int | float | bool, ...] = ()
    min: float | None = None
    max: float | None = None
    pattern: str | None = None
    summary: str | None = None


class Step(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A step of a recipe: the action driver that does it, told `spec`, in which `${name}` stands for the recipe's argument.

    Its output is a media whose `relationship` to the step's input is told by that name (the template's placeholders work there too), in the storage `saves_to`
    or where the routing puts it. The next step reads it. A step that fails ends the run, unless `continue_on_error`: then the next one reads what this one read.
    """

    name: str
    action: str
    spec: dict[str, Any] = {}
    relationship: str | None = None
    saves_to: str | None = None
    continue_on_error: bool = False


class Fence(Struct, frozen=True):
    """The kernel's fence around what decodes: whether it must be whole ("require"), is what the kernel has ("auto") or none ("off"), and the further paths it may read."""

    mode: Literal["auto", "require", "off"] = "auto"
    reads: tuple[str, ...] = ()


class Recipe(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be made of a media, named `code@version`: another version is another recipe. `accepts` are media types or ranges such as image/*."""

    code: str
    version: int = 1
    title: str | None = None
    summary: str | None = None
    arguments: tuple[Argument, ...] = ()
    steps: tuple[Step, ...]
    accepts: tuple[str, ...] = ("*/*",)
    lane: str = "images"

    @property
    def name(self) -> str:
        return f"{self.code}@{self.version}"


class MadeFile(Struct, frozen=True):
    """A file in a sink's folder, and the path beneath the output's name that it is published at: `segments/0001.m4s` of `hls`.

    With `unit` it is not of the folder, but the file that the unit of this name has published at `name`.
    """

    name: str
    path: str
    media_type: str
    unit: str = ""


class Made(Struct, frozen=True, kw_only=True):
    """What an action made: the type of the bytes in its sink ("" when it only looked), facts of them, and the versions of the tools that did it.

    `files` are published together with it, stored in their order: what refers to others stands behind them.

    Width and height are pixels as shown (after orientation), duration is seconds, `placeholder` is a ThumbHash in base64.
    """

    media_type: str = ""
    width: int | None = None
    height: int | None = None
    duration: float | None = None
    frame_rate: float | None = None
    codecs: str | None = None
    placeholder: str | None = None
    facts: dict[str, Any] = {}
    tools: dict[str, str] = {}
    files: tuple[MadeFile, ...] = ()
    manifest: str | None = None
    """The path of that among `files` where players begin."""


class Extract(Struct, frozen=True):
    """The first bytes of what stands at a path below a media, and the media that it is of."""

    media_id: str
    content: bytes
    growing: bool = False
    """Whether it is of what there is by now, and more is coming."""


class Composed(Struct, frozen=True):
    """A small file that was written of others. `derived` is the media that it stands or falls with."""

    content: bytes
    media_type: str
    derived: str


class Unit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A piece of an action's work on one media, which any worker can do. `spec` tells it from all others of the action; `after` names those that it reads, and
    so waits for; of two that wait for a worker the higher `priority` goes first, and 0 is that of work which is not divided."""

    name: str
    spec: dict[str, str | int | float | bool]
    after: tuple[str, ...] = ()
    priority: int = -1


class Division(Struct, frozen=True):
    """Into what a step of a job is divided."""

    step: str
    units: tuple[Unit, ...]


class JobState(StrEnum):
    """Where a job stands. PENDING is also waiting for another attempt; FAILED and CANCELLED stay until somebody retries them or they are removed by age."""

    PENDING = "Pending"
    PROCESSING = "Processing"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


class Plan(Struct, frozen=True, kw_only=True):
    """A recipe that a stored media deserves. `required` ones decide the media's status; of two that wait, the higher `priority` goes first."""

    recipe: str
    arguments: dict[str, Any] = {}
    required: bool = False
    priority: int = 0


class NewJob(Struct, frozen=True, kw_only=True):
    """A job to be recorded. `kind` names who does it; jobs of one `fingerprint` are one job."""

    id: str
    kind: str
    lane: str
    media_id: str | None = None
    code: str | None = None
    arguments: dict[str, Any] = {}
    fingerprint: str | None = None
    required: bool = False
    priority: int = 0
    max_attempts: int = 3
    run_at: datetime | None = None
    """When it is due; at once by default."""
    created_by: str | None = None
    tracked: bool = True
    """Whether its row stays for a while when it has ended well."""
    parent: str | None = None
    """The job that it is a unit of, and that waits for it."""


class Ring(Struct, frozen=True):
    """Word of a job that is due: its id, and `seen_to`, which tells the broker that nobody else need hear of it."""

    job: str
    seen_to: Callable[[], Awaitable[None]]


class StepRun(Struct, frozen=True, kw_only=True):
    """A step in a job's timeline. `input` is the digest of the bytes that it read, `output` the id of the media that it made or found made."""

    name: str
    action: str
    state: JobState = JobState.PENDING
    started_at: datetime | None = None
    ended_at: datetime | None = None
    input: str | None = None
    output: str | None = None
    tools: dict[str, str] = {}
    error_code: str | None = None
    error_message: str | None = None


class Derivation(Struct, frozen=True, kw_only=True):
    """Where a derivative comes from: the step of a recipe done to `media_id` with these normal arguments. `fingerprint` is its task's, also when that is gone."""

    media_id: str
    code: str
    version: int
    arguments: dict[str, Any]
    fingerprint: str
    step: str


class Job(Struct, frozen=True, kw_only=True):
    """A job's row, whole. `fence` moves with every change of who may write to it; `revision` with every change that a watcher would want to see."""

    id: str
    kind: str
    lane: str
    priority: int
    state: JobState
    media_id: str | None
    code: str | None
    arguments: dict[str, Any]
    fingerprint: str | None
    required: bool
    attempts: int
    max_attempts: int
    run_at: datetime
    lease_until: datetime | None
    fence: int
    revision: int
    progress: float
    steps: list[StepRun]
    error_code: str | None
    error_message: str | None
    created_by: str | None
    tracked: bool
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    parent: str | None = None
    division: Division | None = None


class Kept(Struct, frozen=True, kw_only=True):
    """An ad-hoc variant that was made and is kept: an object without an id, known by its media and its canonical text."""

    media_id: str
    text: str
    storage: str
    key: str
    size: int
    digest: str
    media_type: str
    width: int | None = None
    height: int | None = None
    made_at: datetime


class PackageFile(Struct, frozen=True, kw_only=True):
    """One of the files that are published together with a derivative, read at `path` beneath its relationship: `hls` and `segments/0001.m4s`."""

    path: str
    key: str
    size: int
    digest: str
    media_type: str


Titled = Literal["refuse", "remove", "leave"]
"""What the deletion of a media means to a title that holds it: it forbids it, goes with it, or stays without its bytes."""


class Movie(Struct, frozen=True, kw_only=True):
    """A film of its own: words about a media, which is held by it alone. `status` and `manifest` are the media's, read with it."""

    id: str
    owner: str
    title: str
    description: str | None
    release_date: date | None
    media_id: str
    created_at: datetime
    updated_at: datetime
    status: Status
    manifest: str | None


class Series(Struct, frozen=True, kw_only=True):
    """Seasons under one name; it has no media that could say who may see it, and so says it itself."""

    id: str
    owner: str
    public: bool
    title: str
    description: str | None
    created_at: datetime
    updated_at: datetime


class Season(Struct, frozen=True, kw_only=True):
    """Episodes of a series under one number; `owner` and `public` are the series'."""

    id: str
    series_id: str
    number: int
    created_at: datetime
    updated_at: datetime
    owner: str
    public: bool


class Episode(Struct, frozen=True, kw_only=True):
    """One of a season: words about a media, which is held by it alone. `owner` is the series', `status` and `manifest` are the media's."""

    id: str
    season_id: str
    number: int
    title: str | None
    media_id: str
    created_at: datetime
    updated_at: datetime
    owner: str
    status: Status
    manifest: str | None


class Event(Struct, frozen=True):
    """Something that is already true and committed, told to plugins after the fact."""

    kind: str
    media_id: str
    at: datetime
    detail: dict[str, Any] = {}
