"""Patterns: the same answers as `re` gives on what both read, in time that no text can stretch."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediacdn.recipes.patterns import MAX_SIZE, Pattern

MATCHES = [
    ("", ["", None, "a"]),
    ("abc", ["abc", None, "ab", "abcd", "ABC", "abc\n"]),
    ("a|bc|", ["a", "bc", "", None, "abc", "ac"]),
    ("[a-z]{2,3}(-[A-Za-z0-9]{2,8})*", ["pt", "pt-br", "zh-Hant-TW", None, "p", "pt-", "pt-b", "pt_br"]),
    ("[0-9a-f]{6}", ["00ff7f", None, "00ff7", "00FF7F", "00ff7f0"]),
    ("#?([0-9a-f]{3}){1,2}", ["#fff", "ffffff", None, "#ffff", "##fff"]),
    (r"\d+\.\d{2}", ["1.50", None, "1.5", "1x50", "\u0661.50"]),
    (r"\w+", ["a_Z9", None, "", "\u00e9", "a b"]),
    (r"[\d.-]+", ["-1.5", None, "a"]),
    (r"[^a\-b]+", ["xyz\n", None, "a", "x-"]),
    (r"[\]\\]", ["]", "\\", None, "["]),
    (".+", ["a\u00e9\U0001f600", None, "", "a\n", "a\u2028"]),
    ("(?:ab)?c", ["c", "abc", None, "ab"]),
    ("a{0,2}", ["", "a", "aa", None, "aaa"]),
    ("a{2,}", ["aa", "aaaaa", None, "a"]),
    ("(a*)*b", ["b", "aab", None, "a"]),
    ("(|a)+", ["", "aaa", None, "b"]),
    ("(a|b(c|d)*)+", ["abcdcda", None, "c"]),
]


@pytest.mark.parametrize(("source", "texts"), MATCHES)
def test_what_matches(source: str, texts: list[str | None]) -> None:
    end = texts.index(None)
    pattern = Pattern(source)
    assert [text for text in texts[:end] if text is not None and not pattern.fullmatch(text)] == []
    assert [text for text in texts[end + 1 :] if text is not None and pattern.fullmatch(text)] == []


REFUSED = [
    ("^a", "leave ^ and $ out"),
    ("a$", "leave ^ and $ out"),
    ("(a", "ends where a ) should be"),
    ("a)", "a ) without a ("),
    ("[a", "ends where a ] should be"),
    ("a\\", "ends where an escaped character should be"),
    ("[]", "a class without characters"),
    ("[[:alpha:]]", "'[' in a class"),
    ("[a&&b]", "'&' in a class"),
    ("[a--b]", "a range in a class"),
    ("[--a]", "'-' in a class"),
    ("[z-a]", "a range in a class"),
    (r"[a-\d]", "a range in a class"),
    (r"[\w-z]", "a range in a class"),
    ("*a", "a * that repeats"),
    ("a**", "a quantifier after a quantifier"),
    ("a+?", "a quantifier after a quantifier"),
    ("a{2}{2}", "a quantifier after a quantifier"),
    ("a{", "a { that begins"),
    ("a{,2}", "a { that begins"),
    ("a{1,2,3}", "a { that begins"),
    ("a{-1}", "a { that begins"),
    ("a{1000}", "a { that begins"),
    ("a{2,1}", "repeats nothing"),
    ("a{0}", "repeats nothing"),
    ("(?=a)", "a group of a kind"),
    ("(?P<n>a)", "a group of a kind"),
    ("(?i)a", "a group of a kind"),
    (r"(a)\1", r"it has \1"),
    (r"\s", r"it has \s"),
    (r"\Z", r"it has \Z"),
    ("(((a{99}){99}){99}){99}", "too large"),
    ("a" * (MAX_SIZE + 1), "too large"),
    ("(" * 17 + ")" * 17, "nested too deeply"),
    ("a" * 1001, "more than 1000 characters"),
]


@pytest.mark.parametrize(("source", "said"), REFUSED)
def test_what_is_no_pattern_is_told(source: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        Pattern(source)


def atoms() -> st.SearchStrategy[str]:
    return st.sampled_from(["a", "b", "-", ".", r"\.", r"\d", r"\w", "[ab]", "[^a]", "[a-c-]", r"[\d_]"])


def combined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    quantifier = st.sampled_from(["", "*", "+", "?", "{2}", "{1,}", "{0,2}"])
    group = st.builds("({}){}".format, inner, quantifier)
    return st.one_of(
        group,
        st.builds("{}|{}".format, inner, inner),
        st.builds("{}{}".format, inner, inner),
        st.builds("{}{}".format, atoms(), quantifier),
    )


@given(st.recursive(atoms(), combined, max_leaves=6), st.lists(st.text("ab-.1_\u00e9", max_size=8), max_size=5))
@settings(deadline=None, max_examples=300)
def test_it_answers_as_re_does(source: str, texts: list[str]) -> None:
    ours, theirs = Pattern(source), re.compile(source, re.ASCII)
    for text in texts:
        assert ours.fullmatch(text) is (theirs.fullmatch(text) is not None), text


@given(st.text(max_size=30))
@settings(deadline=None)
def test_any_text_is_a_pattern_or_a_sentence(source: str) -> None:
    try:
        Pattern(source)
    except ValueError as error:
        told = str(error)
    else:
        told = "it is one"
    assert told.startswith("it")


@pytest.mark.parametrize("source", ["(a+)+b", "(a|a)*b", "(a|aa)+b", "(a*)*b", "((a?){15}){15}b"])
def test_no_text_stretches_the_time(source: str) -> None:
    pattern = Pattern(source)
    begun = time.perf_counter()
    assert not pattern.fullmatch("a" * 256)
    assert time.perf_counter() - begun < 2.0
