"""Cache-Control, RFC 9111 section 5.2.2 and RFC 8246."""

import pytest

from mediacdn.http.freshness import cache_control


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
