"""Uploads that resume, over many nodes and S3: begun at one and gone on with at the other, while nodes die, with nothing of them on any node's own disk."""

import asyncio
import hashlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from mediacdn.client import Client, Record
from tests.services.nodes import Node, Nodes
from tests.services.samples import binary
from tests.services.swift import SwiftServer

TUS = {"Tus-Resumable": "1.0.0"}
OFFSET = {**TUS, "Content-Type": "application/offset+octet-stream"}
SIZE = 9_500_000


@pytest.fixture(autouse=True)
def nothing_of_them_on_a_disk(nodes: Nodes) -> Iterator[None]:
    before, nodes.settle = nodes.settle, False
    yield
    nodes.settle = before
    assert not [file for each in (*nodes.nodes, *nodes.workers) for file in (each.folder / "uploads").glob("*")]


def film() -> bytes:
    """More than a part, and no more than any type may have."""
    return b"\x00" + os.urandom(SIZE)


def patch(node: Node, path: str, offset: int, body: bytes) -> httpx.Response:
    return node.client.patch(path, content=body, headers={**OFFSET, "Upload-Offset": str(offset)})


def test_each_request_at_another_node(nodes: Nodes) -> None:
    body = film()
    one, other = nodes.nodes
    path = one.client.post("/v1/uploads", headers={**nodes.auth("turns"), **TUS, "Upload-Length": str(len(body))}).headers["location"]
    at = 0
    for number, stop in enumerate((0, 100, 6_000_000, 6_000_001, len(body))):
        node, reader = (one, other) if number % 2 else (other, one)
        answer = patch(node, path, at, body[at:stop])
        assert (answer.status_code, answer.headers["upload-offset"]) == (204, str(stop)), answer.text
        assert reader.client.head(path, headers=TUS).headers["upload-offset"] == str(stop)
        at = stop
    media = answer.headers["upload-media-id"]
    for node in nodes.nodes:
        found = node.client.get(f"/v1/media/{media}", headers=nodes.auth("turns")).content
        assert hashlib.sha256(found).digest() == hashlib.sha256(body).digest()


def test_two_writers_at_two_nodes(nodes: Nodes) -> None:
    """Whoever gets through, the media is one writer's: the other's parts are nobody's."""
    bodies = [film() for _ in nodes.nodes]
    path = nodes.client.post("/v1/uploads", headers={**nodes.auth("racers"), **TUS, "Upload-Length": str(len(bodies[0]))}).headers[
        "location"
    ]
    start = threading.Barrier(len(bodies))

    def send(number: int) -> int:
        start.wait()
        try:
            return patch(nodes.nodes[number], path, 0, bodies[number]).status_code
        except httpx.TransportError:
            return 0

    with ThreadPoolExecutor() as threads:
        codes = list(threads.map(send, range(len(bodies))))
    assert codes.count(204) == 1, codes
    media = nodes.client.head(path, headers=TUS).headers["upload-media-id"]
    found = nodes.client.get(f"/v1/media/{media}", headers=nodes.auth("racers")).content
    assert hashlib.sha256(found).digest() == hashlib.sha256(bodies[codes.index(204)]).digest()


def test_a_client_whose_node_dies(nodes: Nodes, tmp_path: Path) -> None:
    """Its balancer brings it to the other, which goes on from what is in the bucket."""
    file = tmp_path / "film.bin"
    file.write_bytes(film())
    reached = threading.Event()

    async def upload() -> Record:
        async with Client(nodes.url, nodes.token("survivor"), large=1_000_000) as media:
            return await media.upload(file, progress=watch)

    def watch(done: int, total: int | None) -> None:
        if done > SIZE // 2 and not reached.is_set():
            reached.set()
            for each in nodes.nodes[:1]:
                each.kill()

    try:
        record = asyncio.run(upload())
    finally:
        if reached.is_set():
            nodes.nodes[0].start()
    assert reached.is_set()
    assert record.digest == hashlib.sha256(file.read_bytes()).hexdigest()


def test_the_storage_is_away(nodes: Nodes, s3: tuple[SwiftServer, str]) -> None:
    """Copies are served, writes are refused with a time to come back, and an upload that resumes goes on where it was, all without a restart."""
    body, upload = binary(6000), film()
    media = nodes.upload(body, public="true")["id"]
    for node in nodes.nodes:
        for _ in range(12):
            with httpx.Client(base_url=node.url, trust_env=False) as own:
                assert own.get(f"/v1/media/{media}").content == body
    headers = {**nodes.auth("patient"), **TUS, "Upload-Length": str(len(upload))}
    path = nodes.client.post("/v1/uploads", headers=headers).headers["location"]
    assert patch(nodes.nodes[0], path, 0, upload[:6_000_000]).status_code == 204
    s3[0].kill()
    try:
        assert nodes.client.get(f"/v1/media/{media}").content == body
        answer = nodes.client.post("/v1/media", content=binary(6001), headers=nodes.auth("patient"))
        assert (answer.status_code, answer.headers["retry-after"].isdigit()) == (503, True)
        assert answer.elapsed.total_seconds() < 3.5
        assert nodes.nodes[1].client.head(path, headers=TUS).headers["upload-offset"] == "6000000"
        assert patch(nodes.nodes[1], path, 6_000_000, upload[6_000_000:]).status_code == 503
    finally:
        s3[0].start()
    offset = int(nodes.client.head(path, headers=TUS).headers["upload-offset"])
    answer = patch(nodes.nodes[1], path, offset, upload[offset:])
    assert answer.status_code == 204, answer.text
    found = nodes.client.get(f"/v1/media/{answer.headers['upload-media-id']}", headers=nodes.auth("patient")).content
    assert hashlib.sha256(found).digest() == hashlib.sha256(upload).digest()
