"""Pages of lists of which a caller may not see everything."""

import pytest

from mediacdn.routes.pages import READS, filled

pytestmark = pytest.mark.anyio

ROWS = [f"{number:04}" for number in range(1000, 0, -1)]


class Shelf:
    """Rows, newest first, as the catalog pages them; counts the reads."""

    def __init__(self, rows: list[str]) -> None:
        self.rows, self.reads = rows, 0

    async def read(self, most: int, after: str | None) -> tuple[list[str], str | None]:
        self.reads += 1
        assert most > 0
        left = [row for row in self.rows if after is None or row < after]
        return left[:most], left[most - 1] if len(left) > most else None


@pytest.mark.parametrize("every", [1, 2, 3, 7, 40])
async def test_following_next_tells_all_of_it_once(every: int) -> None:
    async def keeps(row: str) -> bool:
        return int(row) % every == 0

    told: list[str] = []
    after: str | None = None
    while True:
        shelf = Shelf(ROWS)
        page, after = await filled(shelf.read, keeps, limit=20, after=after)
        assert len(page) <= 20
        assert shelf.reads <= READS
        assert shelf.reads == 1 or every > 1
        assert every > 2 or len(page) == 20 or after is None, "it is filled"
        told += page
        if after is None:
            break
    assert told == [row for row in ROWS if int(row) % every == 0]


async def test_what_keeps_nothing_ends_its_reads() -> None:
    async def keeps(row: str) -> bool:
        return False

    shelf = Shelf(ROWS)
    page, after = await filled(shelf.read, keeps, limit=5, after=None)
    assert (page, after, shelf.reads) == ([], ROWS[5 * READS - 1], READS)
