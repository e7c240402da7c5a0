"""The public surface: everything that a plugin may import. What is not here may change without notice."""

from typing import TYPE_CHECKING, Any

from mediacdn.errors import (
    AuthUnavailable,
    BadRequest,
    ConfigError,
    Conflict,
    Forbidden,
    InvalidParameter,
    InvalidToken,
    MediaError,
    NotFound,
    ObjectCorrupt,
    StorageFull,
    StorageUnavailable,
    TooLarge,
    Unauthorized,
    Unavailable,
    Unprocessable,
)
from mediacdn.fetch import Fetched, FetchRules, fetch
from mediacdn.hookspecs import Branch, Driver, Kit, hookimpl
from mediacdn.interfaces import (
    Authenticator,
    Authorizer,
    Bus,
    CachePolicy,
    Clock,
    Core,
    Counters,
    LocalPaths,
    Recall,
    Room,
    Storage,
    TokenMinter,
)
from mediacdn.model import Admission, ByteRange, Card, Change, Event, Media, ObjectInfo, Principal, Scope, State, Status

if TYPE_CHECKING:
    from mediacdn.keyring import development_key
else:

    def __getattr__(name: str) -> Any:
        """Import what most plugins never ask for when it is asked for (PEP 562)."""
        if name == "development_key":
            from mediacdn.keyring import development_key

            return development_key
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "Admission",
    "AuthUnavailable",
    "Authenticator",
    "Authorizer",
    "BadRequest",
    "Branch",
    "Bus",
    "ByteRange",
    "CachePolicy",
    "Card",
    "Change",
    "Clock",
    "ConfigError",
    "Conflict",
    "Core",
    "Counters",
    "Driver",
    "Event",
    "FetchRules",
    "Fetched",
    "Forbidden",
    "InvalidParameter",
    "InvalidToken",
    "Kit",
    "LocalPaths",
    "Media",
    "MediaError",
    "NotFound",
    "ObjectCorrupt",
    "ObjectInfo",
    "Principal",
    "Recall",
    "Room",
    "Scope",
    "State",
    "Status",
    "Storage",
    "StorageFull",
    "StorageUnavailable",
    "TokenMinter",
    "TooLarge",
    "Unauthorized",
    "Unavailable",
    "Unprocessable",
    "development_key",
    "fetch",
    "hookimpl",
]
