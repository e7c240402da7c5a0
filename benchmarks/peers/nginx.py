"""nginx as a server of static files: one worker, sendfile, open files kept; signed links by its secure_link module."""

import os
import shutil
import socket
import subprocess
import time
from base64 import urlsafe_b64encode
from hashlib import md5
from pathlib import Path

SECRET = "a secret of the benchmark"

SETTINGS = """
daemon off;
{user}worker_processes 1;
pid {root}/nginx.pid;
error_log {root}/error.log warn;
events {{ worker_connections 1024; }}
http {{
    sendfile on;
    tcp_nopush on;
    keepalive_requests 100000000;
    keepalive_timeout 60s;
    open_file_cache max=1024;
    open_file_cache_valid 60s;
    etag on;
    access_log {log};
    default_type application/octet-stream;
    client_body_temp_path {root}/body;
    proxy_temp_path {root}/proxy;
    fastcgi_temp_path {root}/fastcgi;
    uwsgi_temp_path {root}/uwsgi;
    scgi_temp_path {root}/scgi;
    server {{
        listen 127.0.0.1:{port};
        root {root}/files;
        add_header Cache-Control "public, max-age=86400, immutable";
        location /signed/ {{
            alias {root}/files/;
            secure_link $arg_sig,$arg_exp;
            secure_link_md5 "$secure_link_expires$uri {secret}";
            if ($secure_link = "") {{ return 403; }}
            if ($secure_link = "0") {{ return 410; }}
        }}
    }}
}}
"""


class Nginx:
    """nginx over `root/files`, answering at `url`; `log` is nginx's access_log value."""

    def __init__(self, root: Path, log: str = "off") -> None:
        program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
        if program is None:
            raise SystemExit("nginx is missing; as root: apt-get install -y nginx")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        (root / "files").mkdir(exist_ok=True)
        config = root / "nginx.conf"
        user = "user root;\n" if os.geteuid() == 0 else ""  # or the worker would be somebody who cannot see a private folder
        config.write_text(SETTINGS.format(user=user, root=root, port=port, log=log, secret=SECRET))
        self.url = f"http://127.0.0.1:{port}"
        self._process = subprocess.Popen([program, "-p", root, "-c", config], stderr=subprocess.DEVNULL)
        self.pid = self._process.pid
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    self.stop()
                    raise RuntimeError("nginx does not answer: " + (root / "error.log").read_text()) from None
                time.sleep(0.02)

    def signed(self, name: str, expires: int) -> str:
        """A link to a file, as the manual of secure_link makes it."""
        uri = f"/signed/{name}"
        digest = md5(f"{expires}{uri} {SECRET}".encode()).digest()
        return f"{uri}?sig={urlsafe_b64encode(digest).decode().rstrip('=')}&exp={expires}"

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)
