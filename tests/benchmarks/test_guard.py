"""The guard of the benchmarks: what it lets pass and what it stops, on ratios that were not measured."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import guard

GOOD = {"signed": 0.8, "range": 0.7}


@pytest.mark.parametrize(
    ("now", "told"),
    [
        pytest.param(GOOD, [], id="as recorded"),
        pytest.param({"signed": 0.9, "range": 0.9}, [], id="faster"),
        pytest.param({"signed": 0.8 * 0.86, "range": 0.7}, [], id="14 % slower is noise"),
        pytest.param({"signed": 0.8 * 0.8, "range": 0.7}, ["signed: 0.640 of nginx, recorded 0.800: 20% slower"], id="20 % slower"),
        pytest.param({"signed": 0.8}, ["range: in one of the two only; run with --record"], id="a case is gone"),
        pytest.param(GOOD | {"large": 1.0}, ["large: in one of the two only; run with --record"], id="a case is new"),
    ],
)
def test_what_fails(now: dict[str, float], told: list[str]) -> None:
    assert guard.fallen(now, GOOD) == told


def test_records_then_compares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ratios, file = dict(GOOD), tmp_path / "guard.json"
    monkeypatch.setattr(guard, "measured", lambda *_: ratios)
    guard.main(["--record", "--file", str(file)])
    guard.main(["--file", str(file)])
    ratios["range"] *= 0.8
    with pytest.raises(SystemExit, match=r"range: 0\.560 of nginx, recorded 0\.700: 20% slower$") as stopped:
        guard.main(["--file", str(file)])
    assert "signed" not in str(stopped.value)


def test_says_of_another_machine_that_it_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "guard.json"
    monkeypatch.setattr(guard, "measured", lambda *_: {name: ratio / 2 for name, ratio in GOOD.items()})
    file.write_text(json.dumps({"about": {"date": "today", "commit": "abc", "machine": "a faster one"}, "ratios": GOOD}))
    with pytest.raises(SystemExit, match="another machine: a faster one"):
        guard.main(["--file", str(file)])


def test_says_how_to_record_before_it_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(*_: Any) -> dict[str, float]:
        raise AssertionError("minutes lost")

    monkeypatch.setattr(guard, "measured", measured)
    with pytest.raises(SystemExit, match="make bench-guard ARGS=--record"):
        guard.main(["--file", str(tmp_path / "guard.json")])
