"""kill -9 during uploads by 8 writers: the gate of the long run in benchmarks/crash.py."""

from pathlib import Path

import pytest

from benchmarks.crash import run

KILLS = 20


@pytest.mark.timeout(600)
def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    report = run(tmp_path, kills=KILLS, writers=8, forked=True)
    assert report.kills == KILLS
    assert report.acknowledged > KILLS, "the writers hardly wrote; the run says nothing"
    assert report.clean, report
