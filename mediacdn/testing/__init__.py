"""Published for plugin authors: one conformance class a seam, fakes, an app factory."""

import pytest

# Before their import, so that a failing assert in them shows its values like one in a test file.
pytest.register_assert_rewrite(
    "mediacdn.testing.broker",
    "mediacdn.testing.bus",
    "mediacdn.testing.cache_policy",
    "mediacdn.testing.counters",
    "mediacdn.testing.inspector",
    "mediacdn.testing.links",
    "mediacdn.testing.parts",
    "mediacdn.testing.presigner",
    "mediacdn.testing.storage",
)

from mediacdn.testing.broker import BrokerConformance  # noqa: E402
from mediacdn.testing.bus import BusConformance, Outage  # noqa: E402
from mediacdn.testing.cache_policy import CachePolicyConformance  # noqa: E402
from mediacdn.testing.counters import CountersConformance  # noqa: E402
from mediacdn.testing.folder import FolderDoor, FolderStorage  # noqa: E402
from mediacdn.testing.inspector import InspectorConformance  # noqa: E402
from mediacdn.testing.kit import kit, opened  # noqa: E402
from mediacdn.testing.links import LinksConformance  # noqa: E402
from mediacdn.testing.memory import MemoryStorage  # noqa: E402
from mediacdn.testing.memory_broker import MemoryBroker  # noqa: E402
from mediacdn.testing.memory_bus import MemoryBus  # noqa: E402
from mediacdn.testing.memory_parts import MemoryParts  # noqa: E402
from mediacdn.testing.parts import PartsConformance  # noqa: E402
from mediacdn.testing.presigner import PresignerConformance  # noqa: E402
from mediacdn.testing.storage import Reopen, StorageConformance  # noqa: E402

__all__ = [
    "BrokerConformance",
    "BusConformance",
    "CachePolicyConformance",
    "CountersConformance",
    "FolderDoor",
    "FolderStorage",
    "InspectorConformance",
    "LinksConformance",
    "MemoryBroker",
    "MemoryBus",
    "MemoryParts",
    "MemoryStorage",
    "Outage",
    "PartsConformance",
    "PresignerConformance",
    "Reopen",
    "StorageConformance",
    "kit",
    "opened",
]
