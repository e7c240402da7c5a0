"""The driver's table in the configuration."""

from msgspec import Struct


class LocalConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where objects lie and how careful writing is."""

    path: str = ""
    """Folder of the objects; empty is `objects` beneath the data directory, and a relative path is beneath it too."""
    reserve: int | None = None
    """Bytes of the file system that uploads leave free; by default the smaller of 5 % of it and 1 GB."""
    fsync: bool = True
    """False trades durability for speed: an acknowledged object may be lost or torn by a power cut. For tests and scratch storages."""
