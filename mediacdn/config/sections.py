"""The configuration: one tree of Structs whose defaults are the product's; what a key means, its unit and its bounds stand here.

loading.py fills it from a TOML file and the environment, decoding.py words the errors, checks.py holds what no single type can say. Drivers decode their own tables.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from mediacdn.config.decoding import INTERNAL
from mediacdn.model import Recipe

PURGES = "purge"
"""The lane of jobs that call caches in front."""
Port = Annotated[int, Meta(ge=0, le=65535)]
Count = Annotated[int, Meta(ge=1)]
Amount = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(gt=0)]
Rate = Annotated[float, Meta(ge=0)]
Tables = Annotated[dict[str, dict[str, Any]], INTERNAL]
"""No key of its own, what is of this type: `drivers` is filled from the section's own tables, such as [edge.NAME]."""


class Section(Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the configuration."""


class Server(Section, frozen=True):
    """Where the server listens and whom it believes. Times are seconds."""

    host: str = "127.0.0.1"
    port: Port = 8400
    uds: str | None = None
    data: str = "var"
    public_url: str | None = None
    base_path: str = ""
    trusted_proxies: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    accel: dict[str, str] = {}
    """Storage = the internal location of nginx that has its folder: a trusted proxy that asks for it sends those files itself (X-Accel-Redirect)."""
    metrics: Literal["loopback", "admin", "anyone"] = "loopback"
    """Who may read /metrics and the details of /readyz."""
    header_timeout: Seconds = 10.0
    idle_timeout: Seconds = 60.0
    min_body_rate: Amount = 1000
    """Least bytes per second of a request or response body, averaged over `min_body_rate_window`."""
    min_body_rate_window: Seconds = 30.0
    max_header_size: Count = 65536
    max_connections_per_address: Count = 1024
    shutdown_timeout: Seconds = 20.0
    drain_delay: float = 0.0
    """Seconds in which everything is still served after SIGTERM while /readyz already answers 503, for a balancer to notice."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "console"] = "auto"
    """auto: console on a terminal, else json."""


class Cors(Section, frozen=True):
    """Cross-origin access. Reads of media are open to any origin without credentials; `origins` may use the API with credentials."""

    media_origins: tuple[str, ...] = ("*",)
    origins: tuple[str, ...] = ()
    max_age: Amount = 600
    resource_policy: Literal["cross-origin", "same-site", "same-origin"] = "cross-origin"


class Database(Section, frozen=True):
    """`sqlite` in the data directory when `url` is empty, else postgresql://user:password@host:port/name."""

    url: str = ""
    pool_size: Count = 10
    timeout: Seconds | None = None

    @property
    def deadline(self) -> float:
        """Seconds for a statement, a commit or the wait for a connection: a server that is silent has failed, a disk that is busy with others' writes has not."""
        return self.timeout or (2.5 if self.url else 10.0)


class Rule(Section, frozen=True):
    """A routing rule: the first whose conditions all hold names the storage. A derivative has its source's tags, owner and visibility."""

    storage: str
    name: str | None = None
    """What people call it; by default its number, from 1."""
    variant: str | None = None
    """ "original", or what a derivative is to its source, such as "thumbnail" or "page:*"; "*" is any derivative or variant. Unset: all of them."""
    type: str | None = None
    min_size: Amount | None = None
    max_size: Amount | None = None
    tag: str | None = None
    owner: str | None = None
    public: bool | None = None


class EdgeRule(Section, frozen=True):
    """A caching rule: the first whose conditions all hold decides; what it leaves out is the [edge] table's. Sizes are bytes and inclusive, times are seconds."""

    name: str | None = None
    """How `mediacdn explain` calls it; by default its number, from 1."""
    type: str | None = None
    min_size: Amount | None = None
    max_size: Amount | None = None
    public: bool | None = None
    variant: str | None = None
    """The original is "original"; "*" is any variant but it."""
    tag: str | None = None
    storage: str | None = None
    min_hits: Amount | None = None
    """Requests for it since the process began to count, this one included."""
    admit: Literal["always", "second-hit", "never"] | None = None
    tiers: tuple[Literal["memory", "disk"], ...] | None = None
    ttl: Amount | None = None
    grace: Amount | None = None
    pin: bool = False
    """Kept before all that is not pinned, whatever the eviction."""


class Edge(Section, frozen=True):
    """The cache, and the freshness told to caches in front. Sizes are bytes, times are seconds. `policy` and `bus` are drivers, each with its own table [edge.NAME]."""

    public_max_age: Amount = 86400
    private_max_age: Amount = 60
    cdn_max_age: Amount | None = None
    """Sent to a CDN in front as CDN-Cache-Control for public media, which overrides what is told to browsers."""
    surrogate_key_header: str | None = None
    """Name of a field that carries a public media's surrogate keys, such as Surrogate-Key, xkey or Cache-Tag."""
    open_files: Amount = 512
    """How many open files of local storages are kept open."""
    cards: Count = 100_000
    """How many media cards are kept in the process."""
    memory: Amount = 268_435_456
    """Bytes of bodies kept in each server process; 0 is off."""
    memory_eviction: Literal["lru", "tinylfu", "least-recently-stored"] = "lru"
    memory_local: Amount = 65_536
    """Largest object of a local storage that is kept in memory; larger ones are sent from the page cache by the kernel."""
    disk: Amount = 10_737_418_240
    """Bytes of bodies kept on disk for all server processes; 0 is off."""
    disk_eviction: Literal["lru", "least-recently-stored"] = "least-recently-stored"
    disk_local: bool = False
    """Whether objects of local storages go to the disk tier too."""
    directory: str = ""
    """Where the disk tier and the shared table live; by default `edge` in the data directory. It must be a local file system."""
    slice_size: Annotated[int, Meta(ge=65_536, le=67_108_864)] = 4_194_304
    fills: Count = 32
    """Slices that are read from storages at once."""
    lent: Amount = 1_073_741_824
    """Bytes of slices that readers hold in each process beside `memory`; beyond it they look for theirs anew for each piece that their client takes."""
    admit: Literal["always", "second-hit", "never"] = "always"
    ttl: Amount = 86400
    """After it a copy is stale: the origin is asked whether the object is still there before the copy counts as fresh again."""
    grace: Amount = 86400
    """How long a stale copy is still served: while it is revalidated, and while the origin does not answer."""
    negative_ttl: Rate = 1.0
    """How long an unknown id, or an object that its storage does not have, is remembered."""
    warm_on_head: bool = True
    """Whether a HEAD brings the object, or its first slice, into the cache."""
    sweep_every: Seconds = 1.0
    """How often the sequence of changes is read, which heals what a lost message or a crash left behind."""
    policy: str = "rules"
    """The cache_policy driver; "rules" is the built-in one."""
    bus: str | None = None
    """The driver that tells other nodes of changes at once; without one they learn of them by the sweep. "postgres" is the built-in one."""
    rules: tuple[EdgeRule, ...] = ()
    drivers: Tables = field(default_factory=dict)


class Links(Section, frozen=True):
    """Where readers are sent for a media's bytes, once they may have them. Sizes are bytes, times are seconds."""

    via: str = "ours"
    """ "ours": our signed links; "storage": URLs that the storage presigns; else a links driver, with its own table [links.NAME]."""
    expires: Annotated[int, Meta(ge=10, le=300)] = 300
    """How long a link elsewhere lives at most: for so long it outlives a quarantine."""
    min_size: Amount = 0
    """Smaller media have our own links all the same."""
    records: bool = False
    """Whether a record that is read has such a link as its `urls.original` too."""
    drivers: Tables = field(default_factory=dict)


class PurgeCall(Section, frozen=True):
    """A request that makes a cache in front forget. In `url`, the values of `headers` and `body`, {id} stands for a media's id (then each media has a request of
    its own), {ids} for several, and {ids_json} for them as a JSON list."""

    url: str
    method: str = "POST"
    headers: dict[str, str] = {}
    body: str = ""


class Purge(PurgeCall, frozen=True):
    """A cache in front that is told what it must forget. Times are seconds."""

    name: str = "cdn"
    """Unique among these; the job's `code`."""
    separator: str = " "
    """What stands between {ids}."""
    batch: Count = 100
    """How many media one request may name."""
    token: str = ""
    token_header: str = "Authorization"  # noqa: S105
    accept: tuple[int, ...] = ()
    """Statuses beside 2xx that mean done, such as the 404 of a cache that does not have it."""
    allow: tuple[str, ...] = ()
    """Networks that it may lie in although they are not public."""
    timeout: Seconds = 10.0
    again_after: Rate = 10.0
    """It is told once more after so long, for what it fetched meanwhile from a node that had not yet heard; 0 is never."""
    everything: PurgeCall | None = None
    """The request that makes it forget everything; without one a purge of everything fails there."""


class Signing(Section, frozen=True):
    """Signed URLs. `keys` maps kid to base64 secrets of at least 32 bytes; empty: a key ring kept in the data directory."""

    keys: dict[str, str] = {}
    current: str | None = None
    default_expires: Count = 600
    max_expires: Count = 604800
    window: Amount = 0
    """Seconds to which `exp` is rounded up and `iat` down, so that one viewer gets one URL; 0 is off."""


class Auth(Section, frozen=True):
    """Who may do what. Each name in `authenticators`, and `authorizer`, is a driver with its own table [auth.NAME]."""

    authenticators: tuple[str, ...] = ("jwt",)
    authorizer: str | None = None
    private_read: Literal["any", "owner"] = "any"
    """ "any": every valid token reads private media; "owner": only the owner and admins."""
    owner_may_delete: bool = False
    scope_claim: str = "scope"
    scope_map: dict[str, str] = {}
    default_scopes: tuple[str, ...] = ("media:read", "media:write")
    drivers: Tables = field(default_factory=dict)


class Limits(Section, frozen=True):
    """What an upload may be. Sizes are bytes, rates per second, lists are media types or ranges such as image/*."""

    max_upload_size: Count = 10_000_000
    by_type: dict[str, Count] = field(default_factory=lambda: {"video/*": 32_000_000_000, "audio/*": 1_000_000_000})
    allow_types: tuple[str, ...] = ("*/*",)
    deny_types: tuple[str, ...] = ()
    quota_per_owner: Amount = 0
    """Bytes that one owner may hold, in live media and in uploads under way; 0 is no limit."""
    uploads_per_second: Rate = 20.0
    uploads_burst: Rate = 100.0
    """Uploads at once, where `uploads_per_second` is not 0, which is no limit."""
    upload_bytes_per_second: Rate = 0.0
    """0 is no limit."""
    upload_bytes_burst: Rate = 0.0
    """0 is ten seconds of the rate."""
    max_metadata_size: Amount = 65536
    max_tags: Amount = 64
    max_subtitles_size: Count = 2_000_000
    max_subtitles: Amount = 64
    """Languages of one media."""
    tasks_per_caller: Amount = 1000
    """Tasks that one caller may have asked for and that have not ended; 0 is no limit. Admins are not counted."""
    counters: str = "memory"
    """The driver that counts for the rates, with its own table [limits.NAME]; "memory" is each server process for itself."""
    drivers: Tables = field(default_factory=dict)

    @property
    def largest(self) -> int:
        """The bytes above which no type is accepted."""
        return max(self.max_upload_size, *self.by_type.values()) if self.by_type else self.max_upload_size


class Uploads(Section, frozen=True):
    """Uploads in more than one request, and past us. Sizes are bytes, times are seconds."""

    expires_in: Count = 86400
    """An upload that has received nothing for so long is given up."""
    per_owner: Count = 100
    """Unfinished uploads that one owner may have."""
    directory: str = ""
    """Where uploads for storages that do not take parts collect; by default `uploads` in the data directory. On the storage's file system nothing is copied."""
    part_size: Annotated[int, Meta(ge=5_242_880)] = 8_388_608
    """Of the parts sent to storages that take them."""
    direct: str | None = None
    """The storage that clients may write to without passing through us; unset, none."""
    direct_expires_in: Count = 3600
    """How long its URLs are good for."""


class Inspection(Section, frozen=True):
    """Who looks at uploads before they are kept. Each name in `inspectors` is a driver with its own table [inspection.NAME]; all see every upload, side by side."""

    inspectors: tuple[str, ...] = ()
    deadline: Seconds = 30.0
    """How long one may keep an upload waiting: for a chunk to be taken, for the verdict after the last."""
    on_failure: Literal["refuse", "quarantine", "accept"] = "refuse"
    """What becomes of an upload when an inspector fails or is late: 503 and nothing is kept, stored and withheld, or stored as if it had said nothing."""
    drivers: Tables = field(default_factory=dict)


class Jobs(Section, frozen=True):
    """Work that no request waits for. Times are seconds."""

    lanes: dict[str, Count] = field(default_factory=lambda: {"interactive": 2, "images": 2, "imports": 4, "video": 1})
    """How many jobs each worker process does at once, by lane; a lane that is not named is not worked."""
    attempts: Count = 3
    lease: Annotated[float, Meta(ge=1)] = 15.0
    """A job whose worker was not heard of for so long is given to another."""
    backoff_base: Seconds = 1.0
    """The n-th pause is somewhere between 0 and this times 2 to the power of n-1, at most `backoff_max`."""
    backoff_max: Seconds = 300.0
    poll_every: Seconds = 0.1
    """How often a lane with nothing to do looks for jobs."""
    broker: str = "table"
    """The driver that tells workers of jobs sooner than their next look, with its own table [jobs.NAME]; "table" is none."""
    poll_beside: Seconds = 2.0
    """In place of `poll_every` as long as the broker can be heard."""
    keep_completed: Amount = 86400
    """How long a completed or cancelled job is kept, to be looked at."""
    keep_failed: Amount = 2_592_000
    drivers: Tables = field(default_factory=dict)


class Variants(Section, frozen=True):
    """Forms of media made when asked for. `presets` maps a name to the spec of the action that makes variants; who may read a media may read its presets."""

    presets: dict[str, dict[str, Any]] = field(default_factory=lambda: {"thumb": {"w": 320, "h": 320, "fit": "inside", "frame": 0}})
    unsigned: bool = False
    """Whether ad-hoc variants need no signed link. Whoever reads a media can then have any number of forms of it made."""
    max_per_media: Count = 64
    """Ad-hoc variants of one media that are kept; the one used longest ago makes room."""
    negotiate: tuple[Literal["avif", "webp", "jpeg", "png", "gif"], ...] = ("webp", "jpeg")
    """Formats for a variant that names none, the best first, chosen by the request's Accept."""


class Recipes(Section, frozen=True):
    """Recipes beside those that plugins bring. Actions are drivers, each of which may have a table [recipes.NAME]."""

    define: tuple[Recipe, ...] = ()
    plan: dict[str, tuple[str, ...]] = {}
    """Which uploads get a job of a recipe, by media types or ranges; what is named here is decided here, the rest by the plugins."""
    drivers: Tables = field(default_factory=dict)


class Decoders(Section, frozen=True):
    """The processes that decode untrusted bytes, whichever plugin starts them."""

    fence: Literal["auto", "require", "off"] = "auto"
    """Whether the kernel keeps them from files, processes and the network: as far as it can, wholly or else nothing starts, or not at all."""
    reads: tuple[str, ...] = ()
    """Further paths that they may read, with what is beneath."""

    def __post_init__(self) -> None:
        if wrong := [each for each in self.reads if not each.startswith("/")]:
            raise ValueError(f"a path of reads begins with /: {wrong[0]}")


class Lifecycle(Section, frozen=True):
    """Retention and sweeping. Times are seconds."""

    default_expires_in: Amount = 0
    """Lifetime of a media whose upload names none; 0 is for ever."""
    tombstone: Literal["not_found", "gone"] = "not_found"
    """What a deleted media answers: "not_found" (404) or "gone" (410)."""
    quarantine_answer: Literal["withheld", "not_found"] = "withheld"
    """What a quarantined media answers to those who could read it: "withheld" (451) or "not_found" (404)."""
    abandoned_after: Count = 900
    """Age at which an upload whose writer died is swept."""
    abandoned_parts_after: Count = 86400
    """Age at which an upload of parts that nobody will complete is taken from storages such as S3."""
    sweep_every: Seconds = 60.0
    moved_grace: Count = 3600
    """How long the old copy of a moved object can still be read, by those who began before."""
    landed_too_long: Count = 3600
    """Age at which an upload that is still in the storage where it landed is reported."""
    keep_replaced: Amount = 172_800
    """How long the files of a stream stay after it was made anew, for those who are playing it or keep its playlist; longer than `edge.public_max_age`."""


class Mirrored(Section, frozen=True):
    """The table of a storage whose driver is "mirror": the storages `of` which it is, the first one read first."""

    of: tuple[str, ...]
    writes: Literal["all", "any"] = "all"
    """Where an object must be durable before it is acknowledged: in all of them, or in one; those that failed get it later."""
    patience: Seconds = 5.0
    """How long one that is slower than another is waited for: to begin an answer, or, with writes = "any", to take bytes."""


class Config(Section, frozen=True):
    """The whole configuration. `storage` maps a name to its driver's table, in which `driver` names the driver (by default `local`).

    Beside it `via` is the core's own: the storage where uploads land before a job brings them here.
    """

    server: Server = Server()
    cors: Cors = Cors()
    database: Database = Database()
    storage: dict[str, dict[str, Any]] = field(default_factory=lambda: {"default": {"driver": "local"}})
    routing: tuple[Rule, ...] = ()
    edge: Edge = Edge()
    links: Links = Links()
    purge: tuple[Purge, ...] = ()
    signing: Signing = Signing()
    auth: Auth = Auth()
    limits: Limits = Limits()
    uploads: Uploads = Uploads()
    inspection: Inspection = Inspection()
    jobs: Jobs = Jobs()
    variants: Variants = Variants()
    recipes: Recipes = Recipes()
    decoders: Decoders = Decoders()
    lifecycle: Lifecycle = Lifecycle()
    plugins: tuple[str, ...] = ("local", "jwt", "vips", "pdf")
    shared: Tables = field(default_factory=dict)
    """Filled from the tables that are named after plugins, such as [redis]: what the tables of the drivers of this name have in common."""

    @property
    def lanes(self) -> dict[str, int]:
        """The lanes of jobs: those of [jobs], and one of its own for calls to caches in front, so that one of those that hangs delays nothing else."""
        return {**({PURGES: 2} if self.purge else {}), **self.jobs.lanes}


HOSTS: dict[str, type[Struct]] = {
    "auth": Auth,
    "edge": Edge,
    "inspection": Inspection,
    "jobs": Jobs,
    "limits": Limits,
    "links": Links,
    "recipes": Recipes,
}
"""The sections whose drivers have tables inside them, [auth.NAME], [edge.NAME] and so on."""

STORAGE_KEYS = ("driver", "via")
"""The keys of a storage's table that are the core's, not the driver's."""
