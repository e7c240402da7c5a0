"""A film far larger than any buffer goes up and down, and the server's memory does not notice. MEDIACDN_BIG_BYTES sets its size."""

import os
from pathlib import Path

import pytest

from benchmarks.big import GROWTH, run

SIZE = int(os.environ.get("MEDIACDN_BIG_BYTES", 1_000_000_000))


@pytest.mark.timeout(max(120, SIZE // 20_000_000))
def test_a_large_film_does_not_grow_the_server(tmp_path: Path) -> None:
    report = run(tmp_path, SIZE, plain=False)
    for way in ("upload", "download"):
        assert report[way]["growth"] <= GROWTH, report
    assert report["stored"] < SIZE + 10_000_000, "one copy on the disk"
