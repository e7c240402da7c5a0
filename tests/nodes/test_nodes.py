"""What is true of many nodes as one: news travel by the bus and, when it lost them, by the sweep; keys and rates are counted once; jobs are rung for; outages cost no answer."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from typing import Any

import httpx
import pytest

from tests.nodes.conftest import BURST, SWEEP
from tests.services.nodes import Node, Nodes
from tests.services.samples import binary, png, text
from tests.services.valkey import ValkeyServer

SOON = 1.0
HEALED = 5.0


@pytest.fixture(autouse=True)
def unsettled(nodes: Nodes) -> Iterator[None]:
    before, nodes.settle = nodes.settle, False
    yield
    nodes.settle = before


def within(seconds: float, holds: Callable[[], bool]) -> float:
    """Wait until it holds; tell how long it took."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < seconds, f"not within {seconds} s"
        time.sleep(0.01)
    return time.monotonic() - began


def read(node: Node, media: str) -> tuple[int, bytes]:
    """Read over a connection of its own, so perhaps of another process than before."""
    with closing(HTTPConnection("127.0.0.1", node.port, timeout=10)) as connection:
        connection.request("GET", f"/v1/media/{media}")
        answer = connection.getresponse()
        return answer.status, answer.read()


def known_everywhere(nodes: Nodes, media: str, body: bytes) -> None:
    """Read it of every process often enough that each has its card and copy."""
    for node in nodes.nodes:
        for _ in range(12):
            assert read(node, media) == (200, body)


def withheld_at(node: Node, media: str) -> bool:
    """Whether each process that answers here withholds it, without a byte of it."""
    return all(status == 451 and b'"quarantined"' in body for status, body in (read(node, media) for _ in range(6)))


def test_quarantine_on_one_node_is_true_on_the_other_within_a_second(nodes: Nodes) -> None:
    one, other = nodes.nodes
    for number in range(3):
        body = binary(1000 + number)
        media = nodes.upload(body, public="true")["id"]
        known_everywhere(nodes, media, body)
        answer = one.client.post(f"/v1/media/{media}/quarantine", json={"reason": "r"}, headers=nodes.auth("root", "admin"))
        assert answer.status_code == 200
        assert withheld_at(one, media), "here at once"
        assert within(SOON, lambda media=media: withheld_at(other, media)) < SOON < SWEEP / 2


def test_what_the_bus_lost_the_sweep_finds(nodes: Nodes, valkey_server: ValkeyServer) -> None:
    one, other = nodes.nodes
    body = binary(2000)
    media = nodes.upload(body, public="true")["id"]
    known_everywhere(nodes, media, body)
    valkey_server.kill()
    try:
        began = time.monotonic()
        answer = one.client.post(f"/v1/media/{media}/quarantine", json={"reason": "r"}, headers=nodes.auth("root", "admin"))
        assert answer.status_code == 200
        assert time.monotonic() - began < 1, "nobody waits for the bus"
        within(HEALED, lambda: withheld_at(other, media))
    finally:
        valkey_server.start()


def test_without_redis_everything_works(nodes: Nodes, valkey_server: ValkeyServer) -> None:
    """Uploads, reads and thumbnails go on; readiness says degraded and stays 200; afterwards all is as before, without a restart."""
    headers = nodes.auth()
    valkey_server.kill()
    try:
        media = []
        for number in range(8):
            began = time.monotonic()
            media.append(nodes.upload(png(16, 16, f"away {number}".encode()))["id"])
            assert time.monotonic() - began < 2
            assert nodes.client.get(f"/v1/media/{media[-1]}", headers=headers).status_code == 200
        for node in nodes.nodes:
            answer = node.client.get("/readyz")
            assert (answer.status_code, answer.json()["status"]) == (200, "degraded"), answer.text
            checks = answer.json()["checks"]
            assert {checks[each] for each in ("broker", "bus", "counters")} == {"unavailable"}
            assert {checks[each] for each in ("catalog", "storage.default")} == {"ok"}
        within(10, lambda: all(derived(nodes, each) for each in media))
    finally:
        valkey_server.start()
    within(10, lambda: all(node.client.get("/readyz").json()["status"] == "ready" for node in nodes.nodes))
    began = time.monotonic()
    one = nodes.upload(png(16, 16, b"back"))["id"]
    within(10, lambda: bool(derived(nodes, one)))
    assert time.monotonic() - began < 10


def derived(nodes: Nodes, media: str) -> list[Any]:
    answer = nodes.client.get(f"/v1/media/{media}/derivatives", headers=nodes.auth())
    return list(answer.json()["items"]) if answer.status_code == 200 else []


def test_jobs_are_rung_for(nodes: Nodes) -> None:
    """A look at the table comes every SWEEP seconds only."""
    waits = []
    for number in range(5):
        media = nodes.upload(png(24, 24, f"rung {number}".encode()))["id"]
        waits.append(within(10, lambda media=media: bool(derived(nodes, media))))
    assert sorted(waits)[2] < SWEEP / 4


def test_an_idempotency_key_is_one_key_on_every_node(nodes: Nodes) -> None:
    body = text(400, b"idempotent")
    headers = {**nodes.auth("keyed"), "Idempotency-Key": "of both nodes"}
    first = nodes.nodes[0].client.post("/v1/media", content=body, headers=headers)
    again = nodes.nodes[1].client.post("/v1/media", content=body, headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json()["id"] == again.json()["id"]
    other = nodes.nodes[1].client.post("/v1/media", content=body + b"!", headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")


def test_a_key_at_both_nodes_at_once_is_one_media(nodes: Nodes) -> None:
    headers = {**nodes.auth("racer"), "Idempotency-Key": "a race"}
    body = text(500, b"race")
    start = threading.Barrier(8)

    def post(number: int) -> httpx.Response:
        with httpx.Client(base_url=nodes.nodes[number % 2].url, trust_env=False, timeout=30) as own:
            start.wait()
            return own.post("/v1/media", content=body, headers=headers)

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(post, range(8)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} <= {"idempotency_in_flight"}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 201}) == 1


def test_rates_are_counted_once_for_all(nodes: Nodes) -> None:
    """Each of four processes alone would let four times as much through."""
    body, headers = bytes(8_000_000), nodes.auth("greedy")
    allowed = 0
    for number in range(12):
        answer = nodes.nodes[number % 2].client.post("/v1/media", content=body, headers=headers)
        if answer.status_code == 429:
            assert 0 < int(answer.headers["Retry-After"]) <= 8
            break
        assert answer.status_code in (200, 201)
        allowed += len(body)
    assert BURST - len(body) <= allowed <= BURST + len(body)


def test_a_node_that_is_killed_is_answered_for_by_the_other(nodes: Nodes) -> None:
    body = binary(5000)
    media = nodes.upload(body, public="true")["id"]
    node = nodes.nodes[0]
    node.kill()
    try:
        for _ in range(20):
            assert nodes.client.get(f"/v1/media/{media}").content == body
        nodes.upload(binary(5001))
    finally:
        node.start()
    within(10, lambda: node.client.get("/readyz").status_code == 200)
    assert node.client.get(f"/v1/media/{media}").content == body
