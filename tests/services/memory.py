"""Folders in memory, for much that is written and soon thrown away: a busy disk is waited for by all the tests beside."""

import os
import shutil
import tempfile
from pathlib import Path

SHARED = Path("/dev/shm")


def folder(prefix: str, room: int) -> Path:
    """Make a folder for at most `room` bytes: in memory where there is twice as much, else where temporary files lie. The caller removes it."""
    roomy = os.access(SHARED, os.W_OK) and shutil.disk_usage(SHARED).free > 2 * room
    return Path(tempfile.mkdtemp(prefix=prefix, dir=SHARED if roomy else None))
