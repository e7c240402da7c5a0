"""A server for the journeys that need nothing special, and media that the tests make themselves."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.samples import png
from tests.services.served import Served, served


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    toml = """
[limits]
uploads_per_second = 1000
uploads_burst = 10000
"""
    with served(tmp_path_factory.mktemp("served"), toml) as running:
        yield running


@pytest.fixture
def picture(tmp_path: Path) -> bytes:
    """A PNG that no other test uploads."""
    return png(8, 8, tmp_path.name.encode() + str(tmp_path).encode())
