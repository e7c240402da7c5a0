"""The allowance of a slow peer, as arithmetic."""

import pytest

from mediacdn.server.patience import Patience

# rate 100 bytes/s over 10 s, asked every 2.5 s; bytes that arrive in each interval -> after how many seconds the patience ends (None: never)
PACES = [
    ("nothing", 0, 10.0),
    ("half the rate", 125, 20.0),
    ("nine tenths", 225, 100.0),
    ("the rate", 250, None),
    ("ten times the rate", 2500, None),
]


@pytest.mark.parametrize(("pace", "bytes_each", "ends"), PACES, ids=[each[0] for each in PACES])
def test_only_the_average_counts(pace: str, bytes_each: int, ends: float | None) -> None:
    patience = Patience(100, 10)
    for step in range(200):
        if not patience.lasts(1, step * bytes_each, step * 2.5):
            assert step * 2.5 == ends
            return
    assert ends is None


def test_a_burst_buys_no_more_than_one_window() -> None:
    patience = Patience(100, 10)
    assert patience.lasts(1, 0, 0.0)
    assert patience.lasts(1, 10**9, 1.0)
    assert patience.lasts(1, 10**9, 10.9)
    assert not patience.lasts(1, 10**9, 11.0)


def test_rest_and_another_direction_start_afresh() -> None:
    patience = Patience(100, 10)
    for what in (1, 2):
        assert patience.lasts(what, 0, 0.0)
        assert patience.lasts(what, 0, 9.0)
    patience.rest()
    assert patience.lasts(2, 0, 18.0)
    assert patience.lasts(2, 0, 27.0)
    assert not patience.lasts(2, 0, 28.0)


def test_rate_0_is_no_limit() -> None:
    patience = Patience(0, 10)
    assert all(patience.lasts(1, 0, float(now)) for now in range(1000))
