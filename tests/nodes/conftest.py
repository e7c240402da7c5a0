"""Two API nodes, two workers and what they share, for every test here."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.nodes import Nodes, many_nodes, s3_storage
from tests.services.postgres import PostgresServer
from tests.services.samples import png
from tests.services.swift import SwiftServer
from tests.services.valkey import ValkeyServer

ELSEWHERE = {
    "test_a_duplicate_tells_no_more_than_the_caller_may_read": "signs with a key of the data directory",
    "test_metrics_are_not_for_a_name_that_points_here": "metrics are open here",
    "test_everything": "looks for a hit of the process that it met before",
    "test_what_the_tiers_hold": "looks into one process",
    "test_only_the_canonical_id_matches[%00]": "nginx refuses it",
    "test_head_equals_get_without_the_body": "looks for a hit of the process that it met before",
    "test_if_match_guards": "no worker may touch the record meanwhile",
    "test_reading_a_record": "no worker may touch the record meanwhile",
    "test_quarantine": "counts on there being no derivatives",
    "test_quarantine_of_one": "counts on there being no derivatives",
    "test_a_retry_answers_the_same": "no worker may touch the record meanwhile",
    "test_many_at_once_are_one": "looks into the storage",
    "test_a_public_and_a_private_twin_share_bytes_but_no_id": "looks into the storage",
    "test_broken_forms": "are answered before they are read, and nginx then closes the connection",
    "test_the_limit_of_the_type_holds": "takes its time, and nothing in it is of many nodes",
    "test_a_link_opens_without_a_token": "counts seconds, which pass here",
    "test_expired_is_410": "takes its time, and nothing in it is of many nodes",
    "test_expiry_is_gone_and_frees_the_digest": "takes its time, and nothing in it is of many nodes",
    "test_a_client_that_leaves_keeps_nothing": "looks into the storage",
    "test_a_client_that_leaves_is_no_failure": "reads the log",
}
"""Journeys that are one server's own: the test, and why."""

SWEEP = 4.0
BURST = 40_000_000


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is one server's own: by name, and what starts servers for itself."""
    here = [each for each in items if each.path.parent == Path(__file__).parent]
    out = [
        each
        for each in here
        if {each.name, getattr(each, "originalname", "")} & ELSEWHERE.keys()
        or not {"server", "nodes"} & set(getattr(each, "fixturenames", ()))
    ]
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [each for each in items if each not in out]


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SwiftServer, str]]:
    """The storage of all nodes, and its table in their configuration."""
    with s3_storage(tmp_path_factory.mktemp("nodes") / "s3") as found:
        yield found


@pytest.fixture(scope="session")
def nodes(
    postgres_server: PostgresServer, postgres_template: str, valkey_server: ValkeyServer, s3: tuple[SwiftServer, str]
) -> Iterator[Nodes]:
    """Seldom sweeps and looks, so that what is quick is the bus' and the broker's doing."""
    database = postgres_server.create_database(postgres_template)
    folder = Path(tempfile.mkdtemp(prefix="mediacdn-nodes-"))
    try:
        with many_nodes(
            folder,
            postgres_server.url(database),
            valkey_server.url,
            storage=s3[1],
            plugins=("s3",),
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
    """The whole as if it were one server, for the journeys; those of this folder that play faults see the nodes."""
    nodes.settle = True
    return nodes


@pytest.fixture
def picture(tmp_path: Path) -> bytes:
    """A PNG that no other test uploads."""
    return png(8, 8, tmp_path.name.encode() + str(tmp_path).encode())
