"""Server-Timing, W3C Server Timing section 3."""

import math

import pytest

from mediacdn.http.timing import server_timing


@pytest.mark.parametrize(
    ("clause", "metrics", "field"),
    [
        ("3: nothing measured", [], ""),
        ("3: a name alone", [("miss", None, None)], "miss"),
        ("3: dur", [("fill", 12.5, None)], "fill;dur=12.5"),
        ("3: dur of whole milliseconds", [("fill", 100.0, None)], "fill;dur=100"),
        ("3: dur to the microsecond", [("edge", 0.0214, None)], "edge;dur=0.021"),
        ("3: too short to tell", [("edge", 0.0001, None)], "edge;dur=0"),
        ("3: desc, a token", [("edge", None, "memory")], "edge;desc=memory"),
        ("3: desc, quoted", [("fill", 1, "read from the origin")], 'fill;dur=1;desc="read from the origin"'),
        ("RFC 9110 5.6.4: quoted pairs", [("fill", None, 'a "b" \\')], 'fill;desc="a \\"b\\" \\\\"'),
        ("RFC 9110 5.5: no line ends", [("fill", None, "a\r\nX: y")], 'fill;desc="a??X: y"'),
        ("3: in the order given", [("auth", 0.1, None), ("edge", 0.2, "disk")], "auth;dur=0.1, edge;dur=0.2;desc=disk"),
        ("a clock that was set back", [("fill", -3.0, None)], "fill;dur=0"),
        ("no number", [("fill", math.nan, None), ("send", math.inf, "x")], "fill, send;desc=x"),
    ],
)
def test_server_timing(clause: str, metrics: list[tuple[str, float | None, str | None]], field: str) -> None:
    assert server_timing(metrics) == field, clause


@pytest.mark.parametrize("name", ["", "a b", "a;b", "a,b", "ä", "a\r\nb"])
def test_names_are_tokens(name: str) -> None:
    """3: server-timing-metric-name = token."""
    with pytest.raises(ValueError, match="no name"):
        server_timing([(name, 1.0, None)])
