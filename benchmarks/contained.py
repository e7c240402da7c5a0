"""A part of a benchmark in a process of its own, which ends by a deadline: with it ends whatever it started, also what it forgot or what its end left behind, and its
temporary files go. What it prints is passed on; lines that are JSON objects are what it has found out."""

import ctypes
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from benchmarks.jobs_world import Process, children_of
from benchmarks.machine import REPOSITORY

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_GONE_WITHIN = 20.0
_OFTEN = 0.2


class Late(Exception):
    """Nothing was heard by the deadline."""


class Ended(Exception):
    """It ended, and said no more."""


class Part:
    """A running part."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        self._process = process
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, args=(process.stdout,), daemon=True).start()

    def hear(self, deadline: float) -> dict[str, Any]:
        """The next thing that it has found out, until `deadline` of the monotonic clock. Raises: Late, Ended."""
        while True:
            ended = self._process.poll() is not None  # what it has started may hold its end of the pipe for longer
            try:
                line = self._lines.get(timeout=_OFTEN)
            except queue.Empty:
                if ended:
                    raise Ended() from None
                if time.monotonic() > deadline:
                    raise Late() from None
                continue
            if line.startswith("{"):
                said: dict[str, Any] = json.loads(line)
                return said
            print(line, end="", flush=True)

    def _listen(self, output: IO[str]) -> None:
        with suppress(ValueError):  # closed
            for line in output:
                self._lines.put(line)


@contextmanager
def contained(*arguments: str) -> Iterator[Part]:
    """`python -m ARGUMENTS` until the context is left, by whatever way; nothing that it started is there afterwards."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # whoever loses its parent down there becomes a child of this process
    signal.signal(signal.SIGTERM, ends)
    others = children_of(os.getpid())
    with TemporaryDirectory(prefix="mediacdn-part-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)  # PostgreSQL may run as another user
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            cwd=REPOSITORY,
            env={**os.environ, "TMPDIR": folder},
            text=True,
            preexec_fn=lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0),
        )
        try:
            yield Part(process)
        finally:
            _end(others)  # nothing in there needs an orderly end
            process.wait()


def ends(*_: Any) -> None:
    """The SIGTERM of a process that has something to clear away."""
    raise SystemExit(143)


def _end(others: Sequence[Process]) -> None:
    """Kill the children that were not there before, and theirs as they become ours."""
    deadline = time.monotonic() + _GONE_WITHIN
    while left := [each for each in children_of(os.getpid()) if each not in others]:
        for pid, _ in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid, _ in left:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        if time.monotonic() > deadline:
            raise RuntimeError(f"these do not end: {left}")
        time.sleep(0.01)
