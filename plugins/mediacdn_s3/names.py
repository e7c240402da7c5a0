"""Keys of the core, and what they are called in the bucket."""

import re

from mediacdn import InvalidParameter

_KEY = re.compile(r"(?!.{513})(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._-]+(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._-]+)*", re.ASCII)
_PREFIX = re.compile(r"[A-Za-z0-9._/-]*", re.ASCII)


class Names:
    """`prefix` is a path in the bucket, or empty."""

    def __init__(self, prefix: str) -> None:
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""

    def of(self, key: str) -> str:
        """What the object is called in the bucket. Raises: InvalidParameter."""
        if not _KEY.fullmatch(key):
            raise InvalidParameter("The storage key is malformed")
        return self._prefix + key

    def beneath(self, prefix: str) -> str | None:
        """What names of keys with this prefix begin with; None when no key can have it."""
        return self._prefix + prefix if _PREFIX.fullmatch(prefix) else None

    def key(self, name: str) -> str | None:
        """The key of what lies in the bucket under `name`; None when it is not ours."""
        key = name.removeprefix(self._prefix)
        return key if name.startswith(self._prefix) and _KEY.fullmatch(key) else None
