"""Cache-Groups and Cache-Group-Invalidation, RFC 9875, read back as structured fields (RFC 9651); and surrogate keys."""

import re

import http_sf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediacdn.http.groups import GROUP, GROUPS, KEY, KEYS, cache_groups, separator, surrogate_keys

NAMES = st.lists(st.text(max_size=40), max_size=50)


@pytest.mark.parametrize(
    ("clause", "names", "field"),
    [
        ("RFC 9651 3.1: an empty list is no field", [], ""),
        ("2: one group", ["01J"], '"01J"'),
        ("2: members in a list", ["01J", "cats"], '"01J", "cats"'),
        ("2: opaque strings, case matters", ["Cats", "cats"], '"Cats", "cats"'),
        ("2: each once", ["a", "b", "a"], '"a", "b"'),
        ("2: an empty name groups nothing", ["", "a"], '"a"'),
        ("RFC 9651 3.3.3: blanks and commas are text", ["black cats, white dogs"], '"black cats, white dogs"'),
        ("RFC 9651 3.3.3: quotes and backslashes are escaped", ['say "a\\b"'], '"say \\"a\\\\b\\""'),
        ("2: 32 characters are taken everywhere", ["x" * 32], f'"{"x" * 32}"'),
        ("2: 33 may not be", ["x" * 33], '"~11ba55a3a7c1ee0f8eb8867dc40a62c"'),
        ("RFC 9651 3.3.3: printable ASCII only", ["Käse"], '"~f9eeb52c9bc41ee560ba93468b92317"'),
        ("RFC 9110 5.5: no line ends", ["a\r\nX: y"], '"~1a521ab12eaa7e4aa4ecbaeed01bcf0"'),
    ],
)
def test_cache_groups(clause: str, names: list[str], field: str) -> None:
    assert cache_groups(names) == field, clause


@given(NAMES)
@settings(deadline=None)
def test_groups_read_back_within_what_every_cache_takes(names: list[str]) -> None:
    """2: at least 32 groups of 32 characters."""
    field = cache_groups(names)
    groups = [item for item, _ in http_sf.parse(field.encode("ascii"), tltype="list")]
    assert len(groups) == min(len(set(names) - {""}), GROUPS)
    assert all(1 <= len(group) <= GROUP for group in groups)
    assert {name for name in names[:GROUPS] if name.isascii() and name.isprintable() and 0 < len(name) <= GROUP} <= set(groups)


@pytest.mark.parametrize(
    ("rule", "names", "between", "field"),
    [
        ("none", [], " ", ""),
        ("Surrogate-Key, xkey: blanks between", ["01J", "cats"], " ", "01J cats"),
        ("Cache-Tag: commas between", ["01J", "cats"], ",", "01J,cats"),
        ("each once", ["a", "b", "a", ""], " ", "a b"),
        ("a key holds no separator", ["black cats", "a,b"], " ", "black%20cats a%2Cb"),
        ("and the escape is escaped", ["100%"], " ", "100%25"),
        ("plain ASCII", ["Käse"], " ", "K%C3%A4se"),
        ("no line ends", ["a\r\nX: y"], " ", "a%0D%0AX:%20y"),
        ("a lone surrogate is no reason to fail", ["\udc80"], " ", "%ED%B2%80"),
        ("the longest", ["x" * KEY], " ", "x" * KEY),
        ("longer ones by their digest", ["x" * (KEY + 1)], " ", "~0ec9eb33e74510bcdd1f2ea55206e82"),
    ],
)
def test_surrogate_keys(rule: str, names: list[str], between: str, field: str) -> None:
    assert surrogate_keys(names, between) == field, rule


@given(NAMES, st.sampled_from([" ", ","]))
@settings(deadline=None)
def test_surrogate_keys_are_told_apart(names: list[str], between: str) -> None:
    field = surrogate_keys(names, between)
    assert len(field) <= KEYS
    assert re.fullmatch(r"[!-~ ]*", field)
    keys = field.split(between) if field else []
    assert keys == surrogate_keys(dict.fromkeys(names), between).split(between) if keys else not any(names)
    assert len(set(keys)) == len(keys) <= len(set(names) - {""})


def test_what_fits_into_the_field_is_what_comes_first() -> None:
    names = [f"{number:099}" for number in range(30)]
    assert surrogate_keys(names) == " ".join(names[:20])
    assert len(surrogate_keys(["a" * 127, *("b" * 63 + f"{number:064}" for number in range(14)), "c" * 128, "d"])) == KEYS
    assert len(cache_groups(str(number) for number in range(100)).split(", ")) == GROUPS


@pytest.mark.parametrize(
    ("field", "between"), [("Surrogate-Key", " "), ("xkey", " "), ("Cache-Tag", ","), ("cache-tag", ","), ("Edge-Cache-Tag", ",")]
)
def test_separators(field: str, between: str) -> None:
    assert separator(field) == between
