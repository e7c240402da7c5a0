"""What the API answers with, as values: records, pages of them, signed links and fetched files. Members that a newer server adds are ignored."""

from datetime import datetime
from pathlib import Path
from typing import Any

from msgspec import Struct


class Record(Struct, frozen=True, kw_only=True):
    """One media as the API shows it. Sizes are bytes, times UTC, `digest` the lower-case hexadecimal SHA-256 of the content.

    `duplicate` says that an upload met bytes already held here and got that record; `ignored` names the parameters that were dropped then.
    `revision` is the record's own ETag, for `Client.change(if_match=…)`; `etag` is the content's.
    """

    id: str
    owner: str | None = None
    title: str | None = None
    filename: str | None = None
    public: bool = False
    status: str = "READY"
    error_message: str | None = None
    kind: str | None = None
    media_type: str = "application/octet-stream"
    size: int = 0
    digest: str = ""
    etag: str | None = None
    width: int | None = None
    height: int | None = None
    duration: float | None = None
    frame_rate: float | None = None
    codecs: Any = None
    placeholder: str | None = None
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = {}
    storage: str | None = None
    storage_key: str | None = None
    storage_etag: str | None = None
    source_id: str | None = None
    derivation_key: str | None = None
    relationship: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    expires_at: datetime | None = None
    quarantined: Any = False
    upload_time: Any = None
    urls: dict[str, Any] = {}
    ignored: tuple[str, ...] = ()
    duplicate: bool = False
    revision: str | None = None


class Signed(Struct, frozen=True):
    """A signed link and its end."""

    url: str
    expires_at: datetime


class Fetched(Struct, frozen=True):
    """A finished download: its file, its bytes, its SHA-256, and at which byte an earlier attempt had left it."""

    path: Path
    size: int
    digest: str
    resumed_at: int = 0
