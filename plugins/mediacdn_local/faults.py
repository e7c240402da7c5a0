"""What an error of the operating system means to the core."""

import errno
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from mediacdn import MediaError, StorageFull, StorageUnavailable

P = ParamSpec("P")
T = TypeVar("T")

ABSENT = frozenset({errno.ENOENT, errno.ELOOP, errno.ENOTDIR})
"""Says a look-up that no object is there. ELOOP and ENOTDIR: a symbolic link, or something that is no folder, stands where only our own files do;
it is not followed."""
# EFBIG: the process's RLIMIT_FSIZE or the file system's largest file.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def fault(error: OSError) -> MediaError:
    """Name the seam's error for `error`; no path of this machine gets into its public words."""
    if error.errno in _FULL:
        return StorageFull()
    return StorageUnavailable(f"The storage failed: {errno.errorcode.get(error.errno or 0, 'EIO')}")


def translated(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call, turning OSError into the seam's errors."""
    try:
        return call(*args, **kwargs)
    except OSError as error:
        raise fault(error) from error
