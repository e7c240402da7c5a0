"""What the kernel is asked for the event loop's thread, and for no other."""

import ctypes
import os
import struct
import threading

from mediacdn.server.prompt import SLICE, wake_promptly

FORM = "=IIQiIQQQ"
CALL = {"x86_64": 315, "aarch64": 275}
KERNEL = tuple(map(int, os.uname().release.split(".")[:2]))


def attributes() -> tuple[int, ...]:
    held = ctypes.create_string_buffer(struct.calcsize(FORM))
    assert ctypes.CDLL(None).syscall(CALL[os.uname().machine], 0, held, len(held), 0) == 0
    return struct.unpack(FORM, held.raw)


def test_a_thread_asks_for_itself() -> None:
    before = attributes()
    seen = []

    def ask() -> None:
        seen.append(wake_promptly())
        seen.append(attributes())
        below = threading.Thread(target=lambda: seen.append(attributes()))
        below.start()
        below.join()

    asking = threading.Thread(target=ask)
    asking.start()
    asking.join()
    took, own, started = seen
    assert took
    assert own[1] == before[1]
    assert own[3] == before[3]
    if KERNEL >= (6, 12):
        assert own[5] == SLICE
    assert started[1:] == before[1:]
    assert attributes() == before
