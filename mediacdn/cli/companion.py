"""The worker beside a server: a child process, started again with a growing pause when it dies, and never left behind.

The child holds the read end of a pipe whose other end only the server has. However the server ends, kill -9 included, the pipe closes and the child with it.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence

PAUSE_FIRST, PAUSE_MOST = 0.5, 30.0
HEALTHY = 60.0
"""Seconds of life after which a death counts as the first again."""


class Companion:
    """Keeps `command` running until `stop`. `tell` hears a sentence when it died, from the companion's own thread."""

    def __init__(self, command: Sequence[str], tell: Callable[[str], None], *, patience: float = 20.0) -> None:
        self._command = list(command)
        self._tell = tell
        self._patience = patience
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="companion", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Close the pipe, which ends the child, and wait for it; after `patience` seconds kill it."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(self._patience + 5)

    def _keep(self) -> None:
        pause = PAUSE_FIRST
        while not self._stopping.is_set():
            born = time.monotonic()
            # A session of its own: Ctrl-C in the terminal is the server's to hear, which then ends the worker in order.
            # Its standard output is our standard error: ours may be a program's that reads JSON.
            child = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=2, start_new_session=True)  # noqa: S603 (our own command)
            code = self._watch(child)
            if self._stopping.is_set():
                return
            pause = PAUSE_FIRST if time.monotonic() - born > HEALTHY else pause
            self._tell(f"the worker ended with {code}; it is started again in {pause:.1f} s")
            self._stopping.wait(pause)
            pause = min(pause * 2, PAUSE_MOST)

    def _watch(self, child: subprocess.Popen[bytes]) -> int:
        assert child.stdin is not None
        while True:
            try:
                return child.wait(0.2)
            except subprocess.TimeoutExpired:
                if not self._stopping.is_set():
                    continue
            child.stdin.close()
            try:
                return child.wait(self._patience)
            except subprocess.TimeoutExpired:
                child.kill()
                return child.wait()


def worker_command(arguments: Sequence[str]) -> list[str]:
    """The command of a tethered worker in the same interpreter."""
    return [sys.executable, "-m", "mediacdn", "worker", "--tethered", *arguments]


def tether(end: Callable[[], None], grace: float = 15.0) -> None:
    """In the child: call `end` from a thread when standard input closes, and leave by force when the process is still there `grace` seconds later."""

    def watch() -> None:
        while os.read(0, 4096):
            pass
        end()
        time.sleep(grace)
        os._exit(1)

    threading.Thread(target=watch, name="tether", daemon=True).start()
