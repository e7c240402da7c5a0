"""Caddy's file server. Settings: Caddyfile."""

import shutil
from pathlib import Path

from benchmarks.peers.process import Peer, free_port, settings


class Caddy(Peer):
    """Caddy at `url` over `files`."""

    def __init__(self, root: Path, log: Path, files: Path, *, fill: str = "") -> None:
        program = shutil.which("caddy")
        if program is None:
            raise SystemExit("Caddy is missing; as root: apt-get install -y caddy")
        port = free_port()
        config = settings("Caddyfile", root / "Caddyfile", {"port": port, "files": files, "log": log, "fill": fill})
        environ = {"HOME": str(root), "XDG_DATA_HOME": str(root), "XDG_CONFIG_HOME": str(root)}
        super().__init__(
            [program, "run", "--config", config, "--adapter", "caddyfile"], port, root / "caddy.log", environ=environ, told=(log,)
        )
