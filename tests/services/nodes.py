"""Many nodes on one machine: API nodes of several processes each and workers, every one with a data directory of its own, over one PostgreSQL, one Valkey and one
shared storage, behind nginx on the loopback address. The storage is a parameter: the TOML of its table, and plugins and environment that it needs; S3 is at hand."""

import asyncio
import base64
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mediacdn.edge.stamps import NAME, SEEN
from tests.services.buckets import BUCKET, MIB, open_bucket
from tests.services.program import Program
from tests.services.swift import SwiftServer

SETTLED_WITHIN = 3.0
ISSUER = "https://id.example"
SCOPES = {"read": "media:read", "write": "media:read media:write", "admin": "media:read media:write media:admin"}
TOML = """
plugins = {plugins}
[server]
trusted_proxies = ["127.0.0.1"]
metrics = "anyone"
log_format = "json"
shutdown_timeout = 5
[database]
url = "{database}"
timeout = 2
[signing]
keys = {{k1 = "{secret}"}}
[auth.jwt]
issuer = "{issuer}"
keys = {{k1 = '''{public}'''}}
[edge]
bus = "{bus}"
sweep_every = {sweep_every}
[jobs]
broker = "{broker}"
poll_beside = {poll_beside}
lease = 3
backoff_base = 0.2
[limits]
counters = "{counters}"
uploads_per_second = {uploads}
uploads_burst = {uploads}
upload_bytes_per_second = {rate}
upload_bytes_burst = {burst}
[redis]
url = "{redis}"
prefix = "{prefix}"
timeout = 0.5
"""
NGINX = """
pid {root}/nginx.pid;
error_log {root}/nginx.log warn;
worker_processes 1;
{user}
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {root}/body;
    proxy_temp_path {root}/proxy;
    fastcgi_temp_path {root}/fastcgi;
    uwsgi_temp_path {root}/uwsgi;
    scgi_temp_path {root}/scgi;
    upstream nodes {{
        {servers}
        keepalive 32;
    }}
    server {{
        listen 127.0.0.1:{port};
        client_max_body_size 0;
        large_client_header_buffers 8 64k;
        location / {{
            proxy_pass http://nodes;
            proxy_http_version 1.1;
            proxy_request_buffering off;
            proxy_buffering off;
            proxy_connect_timeout 1s;
            proxy_next_upstream error timeout;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto $scheme;
        }}
    }}
}}
"""


class Persistent(httpx.HTTPTransport):
    """Asks again, once, where a kept connection ended without a word: nginx, which hands bodies on as they come, says of one whose answer was there before its body
    that it keeps the connection, and then ends it. What it had not read by then, nobody has."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        try:
            return super().handle_request(request)
        except httpx.RemoteProtocolError as error:
            if "without sending a response" not in str(error):
                raise
        return super().handle_request(request)


class Process:
    """One program of the installation, which can be killed and started again. `log` is its standard error so far."""

    def __init__(self, arguments: list[str], environ: Mapping[str, str], folder: Path) -> None:
        self._arguments = arguments
        self._environ = dict(environ)
        self.folder = folder
        self.log = folder / "log"
        self.process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> dict[str, Any]:
        """Start it, and wait for the line with which it says that it is there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = Program(
                self._arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._environ,
                text=True,
                start_new_session=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._arguments[0]} ended with {self.process.wait(10)}:\n{self.log.read_text()[-4000:]}")
        said: dict[str, Any] = json.loads(line)
        return said

    def kill(self) -> None:
        """kill -9 of it and of every process that it has started."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self._reaped()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self._reaped()

    def _reaped(self) -> None:
        if self.process is not None:
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(10)
            if self.process.stdout is not None:
                self.process.stdout.close()


class Node(Process):
    """An API node, always at the same port: `url`, and a client of its own that goes past nginx."""

    def __init__(self, config: Path, environ: Mapping[str, str], folder: Path, processes: int) -> None:
        self.processes = processes
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = ["serve", "--no-worker", "--workers", str(processes), "--port", str(self.port)]
        super().__init__([*command, "--data", str(folder), "--config", str(config), "--json"], environ, folder)
        self.client = httpx.Client(base_url=self.url, timeout=30, trust_env=False)

    def start(self) -> dict[str, Any]:
        said = super().start()
        self.url = said["url"]
        return said

    def seen(self) -> int:
        """Up to where this node knows the sequence of changes, by the table that its processes share."""
        with (self.folder / "edge" / NAME).open("rb") as table:
            return int.from_bytes(table.read(8 * (SEEN + 1))[-8:], sys.byteorder)

    def stop(self) -> None:
        self.client.close()
        super().stop()


class Nodes:
    """The whole. To tests it looks like one server: `url` and `client` are nginx's; `nodes` and `workers` are the parts."""

    def __init__(
        self,
        folder: Path,
        database: str,
        redis: str,
        *,
        storage: str = "",
        plugins: tuple[str, ...] = (),
        environ: Mapping[str, str] | None = None,
        nodes: int = 2,
        processes: int = 2,
        workers: int = 2,
        toml: str = "",
        bus: str = "redis",
        broker: str = "redis",
        counters: str = "redis",
        sweep_every: float = 1.0,
        poll_beside: float = 2.0,
        uploads: float = 100_000,
        rate: float = 0,
        burst: float = 0,
    ) -> None:
        self.folder = folder
        self._key = Ed25519PrivateKey.generate()
        public = self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        known = ["local", "jwt", "vips", "pdf", "redis"]
        shared = storage or f'[storage.default]\ndriver = "local"\npath = "{folder / "objects"}"\n'
        self.config = folder / "mediacdn.toml"
        self.config.write_text(
            TOML.format(
                plugins=json.dumps([*known, *(each for each in plugins if each not in known)]),
                database=database,
                secret=base64.b64encode(secrets.token_bytes(32)).decode(),
                issuer=ISSUER,
                public=public,
                bus=bus,
                broker=broker,
                counters=counters,
                sweep_every=sweep_every,
                poll_beside=poll_beside,
                uploads=uploads,
                rate=rate,
                burst=burst,
                redis=redis,
                prefix=f"nodes{secrets.token_hex(4)}",
            )
            + shared
            + toml
        )
        # Compiled code is kept as in any ordinary installation, whatever the environment of the tests says.
        own = {**{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}, **(environ or {})}
        self.nodes = [Node(self.config, own, folder / f"node{number}", processes) for number in range(nodes)]
        worker = ["worker", "--config", str(self.config), "--json", "--data"]
        self.workers = [Process([*worker, str(folder / f"worker{number}")], own, folder / f"worker{number}") for number in range(workers)]
        self._environ = own
        self._nginx: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = httpx.Client(
            base_url=self.url, timeout=30, trust_env=False, event_hooks={"response": [self._settled]}, transport=Persistent(trust_env=False)
        )
        self.settle = False
        """Whether the client waits after a change until every node has heard of it: its next request may meet another one."""
        self.data = folder / "unseen"
        """What belongs to one node alone is nobody's here."""
        self._tokens: dict[tuple[str, str, str], str] = {}
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start everything; the workers after the nodes, of which one makes the tables where there are none."""
        with ThreadPoolExecutor() as threads:
            for group in (self.nodes, self.workers):
                for each in [threads.submit(each.start) for each in group]:
                    each.result()
        self._start_nginx()

    def stop(self) -> None:
        self.client.close()
        if self._nginx is not None:
            self._nginx.send_signal(signal.SIGTERM)
            self._nginx.wait(10)
        with ThreadPoolExecutor() as threads:
            for each in [threads.submit(each.stop) for each in [*self.nodes, *self.workers]]:
                each.result()

    def another(self, name: str, processes: int) -> Node:
        """One more node over what they share, of so many processes; the caller starts and stops it, and nginx does not know it."""
        return Node(self.config, self._environ, self.folder / name, processes)

    def token(self, sub: str = "alice", scope: str = "write", expires: str = "1h") -> str:
        with self._lock:
            if (sub, scope, expires) not in self._tokens:
                now, unit = int(time.time()), {"s": 1, "m": 60, "h": 3600}[expires[-1]]
                claims = {"iss": ISSUER, "sub": sub, "scope": SCOPES[scope], "iat": now, "exp": now + int(expires[:-1]) * unit}
                self._tokens[sub, scope, expires] = jwt.encode(claims, self._key, "EdDSA", {"kid": "k1"})
            return self._tokens[sub, scope, expires]

    def auth(self, sub: str = "alice", scope: str = "write") -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(sub, scope)}"}

    def upload(
        self, body: bytes, *, sub: str = "alice", headers: Mapping[str, str] | None = None, at: httpx.Client | None = None, **params: str
    ) -> dict[str, Any]:
        """POST a raw body, through nginx or at one node, and give the record."""
        answer = (at or self.client).post("/v1/media", content=body, params=params, headers={**self.auth(sub), **(headers or {})})
        assert answer.status_code in (200, 201), answer.text
        record: dict[str, Any] = answer.json()
        return record

    def logs(self) -> str:
        """The ends of all logs, to be read when something went wrong."""
        return "\n".join(f"{each.folder.name}:\n{each.log.read_text()[-3000:]}" for each in [*self.nodes, *self.workers])

    def _settled(self, response: httpx.Response) -> None:
        request = response.request
        if self.settle and request.method not in ("GET", "HEAD", "OPTIONS") and request.url.path != "/v1/media" and response.is_success:
            deadline = time.monotonic() + SETTLED_WITHIN
            time.sleep(0.02)
            while len({each.seen() for each in self.nodes}) > 1 and time.monotonic() < deadline:
                time.sleep(0.005)

    def _start_nginx(self) -> None:
        program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
        assert program is not None, "the tests need nginx; `make tools` brings it"
        root = self.folder / "nginx"
        root.mkdir()
        servers = "\n        ".join(f"server 127.0.0.1:{node.port} max_fails=1 fail_timeout=1s;" for node in self.nodes)
        user = "user root;" if os.geteuid() == 0 else ""
        (root / "nginx.conf").write_text(NGINX.format(root=root, servers=servers, port=self.port, user=user))
        command = [program, "-p", str(root), "-c", str(root / "nginx.conf"), "-e", str(root / "nginx.log"), "-g", "daemon off;"]
        self._nginx = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert self._nginx.poll() is None, (root / "nginx.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.01)


@contextmanager
def many_nodes(folder: Path, database: str, redis: str, **settings: Any) -> Iterator[Nodes]:
    """Nodes until the context is left; `settings` are those of Nodes."""
    nodes = Nodes(folder, database, redis, **settings)
    try:
        nodes.start()
        yield nodes
    finally:
        nodes.stop()


@contextmanager
def s3_storage(folder: Path) -> Iterator[tuple[SwiftServer, str]]:
    """An S3 service of its own, which finds everything again when it was killed (rclone would have forgotten parts), and the table of a storage in it."""
    folder.mkdir(parents=True)
    server = SwiftServer(folder)
    server.start()
    try:
        asyncio.run(_bucket(server.table))
        where = {"bucket": BUCKET, **server.table, "part_size": 5 * MIB, "connect_timeout": 3.0, "read_timeout": 10.0}
        lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in where.items())
        yield server, f'[storage.default]\ndriver = "s3"\n{lines}[uploads]\npart_size = {5 * MIB}\n'
    finally:
        server.kill()


async def _bucket(table: Mapping[str, Any]) -> None:
    async with open_bucket(table):
        return


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
