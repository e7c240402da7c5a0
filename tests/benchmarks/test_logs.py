"""What the benchmarks quote of a server's logs after a failure."""

from pathlib import Path

import pytest

from benchmarks import logs

COMBINED = '127.0.0.1 - - [22/Nov/2026:05:52:56 +0000] "GET /p.bin HTTP/1.1" {} 177 "https://chat.example/" "Firefox"\n'
OURS = '{{"status": {}, "event": "request"}}\n'


@pytest.mark.parametrize("form", [COMBINED, OURS], ids=["combined", "JSON"])
def test_counts_statuses_and_quotes_failures(form: str) -> None:
    lines = [form.format(status) for status in (200, 304, 500, 206, 200, 404)]
    assert logs.said(lines) == "\n  ".join(
        ["2 times 200, 1 times 206, 1 times 304, 1 times 404, 1 times 500", form.format(500).strip(), form.format(404).strip()]
    )


def test_quotes_the_last_lines_of_an_error_log() -> None:
    assert logs.said(f"open() failed {number}\n" for number in range(9)) == "\n  ".join(
        ["no answers", *(f"open() failed {number}" for number in range(4, 9))]
    )


def test_begins_where_it_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "FLUSHED", 0.0)
    before, later = tmp_path / "access.log", tmp_path / "error.log"
    before.write_text(COMBINED.format(500))
    read = logs.Logs([before, later, tmp_path / "never.log"])
    with before.open("a") as more:
        more.write(COMBINED.format(200))
    later.write_text("too many open files\n")
    assert read.since() == "access.log: 1 times 200\nerror.log: no answers\n  too many open files"
