"""What the API shows of a media, as Structs that are both the JSON and its OpenAPI schema."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from mediacdn.http.digests import etag
from mediacdn.model import Media, State, Status


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
    facts: dict[str, Any]
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
    quarantine_reason: str | UnsetType | None = UNSET
    """Only in the list of what is withheld."""
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

    def __init__(self, public_url: str | None, base_path: str, has_thumb: Callable[[str], bool] = lambda media_type: False) -> None:
        self._prefix = (public_url or "").rstrip("/") + base_path
        self._has_thumb = has_thumb

    def url(self, path: str) -> str:
        return self._prefix + path

    def record(self, media: Media, *, storage: bool, reason: bool = False, ignored: tuple[str, ...] | UnsetType = UNSET) -> Record:
        """The record; without `storage`, where the bytes lie is left out, and without `reason`, why it is withheld."""
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
            facts=media.facts,
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
            quarantine_reason=media.quarantine_reason if reason else UNSET,
            upload_time=media.created_at,
            urls=Urls(
                original,
                f"{original}/thumb" if self._has_thumb(media.media_type) else None,
                None,
                f"{original}/{media.manifest}" if media.manifest else None,
                f"{original}/download",
            ),
            ignored=ignored,
        )
