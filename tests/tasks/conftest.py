"""A served app with the workshop's recipes, and a worker in the tests' own hands."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.services import workshop
from tests.services.samples import png
from tests.services.served import Served, served
from tests.services.workshop import Bench

LIMITS = "[limits]\nuploads_per_second = 0\n"


@pytest.fixture(scope="session")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which a process finds the workshop."""
    return workshop.install(tmp_path_factory.mktemp("workshop") / "site")


@pytest.fixture(scope="session")
def server(plugin: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("tasks") / "data", workshop.TOML + LIMITS, environ=plugin) as running:
        yield running


@pytest.fixture(scope="session")
def bench(server: Served) -> Bench:
    return Bench(server.data)


@pytest.fixture
def picture(tmp_path: Path) -> bytes:
    """A PNG that no other test uploads."""
    return png(8, 8, str(tmp_path).encode())


@pytest.fixture
def media(server: Served, picture: bytes) -> dict[str, Any]:
    return server.upload(picture)


@pytest.fixture
def task(server: Served, media: dict[str, Any]) -> dict[str, Any]:
    """A task that waits."""
    asked = server.client.post(f"/v1/media/{media['id']}/tasks/small", headers=server.auth())
    assert asked.status_code == 202
    found: dict[str, Any] = asked.json()
    return found
