"""Accept to weights (RFC 9110 section 12.5.1): a row names its clause, the field, and what it makes of webp, jpeg and text/html."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediacdn.http.negotiation import preferences

ROWS: list[tuple[str, str | None, tuple[float, float, float]]] = [
    ("12.5.1 no field", None, (1, 1, 1)),
    ("12.5.1 empty", "", (1, 1, 1)),
    ("12.5.1 only commas", " , ,,", (1, 1, 1)),
    ("12.5.1 one type", "image/webp", (1, 0, 0)),
    ("12.5.1 a range", "image/*", (1, 1, 0)),
    ("12.5.1 any", "*/*", (1, 1, 1)),
    ("12.5.1 the most specific wins", "*/*;q=0.1, image/*;q=0.5, image/webp;q=0.2", (0.2, 0.5, 0.1)),
    ("12.5.1 in any order", "image/webp;q=0.2,image/*;q=0.5,*/*;q=0.1", (0.2, 0.5, 0.1)),
    ("12.4.2 q=0 is not acceptable", "image/webp;q=0, */*", (0, 1, 1)),
    ("12.4.2 a range refused", "image/*;q=0, */*", (0, 0, 1)),
    ("12.4.2 a type out of a refused range", "image/*;q=0, image/jpeg", (0, 1, 0)),
    ("12.4.2 three decimals", "image/webp;q=0.123", (0.123, 0, 0)),
    ("12.4.2 0. and 1.", "image/webp;q=0., image/jpeg;q=1.", (0, 1, 0)),
    ("12.4.2 upper-case Q", "image/webp;Q=0.5", (0.5, 0, 0)),
    ("12.4.2 blanks", " image/webp \t;\t q=0.5 \t, image/jpeg", (0.5, 1, 0)),
    ("12.4.2 four decimals are malformed", "image/webp;q=0.1234, image/jpeg", (0, 1, 0)),
    ("12.4.2 more than 1 is malformed", "image/webp;q=1.1, image/jpeg", (0, 1, 0)),
    ("12.4.2 negative is malformed", "image/webp;q=-1, image/jpeg", (0, 1, 0)),
    ("12.4.2 no number is malformed", "image/webp;q=x, image/jpeg", (0, 1, 0)),
    ("12.4.2 no value is malformed", "image/webp;q=, image/jpeg", (0, 1, 0)),
    ("12.4.2 quoted is malformed", 'image/webp;q="1", image/jpeg', (0, 1, 0)),
    ("12.4.2 blanks around = are malformed", "image/webp;q = 1, image/jpeg", (0, 1, 0)),
    ("8.3.1 types have no case", "IMAGE/WebP", (1, 0, 0)),
    ("5.6.6 an empty parameter", "image/webp;;q=0.5;, image/jpeg;", (0, 1, 0)),
    ("12.5.1 a type with parameters asks for another form", "image/webp;level=1, image/jpeg", (0, 1, 0)),
    ("12.5.1 parameters before the weight", "image/webp;v=b3;q=0.7, image/jpeg", (0, 1, 0)),
    ("12.5.1 extensions after the weight (once accept-ext)", "image/webp;q=0.7;x=y, image/jpeg", (0.7, 1, 0)),
    ("5.6.4 a comma in a quoted text", 'image/webp;x="a,image/jpeg,b", text/html', (0, 0, 1)),
    ("5.6.4 an escaped quote", r'image/webp;x="a\",image/jpeg,b", text/html', (0, 0, 1)),
    ("5.6.4 left open", 'text/html, image/webp;x="a,image/jpeg', (0, 0, 1)),
    ("malformed: no subtype", "image, image/jpeg", (0, 1, 0)),
    ("malformed: */webp", "*/webp, image/jpeg", (0, 1, 0)),
    ("malformed: *", "*, image/jpeg", (0, 1, 0)),
    ("malformed: three parts", "image/webp/x, image/jpeg", (0, 1, 0)),
    ("malformed: two types", "image/webp image/jpeg, text/html", (0, 0, 1)),
    ("malformed: a control character", "image/webp\x00, image/jpeg", (0, 1, 0)),
    ("malformed throughout", "x", (1, 1, 1)),
    ("one type twice", "image/webp;q=0.1, image/webp;q=0.9", (0.9, 0, 0)),
    ("one range twice", "image/*;q=0.1, image/*;q=0.9, */*;q=0.1, */*;q=0", (0.9, 0.9, 0.1)),
    ("everything refused", "*/*;q=0", (0, 0, 0)),
    ("above 8 KiB", "image/webp," * 1000, (1, 1, 1)),
]


@pytest.mark.parametrize(("accept", "weights"), [pytest.param(*row[1:], id=row[0]) for row in ROWS])
def test_weights(accept: str | None, weights: tuple[float, float, float]) -> None:
    found = preferences(accept)
    assert tuple(map(found.weight, ("image/webp", "image/jpeg", "text/html"))) == weights


def test_named_is_what_the_field_names_itself() -> None:
    found = preferences("image/avif;q=0.5, image/*, */*")
    assert (found.named("image/avif"), found.named("image/webp")) == (0.5, 0)


@given(st.text('image/webp*;q=0.,"\\ \tx\u00e9', max_size=60))
@settings(deadline=None, max_examples=300)
def test_any_text_is_weights_from_0_to_1(accept: str) -> None:
    assert 0 <= preferences(accept).weight("image/webp") <= 1


@pytest.mark.parametrize("part", ['"', '\\"', '"\\', ";", "; ", ",", "a/b;c=", 'a/b;c="', "\t", "*/*;", "a/a,"])
def test_no_field_takes_long(part: str) -> None:
    begun = time.perf_counter()
    for start in ("", 'a/b;c="', '"'):
        preferences((start + part * 8192)[:8192])
    assert time.perf_counter() - begun < 0.5
