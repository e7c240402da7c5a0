"""Which digest a key must have, remembered by those who are about to read it, for the wrapper that verifies."""

from collections import OrderedDict


class Digests:
    """The latest `size` keys and their lower-case hexadecimal SHA-256. Keys never get other bytes, so an entry cannot be wrong."""

    def __init__(self, size: int = 10_000) -> None:
        self._size = size
        self._known: OrderedDict[str, str] = OrderedDict()

    def remember(self, key: str, digest: str) -> None:
        self._known[key] = digest
        self._known.move_to_end(key)
        if len(self._known) > self._size:
            self._known.popitem(last=False)

    def get(self, key: str) -> str | None:
        return self._known.get(key)
