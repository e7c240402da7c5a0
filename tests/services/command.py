"""The real command for tests, with and without a terminal."""

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.services.program import Program

COMMAND = (sys.executable, "-m", "mediacdn")


def environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The test's own environment without what would configure the command, and with `environ`.

    Where bytecode may not be written, it is kept aside: else each of hundreds of processes would compile every module that it imports.
    """
    own = {name: value for name, value in os.environ.items() if not name.startswith("MEDIACDN_")}
    if own.pop("PYTHONDONTWRITEBYTECODE", ""):
        own.setdefault("PYTHONPYCACHEPREFIX", str(Path(__file__).parents[2] / ".pytest_cache" / "bytecode"))
    return {**own, **(environ or {})}


def run(
    *arguments: object, environ: Mapping[str, str] | None = None, cwd: Path | None = None, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run a verb to its end."""
    pipe, line = subprocess.PIPE, [str(each) for each in arguments]
    with Program(line, env=environment(environ), cwd=cwd, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
        return subprocess.CompletedProcess(line, process.returncode, out, err)


def answered(*arguments: object, environ: Mapping[str, str] | None = None, code: int = 0) -> Any:
    """Run a verb with --json and give what it wrote: one document, and nothing else on stdout."""
    done = run(*arguments, "--json", environ=environ)
    assert done.returncode == code, done.stdout + done.stderr
    assert done.stdout.count("\n") == 1
    return json.loads(done.stdout)


class Terminal:
    """A command whose standard streams are a pseudo-terminal; `screen` is what it has written there."""

    def __init__(self, *arguments: object, environ: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
        self._master, slave = pty.openpty()
        # The group is the test's own, so that the terminal's Ctrl-C is not played but sent by signal.
        self.process = Program(
            [str(each) for each in arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment({"TERM": "xterm-256color", "COLUMNS": "160", **(environ or {})}),
            cwd=cwd,
            start_new_session=True,
        )
        os.close(slave)
        self.screen = ""

    def until(self, text: str, seconds: float = 30.0) -> str:
        """Read on until `text` has appeared; give the screen."""
        end = time.monotonic() + seconds
        while text not in self.screen:
            assert time.monotonic() < end, f"{text!r} does not appear:\n{self.screen}"
            if not self._read(0.2) and self.process.poll() is not None:
                assert text in self.screen, self.screen
        return self.screen

    def end(self) -> int:
        """Read to the end and give the exit code."""
        while self._read(0.2) or self.process.poll() is None:
            pass
        os.close(self._master)
        return self.process.wait(10)

    def _read(self, seconds: float) -> bool:
        if not select.select([self._master], [], [], seconds)[0]:
            return False
        try:
            read = os.read(self._master, 65536)
        except OSError:  # EIO: nobody holds the other end any more
            return False
        self.screen += read.decode(errors="replace").replace("\r\n", "\n")
        return bool(read)


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    try:
        return [
            int(each) for task in os.listdir(f"/proc/{pid}/task") for each in Path(f"/proc/{pid}/task/{task}/children").read_text().split()
        ]
    except OSError:
        return []


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def within(seconds: float, condition: Any) -> Any:
    """Wait until `condition()` is true and give what it gave."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.05)
    return found
