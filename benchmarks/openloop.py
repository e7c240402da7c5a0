"""An open loop: requests leave when their time has come, whether or not answers have, and the time of an answer counts from that moment (no coordinated omission).

    python -m benchmarks.openloop URL REQUESTS --rate 500 --seconds 10

REQUESTS is a file with a path a line. It runs in a process of its own, ahead of everything else on its core where the system permits that, and prints JSON: the answers' times in
microseconds, and by how much requests left late, which is the client's fault and part of the times.
"""

import argparse
import json
import os
import random
import re
import select
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.browser import HEADERS
from benchmarks.machine import REPOSITORY

LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)


class Probe:
    """A connection with at most one request on its way."""

    def __init__(self, address: tuple[str, int], source: str) -> None:
        self.socket = socket.create_connection(address, 10, (source, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.due = 0.0
        self._got = bytearray()
        self._size = 0

    def fileno(self) -> int:
        return self.socket.fileno()

    def ask(self, request: bytes, due: float) -> None:
        self.due = due
        self._got.clear()
        self._size = 0
        self.socket.sendall(request)

    def whole(self) -> bool:
        """Read what is there; tells whether the answer is whole. Raises: RuntimeError for anything but a 200."""
        got = self.socket.recv(262_144)
        if not got:
            raise RuntimeError("the connection ended")
        self._got += got
        if not self._size:
            end = self._got.find(b"\r\n\r\n")
            if end < 0:
                return False
            length = LENGTH.search(self._got, 0, end + 2)
            if length is None or not self._got.startswith(b"HTTP/1.1 200 "):
                raise RuntimeError(bytes(self._got[:end]).decode("latin-1"))
            self._size = end + 4 + int(length[1])
        return len(self._got) >= self._size


def probe(url: str, paths: list[str], rate: float, seconds: float, source: str = "127.0.0.1") -> dict[str, Any]:
    """Ask `rate` times a second, at times drawn as of many independent callers (a Poisson process)."""
    parts = urlsplit(url)
    address = (parts.hostname or "", parts.port or 80)
    requests = [f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\n{HEADERS}\r\n".encode() for path in paths]
    chance = random.Random(4)
    free = [Probe(address, source) for _ in range(8)]
    busy: set[Probe] = set()
    times: list[float] = []
    late: list[float] = []
    now = time.perf_counter()
    due, until = now + 0.05, now + 0.05 + seconds
    while due < until or busy:
        now = time.perf_counter()
        if due < until and now >= due:
            each = free.pop() if free else Probe(address, source)
            each.ask(chance.choice(requests), due)
            busy.add(each)
            late.append((now - due) * 1e6)
            due += chance.expovariate(rate)
            continue
        # select takes microseconds, where epoll rounds to milliseconds.
        ready, _, _ = select.select(list(busy), (), (), max(0.0, due - now) if due < until else 30.0)
        now = time.perf_counter()
        if due >= until and not ready and busy:
            raise RuntimeError("no answer for 30 s")
        for each in ready:
            if each.whole():
                times.append((now - each.due) * 1e6)
                busy.discard(each)
                free.append(each)
    return {"times": times, "late": late, "connections": len(free)}


def apart(url: str, paths: list[str], rate: float, seconds: float, folder: Path, core: int) -> "subprocess.Popen[str]":
    """Start a probe in a process of its own on one core; `finished` reads what it found."""
    file = folder / "probe.paths"
    file.write_text("\n".join(paths) + "\n")
    command = [
        "taskset",
        "-c",
        str(core),
        sys.executable,
        "-m",
        "benchmarks.openloop",
        url,
        str(file),
        "--rate",
        str(rate),
        "--seconds",
        str(seconds),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)


def finished(process: "subprocess.Popen[str]") -> dict[str, Any]:
    """Wait for a probe. Raises: RuntimeError when it failed."""
    out, _ = process.communicate(timeout=300)
    if process.returncode:
        raise RuntimeError(f"the probe ended with {process.returncode}")
    found: dict[str, Any] = json.loads(out)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("requests", type=Path)
    parser.add_argument("--rate", type=float, default=500)
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    print(json.dumps(probe(options.url, options.requests.read_text().splitlines(), options.rate, options.seconds, "127.0.0.200")))


if __name__ == "__main__":
    main()
