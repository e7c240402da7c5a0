"""ffmpeg is nice to the server, also where the kernel shares the processor between sessions first."""

import subprocess
import sys
from pathlib import Path

import pytest

from mediacdn_ffmpeg import running

AUTOGROUP = Path("/proc/self/autogroup")
CODE = f"from mediacdn_ffmpeg.running import {running._nice_as_session.__name__} as nice; nice(7); print(open('{AUTOGROUP}').read())"


def test_a_session_is_as_nice_as_its_ffmpeg() -> None:
    if not AUTOGROUP.exists():  # this kernel knows no such groups: then there is nothing to say, and saying it does no harm
        running._nice_as_session(0)
        return
    told = subprocess.run([sys.executable, "-c", CODE], check=True, capture_output=True, text=True, start_new_session=True, timeout=30)
    assert told.stdout.split()[-2:] == ["nice", "7"]


def test_a_kernel_that_refuses_it_is_left_at_that(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refused(path: Path, text: str) -> None:
        asked.append((path, text))
        raise BlockingIOError if len(asked) < 3 else PermissionError

    monkeypatch.setattr(Path, "write_text", refused)
    monkeypatch.setattr(running.time, "sleep", lambda seconds: None)
    running._nice_as_session(7)
    assert asked == [(AUTOGROUP, "7")] * 3
