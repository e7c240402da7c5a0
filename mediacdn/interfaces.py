"""The seams: what a driver promises and what the core promises it, as Protocols. A power that a driver may lack is a Protocol of its own, found with isinstance."""

from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar, runtime_checkable

from mediacdn.model import (
    Admission,
    Argument,
    ByteRange,
    Card,
    Change,
    Composed,
    Cookies,
    Episode,
    Extract,
    Incoming,
    Made,
    Media,
    Movie,
    ObjectInfo,
    Part,
    PartsBegun,
    Principal,
    Ring,
    Scope,
    Season,
    Series,
    Tool,
    Unit,
    Verdict,
)


class Storage(Protocol):
    """Bytes at keys. Keys are relative POSIX paths made by the core of the characters A-Z a-z 0-9 . _ - and /, at most 512 of them.

    Driver promises, of every method: no wait on a network is without end; StorageUnavailable ends it.
    """

    async def head(self, key: str) -> ObjectInfo:
        """Driver promises: the object as the next `open` would see it. Raises: NotFound, StorageUnavailable."""
        ...

    def open(self, key: str, span: ByteRange | None = None) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Caller promises: `span` lies inside the object, and leaves the context when done.
        Driver promises: chunks of at most 1 MiB that are the object's bytes in order, all from one version; a short read raises.
        Raises (on entering): NotFound, StorageUnavailable; (while reading) ObjectCorrupt, StorageUnavailable."""
        ...

    async def put(self, key: str, chunks: AsyncIterable[bytes], *, size: int | None = None) -> ObjectInfo:
        """Caller promises: chunks are never changed after they are handed over; `size`, where given, is a hint for reserving room.
        Driver promises: atomic and durable: readers see the old object or the whole new one, and what is returned outlives a power cut;
        when `chunks` raises or the caller is cancelled, nothing is visible and the exception goes on. Raises: StorageFull, StorageUnavailable."""
        ...

    async def delete(self, key: str) -> None:
        """Driver promises: idempotent: gone afterwards, also when it was not there. Raises: StorageUnavailable."""
        ...

    def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        """Driver promises: every committed object whose key starts with `prefix` (any order); nothing half-written. Raises: StorageUnavailable."""
        ...


@runtime_checkable
class LocalPaths(Protocol):
    """Power of a storage whose objects are files of this machine: the core may have the kernel send them without copying."""

    def open_file(self, key: str) -> int:
        """Caller promises: calls it off the event loop and closes the descriptor. Driver promises: a read-only descriptor of the committed object. Raises: NotFound, StorageUnavailable."""
        ...


@runtime_checkable
class Room(Protocol):
    """Power of a storage that knows how much it can still take."""

    async def free(self) -> int:
        """Driver promises: bytes that can still be written, the reserve already taken off; never negative. Raises: StorageUnavailable."""
        ...


@runtime_checkable
class Adopts(Protocol):
    """Power of a storage that can take a file of this machine as an object without copying it."""

    async def adopt(self, key: str, path: str) -> ObjectInfo | None:
        """Caller promises: `path` is an absolute path of a durable regular file that nobody writes to, and the key was never used. Driver promises: an object as
        after `put`, and nothing at `path` any more; or None, and nothing done, where it would have to copy. Raises: NotFound for no file, StorageUnavailable."""
        ...


@runtime_checkable
class MultipartUpload(Protocol):
    """Power of a storage that takes an object in parts, which outlive the process that sent them."""

    @property
    def part_sizes(self) -> tuple[int, int, int]:
        """Driver promises: the least size in bytes of every part but the last, the largest of any, and the highest part number; numbers begin at 1."""
        ...

    async def begin_parts(self, key: str) -> str:
        """Driver promises: the id of an upload of parts for `key`; until it is completed nothing is visible. Raises: StorageUnavailable."""
        ...

    async def put_part(self, key: str, upload: str, number: int, chunks: AsyncIterable[bytes], *, size: int) -> str:
        """Caller promises: `chunks` are exactly `size` bytes. Driver promises: durable when it returns the part's tag; the same number again replaces the part;
        when `chunks` raises or the caller is cancelled, the part is as it was before. Raises: NotFound for an unknown upload, StorageFull, StorageUnavailable."""
        ...

    async def list_parts(self, key: str, upload: str) -> Sequence[Part]:
        """Driver promises: the parts that are there, by number. Raises: NotFound, StorageUnavailable."""
        ...

    async def complete_parts(self, key: str, upload: str, parts: Sequence[Part]) -> ObjectInfo:
        """Caller promises: `parts` in ascending order of number. Driver promises: atomic and durable, as of `put`; the same again answers the same, for an answer
        may be lost. Raises: NotFound for an unknown upload, Conflict when a part is missing, too small or has another tag, StorageUnavailable."""
        ...

    async def abort_parts(self, key: str, upload: str) -> None:
        """Driver promises: idempotent: the parts are gone and so is the id. Raises: StorageUnavailable."""
        ...

    def list_uploads(self, prefix: str = "") -> AsyncIterator[PartsBegun]:
        """Driver promises: every upload of parts that was begun and neither completed nor aborted. Raises: StorageUnavailable."""
        ...


@runtime_checkable
class Presigner(Protocol):
    """Power of a storage that hands out URLs by which a client reads or writes one object without passing through us."""

    async def presign_get(self, key: str, expires: timedelta, *, media_type: str, disposition: str) -> str:
        """Driver promises: a URL that answers the object with that Content-Type and Content-Disposition until `expires` has gone by."""
        ...

    async def presign_put(self, key: str, expires: timedelta, *, size: int | None = None, media_type: str | None = None) -> str:
        """Driver promises: a URL that takes one PUT of the object; where `size` or `media_type` is given, no other. It does not verify the bytes: the core does."""
        ...

    async def presign_part(self, key: str, upload: str, number: int, expires: timedelta, *, size: int | None = None) -> str:
        """Caller promises: the storage has MultipartUpload too. Driver promises: a URL that takes one PUT of the part."""
        ...


@runtime_checkable
class RelativePaths(Protocol):
    """Power of a storage whose folder a proxy of this machine can be given: it sends the files itself, when we have decided that they may be read."""

    def relative_path(self, key: str) -> str:
        """Driver promises: the path of the object's file beneath the storage's folder, at once and without I/O. Raises: InvalidParameter."""
        ...


class Links(Protocol):
    """Makes the URL by which a reader who has been authorised fetches a media's bytes from elsewhere than our own links: the storage, a CDN in front."""

    async def link(self, card: Card, path: str, expires: timedelta, *, media_type: str, disposition: str) -> str | None:
        """Caller promises: has authorised the reader; `path` is our own link, without the server's base path: the media's path, with a signed query where it takes
        one, which carries the disposition too; `media_type` and `disposition` are the whole fields of the answer. Driver promises: an absolute URL that is good for at
        most `expires` and answers with them, or None to leave it to our own link. Raises: Unavailable."""
        ...


@runtime_checkable
class LinkCookies(Protocol):
    """Power of Links: cookies by which a reader fetches all that lies beneath a media from a CDN, such as a stream's segments."""

    async def cookies(self, card: Card, path: str, expires: timedelta) -> Cookies | None:
        """Caller promises: has authorised the reader; `path` is our own prefix link, without the server's base path. Driver promises: cookies that open what lies
        beneath it and nothing else for at most `expires`, or None where it has none for this media. Raises: Unavailable."""
        ...


class Authenticator(Protocol):
    """Turns credentials into a Principal. Called on requests, before any look-up of media."""

    async def authenticate(self, headers: Mapping[str, str]) -> Principal | None:
        """Caller promises: header names in lower case. Driver promises: a verified Principal, or None when the credentials are not of its kind.
        Raises: InvalidToken when they are of its kind and refused, AuthUnavailable when it cannot know."""
        ...


@runtime_checkable
class Recall(Protocol):
    """Power of an authenticator that remembers whom it has verified: a request that needs no more than that is answered without waiting."""

    def recall(self, headers: Mapping[str, str]) -> Principal | None:
        """Caller promises: `headers` as for authenticate, perhaps without those that say nothing of the caller's credentials. Driver promises: what authenticate
        would give, at once and without I/O; None when it does not know, or when the answer hangs on more than Authorization."""
        ...


@runtime_checkable
class TokenMinter(Protocol):
    """Power of an authenticator that can issue development tokens for itself."""

    async def mint(self, subject: str, scopes: frozenset[str], lifetime: timedelta) -> str:
        """Driver promises: a bearer token that its own `authenticate` accepts. Raises: Forbidden where tokens come from elsewhere only."""
        ...


class Authorizer(Protocol):
    """Decides in the core's place who may read, write or administer one media."""

    async def allows(self, principal: Principal, action: str, card: Card) -> bool | None:
        """Caller promises: `action` is "read", "write" or "admin". Driver promises: the decision, or None to leave it to the core's own rules. Raises: AuthUnavailable."""
        ...


class Inspector(Protocol):
    """Looks at uploads while they stream in, and says whether they may stay: a virus scanner, a list of forbidden content. Nothing is readable before its verdict."""

    async def inspect(self, upload: Incoming, chunks: AsyncIterator[bytes]) -> Verdict:
        """Caller promises: `chunks` are the media's bytes in order, about 1 MiB each and never all at once; several uploads are inspected at a time; cancels it when
        the upload ends early. Driver promises: blocks nothing, keeps no more than it must, takes each chunk soon; may be through before the last. Raises: whatever
        keeps it from knowing, which is then held against the upload unless the configuration says otherwise."""
        ...


class Counters(Protocol):
    """Shared counting for rate limits."""

    async def take(self, key: str, cost: float, rate: float, burst: float) -> float:
        """Caller promises: `rate` per second and `burst` are positive. Driver promises: 0 and the cost is taken, or the seconds to wait and nothing is taken; a cost above
        `burst` is taken when nothing is owed, and owed afterwards. Raises: Unavailable, soon; the core then counts in the process alone."""
        ...


class Broker(Protocol):
    """A doorbell: tells workers of jobs that are due, sooner than their look at the catalog's table would find them. The table alone says what a job is, and whose."""

    async def ring(self, lane: str, job: str) -> None:
        """Caller promises: the job is committed. Driver promises: best effort, within a second or not at all. Raises: Unavailable, which the caller survives."""
        ...

    def listen(self, lane: str) -> AsyncIterator[Ring | None]:
        """Caller promises: closes it when done, and listens again some time after it raised. Driver promises: what is rung for in this lane, each to one of those
        who listen, wherever they are, perhaps twice, perhaps to nobody; None as soon as it hears, again when it may have missed something. Raises: Unavailable."""
        ...


class CachePolicy(Protocol):
    """Decides which copies the edge keeps, where and for how long."""

    def judge(self, card: Card, variant: str, hits: int) -> Admission:
        """Caller promises: `variant` is "" for the original; `hits` counts this media's requests in this process, this one included, and may forget.
        Driver promises: the same answer for the same arguments, at once: it is called on the event loop and does no I/O. Raises: nothing."""
        ...


class Bus(Protocol):
    """Tells the server processes of other nodes of changes, sooner than their sweep of the sequence would find them."""

    async def publish(self, changes: Sequence[Change]) -> None:
        """Caller promises: the changes are committed. Driver promises: best effort, within a second or not at all. Raises: Unavailable, which the caller survives."""
        ...

    def listen(self) -> AsyncIterator[Sequence[Change]]:
        """Driver promises: what others (perhaps also this process) publish from now on, in any order, perhaps twice, perhaps not at all; reconnects by itself,
        and gives an empty sequence then: something may have been missed."""
        ...


class Source(Protocol):
    """What an action reads: one media's bytes."""

    @property
    def media(self) -> Media:
        """The record, as it was when the step began."""
        ...

    def file(self) -> AbstractAsyncContextManager[int]:
        """Driver promises: a read-only descriptor of a seekable file with exactly the media's bytes, at offset 0, closed on leaving. Raises: NotFound, StorageUnavailable, ObjectCorrupt."""
        ...


class Sink(Protocol):
    """Where an action's output goes. What is in it counts only when `run` returns."""

    def file(self) -> int:
        """Driver promises: the descriptor of an empty file of this step's own, the same at each call; the caller does not close it."""
        ...

    async def folder(self) -> int:
        """Driver promises: the descriptor of an empty folder of this step's own, the same at each call, for the files that `Made.files` names; the rest of it is
        forgotten. The caller does not close it."""
        ...

    async def progress(self, share: float) -> None:
        """Caller promises: `share` is from 0 to 1. Driver promises: tells whoever watches; cheap, to be called as often as one likes."""
        ...


class Action(Protocol):
    """One kind of work on a media, such as scaling a picture. What decodes untrusted bytes does it in a Sandbox, never in this process."""

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """Driver promises: what its spec may say, in canonical order."""
        ...

    @property
    def accepts(self) -> tuple[str, ...]:
        """Driver promises: the media types, or ranges such as image/*, that it reads."""
        ...

    async def run(self, source: Source, spec: Mapping[str, Any], sink: Sink) -> Made:
        """Caller promises: `spec` holds by `arguments`, in their order, with defaults filled in. Driver promises: the same output for the same bytes and spec; ends
        soon when cancelled. Raises: Undecodable, OverLimits, InvalidArgument, none of which is worth another try; Overloaded, Unavailable and any other, which are."""
        ...


class Published(Protocol):
    """What there is below one media, as a Composer reads it."""

    @property
    def card(self) -> Card:
        """The media's."""
        ...

    async def read(self, path: str, most: int = 1 << 20) -> Extract | None:
        """Caller promises: a path below the media such as hls/master.m3u8 or subtitles/en, and `most` bytes at most. Driver promises: what is stored there, cut off
        behind `most` bytes; None where nothing is, or is withheld. Raises: StorageUnavailable."""
        ...

    async def subtitles(self) -> Sequence[Media]:
        """Driver promises: those that may be read, by their relationship, `subtitles:` and the language."""
        ...


class UnitMade(Protocol):
    """What was made of a unit: its facts, and its files by path."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """The `Made.facts` of it."""
        ...

    def file(self, path: str) -> AbstractAsyncContextManager[int]:
        """Driver promises: a read-only descriptor of a seekable file with the bytes that were published at `path`. Raises: NotFound, StorageUnavailable."""
        ...


@runtime_checkable
class Equipped(Protocol):
    """Power of an action that works by programs or libraries of the machine: `mediacdn doctor` tells of them."""

    async def equipment(self) -> Sequence[Tool]:
        """Driver promises: looks anew, within seconds and without blocking; what is missing is told and not raised. Several actions may tell of the same."""
        ...


@runtime_checkable
class Composer(Protocol):
    """Power of an action: small files that say where others are, such as manifests, written when they are first asked for, of what there is by then."""

    @property
    def composes(self) -> tuple[str, ...]:
        """Driver promises: the paths below a media that it writes, as regular expressions for whole paths."""
        ...

    async def compose(self, path: str, published: Published) -> Composed | None:
        """Caller promises: one of those paths; asks again when something below the media has changed. Driver promises: the same bytes of the same; None leaves the
        path to what is stored there. Raises: MediaError."""
        ...


@runtime_checkable
class Divisible(Protocol):
    """Power of an action whose work on a media can be divided into units, done by as many workers as there are, and joined."""

    async def units(self, source: Source, spec: Mapping[str, Any]) -> Sequence[Unit]:
        """Driver promises: the same units for the same bytes and spec; none where `run` is to do all of it. Raises: as `run`."""
        ...

    async def make(self, source: Source, spec: Mapping[str, Any], unit: Unit, made: Mapping[str, UnitMade], sink: Sink) -> Made:
        """Caller promises: `made` has what the unit comes after, by name. Driver promises: as of `run`, for this unit; its facts are all that `join` needs to know."""
        ...

    async def join(self, source: Source, spec: Mapping[str, Any], made: Mapping[str, UnitMade], sink: Sink, *, whole: bool) -> Made | None:
        """Caller promises: `made` has all units if it is `whole`, else those that there are by now. Driver promises: what `run` would give, of files of units and of
        the sink's; else what can be read already, if anything: whatever is in it stays true of what is given later, but for its manifests. Does not read the source."""
        ...


class Clock(Protocol):
    """Time, so that tests can set it."""

    def now(self) -> datetime:
        """Driver promises: the present in UTC, aware."""
        ...


T = TypeVar("T", Movie, Series, Season, Episode)


class Titles(Protocol):
    """Movies, series, seasons and episodes as rows, without a word on who may: callers ask `Core` about the media and the principal first.

    A media is held by at most one movie or episode, and is an original; numbers are unique within a series or season. All of it is true of what runs at the same time, too.
    """

    async def add(self, kind: type[T], values: Mapping[str, Any]) -> T:
        """Caller promises: the fields of `kind` but for its id, times, and what it has of others. Raises: NotFound, MediaHeld, NumberTaken, Unprocessable."""
        ...

    async def get(self, kind: type[T], id: str) -> T:
        """Raises: NotFound."""
        ...

    async def change(self, kind: type[T], id: str, changes: Mapping[str, Any]) -> T:
        """Driver promises: all of `changes` or nothing. Raises: NotFound, MediaHeld, NumberTaken, Unprocessable."""
        ...

    async def remove(self, kind: type[T], id: str, *, recursive: bool = False) -> None:
        """Driver promises: media are set free, none is deleted. Raises: NotFound; NotEmpty, where there is something below it and `recursive` is not set."""
        ...

    async def page(
        self, kind: type[T], *, below: str | None = None, visible_to: str | None, after: str | None, limit: int
    ) -> tuple[list[T], str | None]:
        """Driver promises: movies and series newest first, seasons and episodes of `below` by number, each with media that are there and visible (`Core.visible_to`);
        and what `after` is for the next page, None at the end. Raises: InvalidParameter."""
        ...


class Core(Protocol):
    """What a plugin's routes may call; everything here applies the same rules as the core's own routes."""

    async def authenticate(self, headers: Mapping[str, str]) -> Principal | None:
        """Driver promises: who the bearer token speaks for, None without one. Raises: InvalidToken, AuthUnavailable."""
        ...

    async def authorize(self, principal: Principal | None, action: str, media_id: str) -> Card:
        """Driver promises: the card, when the caller may do `action` ("read", "write", "admin") to it. Raises: Unauthorized, Forbidden, NotFound, MediaExpired, Quarantined."""
        ...

    async def record(self, media_id: str) -> Mapping[str, Any]:
        """Caller promises: has authorised the reader. Driver promises: the record as the API shows it. Raises: NotFound."""
        ...

    async def ingest(
        self,
        principal: Principal,
        chunks: AsyncIterable[bytes],
        *,
        public: bool = False,
        filename: str | None = None,
        title: str | None = None,
    ) -> Mapping[str, Any]:
        """Driver promises: durable when it returns the record; the same limits and duplicates as POST /v1/media. Raises: MediaError."""
        ...

    def sign(self, path: str, expires: timedelta) -> str:
        """Caller promises: has authorised the caller. Driver promises: the path with a signed query for GET and HEAD."""
        ...

    @property
    def titles(self) -> Titles:
        """Driver promises: the rows of titles."""
        ...

    def needs(self, principal: Principal | None, scope: Scope) -> Principal:
        """Driver promises: the principal, when its token carries `scope`. Raises: Unauthorized, Forbidden."""
        ...

    def visible_to(self, principal: Principal | None) -> str | None:
        """Driver promises: for the queries of listings, None where all is listed, else the owner whose own is listed beside what is public; "" is nobody's."""
        ...

    def url(self, path: str) -> str:
        """Driver promises: the path below the base path, as a caller is told it."""
        ...

    async def link(self, principal: Principal | None, media_id: str, *, prefix: bool = False, expires: timedelta | None = None) -> str:
        """Driver promises: the link that `/v1/media/{id}/download` gives this caller or, with `prefix`, that of `/v1/media/{id}/sign`, where it lasts for `expires` as far
        as the configuration and the caller's own token allow. Raises: what these answer."""
        ...

    async def output(self, media_id: str, relationship: str) -> str | None:
        """Caller promises: has authorised the reader of the source. Driver promises: the newest media of this relationship to it, None where there is none."""
        ...

    async def upload(self, request: Any) -> Mapping[str, Any]:
        """Caller promises: has read nothing of the request's body. Driver promises: what `POST /v1/media` does with such a request, and its record. Raises: MediaError."""
        ...

    def mount(self, method: str, path: str, at: str) -> Any:
        """Caller promises: `path` is a route of the core's own as the API's description has it, `at` has the same parameters. Driver promises: the handler for it at `at`."""
        ...
