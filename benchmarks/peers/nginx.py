"""nginx as a server of static files: one worker, sendfile, open files kept; signed links by its secure_link module; or a proxy_cache before another. Settings: nginx.conf."""

import os
import resource
import shutil
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from hashlib import md5
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.peers.process import SETTINGS, Peer, free_port, settings

SECRET = "a secret of the benchmark"
FILLS = ("signed", "revalidated", "public", "range")
KEPT = 20_000
"""Files that stay open, where the limit of descriptors leaves as many."""
BESIDE = 5_000
"""Descriptors for connections (worker_connections) and what else is open."""


class Nginx(Peer):
    """nginx over `files` (by default `root/files`), answering at `url`; `log` is nginx's access_log value, `fills` are header bytes by kind of answer.

    `/proxied/` caches what the nginx at `origin` serves: another one, as its cache holds a file open for each that the origin does.
    """

    def __init__(
        self, root: Path, log: str = "off", *, files: Path | None = None, fills: Mapping[str, str] | None = None, origin: str = ""
    ) -> None:
        program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
        if program is None:
            raise SystemExit("nginx is missing; as root: apt-get install -y nginx")
        if files is None:
            files = root / "files"
            files.mkdir(exist_ok=True)
        port = free_port()
        root.mkdir(exist_ok=True)
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        kept = min(KEPT, descriptors - BESIDE)
        if kept < (served := sum(1 for _ in files.iterdir())):
            raise SystemExit(f"nginx needs {served + BESIDE:,} descriptors and may have {descriptors:,}; raise the limit: ulimit -Hn")
        values = {
            "user": "user root;" if os.geteuid() == 0 else "",  # or the worker would be somebody who cannot see a private folder
            "root": root,
            "files": files,
            "port": port,
            "log": log,
            "descriptors": descriptors,
            "kept": kept,
            "origin": urlsplit(origin).netloc or f"127.0.0.1:{port}",
            "secret": SECRET,
            "headers": SETTINGS / "nginx-headers.conf",
            **{f"fill_{kind}": (fills or {}).get(kind, "") for kind in FILLS},
        }
        config = settings("nginx.conf", root / "nginx.conf", values)
        told = (root / "nginx-error.log", Path(log.split()[0]))
        super().__init__([program, "-p", root, "-c", config], port, root / "nginx.log", told=told)

    def signed(self, name: str, expires: int) -> str:
        """A link to a file, as the manual of secure_link makes it."""
        uri = f"/signed/{name}"
        digest = md5(f"{expires}{uri} {SECRET}".encode()).digest()
        return f"{uri}?sig={urlsafe_b64encode(digest).decode().rstrip('=')}&exp={expires}"
