"""A 3 GB upload beside the least that has to be done with its bytes: read, SHA-256, write, fsync, in one pass. Both in one run, in turns, on one file system."""

import hashlib
import os
import socket
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks import cores
from benchmarks.machine import progress
from benchmarks.results import table
from benchmarks.server import Mediacdn

TITLE = "Upload of one large file"
LEAST, AIM = 0.5, 0.9
CHUNK = 1024 * 1024


def measure(*, full: bool) -> dict[str, Any]:
    """Take turns; each turn has bytes of its own, so that nothing is a duplicate."""
    size, rounds = (3 * 10**9, 5) if full else (300 * 10**6, 3)
    passes, uploads, costs = [], [], []
    with tempfile.TemporaryDirectory(prefix="mediacdn-bench-") as folder:
        source = Path(folder) / "source"
        _write(source, size)
        server = Mediacdn(Path(folder) / "data")
        try:
            for number in range(rounds):
                with source.open("r+b") as file:  # it stays in the page cache, and its digest is new
                    file.write(b"\x00\x01" + number.to_bytes(8, "big"))
                for which in ("pass", "upload") if number % 2 else ("upload", "pass"):
                    os.sync()  # what the other one left to be written is not this one's to wait for
                    if which == "pass":
                        passes.append(_pass(source, Path(folder) / "copy"))
                    else:
                        before = cores.spent([server.pid])
                        uploads.append(_upload(server, source))
                        costs.append((cores.spent([server.pid]) - before) / size * 1e9)
                progress(
                    f"round {number + 1} of {rounds}: one pass {passes[-1]:.2f} s, upload {uploads[-1]:.2f} s, ratio {passes[-1] / uploads[-1]:.2f}"
                )
        finally:
            server.stop()
    ratios = sorted(one / other for one, other in zip(passes, uploads, strict=True))
    return {
        "size": size,
        "rounds": rounds,
        "pass": passes,
        "upload": uploads,
        "cost": costs,
        "ratios": ratios,
        "ratio": statistics.median(ratios),
    }


def _write(file: Path, size: int) -> None:
    block = os.urandom(CHUNK)
    with file.open("wb") as out:
        for at in range(0, size, CHUNK):
            out.write(block[: size - at])


def _pass(source: Path, copy: Path) -> float:
    """Seconds of one pass."""
    began = time.perf_counter()
    digest, buffer = hashlib.sha256(), memoryview(bytearray(CHUNK))
    with source.open("rb", buffering=0) as into, copy.open("wb", buffering=0) as out:
        while got := into.readinto(buffer):
            digest.update(buffer[:got])
            out.write(buffer[:got])
        os.fsync(out.fileno())
    took = time.perf_counter() - began
    copy.unlink()
    return took


def _upload(server: Mediacdn, source: Path) -> float:
    """Seconds from the first byte of the request to the whole of the 201; afterwards the media is deleted. The client sends from the page cache (sendfile)."""
    parts = urlsplit(server.url)
    assert parts.hostname is not None
    with source.open("rb") as file, socket.create_connection((parts.hostname, parts.port), 600) as connection:
        size = os.fstat(file.fileno()).st_size
        head = f"POST /v1/media HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {server.token}\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n"
        began = time.perf_counter()
        connection.sendall(head.encode())
        connection.sendfile(file)
        answer = b""
        while more := connection.recv(65536):
            answer += more
        took = time.perf_counter() - began
    if not answer.startswith(b"HTTP/1.1 201 "):
        raise RuntimeError(answer.decode("latin-1"))
    location = next(
        line.partition(":")[2].strip() for line in answer.decode("latin-1").splitlines() if line.lower().startswith("location:")
    )
    server.client.delete(location).raise_for_status()
    return took


def section(outcome: dict[str, Any]) -> str:
    """The outcome for RESULTS.md."""
    size = outcome["size"]

    def rates(name: str) -> str:
        each = sorted(size / seconds / 1e6 for seconds in outcome[name])
        return f"{statistics.median(each):,.0f} MB/s ({each[0]:,.0f} to {each[-1]:,.0f})"

    low, high = outcome["ratios"][0], outcome["ratios"][-1]
    row = (
        f"{size / 1e9:g} GB",
        rates("upload"),
        rates("pass"),
        f"**{outcome['ratio']:.2f}** ({low:.2f} to {high:.2f})",
        f"{LEAST} (aim {AIM})",
    )
    cost = statistics.median(outcome["cost"])
    return f"""{table(("file", "upload", "one pass", "ratio (lowest to highest)", "to reach"), [row])}

Medians of {outcome["rounds"]} rounds, fastest and slowest in brackets. The pass is Python's read, `hashlib.sha256`, write and one fsync at the end, in 1 MiB pieces on one thread; the upload is
over loopback from a client that sends the same file out of the page cache, until its 201, which comes after the fsync of the file and its folder and the commit of the record. The server used
{cost:.1f} s of processor time a GB."""
