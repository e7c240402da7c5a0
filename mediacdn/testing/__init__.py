"""Published for plugin authors: one conformance class a seam, fakes, an app factory."""

import pytest

# Before their import, so that a failing assert in them shows its values like one in a test file.
pytest.register_assert_rewrite(
    "mediacdn.testing.bus",
    "mediacdn.testing.cache_policy",
    "mediacdn.testing.inspector",
    "mediacdn.testing.links",
    "mediacdn.testing.parts",
    "mediacdn.testing.presigner",
    "mediacdn.testing.storage",
)

from mediacdn.testing.bus import BusConformance, Outage  # noqa: E402
from mediacdn.testing.cache_policy import CachePolicyConformance  # noqa: E402
from mediacdn.testing.inspector import InspectorConformance  # noqa: E402
from mediacdn.testing.kit import kit, opened  # noqa: E402
from mediacdn.testing.links import LinksConformance  # noqa: E402
from mediacdn.testing.memory import MemoryStorage  # noqa: E402
from mediacdn.testing.memory_bus import MemoryBus  # noqa: E402
from mediacdn.testing.memory_parts import MemoryParts  # noqa: E402
from mediacdn.testing.parts import PartsConformance  # noqa: E402
from mediacdn.testing.presigner import PresignerConformance  # noqa: E402
from mediacdn.testing.storage import Reopen, StorageConformance  # noqa: E402

__all__ = [
    "BusConformance",
    "CachePolicyConformance",
    "InspectorConformance",
    "LinksConformance",
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
