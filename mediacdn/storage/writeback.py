"""Early write-back: asks the kernel to start writing a big file's pages to the disk while the rest is still arriving, so that the fsync at the end is short."""

import ctypes
import os
from collections.abc import Callable

_SYNC_FILE_RANGE_WRITE = 2


def _find() -> Callable[[int, int, int, int], int] | None:
    call = getattr(ctypes.CDLL(None, use_errno=True), "sync_file_range", None)
    if call is None:
        return None
    call.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    call.restype = ctypes.c_int
    found: Callable[[int, int, int, int], int] = call
    return found


_sync_file_range = _find()


def start_writeback(fd: int, start: int, length: int) -> None:
    """Begin writing `length` bytes from `start`; advice only, so a kernel or file system that refuses it is ignored (the fsync reports real errors)."""
    if _sync_file_range is not None:
        _sync_file_range(fd, start, length, _SYNC_FILE_RANGE_WRITE)
    else:
        # DONTNEED starts write-back of dirty pages too; pages still dirty stay.
        os.posix_fadvise(fd, start, length, os.POSIX_FADV_DONTNEED)
