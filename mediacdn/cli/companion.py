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
_LOOK = 0.2


class Companion:
    """Keeps `command` running until `stop`, from a thread of its own after `start`, or by a caller of `attend`. `tell` hears a sentence when it died."""

    def __init__(self, command: Sequence[str], tell: Callable[[str], None], *, patience: float = 30.0) -> None:
        self._command = list(command)
        self._tell = tell
        self._patience = patience
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="companion", daemon=True)
        self._child: subprocess.Popen[bytes] | None = None
        self._born = self._due = 0.0
        self._pause = PAUSE_FIRST

    def start(self) -> None:
        """Keep it from a thread. A parent that forks must not have one, and calls `attend` instead."""
        self._thread.start()

    def attend(self) -> None:
        """Start the child when it is due; notice when it died. Returns at once; to be called a few times a second."""
        now = time.monotonic()
        if self._child is None:
            if now >= self._due:
                self._born = now
                # A session of its own: Ctrl-C in the terminal is the server's to hear, which then ends the worker in order.
                # Its standard output is our standard error: ours may be a program's that reads JSON.
                self._child = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=2, start_new_session=True)  # noqa: S603 (our own command)
            return
        code = self._child.poll()
        if code is None:
            return
        self.forget()
        self._child = None
        self._pause = PAUSE_FIRST if now - self._born > HEALTHY else self._pause
        self._due = now + self._pause
        self._tell(f"the worker ended with {code}; it is started again in {self._pause:.1f} s")
        self._pause = min(self._pause * 2, PAUSE_MOST)

    def forget(self) -> None:
        """Close this process' end of the pipe: in a forked process it would keep the child alive, which is another's."""
        if self._child is not None and self._child.stdin is not None:
            self._child.stdin.close()

    def stop(self) -> None:
        """Close the pipe, which ends the child, and wait for it; after `patience` seconds kill it."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(self._patience + 5)
        if self._child is None:
            return
        self.forget()
        try:
            self._child.wait(self._patience)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._child = None

    def _keep(self) -> None:
        while not self._stopping.wait(_LOOK):
            self.attend()


def worker_command(arguments: Sequence[str]) -> list[str]:
    """The command of a tethered worker in the same interpreter."""
    return [sys.executable, "-m", "mediacdn", "worker", "--tethered", *arguments]


def tether(end: Callable[[], None], grace: float = 25.0) -> None:
    """In the child: call `end` from a thread when standard input closes, and leave by force when the process is still there `grace` seconds later."""

    def watch() -> None:
        while os.read(0, 4096):
            pass
        end()
        time.sleep(grace)
        os._exit(1)

    threading.Thread(target=watch, name="tether", daemon=True).start()
