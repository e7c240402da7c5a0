"""Field lines: pairs and lines are the same fields, and no value can end its line."""

import pytest

from mediacdn.http.fields import field_lines, field_pairs

PAIRS = [(b"etag", b'"a: b"'), (b"vary", b""), (b"content-disposition", b"inline; filename*=UTF-8''%C3%A4"), (b"x", b"caf\xe9")]


def test_there_and_back() -> None:
    text = field_lines(PAIRS)
    assert text == b"etag: \"a: b\"\r\nvary: \r\ncontent-disposition: inline; filename*=UTF-8''%C3%A4\r\nx: caf\xe9\r\n"
    assert field_pairs([text[:19], text[19:]]) == PAIRS
    assert field_pairs([field_lines([])]) == []


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: b", b"a\nb", b"a\rb", b"a\0b", b"\r\n"])
def test_no_value_ends_its_line(value: bytes) -> None:
    with pytest.raises(ValueError, match="CR, LF or NUL"):
        field_lines([(b"a", b"b"), (b"x", value)])
