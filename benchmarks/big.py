"""One very large film, up and down: what it costs the server in memory, and how its upload compares with writing the same bytes without a server.

    python -m benchmarks.big --size 20000000000

The film is made while it is sent, so that one copy of it is on the disk at a time. The plain passes read the same bytes from a pipe, hash them with
SHA-256 and write them to the same file system, with fsync at the end: one before the upload and one after it, in the same run; the ratio is to the
faster of the two. Prints JSON; sizes are bytes, times seconds, rates bytes a second.
"""

import argparse
import hashlib
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from benchmarks.machine import progress
from benchmarks.results import table
from tests.services.served import Served

TITLE = "A very large film, up and down"
CHUNK = 1024 * 1024
GROWTH = 64 * 1024 * 1024
"""What the server's resident memory may grow by in one direction."""
PARTS = ("growth", "growth_allocated", "growth_mapped")


class Film:
    """`size` bytes that begin as an MP4 does (ISO/IEC 14496-12: a `ftyp` box, then one `mdat` to the end) and of which no two chunks are the same."""

    def __init__(self, size: int) -> None:
        self.size = size
        ftyp = struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"isom", 512, b"isom", b"mp42")
        self._head = ftyp + struct.pack(">I4sQ", 1, b"mdat", size - len(ftyp))

    def chunks(self) -> Iterator[memoryview]:
        """One buffer, again and again: each view is done with before the next is asked for."""
        buffer = bytearray(random.Random(1).randbytes(CHUNK))
        view = memoryview(buffer)
        buffer[: len(self._head)] = self._head
        for at in range(0, self.size, CHUNK):
            if at:
                struct.pack_into(">Q", buffer, 0, at)
            yield view[: min(CHUNK, self.size - at)]

    def digest(self) -> str:
        sha256 = hashlib.sha256()
        for chunk in self.chunks():
            sha256.update(chunk)
        return sha256.hexdigest()


class Memory(threading.Thread):
    """Watches the resident memory of a process. `done` gives its largest growth, and the largest of its two parts: of what the process allocated
    (RssAnon and RssShmem), and of the pages of files that it has mapped (RssFile), which are the system's cache and can be dropped at any time."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._first = self._now()
        self._ending = threading.Event()
        self._most = self._first
        self.start()

    def run(self) -> None:
        while not self._ending.wait(0.01):
            self._most = {name: max(self._most[name], size) for name, size in self._now().items()}

    def done(self) -> dict[str, int]:
        self._ending.set()
        self.join()
        return {name: self._most[name] - self._first[name] for name in self._first}

    def _now(self) -> dict[str, int]:
        fields = dict(line.split(":", 1) for line in Path(f"/proc/{self._pid}/status").read_text().splitlines())
        resident, mapped = (int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "RssFile"))
        return {"growth": resident, "growth_allocated": resident - mapped, "growth_mapped": mapped}


def run(folder: Path, size: int, *, plain: bool = True) -> dict[str, Any]:
    """Upload and download a film of `size` bytes to a server whose data are in `folder`. Raises AssertionError when bytes are not the same."""
    film = Film(size)
    report: dict[str, Any] = {"size": size}
    passes = [_plain(folder, size)] if plain else []
    progress(f"{size / 1e9:g} GB: upload")
    server = Served(folder / "data", None, {})
    try:
        token = server.token("writer", "write", "12h")
        host = server.url.removeprefix("http://")
        report["upload"], record = _upload(host, token, film, server.process.pid)
        report["stored"] = sum(file.stat().st_blocks * 512 for file in (folder / "data").rglob("*") if file.is_file())
        progress("download")
        report["download"], digest = _download(host, token, record["id"], server.process.pid)
    finally:
        server.stop()
    assert record["media_type"] == "video/mp4"
    assert record["digest"] == digest
    if plain:
        for file in (folder / "data" / "objects").rglob("*.*"):
            file.unlink()
        passes.append(_plain(folder, size))
        assert [each["digest"] for each in passes] == [digest, digest]
        report["plain"] = [each["rate"] for each in passes]
        report["ratio"] = round(report["upload"]["rate"] / max(report["plain"]), 3)
    else:
        assert film.digest() == digest
    return report


def measure(*, full: bool) -> dict[str, Any]:
    """The run of `python -m benchmarks big`."""
    with tempfile.TemporaryDirectory() as folder:
        return run(Path(folder), 20_000_000_000 if full else 1_000_000_000)


def section(outcome: dict[str, Any]) -> str:
    """The outcome for RESULTS.md."""
    rows = [
        (
            f"{outcome['size'] / 1e9:g} GB {name}",
            f"{each['seconds']:.0f} s",
            f"{each['rate'] / 1e6:,.0f} MB/s",
            *(f"{each[part] / 2**20:.1f}" for part in PARTS),
        )
        for name, each in (("upload", outcome["upload"]), ("download", outcome["download"]))
    ]
    plain = " and ".join(f"{rate / 1e6:,.0f}" for rate in outcome["plain"])
    return f"""{table(("", "took", "rate", "resident growth MiB", "allocated MiB", "mapped files MiB"), rows)}

The server's resident memory may grow by {GROWTH // 2**20} MiB each way. Plain passes (read from a pipe, SHA-256, write, fsync) before and after: {plain} MB/s; the upload's rate to the
faster of them: **{outcome["ratio"]:.2f}** (to reach 0.5, aim 0.9). The film is made while it is sent, by Python on the same cores."""


def _upload(host: str, token: str, film: Film, pid: int) -> tuple[dict[str, Any], dict[str, Any]]:
    os.sync()
    memory = Memory(pid)
    connection = HTTPConnection(host, timeout=600)
    began = time.monotonic()
    connection.putrequest("POST", "/v1/media")
    for name, value in (("Authorization", f"Bearer {token}"), ("Content-Length", str(film.size)), ("Content-Type", "video/mp4")):
        connection.putheader(name, value)
    connection.endheaders()
    for chunk in film.chunks():
        connection.send(chunk)
    answer = connection.getresponse()
    record = json.loads(answer.read())
    took = time.monotonic() - began
    connection.close()
    assert answer.status == 201, record
    return {**_rate(film.size, took), **memory.done()}, record


def _download(host: str, token: str, media: str, pid: int) -> tuple[dict[str, Any], str]:
    memory = Memory(pid)
    connection = HTTPConnection(host, timeout=600)
    sha256, size, buffer = hashlib.sha256(), 0, memoryview(bytearray(CHUNK))
    began = time.monotonic()
    connection.request("GET", f"/v1/media/{media}", headers={"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    while got := answer.readinto(buffer):
        sha256.update(buffer[:got])
        size += got
    took = time.monotonic() - began
    connection.close()
    assert answer.status == 200
    return {**_rate(size, took), **memory.done()}, sha256.hexdigest()


def _plain(folder: Path, size: int) -> dict[str, Any]:
    os.sync()
    path = folder / "plain"
    sha256, buffer = hashlib.sha256(), memoryview(bytearray(CHUNK))
    command = [sys.executable, "-m", "benchmarks.big", "--generate", "--size", str(size)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0, cwd=Path(__file__).parents[1]) as maker,
        path.open("wb", buffering=0) as file,
    ):
        assert maker.stdout is not None
        first = maker.stdout.readinto(buffer)  # type: ignore[attr-defined]
        began = time.monotonic()  # the maker is up and the pipe is full
        got = first
        while got:
            sha256.update(buffer[:got])
            file.write(buffer[:got])
            got = maker.stdout.readinto(buffer)  # type: ignore[attr-defined]
        os.fsync(file.fileno())
        took = time.monotonic() - began
        written = file.tell()
    path.unlink()
    assert written == size
    return {"digest": sha256.hexdigest(), **_rate(size, took)}


def _rate(size: int, took: float) -> dict[str, Any]:
    return {"seconds": round(took, 2), "rate": round(size / took)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=20_000_000_000)
    parser.add_argument("--folder", type=Path, help="where to write; the system's folder for temporary files if not given")
    parser.add_argument("--generate", action="store_true", help="only write the film to standard output")
    options = parser.parse_args()
    if options.generate:
        import fcntl

        fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, CHUNK)
        for chunk in Film(options.size).chunks():
            while chunk:
                chunk = chunk[os.write(1, chunk) :]
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        report = run(Path(folder), options.size)
    print(json.dumps(report, indent=2))
    within = max(report["upload"]["growth"], report["download"]["growth"]) <= GROWTH
    raise SystemExit(0 if within and report["ratio"] >= 0.5 else 1)


if __name__ == "__main__":
    main()
