"""What runs in the other sandbox's child: ffmpeg itself, below it, behind the kernel's fence, without a network where the system allows that, and dead as soon as this child is."""

import ctypes
import os
import re
import resource
import select
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import msgspec

from mediacdn import OverLimits, enclose
from mediacdn_ffmpeg.request import Encode, Ran

TAIL = 2000
NO_MEMORY = b"Cannot allocate memory"
TO_END = 5.0
"""Seconds in which ffmpeg is to end after it has said so: it may try again for ever, or wait for a thread that it could not start."""
STANDSTILL = 120.0
"""Seconds without any use of the processor after which it waits for itself."""
LOOK = 1.0
_NEWNET, _NEWUSER = 0x40000000, 0x10000000
_PDEATHSIG = 1
_FOLDERS = re.compile(r"(?:/[^\s/:'\"]+)+/")
_ADDRESS = re.compile(r" @ 0x[0-9a-f]+")


def _nice_as_session(nice: int) -> None:
    """Say so of the whole session too: where the kernel shares the processor between sessions first (autogroup, sched(7)), a process is nice only to its own."""
    for _ in range(3):
        try:
            Path("/proc/self/autogroup").write_text(str(nice))
            return
        except BlockingIOError:  # one change in a tenth of a second, on the whole machine
            time.sleep(0.11)
        except OSError:
            return


def run(request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
    """Run ffmpeg in the folder, to its end."""
    asked = msgspec.convert(request, Encode)
    source, folder, progress = descriptors
    os.lseek(source, 0, os.SEEK_SET)
    known = {"{source}": source, "pipe:{progress}": f"pipe:{progress}"}
    words = [str(known.get(each, each)) for each in asked.arguments]
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    before, allowed = spent.ru_utime + spent.ru_stime, resource.getrlimit(resource.RLIMIT_CPU)[0]
    libc, mine = ctypes.CDLL(None, use_errno=True), os.getpid()

    def alone() -> None:
        # Best effort: there is no protocol that ffmpeg may use but the descriptor's. What cannot be isolated here is left to that.
        if libc.unshare(_NEWNET) != 0:
            libc.unshare(_NEWUSER | _NEWNET)
        libc.prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != mine:
            os._exit(1)
        os.nice(asked.nice)
        _nice_as_session(asked.nice)
        enclose(asked.fence, program=words[0], folder=folder)

    process = subprocess.Popen(  # noqa: S603 - the arguments are ours
        words, cwd=f"/proc/self/fd/{folder}", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        pass_fds=(source, progress), preexec_fn=alone,  # this process has one thread
    )  # fmt: skip
    tail, ends = b"", float("inf")
    used, since = 0.0, time.monotonic()
    standing = False
    assert process.stderr is not None
    says = process.stderr.fileno()
    while not standing:
        heard, _, _ = select.select([says], [], [], LOOK)
        now = time.monotonic()
        if heard:
            chunk = os.read(says, 8192)
            if not chunk:
                break
            tail = (tail + chunk)[-TAIL:]
            if ends == float("inf") and NO_MEMORY in tail:
                ends = now + TO_END
        if now > ends:
            break
        if (uses := _processor(process.pid)) != used:
            used, since = uses, now
        standing = now - since > STANDSTILL
    if standing or time.monotonic() > ends:
        process.kill()
    process.stderr.close()
    code = process.wait()
    if standing:
        raise OverLimits("It came to a standstill")
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    # It catches the signal of the limit, and ends as if it had been interrupted.
    if code == -signal.SIGXCPU or (code == 255 and spent.ru_utime + spent.ru_stime - before >= allowed - 1):
        raise OverLimits("It takes more processor time than is allowed")
    if code in (-signal.SIGKILL, -signal.SIGXFSZ) or NO_MEMORY in tail or b"File too large" in tail:
        raise OverLimits("It needs more memory or room than is allowed")
    answer: dict[str, Any] = msgspec.to_builtins(Ran(code, _cleaned(tail)))
    return answer


def _processor(pid: int) -> float:
    """Seconds of processor time that a process has used: its clock, clock_getcpuclockid(3), for /proc is behind the fence."""
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:  # it has ended, and who else holds its standard error is about to
        return 0.0


def _cleaned(tail: bytes) -> str:
    """The end of what was said as one line, without places of this machine."""
    lines = [line.strip() for line in tail.decode("utf-8", "replace").splitlines()]
    text = " / ".join(dict.fromkeys(line for line in lines if line))
    return _ADDRESS.sub("", _FOLDERS.sub("", "".join(each if each.isprintable() else "?" for each in text)))[-TAIL:]
