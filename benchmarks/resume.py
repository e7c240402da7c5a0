"""Uploads that are cut: connections reset within a request, the server killed with SIGKILL and started again; what arrives must be what was sent.

    python -m benchmarks.resume --cuts 1000
    python -m benchmarks.resume --throughput 1000        MB, PATCH beside the raw POST

The client is tuspy, through a relay that resets connections after a random number of bytes towards the server; every tenth cut is a kill. After each, the
offset that the server tells must not be ahead of what is on the disk.
"""

import argparse
import hashlib
import http.client
import io
import json
import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError

from benchmarks.machine import progress
from benchmarks.results import table
from tests.services.scissors import Scissors
from tests.services.served import Served

TITLE = "Resumed uploads"
TOML = """
[limits]
max_upload_size = 10_000_000_000
uploads_per_second = 0
[uploads]
per_owner = 10000
"""
SIZE = 6_000_000
KILL_EVERY = 10


@dataclass
class Report:
    """What came of a run; `wrong` and `ahead` must be 0."""

    cuts: int = 0
    kills: int = 0
    uploads: int = 0
    wrong: int = 0
    ahead: int = 0
    requests: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not (self.wrong or self.ahead)


def run(data: Path, *, cuts: int, seed: int = 1, size: int = SIZE) -> Report:
    """Upload until there were so many cuts."""
    began, chance, report = time.monotonic(), random.Random(seed), Report()
    data.mkdir(parents=True, exist_ok=True)
    config = data / "mediacdn.toml"
    config.write_text(TOML)
    server = Served(data, config, {}, ())  # a worker ends what a killed server had all bytes of
    relay = Scissors(_port(server), [], upwards=True)
    try:
        while report.cuts + report.kills < cuts:
            body = b"\x00\x01" + chance.randbytes(size)
            media = _upload(server, relay, body, cuts, chance, report)
            report.uploads += 1
            answer = server.client.get(f"/v1/media/{media}", headers=server.auth())
            if answer.status_code != 200 or hashlib.sha256(answer.content).digest() != hashlib.sha256(body).digest():
                report.wrong += 1
                report.notes.append(f"{media}: {answer.status_code}, other bytes")
            if report.uploads % 20 == 0:
                progress(f"{report.cuts} cuts and {report.kills} kills in {report.uploads} uploads")
        report.requests = relay.seen
    finally:
        relay.close()
        server.stop()
    report.seconds = time.monotonic() - began
    return report


def _upload(server: Served, relay: Scissors, body: bytes, cuts: int, chance: random.Random, report: Report) -> str:
    """Get one file through, with a few cuts on its way; its media's id."""
    client = TusClient(f"http://127.0.0.1:{relay.port}/v1/uploads", headers=server.auth())
    uploader = client.uploader(file_stream=io.BytesIO(body), chunk_size=chance.choice((len(body), 1_000_000, 2_500_000)))
    uploader.set_url(uploader.create_url())
    for _ in range(chance.randrange(2, 8)):
        if report.cuts + report.kills >= cuts:
            break
        if (report.cuts + report.kills) % KILL_EVERY == KILL_EVERY - 1:
            _killed(server, relay, uploader, chance, report)
        else:
            relay.cuts = [chance.randrange(1, max(2, len(body) - uploader.offset))]
            before = relay.cut
            _tried(uploader)
            report.cuts += relay.cut - before
        relay.cuts = []
        offset = _offset(server, uploader.url)
        on_disk = _on_disk(server, uploader.url)
        if offset < len(body) and offset > on_disk:
            report.ahead += 1
            report.notes.append(f"{offset} bytes told, {on_disk} on the disk")
        uploader.offset = offset
        if offset == len(body):
            break
    for _ in range(50):
        if uploader.offset == len(body) or _tried(uploader):
            break
        time.sleep(0.1)  # as any client does: what was cut off may still be arriving
        uploader.offset = _offset(server, uploader.url)
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        told = server.client.get(urlsplit(uploader.url).path).json()
        if told.get("state") in ("done", "failed"):
            break
        time.sleep(0.05)
    return str(told.get("media_id") or told)


def _tried(uploader: Any) -> bool:
    try:
        uploader.upload()
    except (TusCommunicationError, requests.RequestException, OSError):
        return False
    return True


def _killed(server: Served, relay: Scissors, uploader: Any, chance: random.Random, report: Report) -> None:
    """Kill the server somewhere within a request."""
    relay.cuts = []
    trying = threading.Thread(target=_tried, args=(uploader,))
    trying.start()
    time.sleep(chance.uniform(0.0, 0.06))
    server.kill()
    report.kills += 1
    trying.join()
    server.start()
    relay.target = _port(server)


def _offset(server: Served, url: str) -> int:
    answer = server.client.head(urlsplit(url).path, headers={"Tus-Resumable": "1.0.0"})
    assert answer.status_code == 200, (answer.status_code, dict(answer.headers))
    return int(answer.headers["upload-offset"])


def _on_disk(server: Served, url: str) -> int:
    name = url.rpartition("/")[2].partition(".")[0]
    return sum(each.stat().st_size for each in (server.data / "uploads").glob(f"{name}.*"))


def _port(server: Served) -> int:
    return int(server.url.rpartition(":")[2])


def throughput(data: Path, *, megabytes: int, rounds: int = 5) -> dict[str, float]:
    """MB/s of one PATCH and of one raw POST of as many bytes, in turns: medians, and the median of the rounds' ratios."""
    data.mkdir(parents=True, exist_ok=True)
    config = data / "mediacdn.toml"
    config.write_text(TOML)
    server = Served(data, config, {}, ("--no-worker",))
    rates: dict[str, list[float]] = {"post": [], "patch": []}
    try:
        for number in range(rounds):
            for kind in rates if number % 2 else reversed(rates):
                os.sync()  # what the other one left to be written is not this one's to wait for
                rates[kind].append(_rate(server, kind, f"{kind}{number}".encode(), megabytes))
    finally:
        server.stop()
    ratio = statistics.median(patch / post for patch, post in zip(rates["patch"], rates["post"], strict=True))
    return {**{kind: statistics.median(each) for kind, each in rates.items()}, "ratio": ratio}


def _rate(server: Served, kind: str, mark: bytes, megabytes: int) -> float:
    """MB/s of one upload, whose media is deleted afterwards."""
    block, size = random.Random(1).randbytes(1 << 20), (megabytes + 1) << 20
    headers = {**server.auth(), "Content-Length": str(size)}
    method, path = "POST", "/v1/media"
    if kind == "patch":
        tus = {"Tus-Resumable": "1.0.0"}
        path = server.client.post("/v1/uploads", headers={**server.auth(), **tus, "Upload-Length": str(size)}).headers["location"]
        method, headers = "PATCH", {**headers, **tus, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}

    def body() -> Iterator[bytes]:
        yield mark.ljust(1 << 20, b"\x00")
        for _ in range(megabytes):
            yield block

    connection = http.client.HTTPConnection("127.0.0.1", _port(server), timeout=300)
    began = time.monotonic()
    connection.request(method, path, body(), headers)
    answer = connection.getresponse()
    said = answer.read()
    took = time.monotonic() - began
    connection.close()
    assert answer.status in (201, 204), answer.status
    media = answer.headers["upload-media-id"] or json.loads(said)["id"]
    server.client.delete(f"/v1/media/{media}", headers=server.auth(scope="admin")).raise_for_status()
    return size / took / 1e6


def measure(*, full: bool) -> dict[str, Any]:
    """The run of `python -m benchmarks resume`. Raises: RuntimeError when anything arrived wrong."""
    with tempfile.TemporaryDirectory() as folder:
        report = run(Path(folder) / "cuts", cuts=1000 if full else 20)
        rates = throughput(Path(folder) / "rate", megabytes=1000 if full else 100)
    outcome = {**vars(report), "notes": report.notes[:20], **rates}
    if not report.clean:
        raise RuntimeError(json.dumps(outcome, indent=2))
    return outcome


def section(outcome: dict[str, Any]) -> str:
    """The outcome for RESULTS.md."""
    names = ("cuts", "kills", "uploads", "requests", "wrong", "ahead")
    figures = table(list(names), [[f"{outcome[name]:,}" for name in names]])
    return f"""{figures}

tuspy through a relay that resets connections; every tenth cut is a kill -9. "Wrong" is any media whose SHA-256 is not the file's, "ahead" any offset told beyond what was on the disk;
both must be 0. One PATCH of 1 GB: {outcome["patch"]:.0f} MB/s, the raw POST {outcome["post"]:.0f} MB/s; the median of the ratios of rounds taken in turns is {outcome["ratio"]:.2f} (to reach: 0.8)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuts", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--throughput", type=int, metavar="MB")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.throughput:
            print(json.dumps(throughput(Path(folder), megabytes=options.throughput), indent=2))
            return
        report = run(Path(folder), cuts=options.cuts, seed=options.seed)
    print(json.dumps({**vars(report), "notes": report.notes[:20]}, indent=2))
    raise SystemExit(0 if report.clean else 1)


if __name__ == "__main__":
    main()
