"""What readers hold of slices, beside what the tiers do: bodies that memory has let go of stay as long as somebody reads them."""

from mediacdn.edge.coalesce import Fill
from mediacdn.edge.entries import Entry


class Lent:
    """Counts slices that readers hold, each once however many read it. Beyond `limit` bytes it is `crowded`: then nobody should keep one while its client is slow."""

    def __init__(self, limit: int) -> None:
        self.bytes = 0
        self._limit = limit
        self._readers: dict[int, int] = {}

    @property
    def crowded(self) -> bool:
        return self.bytes > self._limit

    def take(self, source: Entry | Fill) -> None:
        """A reader holds it from now on."""
        readers = self._readers.get(id(source), 0)
        self._readers[id(source)] = readers + 1
        if not readers:
            self.bytes += _size(source)

    def give_back(self, source: Entry | Fill) -> None:
        """A reader holds it no more."""
        readers = self._readers.pop(id(source)) - 1
        if readers:
            self._readers[id(source)] = readers
        else:
            self.bytes -= _size(source)


def _size(source: Entry | Fill) -> int:
    return source.length if isinstance(source, Fill) else len(source.body)
