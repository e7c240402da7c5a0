"""Running soon after waking, though others compute: what the kernel calls a slice (sched_setattr(2), Linux 6.12).

A decoder that computes keeps a processor to the end of its slice, 3 ms as a rule, however nice it is; whoever asks for shorter slices is let in before that. It
takes no right, and gets no more of the processor than before. Older kernels take the word and do nothing.
"""

import ctypes
import os
import struct

SLICE = 100_000
"""Nanoseconds: the least that the kernel grants."""
_CALL = {"x86_64": 314, "aarch64": 274}
_OTHER, _RESET_ON_FORK = 0, 1


def wake_promptly() -> bool:
    """Ask for it, for this thread and none that it starts; whether the kernel took it."""
    number = _CALL.get(os.uname().machine)
    if number is None or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return False
    form = "=IIQiIQQQ"
    wish = struct.pack(form, struct.calcsize(form), _OTHER, _RESET_ON_FORK, os.getpriority(os.PRIO_PROCESS, 0), 0, SLICE, 0, 0)
    return bool(ctypes.CDLL(None, use_errno=True).syscall(number, 0, wish, 0) == 0)
