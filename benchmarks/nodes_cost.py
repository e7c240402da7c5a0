"""Processor time a request of two API nodes against one of as many processes, hot reads and a mix of writes: what is shared must not cost more when there are more.

The number of processes is the same on both sides: more of them on the same cores and connections find less to do each time they are woken, whoever's they are.
"""

import random
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import wrk
from benchmarks.cores import Meter
from benchmarks.machine import progress
from benchmarks.nodes_load import Client, warm
from benchmarks.nodes_world import World
from tests.services import samples
from tests.services.nodes import Node

HOT = 50
CONNECTIONS = 16
WRITERS = 6


def cost(world: World, *, rounds: int, seconds: float) -> dict[str, Any]:
    """Microseconds of processor time a request, of the nodes and of PostgreSQL and Valkey, one node and two in turns; and the ratio of the medians."""
    alone = world.nodes.another("alone", sum(each.processes for each in world.nodes.nodes))
    alone.start()
    try:
        return _compared(world, alone, rounds, seconds)
    finally:
        alone.stop()


def _compared(world: World, alone: Node, rounds: int, seconds: float) -> dict[str, Any]:
    bodies = [samples.binary(10_000, f"cost {each}".encode()) for each in range(HOT)]
    paths = {f"/v1/media/{world.nodes.upload(body, public='true')['id']}": body for body in bodies}
    warm([alone, *world.nodes.nodes], paths)
    hot = list(paths)
    found: dict[str, dict[str, list[float]]] = {}
    for number in range(rounds):
        for mix in ("hot", "write"):
            for nodes in (1, 2) if number % 2 == 0 else (2, 1):
                own, shared = _measured(world, mix, [alone] if nodes == 1 else world.nodes.nodes, hot, seconds, f"{number} {nodes}")
                for name, value in ((f"{nodes} own", own), (f"{nodes} shared", shared)):
                    found.setdefault(mix, {}).setdefault(name, []).append(value)
                progress(f"{mix}, {nodes} node(s): {own:.0f} us a request, and {shared:.0f} us of what is shared")
    outcome: dict[str, Any] = {}
    for mix, values in found.items():
        middle = {name: round(statistics.median(each), 1) for name, each in values.items()}
        total = {nodes: middle[f"{nodes} own"] + middle[f"{nodes} shared"] for nodes in (1, 2)}
        outcome[mix] = {**middle, "ratio": round(middle["2 own"] / middle["1 own"], 3), "ratio with shared": round(total[2] / total[1], 3)}
    return outcome


def _measured(world: World, mix: str, nodes: list[Node], hot: list[str], seconds: float, seed: str) -> tuple[float, float]:
    run = _hot if mix == "hot" else _write
    run(world, nodes, hot, 1.0, f"{seed} warm")
    own, shared = Meter([each.pid for each in nodes]), Meter([world.valkey.pid, world.postgres.pid])
    requests = run(world, nodes, hot, seconds, seed)
    return own.used() / requests * 1e6, shared.used() / requests * 1e6


def _hot(world: World, nodes: list[Node], hot: list[str], seconds: float, seed: str) -> int:
    with TemporaryDirectory(prefix="mediacdn-bench-") as folder, ThreadPoolExecutor() as threads:
        places = []
        for number, _ in enumerate(nodes):
            (place := Path(folder) / str(number)).mkdir()
            places.append(place)
        running = [
            threads.submit(wrk.run, node.url, hot, seconds, CONNECTIONS // len(nodes), place)
            for node, place in zip(nodes, places, strict=True)
        ]
        return sum(each.result().requests for each in running)


def _write(world: World, nodes: list[Node], hot: list[str], seconds: float, seed: str) -> int:
    """A new media, its record twice, a change of its title."""
    counts = [0] * WRITERS
    ending = threading.Event()
    headers = world.nodes.auth("writer")

    def write(number: int) -> None:
        client = Client(nodes[number % len(nodes)].port)
        while not ending.is_set():
            status, _, text = client.ask("POST", "/v1/media", samples.binary(4000, f"{seed} {number} {counts[number]}".encode()), headers)
            assert status == 201, text
            media = text.partition(b'"id":"')[2][:26].decode()
            for method, body in (("GET", b""), ("PATCH", b'{"title": "%d"}' % random.randrange(10**9)), ("GET", b"")):
                status, _, text = client.ask(method, f"/v1/media/{media}/record", body, {**headers, "Content-Type": "application/json"})
                assert status == 200, text
            counts[number] += 4
        client.close()

    with ThreadPoolExecutor(WRITERS) as threads:
        running = [threads.submit(write, number) for number in range(WRITERS)]
        time.sleep(seconds)
        ending.set()
        for each in running:
            each.result()
    return sum(counts)
