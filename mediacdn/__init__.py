"""The public surface: everything that a plugin may import. What is not here may change without notice."""

from typing import TYPE_CHECKING, Any

from mediacdn.errors import (
    AuthUnavailable,
    BadRequest,
    ConfigError,
    Conflict,
    ContentRejected,
    Forbidden,
    InspectionUnavailable,
    InvalidArgument,
    InvalidParameter,
    InvalidToken,
    MediaError,
    NotFound,
    ObjectCorrupt,
    OverLimits,
    Overloaded,
    StorageFull,
    StorageUnavailable,
    TooLarge,
    Unauthorized,
    Unavailable,
    Undecodable,
    Unprocessable,
)
from mediacdn.fetch import Fetched, FetchRules, fetch
from mediacdn.hookspecs import Branch, Driver, Kit, hookimpl
from mediacdn.interfaces import (
    Action,
    Adopts,
    Authenticator,
    Authorizer,
    Bus,
    CachePolicy,
    Clock,
    Core,
    Counters,
    Inspector,
    Links,
    LocalPaths,
    MultipartUpload,
    Presigner,
    Recall,
    Room,
    Sink,
    Source,
    Storage,
    TokenMinter,
)
from mediacdn.model import (
    Admission,
    Argument,
    ByteRange,
    Card,
    Change,
    Event,
    Incoming,
    Made,
    Media,
    ObjectInfo,
    Part,
    PartsBegun,
    Plan,
    Principal,
    Recipe,
    Scope,
    State,
    Status,
    Step,
    Verdict,
)

if TYPE_CHECKING:
    from mediacdn.keyring import development_key
    from mediacdn.sandbox.pool import Sandbox, open_sandbox
else:

    def __getattr__(name: str) -> Any:
        """Import what most plugins never ask for when it is asked for (PEP 562)."""
        if name == "development_key":
            from mediacdn.keyring import development_key

            return development_key
        if name in ("Sandbox", "open_sandbox"):
            from mediacdn.sandbox import pool

            return getattr(pool, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "Action",
    "Admission",
    "Adopts",
    "Argument",
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
    "ContentRejected",
    "Core",
    "Counters",
    "Driver",
    "Event",
    "FetchRules",
    "Fetched",
    "Forbidden",
    "Incoming",
    "InspectionUnavailable",
    "Inspector",
    "InvalidArgument",
    "InvalidParameter",
    "InvalidToken",
    "Kit",
    "Links",
    "LocalPaths",
    "Made",
    "Media",
    "MediaError",
    "MultipartUpload",
    "NotFound",
    "ObjectCorrupt",
    "ObjectInfo",
    "OverLimits",
    "Overloaded",
    "Part",
    "PartsBegun",
    "Plan",
    "Presigner",
    "Principal",
    "Recall",
    "Recipe",
    "Room",
    "Sandbox",
    "Scope",
    "Sink",
    "Source",
    "State",
    "Status",
    "Step",
    "Storage",
    "StorageFull",
    "StorageUnavailable",
    "TokenMinter",
    "TooLarge",
    "Unauthorized",
    "Unavailable",
    "Undecodable",
    "Unprocessable",
    "Verdict",
    "development_key",
    "fetch",
    "hookimpl",
    "open_sandbox",
]
