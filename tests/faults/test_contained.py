"""Parts of benchmarks leave nothing behind: when they end, when they are late, and when whoever started them is told to end."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PART = """
import json, subprocess, tempfile, time
there = subprocess.Popen(["sleep", "1000"], start_new_session=True)
print("on its way")
print(json.dumps({"pid": there.pid, "folder": tempfile.mkdtemp()}), flush=True)
time.sleep(0 if %r == "ends" else 1000)
"""
RUN = """
import json, sys, time
from benchmarks.contained import Ended, Late, contained
with contained("timeit", "-n1", "-r1", "-s", sys.argv[2]) as part:
    print(json.dumps(part.hear(time.monotonic() + 20)), flush=True)
    try:
        part.hear(time.monotonic() + (0.2 if sys.argv[1] == "late" else 20))
    except (Ended, Late) as error:
        print(type(error).__name__)
"""


def there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(("how", "last"), [("ends", "Ended"), ("late", "Late"), ("told", "")])
def test_nothing_is_left(how: str, last: str) -> None:
    with subprocess.Popen([sys.executable, "-c", RUN, how, PART % how], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "on its way\n"
        said = json.loads(run.stdout.readline())
        if how == "told":
            assert there(said["pid"])
            run.send_signal(signal.SIGTERM)
        assert run.stdout.read().strip().endswith(last)
        assert run.wait(20) == (143 if how == "told" else 0)
    assert not there(said["pid"])
    assert not os.path.exists(said["folder"])
