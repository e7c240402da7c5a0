"""A peer as a process: started on a free port of loopback with its committed settings filled in, waited for, and stopped."""

import os
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

SETTINGS = Path(__file__).parent


def free_port() -> int:
    """A port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def settings(name: str, into: Path, values: Mapping[str, object]) -> Path:
    """Write the settings file `name` of this folder to `into` with each @key@ replaced; gives `into`."""
    text = (SETTINGS / name).read_text()
    for key, value in values.items():
        text = text.replace(f"@{key}@", str(value))
    into.write_text(text)
    return into


class Peer:
    """A running server at `url`. `companions` are what it cannot log without; their processor time is the peer's too. `logs` are the files it writes: `output`, and `told`."""

    def __init__(
        self,
        command: Sequence[str | Path],
        port: int,
        output: Path,
        *,
        environ: Mapping[str, str] | None = None,
        companions: Sequence[Sequence[str | Path]] = (),
        told: Sequence[Path] = (),
        patience: float = 30.0,
    ) -> None:
        """Start it and wait until it accepts connections; `output` takes what it prints. Raises: RuntimeError with the output."""
        self.url = f"http://127.0.0.1:{port}"
        self.logs = [output, *told]
        self._output = output
        self._environ = {**os.environ, **(environ or {})}
        self._processes = [self._start(command)]
        deadline = time.monotonic() + patience
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if time.monotonic() > deadline or self._processes[0].poll() is not None:
                    self.stop()
                    raise RuntimeError(f"{command[0]} does not answer:\n{output.read_text()}") from None
                time.sleep(0.02)
        self._processes += [self._start(each) for each in companions]

    @property
    def pids(self) -> list[int]:
        """The process ids, those that log for it after its own."""
        return [each.pid for each in self._processes]

    @property
    def pid(self) -> int:
        return self._processes[0].pid

    def stop(self) -> None:
        for each in reversed(self._processes):
            each.terminate()
            each.wait(20)

    def _start(self, command: Sequence[str | Path]) -> "subprocess.Popen[bytes]":
        with self._output.open("ab") as output:
            return subprocess.Popen(command, stdout=output, stderr=output, env=self._environ)
