"""Published for plugin authors: one conformance class a seam, fakes, an app factory."""

import pytest

# Before their import, so that a failing assert in them shows its values like one in a test file.
pytest.register_assert_rewrite(
    "mediacdn.testing.bus", "mediacdn.testing.cache_policy", "mediacdn.testing.inspector", "mediacdn.testing.storage"
)

from mediacdn.testing.bus import BusConformance, Outage  # noqa: E402
from mediacdn.testing.cache_policy import CachePolicyConformance  # noqa: E402
from mediacdn.testing.folder import FolderDoor, FolderStorage  # noqa: E402
from mediacdn.testing.inspector import InspectorConformance  # noqa: E402
from mediacdn.testing.kit import kit, opened  # noqa: E402
from mediacdn.testing.memory import MemoryStorage  # noqa: E402
from mediacdn.testing.memory_bus import MemoryBus  # noqa: E402
from mediacdn.testing.storage import Reopen, StorageConformance  # noqa: E402

__all__ = [
    "BusConformance",
    "CachePolicyConformance",
    "FolderDoor",
    "FolderStorage",
    "InspectorConformance",
    "MemoryBus",
    "MemoryStorage",
    "Outage",
    "Reopen",
    "StorageConformance",
    "kit",
    "opened",
]
