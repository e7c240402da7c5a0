"""Media types, RFC 9110 section 8.3.1 and RFC 6838 section 4.2."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediacdn.http.media_types import content_type_of, matches, most_specific, normalise


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("image/png", "image/png"),
        ("IMAGE/Png", "image/png"),
        ("text/plain; charset=utf-8", "text/plain"),
        ("text/plain;charset=utf-8", "text/plain"),
        ("text/plain ; charset=utf-8", "text/plain"),
        ("text/plain;", "text/plain"),
        (" text/plain\t", "text/plain"),
        ('multipart/form-data; boundary="a;b"', "multipart/form-data"),
        ("image/svg+xml", "image/svg+xml"),
        ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        ("application/x-a!#$&^_b", "application/x-a!#$&^_b"),
        ("a/" + "b" * 127, "a/" + "b" * 127),
        ("a/" + "b" * 128, None),
        ("", None),
        ("image", None),
        ("image/", None),
        ("/png", None),
        ("image/png/x", None),
        ("image /png", None),
        ("image/ png", None),
        ("image/png image/gif", None),
        ("image/png, image/gif", None),
        ("image/*", None),
        ("*/*", None),
        ("*", None),
        ("image/.png", None),
        ("im\u00e4ge/png", None),
        ("image/png\r\nX: y", None),
        ("image/png; a=\r\nX: y", None),
        ("image/png\x00", None),
    ],
)  # fmt: skip
def test_normalise(value: str, name: str | None) -> None:
    assert normalise(value) == name


@given(st.text(max_size=60))
@settings(deadline=None)
def test_normal_form_is_stable(value: str) -> None:
    name = normalise(value)
    assert name is None or normalise(name) == name == name.lower()


@pytest.mark.parametrize(
    ("pattern", "media_type", "covers"),
    [
        ("*/*", "image/png", True),
        ("image/*", "image/png", True),
        ("IMAGE/*", "image/png", True),
        ("Image/PNG", "image/png", True),
        ("image/png", "image/png", True),
        ("image/png", "image/pngx", False),
        ("image/*", "imagex/png", False),
        ("text/plain", "text/plain;charset=utf-16", True),
        ("text/*", "text/plain;charset=utf-16", True),
        ("image/*", "video/mp4", False),
        ("image/gif", "image/png", False),
        ("*/png", "image/png", False),
        ("image/p*", "image/png", False),
        ("*", "image/png", False),
        ("", "image/png", False),
    ],
)
def test_matches(pattern: str, media_type: str, covers: bool) -> None:
    assert matches(pattern, media_type) is covers


def test_most_specific() -> None:
    limits = {"*/*": 1, "Video/*": 2, "video/MP4": 3, "audio/*": 4}
    assert most_specific(limits, "video/mp4") == 3
    assert most_specific(limits, "video/webm") == 2
    assert most_specific(limits, "audio/mpeg") == 4
    assert most_specific(limits, "image/png") == 1
    assert most_specific({"video/*": 2}, "image/png") is None
    assert most_specific({"image/*": 0, "*/*": 5}, "image/png") == 0


@pytest.mark.parametrize(
    ("media_type", "written"),
    [
        ("text/plain", "text/plain; charset=utf-8"),
        ("text/csv", "text/csv; charset=utf-8"),
        ("text/plain;charset=utf-16", "text/plain;charset=utf-16"),
        ("text/csv;charset=utf-16le", "text/csv;charset=utf-16le"),
        ("text/html", "text/html"),
        ("image/png", "image/png"),
    ],
)
def test_a_charset_is_told_where_it_is_known(media_type: str, written: str) -> None:
    assert content_type_of(media_type) == written


def test_a_limit_by_type_holds_whatever_the_charset() -> None:
    assert most_specific({"text/plain": 1, "*/*": 2}, "text/plain;charset=utf-16") == 1
