"""The peers in Python: an ASGI application of this folder on uvicorn as one would run it (uvloop, httptools, its access log into a file), and the bare event loop."""

import sys
from pathlib import Path

from benchmarks.peers.process import Peer, free_port


class Uvicorn(Peer):
    """`benchmarks.peers.{module}:app` at `url` over `files`; what it prints, the access log, goes to `log`."""

    def __init__(self, module: str, log: Path, files: Path, *, fill: str = "") -> None:
        port = free_port()
        command = [
            sys.executable,
            "-m",
            "uvicorn",
            f"benchmarks.peers.{module}:app",
            "--port",
            str(port),
            "--loop",
            "uvloop",
            "--http",
            "httptools",
        ]
        super().__init__(command, port, log, environ={"BENCH_FILES": str(files), "BENCH_FILL": fill})


class BareLoop(Peer):
    """bare_loop.py over `files`."""

    def __init__(self, output: Path, files: Path, fill: str) -> None:
        port = free_port()
        super().__init__([sys.executable, "-m", "benchmarks.peers.bare_loop", str(port), files, fill], port, output)
