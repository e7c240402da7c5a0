"""nginx as a server of static files: one worker, sendfile, open files kept; signed links by its secure_link module; a proxy_cache. Settings: nginx.conf."""

import os
import shutil
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from hashlib import md5
from pathlib import Path

from benchmarks.peers.process import SETTINGS, Peer, free_port, settings

SECRET = "a secret of the benchmark"
FILLS = ("signed", "revalidated", "public", "range")


class Nginx(Peer):
    """nginx over `files` (by default `root/files`), answering at `url`; `log` is nginx's access_log value, `fills` are header bytes by kind of answer."""

    def __init__(self, root: Path, log: str = "off", *, files: Path | None = None, fills: Mapping[str, str] | None = None) -> None:
        program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
        if program is None:
            raise SystemExit("nginx is missing; as root: apt-get install -y nginx")
        if files is None:
            files = root / "files"
            files.mkdir(exist_ok=True)
        port = free_port()
        values = {
            "user": "user root;" if os.geteuid() == 0 else "",  # or the worker would be somebody who cannot see a private folder
            "root": root,
            "files": files,
            "port": port,
            "log": log,
            "secret": SECRET,
            "headers": SETTINGS / "nginx-headers.conf",
            **{f"fill_{kind}": (fills or {}).get(kind, "") for kind in FILLS},
        }
        config = settings("nginx.conf", root / "nginx.conf", values)
        super().__init__([program, "-p", root, "-c", config], port, root / "nginx.log")

    def signed(self, name: str, expires: int) -> str:
        """A link to a file, as the manual of secure_link makes it."""
        uri = f"/signed/{name}"
        digest = md5(f"{expires}{uri} {SECRET}".encode()).digest()
        return f"{uri}?sig={urlsafe_b64encode(digest).decode().rstrip('=')}&exp={expires}"
