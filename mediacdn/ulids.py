"""Media ids: ULIDs, 26 characters of Crockford's base32, monotonic within a process."""

import re
import threading

from ulid import ULID

_CANONICAL = re.compile("[0-7][0-9A-HJKMNP-TV-Z]{25}", re.ASCII)


def is_ulid(text: str) -> bool:
    """Whether this is the one canonical spelling: upper case, no ambiguous letters, 128 bits."""
    return _CANONICAL.fullmatch(text) is not None


class Ulids:
    """Makes ids that only grow: within one millisecond, or when the clock steps back, the last one is counted up."""

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()

    def __call__(self) -> str:
        with self._lock:
            self._last = max(int(ULID()), self._last + 1)
            return str(ULID.from_int(self._last))
