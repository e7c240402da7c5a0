"""Preconditions to outcomes. A row: clause of RFC 9110, method, fields, and the outcome."""

import time
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediacdn.http.conditionals import Outcome, evaluate, range_applies

GO, SAME, FAIL = Outcome.PROCEED, Outcome.NOT_MODIFIED, Outcome.FAILED

ETAG = '"sha256:0a1b"'
MODIFIED = datetime(1994, 11, 6, 8, 49, 37, 500_000, tzinfo=UTC)
NOW = datetime(2026, 11, 21, tzinfo=UTC)

EXACT = "Sun, 06 Nov 1994 08:49:37 GMT"
EXACT_850 = "Sunday, 06-Nov-94 08:49:37 GMT"
EXACT_ASCTIME = "Sun Nov  6 08:49:37 1994"
BEFORE = "Sun, 06 Nov 1994 08:49:36 GMT"
AFTER = "Sun, 06 Nov 1994 08:49:38 GMT"
FUTURE = "Fri, 01 Jan 2100 00:00:00 GMT"
INVALID_DATES = {
    "words": "yesterday",
    "nothing": "",
    "number": "784111777",
    "lower case": EXACT.lower(),
    "other zone": "Sun, 06 Nov 1994 08:49:37 CET",
    "offset": "Sun, 06 Nov 1994 08:49:37 +0000",
    "no such day": "Wed, 31 Feb 1994 08:49:37 GMT",
    "no such hour": "Sun, 06 Nov 1994 24:49:37 GMT",
    "RFC 3339": "1994-11-06T08:49:37Z",
    "two members": f"{BEFORE}, {BEFORE}",
}

IM, INM, IMS, IUS = "if-match", "if-none-match", "if-modified-since", "if-unmodified-since"
Row = tuple[str, str, dict[str, str], Outcome]

NONE: list[Row] = [
    ("13.2.2 without preconditions", "GET", {}, GO),
    ("13.2.2 without preconditions, HEAD", "HEAD", {}, GO),
    ("13.2.2 without preconditions, PATCH", "PATCH", {}, GO),
    ("13.2.2 other fields do not count", "GET", {"etag": ETAG, "range": "bytes=0-1"}, GO),
]

# field value -> (matches strongly, matches weakly)
LISTS: dict[str, tuple[str, bool, bool]] = {
    "13.1 the same": (ETAG, True, True),
    "13.1 another": ('"other"', False, False),
    "13.1 any": ("*", True, True),
    "13.1 any, with blanks": (" * ", True, True),
    "8.8.3.2 weak": (f"W/{ETAG}", False, True),
    "8.8.3.2 weak, another": ('W/"other"', False, False),
    "8.8.3 W is case-sensitive": (f"w/{ETAG}", False, False),
    "8.8.3 no blank after W/": (f"W/ {ETAG}", False, False),
    "8.8.3 quotes are part of it": (ETAG.strip('"'), False, False),
    "8.8.3 single quotes are none": (ETAG.replace('"', "'"), False, False),
    "8.8.3 case counts": (ETAG.upper(), False, False),
    "8.8.3 prefix is another": ('"sha256:0a1"', False, False),
    "8.8.3 extension is another": ('"sha256:0a1bc"', False, False),
    "8.8.3 not closed": (ETAG[:-1], False, False),
    "8.8.3 not opened": (ETAG[1:], False, False),
    "8.8.3 empty tag": ('""', False, False),
    "5.6.1 empty list": ("", False, False),
    "5.6.1 only commas": (" , ,", False, False),
    "5.6.1 first of a list": (f'{ETAG}, "b"', True, True),
    "5.6.1 last of a list": (f'"a", "b", {ETAG}', True, True),
    "5.6.1 between": (f'"a",{ETAG},"b"', True, True),
    "5.6.1 not in the list": ('"a", "b", "c"', False, False),
    "5.6.1 blanks and tabs": (f' "a"\t,\t {ETAG} ', True, True),
    "5.6.1.2 empty members": (f',, "a",, {ETAG},', True, True),
    "5.6.1 weak in a list": (f'"a", W/{ETAG}', False, True),
    "5.6.1 weak and strong": (f"W/{ETAG}, {ETAG}", True, True),
    "5.6.1 weak marks its own member only": (f'W/"a", {ETAG}', True, True),
    "5.3 fields joined": (f'"a", "b", {ETAG}, "c"', True, True),
    "8.8.3 comma within another tag": (f'"a,b", {ETAG}', True, True),
    "8.8.3 another tag that looks like a list": ('"a, b, sha256:0a1b"', False, False),
    "8.8.3 obs-text in another tag": (f'"caf\u00e9", {ETAG}', True, True),
    "8.8.3 backslash is plain": (f'"a\\", {ETAG}', True, True),
    "8.8.3 our tag between two tags, not as one": ('"a"sha256:0a1b"b"', False, False),
    "13.1.1 * within a list is no member": ('"a", *', False, False),
    "13.1.1 quoted * is a tag": ('"*"', False, False),
}

TAGS: list[Row] = [
    row
    for clause, (field, strong, weak) in LISTS.items()
    for row in (
        (f"13.1.1 If-Match, {clause}", "GET", {IM: field}, GO if strong else FAIL),
        (f"13.1.1 If-Match, {clause}", "PATCH", {IM: field}, GO if strong else FAIL),
        (f"13.1.2 If-None-Match, {clause}", "GET", {INM: field}, SAME if weak else GO),
        (f"13.1.2 If-None-Match, {clause}", "HEAD", {INM: field}, SAME if weak else GO),
        (f"13.1.2 If-None-Match, {clause}", "PUT", {INM: field}, FAIL if weak else GO),
    )
]

DATES: list[Row] = [
    ("13.1.3 unmodified since the same second", "GET", {IMS: EXACT}, SAME),
    ("13.1.3 unmodified since, HEAD", "HEAD", {IMS: EXACT}, SAME),
    ("13.1.3 unmodified since a later time", "GET", {IMS: AFTER}, SAME),
    ("13.1.3 unmodified since a time to come", "GET", {IMS: FUTURE}, SAME),
    ("13.1.3 modified since", "GET", {IMS: BEFORE}, GO),
    ("5.6.7 RFC 850 form", "GET", {IMS: EXACT_850}, SAME),
    ("5.6.7 asctime form", "GET", {IMS: EXACT_ASCTIME}, SAME),
    ("13.1.3 only GET and HEAD: POST", "POST", {IMS: EXACT}, GO),
    ("13.1.3 only GET and HEAD: PATCH", "PATCH", {IMS: EXACT}, GO),
    ("13.1.3 only GET and HEAD: DELETE", "DELETE", {IMS: AFTER}, GO),
    ("13.1.4 unmodified since the same second", "GET", {IUS: EXACT}, GO),
    ("13.1.4 unmodified since a later time", "PATCH", {IUS: AFTER}, GO),
    ("13.1.4 modified since", "GET", {IUS: BEFORE}, FAIL),
    ("13.1.4 modified since, HEAD", "HEAD", {IUS: BEFORE}, FAIL),
    ("13.1.4 modified since, DELETE", "DELETE", {IUS: BEFORE}, FAIL),
    ("13.1.4 RFC 850 form", "GET", {IUS: "Saturday, 05-Nov-94 08:49:37 GMT"}, FAIL),
    ("13.1.4 asctime form", "GET", {IUS: "Sat Nov  5 08:49:37 1994"}, FAIL),
    *((f"13.1.3 invalid date is ignored: {name}", "GET", {IMS: text}, GO) for name, text in INVALID_DATES.items()),
    *((f"13.1.4 invalid date is ignored: {name}", "GET", {IUS: text}, GO) for name, text in INVALID_DATES.items()),
]

PRECEDENCE: list[Row] = [
    ("13.2.2 step 2 is skipped with If-Match: true", "GET", {IM: ETAG, IUS: BEFORE}, GO),
    ("13.2.2 step 1 decides: false", "GET", {IM: '"b"', IUS: EXACT}, FAIL),
    ("13.2.2 step 1 then 3: 304", "GET", {IM: ETAG, INM: ETAG}, SAME),
    ("13.2.2 step 1 then 3: PUT 412", "PUT", {IM: ETAG, INM: ETAG}, FAIL),
    ("13.2.2 step 1 before 3", "GET", {IM: '"b"', INM: ETAG}, FAIL),
    ("13.2.2 step 1 then 3: go", "GET", {IM: ETAG, INM: '"b"'}, GO),
    ("13.2.2 step 1 then 4: 304", "GET", {IM: ETAG, IMS: EXACT}, SAME),
    ("13.2.2 step 1 before 4", "GET", {IM: '"b"', IMS: EXACT}, FAIL),
    ("13.2.2 step 2 then 3: 304", "GET", {IUS: EXACT, INM: ETAG}, SAME),
    ("13.2.2 step 2 before 3", "GET", {IUS: BEFORE, INM: ETAG}, FAIL),
    ("13.2.2 step 2 then 4: 304", "GET", {IUS: EXACT, IMS: EXACT}, SAME),
    ("13.2.2 step 2 before 4", "GET", {IUS: BEFORE, IMS: EXACT}, FAIL),
    ("13.2.2 step 2, invalid date, then 3", "GET", {IUS: "never", INM: ETAG}, SAME),
    ("13.2.2 step 4 is skipped with If-None-Match: no match wins over the date", "GET", {INM: '"b"', IMS: EXACT}, GO),
    ("13.2.2 step 4 is skipped with If-None-Match: match wins over the date", "GET", {INM: ETAG, IMS: BEFORE}, SAME),
    ("13.1.3 an invalid If-None-Match still hides the date", "GET", {INM: "garbage", IMS: EXACT}, GO),
    ("13.2.2 step 3, PATCH without a match", "PATCH", {INM: '"b"', IMS: EXACT}, GO),
    ("13.2.2 all true", "GET", {IM: ETAG, IUS: BEFORE, INM: '"b"', IMS: EXACT}, GO),
    ("13.2.2 all, 304", "HEAD", {IM: "*", IUS: BEFORE, INM: f"W/{ETAG}", IMS: BEFORE}, SAME),
    ("13.2.1 no selected representation: OPTIONS", "OPTIONS", {IM: '"b"', INM: "*"}, GO),
    ("13.2.1 no selected representation: TRACE", "TRACE", {IUS: BEFORE}, GO),
    ("13.2.1 no selected representation: CONNECT", "CONNECT", {IM: '"b"'}, GO),
    ("9.1 methods are case-sensitive", "get", {INM: ETAG}, FAIL),
]

MISSING: list[Row] = [
    ("13.1.1 * without a representation", "PUT", {IM: "*"}, FAIL),
    ("13.1.1 a tag without a representation", "PUT", {IM: ETAG}, FAIL),
    ("13.1.2 * without a representation", "PUT", {INM: "*"}, GO),
    ("13.1.2 a tag without a representation", "GET", {INM: ETAG}, GO),
    ("13.1.3 no modification date", "GET", {IMS: FUTURE}, GO),
    ("13.1.4 no modification date", "PUT", {IUS: BEFORE}, GO),
]

ROWS = NONE + TAGS + DATES + PRECEDENCE


@pytest.mark.parametrize(("clause", "method", "fields", "outcome"), ROWS, ids=[f"{n}: {row[0]} {row[1]}" for n, row in enumerate(ROWS)])
def test_preconditions(clause: str, method: str, fields: dict[str, str], outcome: Outcome) -> None:
    assert evaluate(method, fields, ETAG, MODIFIED, NOW) is outcome, clause


@pytest.mark.parametrize(("clause", "method", "fields", "outcome"), MISSING, ids=[row[0] for row in MISSING])
def test_preconditions_without_a_representation(clause: str, method: str, fields: dict[str, str], outcome: Outcome) -> None:
    assert evaluate(method, fields, ETAG, MODIFIED, NOW, exists=False) is outcome, clause


def test_table_is_large_enough() -> None:
    assert len(ROWS) >= 67


@pytest.mark.parametrize(
    ("etag", "field", "strong", "weak"),
    [
        ('W/"a"', 'W/"a"', False, True),
        ('W/"a"', '"a"', False, True),
        ('W/"a"', "*", True, True),
        ('"a"', '"a"', True, True),
        ('"1"', 'W/"1"', False, True),
        ('"a,b"', '"a", "a,b"', True, True),
        ('"a,b"', '"a","b"', False, False),
        ('","', '"a","b"', False, False),
        ('","', '"a", ",", "b"', True, True),
        ('"\u00e9\u00ff"', '"x", "\u00e9\u00ff"', True, True),
        ('""', '"a", ""', True, True),
        ('"W/"', '"W/"', True, True),
    ],
)
def test_comparison_of_other_tags(etag: str, field: str, strong: bool, weak: bool) -> None:
    """8.8.3.2, with entity-tags that are weak, hold commas or obs-text; `*` needs no comparison."""
    assert (evaluate("PATCH", {IM: field}, etag, MODIFIED, NOW) is GO) is strong
    assert (evaluate("GET", {INM: field}, etag, MODIFIED, NOW) is SAME) is weak


IF_RANGE: list[tuple[str, str | None, bool]] = [
    ("13.1.5 absent", None, True),
    ("13.1.5 the same tag", ETAG, True),
    ("13.1.5 another tag", '"b"', False),
    ("13.1.5 a weak tag never", f"W/{ETAG}", False),
    ("13.1.5 no list", f'{ETAG}, "b"', False),
    ("13.1.5 no list, doubled", f"{ETAG}, {ETAG}", False),
    ("13.1.5 no *", "*", False),
    ("13.1.5 unquoted", ETAG.strip('"'), False),
    ("13.1.5 the same date", EXACT, True),
    ("13.1.5 the same date, RFC 850", EXACT_850, True),
    ("13.1.5 the same date, asctime", EXACT_ASCTIME, True),
    ("13.1.5 an earlier date", BEFORE, False),
    ("13.1.5 a later date: exact match, not 'unmodified since'", AFTER, False),
    ("13.1.5 nothing", "", False),
    *((f"13.1.5 invalid date: {name}", text, False) for name, text in INVALID_DATES.items()),
]


@pytest.mark.parametrize(("clause", "field", "applies"), IF_RANGE, ids=[row[0] for row in IF_RANGE])
def test_if_range(clause: str, field: str | None, applies: bool) -> None:
    assert range_applies(field, ETAG, MODIFIED, NOW) is applies, clause


def test_if_range_never_matches_a_weak_tag_of_ours() -> None:
    assert not range_applies('W/"a"', 'W/"a"', MODIFIED, NOW)


def test_times_are_compared_as_instants() -> None:
    """8.8.2: a local clock's zone does not matter."""
    local = MODIFIED.astimezone(timezone(timedelta(hours=9)))
    assert evaluate("GET", {IMS: EXACT}, ETAG, local, NOW) is SAME
    assert range_applies(EXACT, ETAG, local, NOW)


OPAQUE = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters='"\x7f').filter(lambda c: not "\x80" <= c < "\xa0"), max_size=8
)


@given(st.lists(st.tuples(st.booleans(), OPAQUE), max_size=8), OPAQUE)
@settings(deadline=None)
def test_lists_match_by_member(members: list[tuple[bool, str]], mine: str) -> None:
    """8.8.3.2 over any well-formed list."""
    field = " , ".join(f'{"W/" * weak}"{opaque}"' for weak, opaque in members)
    strong = any(opaque == mine and not weak for weak, opaque in members)
    either = any(opaque == mine for _, opaque in members)
    assert (evaluate("GET", {IM: field}, f'"{mine}"', MODIFIED, NOW) is GO) is strong
    assert (evaluate("GET", {INM: field}, f'"{mine}"', MODIFIED, NOW) is SAME) is either


@pytest.mark.parametrize("field", ['"",' * 21000 + ETAG[:-1], '"' * 64000, "W/" * 32000, ETAG[1:] * 4000, " " * 64000 + ETAG[1:]])
def test_hostile_lists_cost_little(field: str) -> None:
    best = 1.0
    for _ in range(3):
        started = time.perf_counter()
        evaluate("GET", {INM: field}, ETAG, MODIFIED, NOW)
        best = min(best, time.perf_counter() - started)
    assert best < 0.02
