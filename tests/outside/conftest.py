"""One server for what the world's clients do to it, with room for files of some size."""

from collections.abc import Iterator

import pytest

from tests.services.served import Served, served


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    toml = """
[limits]
max_upload_size = 100_000_000
uploads_per_second = 0
[edge]
private_max_age = 1
"""
    with served(tmp_path_factory.mktemp("outside"), toml) as running:
        yield running
