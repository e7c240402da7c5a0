"""thumbor, in an environment of its own, because its requirements are not ours: thumbor.lock names them with hashes. Settings: thumbor.conf."""

import hashlib
import subprocess
import sys
from pathlib import Path

from benchmarks.corpus import folder
from benchmarks.machine import REPOSITORY, progress
from benchmarks.peers.process import SETTINGS, Peer, free_port, settings

LOCK = SETTINGS / "thumbor.lock"


class Thumbor(Peer):
    """thumbor at `url` over `files`: one process, no cache of any kind."""

    def __init__(self, root: Path, files: Path) -> None:
        port = free_port()
        config = settings("thumbor.conf", root / "thumbor.conf", {"files": files})
        command = [environment() / "bin" / "thumbor", "--ip", "127.0.0.1", "--port", str(port), "--conf", config, "--log-level", "error"]
        super().__init__(command, port, root / "thumbor.log")


def environment() -> Path:
    """Its virtual environment, made when it is not there, or of another lock."""
    place = folder() / f"thumbor-{hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]}"
    if not (place / "bin" / "thumbor").exists():
        progress("installing thumbor")
        uv = REPOSITORY / ".uv" / "bin" / "uv"
        subprocess.run([uv, "venv", "-q", "--clear", "--no-project", "--python", sys.executable, place], check=True)
        subprocess.run([uv, "pip", "sync", "-q", "--require-hashes", "--python", place / "bin" / "python", LOCK], check=True)
    return place
