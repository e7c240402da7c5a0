"""The real command as a process of its own, without the second that importing takes: forked from a process that has imported it all.

Hundreds of tests start a server. `Program` is `subprocess.Popen` for `mediacdn VERB …` in all but where the process comes from; what has to see a bare
interpreter start (its options, what it imports) takes `subprocess` itself.
"""

import atexit
import json
import os
import select
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

HEARD = {"PYTHONPATH", "PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE"}
FOR_INTERPRETERS = ("PYTHON", "MALLOC_", "LD_", "GLIBC_")
"""How the names of environment variables begin that are for a bare start; those of them that are `HEARD` work here as well."""


class Source:
    """The process that forks. One to a process of tests; threads may share it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-m", "tests.services.program_source", str(theirs.fileno())]
            root = Path(__file__).parents[2]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], cwd=root)
        self._link = ours
        self._lock = threading.Lock()
        atexit.register(self.close)

    def fork(self, wish: Mapping[str, Any], streams: Sequence[int]) -> tuple[int, int]:
        """Have it start `mediacdn` with `wish` (see program_source) and three streams; give its process id, and a pipe that will tell its wait status."""
        told, tell = os.pipe()
        try:
            with self._lock:
                socket.send_fds(self._link, [json.dumps(wish).encode()], [*streams, tell])
                answer = self._link.recv(64)
        except OSError:
            os.close(told)
            raise
        finally:
            os.close(tell)
        if not answer:
            raise RuntimeError(f"the source of processes ended with {self._process.wait(10)}")
        return int(answer), told

    def close(self) -> None:
        self._link.close()
        self._process.wait(10)


@cache
def _source() -> Source:
    return Source()


class Program(subprocess.Popen[Any]):
    """`Popen(["mediacdn", *arguments], …)`; `arguments` begin with the verb."""

    _told: int

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path | None = None,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        text: bool = False,
        start_new_session: bool = False,
    ) -> None:
        strange = [name for name in env.keys() - HEARD if name.startswith(FOR_INTERPRETERS) and env[name] != os.environ.get(name)]
        assert not strange, f"{strange} would not be heard"
        super().__init__(
            arguments,
            env=env,
            cwd=cwd,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            text=text,
            bufsize=1 if text else -1,
            start_new_session=start_new_session,
        )

    # What follows is how Popen itself is built: from CPython 3.11 on these three are what it knows of the system.

    def _execute_child(self, args: Sequence[str], *rest: Any) -> None:
        _executable, _preexec, _close, _pass, cwd, env, _startup, _flags, _shell, *pipes = rest[:15]
        session = rest[20]
        wish = {"arguments": list(args), "cwd": str(cwd or os.getcwd()), "env": dict(env), "session": bool(session)}
        streams = [pipes[0], pipes[3], pipes[5]]
        try:
            self.pid, self._told = _source().fork(wish, [own if own != -1 else standard for standard, own in enumerate(streams)])
            self._child_created = True
            weakref.finalize(self, os.close, self._told)
        finally:
            self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        if self.returncode is None:
            self._heard(0)
        return self.returncode

    def _wait(self, timeout: float | None) -> int:
        if self.returncode is None and not self._heard(timeout):
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self.returncode

    def _heard(self, timeout: float | None) -> bool:
        poll = select.poll()
        poll.register(self._told, select.POLLIN)
        if self.returncode is None and not poll.poll(None if timeout is None else timeout * 1000):
            return False
        with self._waitpid_lock:  # type: ignore[attr-defined]
            if self.returncode is None:
                status = os.read(self._told, 16)
                # Nothing was told: whoever would have is gone, and so is the child as far as anybody can know.
                self.returncode = os.waitstatus_to_exitcode(int(status)) if status else 255
        return True
