"""A real S3 server for the tests: OpenStack Swift with its s3api, in a process of its own on free ports of the loopback address, and its files in a temporary folder.

Account, container, object and proxy server run in one process, which eventlet patches; that is why it cannot be this one. The folder needs a file system with
user extended attributes. Run as a script, this file is that process: `python swift.py FOLDER PROXY ACCOUNT CONTAINER OBJECT`, the ports.
"""

import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ACCESS, SECRET = "test:tester", "secretsecret01"
POLICY = "[swift-hash]\nswift_hash_path_prefix=p\nswift_hash_path_suffix=s\n[storage-policy:0]\nname=gold\ndefault=yes\n"
SERVER = """[DEFAULT]
swift_dir={etc}
devices={root}/devices
mount_check=false
bind_ip=127.0.0.1
bind_port={port}
disable_fallocate=true
log_level=ERROR
[pipeline:main]
pipeline={name}-server
[app:{name}-server]
use=egg:swift#{name}
"""
# tempauth insists on a cache, and is content with one that does not answer. The servers behind the proxy are its own process, which may be slow where the machine is
# busy: after ten slow answers it would refuse everything for a minute.
PROXY = """[DEFAULT]
swift_dir={etc}
bind_ip=127.0.0.1
bind_port={port}
log_level=ERROR
[pipeline:main]
pipeline=catch_errors proxy-logging cache s3api tempauth bulk slo dlo proxy-logging proxy-server
[app:proxy-server]
use=egg:swift#proxy
account_autocreate=true
allow_account_management=true
conn_timeout=5
error_suppression_limit=1000000
[filter:catch_errors]
use=egg:swift#catch_errors
[filter:proxy-logging]
use=egg:swift#proxy_logging
[filter:cache]
use=egg:swift#memcache
memcache_servers=127.0.0.1:1
error_suppression_limit=1
[filter:s3api]
use=egg:swift#s3api
s3_acl=false
location=us-east-1
min_segment_size=5242880
[filter:tempauth]
use=egg:swift#tempauth
user_test_tester={secret} .admin
[filter:bulk]
use=egg:swift#bulk
[filter:slo]
use=egg:swift#slo
[filter:dlo]
use=egg:swift#dlo
"""


class SwiftServer:
    """A running server; `endpoint` is its address. `kill` and `start` play outages, `pause` and `resume` silent ones."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._ports = [str(port) for port in free_ports(4)]
        self.endpoint = f"http://127.0.0.1:{self._ports[0]}"
        self.process: subprocess.Popen[bytes]

    @property
    def table(self) -> dict[str, Any]:
        """The driver's keys that say where it is and who asks."""
        return {"endpoint": self.endpoint, "access_key": ACCESS, "secret_key": SECRET, "region": "us-east-1", "addressing": "path"}

    def start(self) -> None:
        """Start, or start again; returns when it answers."""
        with (self._root / "log").open("ab") as log:
            command = [sys.executable, "-W", "ignore", __file__, str(self._root), *self._ports]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for(int(self._ports[0]), self.process, self._root / "log")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def pause(self) -> None:
        """Let it keep its connections and answer nothing, as behind a network that swallows."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until somebody listens on `port`."""
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > deadline or process.poll() is not None:
                raise AssertionError(log.read_text()) from None
            time.sleep(0.05)
        else:
            return


@contextmanager
def swift() -> Iterator[SwiftServer]:
    """A server until the context is left."""
    root = Path(tempfile.mkdtemp(prefix="mediacdn-swift-"))
    try:
        server = SwiftServer(root)
        server.start()
        try:
            yield server
        finally:
            server.kill()
    finally:
        shutil.rmtree(root)


def _serve(root: str, ports: dict[str, int]) -> None:
    etc = Path(root) / "etc"
    etc.mkdir(exist_ok=True)
    (Path(root) / "devices" / "d1").mkdir(parents=True, exist_ok=True)
    (etc / "swift.conf").write_text(POLICY)
    import swift.common.utils as utils

    utils.SWIFT_CONF_FILE = str(etc / "swift.conf")
    import eventlet

    eventlet.monkey_patch()
    from eventlet import listen, spawn, wsgi
    from swift.common import storage_policy
    from swift.common.http_protocol import SwiftHttpProtocol
    from swift.common.ring import RingBuilder
    from swift.common.utils import NullLogger
    from swift.common.wsgi import loadapp

    utils.validate_hash_conf()
    storage_policy._POLICIES = None
    storage_policy.reload_storage_policies()
    for name, port in ports.items():
        if name == "proxy":
            (etc / "proxy.conf").write_text(PROXY.format(etc=etc, port=port, secret=SECRET))
            continue
        builder = RingBuilder(4, 1, 0)
        place = {"ip": "127.0.0.1", "port": port, "replication_ip": "127.0.0.1", "replication_port": port}
        builder.add_dev({"id": 0, "region": 1, "zone": 1, "weight": 1, "device": "d1", "meta": "", **place})
        builder.rebalance()
        builder.get_ring().save(str(etc / f"{name}.ring.gz"))
        (etc / f"{name}.conf").write_text(SERVER.format(etc=etc, root=root, port=port, name=name))
    threads = []
    for name, port in ports.items():
        app = loadapp(str(etc / f"{name}.conf"))
        how = {"protocol": SwiftHttpProtocol, "capitalize_response_headers": False, "log_output": False}
        threads.append(spawn(wsgi.server, listen(("127.0.0.1", port)), app, NullLogger(), **how))
    for thread in threads:
        thread.wait()


if __name__ == "__main__":
    # This file is called swift too: its folder must not stand before the packages'.
    sys.path[:] = [each for each in sys.path if Path(each or ".").resolve() != Path(__file__).resolve().parent]
    proxy, account, container, objects = map(int, sys.argv[2:])
    _serve(sys.argv[1], {"account": account, "container": container, "object": objects, "proxy": proxy})
