"""The terms on which media are taken: what an uploader declares, how much and how often, of which types and sizes, for how long, and in which storage. Nothing is kept here."""

from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct

from mediacdn.config import Limits
from mediacdn.errors import TooLarge, TooManyRequests, TypeMismatch, TypeNotAllowed
from mediacdn.http.media_types import matches, most_specific, normalise
from mediacdn.interfaces import Counters
from mediacdn.model import Principal
from mediacdn.sniff import HEAD, contradicts, refined, sniff
from mediacdn.storage.placement import Routing, Subject


class Intake(Struct, frozen=True, kw_only=True):
    """What an uploader declares. `sha256` is lower-case hexadecimal; `size` the declared length of the media, where known."""

    public: bool = False
    title: str | None = None
    filename: str | None = None
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = {}
    expires_at: datetime | None = None
    media_type: str | None = None
    sha256: str | None = None
    size: int | None = None


class Terms:
    """The terms of a configuration. `routing` chooses the storages, `quota` is the bytes that an owner may hold, 0 for any."""

    def __init__(self, limits: Limits, routing: Routing, counters: Counters, default_lifetime: int = 0) -> None:
        self._limits = limits
        self._counters = counters
        self._default_lifetime = default_lifetime
        self.routing = routing
        self.quota = limits.quota_per_owner
        self.largest = limits.largest
        """The size in bytes above which no type is accepted."""

    async def admit(self, principal: Principal, size: int | None) -> None:
        """Refuse at once what need not be read: too many requests, or a declared size over the largest limit. Raises: TooManyRequests, TooLarge."""
        if size is not None and size > self.largest:
            raise TooLarge(f"At most {self.largest} bytes are accepted", max_upload_size=self.largest)
        limits = self._limits
        if limits.uploads_per_second > 0:
            wait = await self._counters.take(f"uploads:{principal.id}", 1, limits.uploads_per_second, limits.uploads_burst)
            if wait:
                raise _wait(wait, "uploads")
        if size:
            await self.take_bytes(principal, size)

    async def take_bytes(self, principal: Principal, size: int) -> None:
        """Take bytes from the caller's rate. Raises: TooManyRequests."""
        rate = self._limits.upload_bytes_per_second
        if rate > 0:
            burst = self._limits.upload_bytes_burst or rate * 10
            wait = await self._counters.take(f"bytes:{principal.id}", size, rate, burst)
            if wait:
                raise _wait(wait, "uploaded bytes")

    def promise(self, intake: Intake, size: int) -> None:
        """Refuse what could only be refused, going by what is declared alone. Raises: TooLarge, TypeNotAllowed."""
        limit = self.largest if intake.media_type is None else self._check_type(intake, intake.media_type)
        if size > limit:
            raise TooLarge(f"At most {limit} bytes are accepted", max_upload_size=limit)

    def end_of(self, intake: Intake, now: datetime) -> datetime | None:
        """When a media with these parameters expires."""
        if intake.expires_at is None and self._default_lifetime:
            return now + timedelta(seconds=self._default_lifetime)
        return intake.expires_at

    def judge(self, principal: Principal, intake: Intake, head: bytes) -> tuple[str, int, str]:
        """Tell from an upload's first bytes its type, the limit of its size, and the storage in which it belongs. Raises: TypeMismatch, TypeNotAllowed, TooLarge."""
        media_type = refined(sniff(head[:HEAD]), intake.media_type, intake.filename)
        limit = self._check_type(intake, media_type)
        if intake.size is not None and intake.size > limit:
            raise TooLarge(f"At most {limit} bytes of {media_type} are accepted", max_upload_size=limit)
        return media_type, limit, self.place(principal, intake, media_type)

    def guess(self, principal: Principal, intake: Intake, head: bytes) -> tuple[str, str]:
        """As `judge`, of bytes that are too few to tell, or are not an upload's first: a type and a storage to begin with. Refuses nothing."""
        media_type = refined(sniff(head[:HEAD]), intake.media_type, intake.filename)
        return media_type, self.place(principal, intake, media_type)

    def place(self, principal: Principal, intake: Intake, media_type: str, size: int | None = None) -> str:
        """The storage in which an upload of this type belongs; `size` is by default the declared one."""
        size = intake.size if size is None else size
        upload = Subject(media_type=media_type, size=size, tags=intake.tags, owner=principal.id, public=intake.public)
        return self.routing.place(upload).storage

    def _check_type(self, declared: Intake, found: str) -> int:
        """The size limit of this type. Raises: TypeMismatch, TypeNotAllowed."""
        limits = self._limits
        if declared.media_type is not None and contradicts(declared.media_type, found):
            raise TypeMismatch(f"Declared as {normalise(declared.media_type)}, but the bytes are {found}")
        if any(matches(pattern, found) for pattern in limits.deny_types) or not any(matches(p, found) for p in limits.allow_types):
            raise TypeNotAllowed(f"Media of type {found} are not accepted here")
        by_type = most_specific(limits.by_type, found)
        return limits.max_upload_size if by_type is None else by_type


def _wait(seconds: float, of: str) -> TooManyRequests:
    return TooManyRequests(f"Too many {of}; try again later", headers={"Retry-After": str(max(1, int(seconds + 0.999)))})
