"""kill -9 of workers during jobs: the gate of the long run in benchmarks/jobs_crash.py."""

from pathlib import Path

import pytest

from benchmarks.jobs_crash import run

KILLS = 20


@pytest.mark.timeout(240)
def test_every_job_ends_once_and_nothing_is_doubled(tmp_path: Path) -> None:
    report = run(tmp_path, kills=KILLS, forked=True)
    assert report.clean, report
    assert report.kills >= KILLS
    assert report.again, "no worker was killed at work; the run says nothing"
