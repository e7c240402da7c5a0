"""The log's end: every line once and in its order, what was too much counted, small stretches under load, nothing secret."""

import io
import json
from pathlib import Path

import pytest

from mediacdn.logs import ThreadedWriter, _next_pause

TARGET = b"/v1/media/01ARZ3NDEKTSV4RRFFQ69G5FAV?exp=2&iat=1&kid=k&sig=" + b"A" * 43


def test_lines_of_both_kinds_in_their_order() -> None:
    stream = io.BytesIO()
    writer = ThreadedWriter(stream, threaded=False)
    writer.write(b'{"event":"first"}\n')
    writer.write((1.5, "id", None, "alice", "GET", TARGET, 200, 10, 0.0123))
    writer.write(b'{"event":"last"}\n')
    assert writer.drain() == 3
    assert writer.drain() == 0
    first, line, last = map(json.loads, stream.getvalue().splitlines())
    assert (first["event"], last["event"]) == ("first", "last")
    assert (line["subject"], line["status"], line["bytes"], line["ms"]) == ("alice", 200, 10, 12.3)
    assert line["timestamp"] == "1970-01-01T00:00:01.500000Z"
    assert line["path"].endswith("&sig=***")


def test_what_is_too_much_is_counted() -> None:
    stream = io.BytesIO()
    writer = ThreadedWriter(stream, threaded=False)
    for number in range(10_500):
        writer.write(b"%d\n" % number)
    writer.drain()
    lines = stream.getvalue().splitlines()
    assert lines[:10_000] == [b"%d" % number for number in range(10_000)]
    assert [json.loads(line)["count"] for line in lines[10_000:]] == [500]


@pytest.mark.parametrize("shared", [False, True])
def test_an_end_that_is_closed_stops_nobody(tmp_path: Path, shared: bool) -> None:
    stream = (tmp_path / "log").open("wb")
    writer = ThreadedWriter(stream, threaded=False, shared=shared)
    writer.write(b"a\n")
    stream.close()
    assert writer.drain() == 1


@pytest.mark.parametrize(("rate", "lines"), [(0, 0), (10, 1), (500, 50), (1_000, 100), (5_000, 100), (15_000, 100), (40_000, 200)])
def test_stretches_stay_short_under_load(rate: int, lines: int) -> None:
    """Lines that are written at once, at so many a second, when the pauses have settled; and calm follows upon a burst."""
    pause = 0.1
    for _ in range(5):
        pause = _next_pause(pause, round(rate * pause))
    assert round(rate * pause) == pytest.approx(lines, abs=1)
    assert _next_pause(pause, 0) == 0.1
