"""Cache-Status, RFC 9211, read back as a structured field (RFC 9651)."""

from typing import Any

import http_sf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediacdn.http.cache_status import FORWARDS, cache_status


@pytest.mark.parametrize(
    ("clause", "parameters", "field"),
    [
        ("2: nothing known", {}, "mediacdn"),
        ("2.1: a hit", {"hit": True}, "mediacdn; hit"),
        ("2.1, 2.4: a hit with its remaining freshness", {"hit": True, "ttl": 376}, "mediacdn; hit; ttl=376"),
        ("2.4: a stale hit", {"hit": True, "ttl": -412}, "mediacdn; hit; ttl=-412"),
        ("2.2: a miss", {"fwd": "uri-miss"}, "mediacdn; fwd=uri-miss"),
        ("2.5: a miss that was stored", {"fwd": "uri-miss", "stored": True}, "mediacdn; fwd=uri-miss; stored"),
        ("2.5: a miss that was not", {"fwd": "uri-miss", "stored": False}, "mediacdn; fwd=uri-miss; stored=?0"),
        ("2.6: a collapsed miss", {"fwd": "uri-miss", "collapsed": True}, "mediacdn; fwd=uri-miss; collapsed"),
        ("2.3: the origin's status", {"fwd": "stale", "fwd_status": 304}, "mediacdn; fwd=stale; fwd-status=304"),
        ("2.7: the key", {"hit": True, "key": "01J/original/1"}, 'mediacdn; hit; key="01J/original/1"'),
        ("2.8: a token as detail", {"hit": True, "detail": "MEMORY"}, "mediacdn; hit; detail=MEMORY"),
        ("2.8: a sentence as detail", {"hit": True, "detail": 'the "best" \\'}, 'mediacdn; hit; detail="the \\"best\\" \\\\"'),
        ("RFC 9651 3.3.3: strings are printable ASCII", {"hit": True, "key": "a\r\nb\u00e9"}, 'mediacdn; hit; key="a??b?"'),
    ],
)
def test_cache_status(clause: str, parameters: dict[str, Any], field: str) -> None:
    assert cache_status(**parameters) == field, clause


def test_a_hit_is_not_forwarded() -> None:
    """2.2."""
    with pytest.raises(ValueError, match="not forwarded"):
        cache_status(hit=True, fwd="miss")


@pytest.mark.parametrize("fwd", ["", "gone", "uri miss", "miss; hit", "miss\r\nX: y"])
def test_reasons_are_those_of_the_rfc(fwd: str) -> None:
    with pytest.raises(ValueError, match="no reason"):
        cache_status(fwd=fwd)


@given(
    st.sampled_from([None, *sorted(FORWARDS)]),
    st.none() | st.integers(),
    st.none() | st.booleans(),
    st.none() | st.text(max_size=20),
    st.none() | st.text(max_size=20),
)
@settings(deadline=None)
def test_reads_back(fwd: str | None, ttl: int | None, stored: bool | None, key: str | None, detail: str | None) -> None:
    field = cache_status(hit=fwd is None, fwd=fwd, ttl=ttl, stored=stored, key=key, detail=detail)
    item, parameters = http_sf.parse(field.encode("ascii"), tltype="item")
    assert str(item) == "mediacdn"
    assert ("hit" in parameters) is (fwd is None)
    assert str(parameters.get("fwd", None)) == str(fwd)
    assert parameters.get("stored") == stored
    assert ("ttl" in parameters) is (ttl is not None)
    assert ("key" in parameters) is (key is not None)
    if detail is not None and detail.isascii() and detail.isprintable():
        assert str(parameters["detail"]) == detail
