"""The real command for tests: `mediacdn serve` in a process of its own, on a free port, with a data directory that the test owns."""

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.services.command import COMMAND, answered
from tests.services.program import Program


class Served:
    """A running server, in a session of its own: `url`, its data directory and its log so far. `forked` starts it as `Program` does, sooner."""

    def __init__(
        self,
        data: Path,
        config: Path | None,
        environ: Mapping[str, str],
        arguments: tuple[str, ...] = ("--no-worker",),
        prefix: tuple[str, ...] = (),
        forked: bool = False,
    ) -> None:
        self.data = data
        self._forked = forked
        self._prefix = prefix
        self._near = ["--data", str(data), *(["--config", str(config)] if config is not None else [])]
        # Compiled code is kept as in any ordinary installation, whatever the environment of the tests says.
        self._environ = {**{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}, **environ}
        self._arguments = arguments
        self._tokens: dict[tuple[str, str], str] = {}
        self.log: list[str] = []
        self.start()

    def start(self) -> None:
        """Start, or start again after `kill`; returns when it answers."""
        line = ["serve", "--port", "0", *self._near, "--json", *self._arguments]
        pipe = subprocess.PIPE
        self.process: subprocess.Popen[str]
        if self._forked:
            self.process = Program(line, stdout=pipe, stderr=pipe, env=self._environ, text=True, start_new_session=True)
        else:
            command = [*self._prefix, *COMMAND, *line]
            self.process = subprocess.Popen(
                command, stdout=pipe, stderr=pipe, env=self._environ, text=True, bufsize=1, start_new_session=True
            )
        assert self.process.stdout is not None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        said = self.process.stdout.readline()
        if not said:
            self.process.wait(10)
            self._reader.join(5)
            raise RuntimeError(f"the server ended with {self.process.returncode}:\n" + "".join(self.log))
        self.said: dict[str, Any] = json.loads(said)
        if "url" not in self.said:
            self.process.wait(10)
            self._reader.join(5)
            raise RuntimeError(f"the server did not start: {said}" + "".join(self.log))
        self.url: str = self.said["url"]
        self.client = httpx.Client(base_url=self.url, timeout=30, trust_env=False)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)

    def token(self, sub: str = "alice", scope: str = "write", expires: str = "1h") -> str:
        """A development token from the real command."""
        key = (sub, scope + expires)
        if key not in self._tokens:
            told = answered("token", *self._near, "--scope", scope, "--sub", sub, "--expires", expires, environ=self._environ)
            self._tokens[key] = told["token"]
        return self._tokens[key]

    def auth(self, sub: str = "alice", scope: str = "write") -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(sub, scope)}"}

    def upload(self, body: bytes, *, sub: str = "alice", headers: Mapping[str, str] | None = None, **params: str) -> dict[str, Any]:
        """POST a raw body and give the record."""
        answer = self.client.post("/v1/media", content=body, params=params, headers={**self.auth(sub), **(headers or {})})
        assert answer.status_code in (200, 201), answer.text
        record: dict[str, Any] = answer.json()
        return record

    def kill(self) -> None:
        """kill -9, as a crash."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM and the exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> int:
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(how)
        code = self.process.wait(40)
        self._reader.join(5)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        return code


@contextmanager
def served(
    data: Path,
    toml: str = "",
    *,
    environ: Mapping[str, str] | None = None,
    arguments: tuple[str, ...] = ("--no-worker",),
    prefix: tuple[str, ...] = (),
) -> Iterator[Served]:
    """Serve with `toml` as the configuration until the context is left."""
    config = None
    environ = dict(environ or {})
    if "[database]" not in toml:
        # The embedded catalog lies on the disk that the other tests write to as well; how long a write may take is asked in tests/catalog.
        environ.setdefault("MEDIACDN_DATABASE__TIMEOUT", "20")
    if toml:
        data.mkdir(parents=True, exist_ok=True)
        config = data / "mediacdn.toml"
        config.write_text(toml)
    server = Served(data, config, environ, arguments, prefix, forked=not prefix)
    try:
        yield server
    finally:
        server.stop()
