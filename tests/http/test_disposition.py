"""Content-Disposition, RFC 6266 and RFC 8187; what may be shown in place and what gets the sandbox."""

import unicodedata

import pytest
from aiohttp.multipart import content_disposition_filename, parse_content_disposition
from hypothesis import given, settings
from hypothesis import strategies as st

from mediacdn.errors import InvalidParameter
from mediacdn.http.disposition import MAX_NAME, SANDBOX_CSP, clean_filename, content_disposition, decode_ext_value, inline_safe, is_active


@pytest.mark.parametrize(
    ("clause", "kind", "name", "field"),
    [
        ("6266 4.1: no name", "inline", None, "inline"),
        ("6266 4.1: no name, attachment", "attachment", None, "attachment"),
        ("6266 4.2: case does not count", "INLINE", None, "inline"),
        ("6266 4.2: unknown is attachment", "form-data", None, "attachment"),
        ("6266 4.2: injected is attachment", "inline\r\nX: y", None, "attachment"),
        ("6266 4.3: plain", "attachment", "report.pdf", 'attachment; filename="report.pdf"'),
        ("6266 4.3: blanks", "inline", "my photo (1).png", 'inline; filename="my photo (1).png"'),
        ("6266 4.3: not ASCII", "inline", "\u20ac rates.txt", "inline; filename=\"_ rates.txt\"; filename*=UTF-8''%E2%82%AC%20rates.txt"),
        ("6266 4.3: accents fold in the fallback", "inline", "\u00c9t\u00e9.jpg", "inline; filename=\"Ete.jpg\"; filename*=UTF-8''%C3%89t%C3%A9.jpg"),
        ("6266 4.3: no Latin letters", "inline", "\u5199\u771f.png", "inline; filename=\"__.png\"; filename*=UTF-8''%E5%86%99%E7%9C%9F.png"),
        ("6266 D: quotes", "inline", 'a"b.png', "inline; filename=\"a_b.png\"; filename*=UTF-8''a%22b.png"),
        ("6266 D: percent", "inline", "100%41.png", "inline; filename=\"100_41.png\"; filename*=UTF-8''100%2541.png"),
        ("6266 D: semicolon", "inline", "a;b.png", "inline; filename=\"a_b.png\"; filename*=UTF-8''a%3Bb.png"),
        ("6266 4.3: folders", "inline", "/etc/passwd", 'inline; filename="passwd"'),
        ("6266 4.3: climbing", "inline", "../../etc/passwd", 'inline; filename="passwd"'),
        ("6266 4.3: other slashes", "inline", "C:\\Windows\\evil.exe", 'inline; filename="evil.exe"'),
        ("6266 4.3: only dots", "inline", "..", "inline"),
        ("6266 4.3: only a folder", "inline", "folder/", "inline"),
        ("6266 4.3: dots that fold to dots", "inline", "\u2025", "inline; filename=\"_\"; filename*=UTF-8''%E2%80%A5"),
        ("6266 4.3: a slash that folds to a slash", "inline", "a\uff0fb", "inline; filename=\"a_b\"; filename*=UTF-8''a%EF%BC%8Fb"),
        ("6266 4.3: a quote that folds to a quote", "inline", "a\uff02b", "inline; filename=\"a_b\"; filename*=UTF-8''a%EF%BC%82b"),
        ("9110 5.5: CR LF", "inline", "a\r\nSet-Cookie: x=y.png", "inline; filename=\"aSet-Cookie_ x=y.png\"; filename*=UTF-8''aSet-Cookie%3A%20x%3Dy.png"),
        ("9110 5.5: NUL", "inline", "a\x00.png", 'inline; filename="a.png"'),
        ("9110 5.5: only controls", "inline", "\x00\r\n\t\x7f\x85", "inline"),
        ("bidi override", "attachment", "photo_\u202egpj.exe", 'attachment; filename="photo_gpj.exe"'),
        ("bidi isolates and marks", "inline", "\u2066a\u2069\u200e\u200f\u061c.png", 'inline; filename="a.png"'),
        ("lone surrogate", "inline", "a\ud800b.png", 'inline; filename="ab.png"'),
        ("only a lone surrogate", "inline", "\udcff", "inline"),
        ("joiners stay", "inline", "\u0645\u06cc\u200c\u062e", "inline; filename=\"____\"; filename*=UTF-8''%D9%85%DB%8C%E2%80%8C%D8%AE"),
        ("nothing", "inline", "", "inline"),
        ("blanks only", "inline", " \u3000\u00a0 ", "inline"),
    ],
)  # fmt: skip
def test_content_disposition(clause: str, kind: str, name: str | None, field: str) -> None:
    assert content_disposition(kind, name) == field, clause


NAMES = st.text(st.characters(), max_size=300) | st.text(
    st.sampled_from("a.\\/\"%;'\r\n\x00 \u202e\ud800\u00e9\u5199\u2025\ufdfa"), max_size=300
)


@given(st.sampled_from(["inline", "attachment"]), NAMES)
@settings(max_examples=500, deadline=None)
def test_any_name_gives_one_safe_line_that_reads_back(kind: str, name: str) -> None:
    """6266 4.1, 8187 3.2, read by aiohttp, whose warnings are errors here."""
    field = content_disposition(kind, name)
    assert field.isascii()
    assert field.isprintable()
    assert len(field) <= 4 * MAX_NAME + 64
    read_kind, parameters = parse_content_disposition(field)
    assert read_kind == kind
    cleaned = clean_filename(name)
    assert content_disposition_filename(parameters) == cleaned
    fallback = parameters.get("filename")
    assert (fallback is None) is (cleaned is None)
    if fallback is not None:
        assert fallback.strip(" .")
        assert not set(fallback) & set('/\\"%')


@given(NAMES)
@settings(max_examples=500, deadline=None)
def test_a_clean_name_is_safe_and_stays(name: str) -> None:
    cleaned = clean_filename(name)
    if cleaned is None:
        return
    assert 0 < len(cleaned.encode()) <= MAX_NAME
    assert clean_filename(cleaned) == cleaned
    assert not set(cleaned) & set("/\\")
    assert cleaned.strip(" .") == cleaned
    for character in cleaned:
        assert unicodedata.category(character) not in {"Cc", "Cs", "Zl", "Zp"}
        assert unicodedata.bidirectional(character) not in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        ("a" * 400 + ".jpeg", "a" * (MAX_NAME - 5) + ".jpeg"),
        ("a" * 400, "a" * MAX_NAME),
        ("\u00e9" * 400 + ".png", "\u00e9" * ((MAX_NAME - 4) // 2) + ".png"),
        ("\U0001f600" * 100, "\U0001f600" * (MAX_NAME // 4)),
        ("a." + "b" * 400, ("a." + "b" * 400)[:MAX_NAME]),
        ("a" * (MAX_NAME - 6) + " . . . . .jpeg", "a" * (MAX_NAME - 6) + ".jpeg"),
        (".htaccess", "htaccess"),
        (" a.png. ", "a.png"),
        ("a\\b/c\\d.png", "d.png"),
        ("x" * MAX_NAME, "x" * MAX_NAME),
    ],
)
def test_clean_filename(name: str, cleaned: str) -> None:
    assert clean_filename(name) == cleaned


@pytest.mark.parametrize(
    ("clause", "text", "decoded"),
    [
        ("8187 3.2.2: the example", "UTF-8''%c2%a3%20and%20%e2%82%ac%20rates", "\u00a3 and \u20ac rates"),
        ("8187 3.2.2: language", "utf-8'en-GB'%C2%A3%20rates", "\u00a3 rates"),
        ("8187 3.2.1: charset in any case", "Utf-8''a", "a"),
        ("5987 3.2.2: ISO-8859-1", "iso-8859-1'en'%A3%20rates", "\u00a3 rates"),
        ("8187 3.2.1: attr-char", "UTF-8''a!#$&+-.^_`|~9Z", "a!#$&+-.^_`|~9Z"),
        ("empty value", "UTF-8''", ""),
        ("plain text", "a plain title", "a plain title"),
        ("plain text with apostrophes", "rock'n'roll", "rock'n'roll"),
        ("plain text with percent", "100%25", "100%25"),
        ("plain text about UTF-8", "UTF-8 in practice", "UTF-8 in practice"),
        ("another charset is plain text", "koi8-r''%c1", "koi8-r''%c1"),
        ("nothing", "", ""),
    ],
)
def test_ext_value(clause: str, text: str, decoded: str) -> None:
    assert decode_ext_value(text) == decoded, clause


@pytest.mark.parametrize(
    "text",
    [
        "UTF-8''%ff",
        "UTF-8''%c3",
        "UTF-8''%ed%a0%80",
        "UTF-8''%",
        "UTF-8''%4",
        "UTF-8''%zz",
        "UTF-8''a b",
        "UTF-8''\u00e9",
        "UTF-8''a'b",
        "UTF-8''\"a\"",
        "UTF-8''a\r\n",
    ],
)
def test_malformed_ext_value(text: str) -> None:
    with pytest.raises(InvalidParameter):
        decode_ext_value(text)


@given(NAMES)
@settings(deadline=None)
def test_ext_value_reads_what_content_disposition_writes(name: str) -> None:
    cleaned = clean_filename(name)
    _, extended, value = content_disposition("inline", name).partition("filename*=")
    if extended:
        assert decode_ext_value(value) == cleaned


@pytest.mark.parametrize(
    ("media_type", "inline", "active"),
    [
        ("image/jpeg", True, False),
        ("image/png", True, False),
        ("IMAGE/PNG", True, False),
        ("image/gif", True, False),
        ("image/webp", True, False),
        ("image/avif", True, False),
        ("audio/mpeg", True, False),
        ("audio/x-unknown", False, False),
        ("video/mp4", True, False),
        ("video/x-unknown", False, False),
        ("text/plain", True, False),
        ("text/plain; charset=utf-8", True, False),
        ("application/octet-stream", False, False),
        ("application/zip", False, False),
        ("application/json", False, False),
        ("image/tiff", False, False),
        ("image/heic", False, False),
        ("image/svg+xml", False, True),
        ("image/SVG+XML; charset=utf-8", False, True),
        ("text/html", False, True),
        ("text/html;charset=utf-8", False, True),
        ("application/xhtml+xml", False, True),
        ("application/vnd.wap.xhtml+xml", False, True),
        ("text/xml", False, True),
        ("application/xml", False, True),
        ("application/rss+xml", False, True),
        ("application/mathml+xml", False, True),
        ("text/javascript", False, True),
        ("application/javascript", False, True),
        ("application/x-javascript", False, True),
        ("text/ecmascript", False, True),
        ("text/javascript1.5", False, True),
        ("text/jscript", False, True),
        ("application/pdf", False, True),
        ("message/rfc822", False, True),
        ("multipart/related", False, True),
        ("multipart/x-mixed-replace; boundary=x", False, True),
        ("application/x-shockwave-flash", False, True),
        ("", False, True),
        ("html", False, True),
    ],
)
def test_what_a_browser_may_do(media_type: str, inline: bool, active: bool) -> None:
    """dangers, XSS by upload: nothing active is ever shown in place."""
    assert inline_safe(media_type) is inline
    assert is_active(media_type) is active


def test_the_sandbox_allows_nothing() -> None:
    assert SANDBOX_CSP == "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"
