"""Two API nodes, two workers and what they share, for every test here."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.nodes import Nodes, many_nodes
from tests.services.postgres import PostgresServer
from tests.services.samples import png
from tests.services.valkey import ValkeyServer

SWEEP = 4.0
BURST = 40_000_000


@pytest.fixture(scope="session")
def nodes(postgres_server: PostgresServer, postgres_template: str, valkey_server: ValkeyServer) -> Iterator[Nodes]:
    """Seldom sweeps and looks, so that what is quick is the bus' and the broker's doing."""
    database = postgres_server.create_database(postgres_template)
    folder = Path(tempfile.mkdtemp(prefix="mediacdn-nodes-"))
    try:
        with many_nodes(
            folder,
            postgres_server.url(database),
            valkey_server.url,
            sweep_every=SWEEP,
            poll_beside=SWEEP,
            rate=1_000_000,
            burst=BURST,
            environ={"MEDIACDN_DATABASE__POOL_SIZE": "4"},
        ) as running:
            yield running
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def server(nodes: Nodes) -> Nodes:
    """The whole as if it were one server, for the journeys."""
    return nodes


@pytest.fixture
def picture(tmp_path: Path) -> bytes:
    """A PNG that no other test uploads."""
    return png(8, 8, tmp_path.name.encode() + str(tmp_path).encode())
