"""Cache-Control, RFC 9111 section 5.2.2 and RFC 8246; CDN-Cache-Control, RFC 9213 and RFC 5861."""

import http_sf
import pytest

from mediacdn.http.freshness import cache_control, cdn_cache_control


@pytest.mark.parametrize(
    ("clause", "public", "max_age", "remaining", "immutable", "field"),
    [
        ("RFC 8246: bytes under an id do not change", True, 86400, None, True, "public, max-age=86400, immutable"),
        ("5.2.2.9: public, not immutable", True, 86400, None, False, "public, max-age=86400"),
        ("5.2.2.7: private", False, 60, None, True, "private, max-age=60"),
        ("5.2.2.7: private is never immutable", False, 60, None, False, "private, max-age=60"),
        ("5.2.2.1: not fresher than the media lives", True, 86400, 10, True, "public, max-age=10"),
        ("5.2.2.1: private, not fresher than the media lives", False, 60, 10, True, "private, max-age=10"),
        ("5.2.2.1: a longer life does not lengthen", True, 60, 86400, True, "public, max-age=60"),
        ("5.2.2.1: at its last second", True, 60, 0, True, "public, max-age=0"),
        ("1.2.2: delta-seconds are never negative: past its life", True, 60, -5, True, "public, max-age=0"),
        ("1.2.2: delta-seconds are never negative: setting", False, -1, None, True, "private, max-age=0"),
    ],
)
def test_cache_control(clause: str, public: bool, max_age: int, remaining: int | None, immutable: bool, field: str) -> None:
    assert cache_control(public, max_age, remaining=remaining, immutable=immutable) == field, clause


@pytest.mark.parametrize(
    ("clause", "max_age", "grace", "remaining", "field"),
    [
        ("RFC 5861 3, 4: stale for a while", 600, 60, None, "public, max-age=600, stale-while-revalidate=60, stale-if-error=60"),
        ("RFC 5861: no grace", 600, 0, None, "public, max-age=600"),
        ("always asked, but served meanwhile", 0, 60, None, "public, max-age=0, stale-while-revalidate=60, stale-if-error=60"),
        ("the media's own end bounds freshness", 600, 60, 10, "public, max-age=10"),
        ("and what is left of it the grace", 600, 60, 630, "public, max-age=600, stale-while-revalidate=30, stale-if-error=30"),
        ("a longer life lengthens nothing", 600, 60, 9000, "public, max-age=600, stale-while-revalidate=60, stale-if-error=60"),
        ("past its life", 600, 60, -5, "public, max-age=0"),
        ("RFC 9111 1.2.2: never negative", -1, -1, None, "public, max-age=0"),
    ],
)
def test_cdn_cache_control(clause: str, max_age: int, grace: int, remaining: int | None, field: str) -> None:
    """RFC 9213 2.1: a structured-field dictionary."""
    assert cdn_cache_control(max_age, grace, remaining=remaining) == field, clause
    read = http_sf.parse(field.encode(), tltype="dictionary")
    assert read["public"][0] is True
    assert all(isinstance(value, int) for value, _ in read.values())
