"""Varnish before an origin, objects in memory; varnishncsa writes its access log, as the manual has it. Settings: varnish.vcl."""

import shutil
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.peers.process import Peer, free_port, settings


class Varnish(Peer):
    """Varnish at `url` that caches what `origin` serves."""

    def __init__(self, root: Path, log: Path, origin: str, *, fill: str = "") -> None:
        program, logger = (shutil.which(name) or shutil.which(name, path="/usr/sbin") for name in ("varnishd", "varnishncsa"))
        if program is None or logger is None:
            raise SystemExit("Varnish is missing; as root: apt-get install -y varnish")
        port, work = free_port(), root / "varnish"
        config = settings("varnish.vcl", root / "varnish.vcl", {"origin": urlsplit(origin).port, "fill": fill})
        command = [program, "-F", "-j", "none", "-n", work, "-a", f"127.0.0.1:{port}", "-T", "none", "-f", config, "-s", "malloc,1g"]
        command += [
            "-p",
            "thread_pools=1",
            "-p",
            "timeout_idle=60",
        ]  # the manual: a pool a core; idle connections live as long as at the others
        super().__init__(command, port, root / "varnish.log", companions=[[logger, "-n", work, "-w", log]], told=(log,))
