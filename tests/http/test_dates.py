"""HTTP dates, RFC 9110 section 5.6.7: one form out, three forms in."""

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime, parsedate_to_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediacdn.http.dates import DateLine, http_date, parse_http_date

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
EXAMPLE = datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)

READ: list[tuple[str, str, datetime | None]] = [
    ("IMF-fixdate", "Sun, 06 Nov 1994 08:49:37 GMT", EXAMPLE),
    ("rfc850-date", "Sunday, 06-Nov-94 08:49:37 GMT", EXAMPLE),
    ("asctime-date, one digit", "Sun Nov  6 08:49:37 1994", EXAMPLE),
    ("asctime-date, zero", "Sun Nov 06 08:49:37 1994", EXAMPLE),
    ("asctime-date, two digits", "Wed Nov 16 08:49:37 1994", datetime(1994, 11, 16, 8, 49, 37, tzinfo=UTC)),
    ("every long day name", "Wednesday, 16-Nov-94 08:49:37 GMT", datetime(1994, 11, 16, 8, 49, 37, tzinfo=UTC)),
    ("leap day", "Thu, 29 Feb 2024 00:00:00 GMT", datetime(2024, 2, 29, tzinfo=UTC)),
    ("leap day, rfc850", "Tuesday, 29-Feb-00 00:00:00 GMT", datetime(2000, 2, 29, tzinfo=UTC)),
    ("leap second", "Sat, 31 Dec 2016 23:59:60 GMT", datetime(2017, 1, 1, tzinfo=UTC)),
    ("the day's name is not compared", "Mon, 06 Nov 1994 08:49:37 GMT", EXAMPLE),
    ("first year", "Mon, 01 Jan 0001 00:00:00 GMT", datetime(1, 1, 1, tzinfo=UTC)),
    ("last second", "Fri, 31 Dec 9999 23:59:59 GMT", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ("50 years ahead", "Saturday, 21-Nov-76 12:00:00 GMT", datetime(2076, 11, 21, 12, tzinfo=UTC)),
    ("50 years and a second ahead", "Saturday, 21-Nov-76 12:00:01 GMT", datetime(1976, 11, 21, 12, 0, 1, tzinfo=UTC)),
    ("this year", "Saturday, 21-Nov-26 12:00:00 GMT", datetime(2026, 11, 21, 12, tzinfo=UTC)),
    ("year 00", "Saturday, 01-Jan-00 00:00:00 GMT", datetime(2000, 1, 1, tzinfo=UTC)),
    ("year 99", "Friday, 01-Jan-99 00:00:00 GMT", datetime(1999, 1, 1, tzinfo=UTC)),
    ("year 77", "Friday, 01-Jan-77 00:00:00 GMT", datetime(1977, 1, 1, tzinfo=UTC)),
    ("no leap day, rfc850", "Tuesday, 29-Feb-01 00:00:00 GMT", None),
    ("leap second past the last", "Fri, 31 Dec 9999 23:59:60 GMT", None),
    ("year 0", "Mon, 01 Jan 0000 00:00:00 GMT", None),
    ("no leap day", "Wed, 29 Feb 2023 00:00:00 GMT", None),
    ("day 0", "Sun, 00 Nov 1994 08:49:37 GMT", None),
    ("day 32", "Sun, 32 Nov 1994 08:49:37 GMT", None),
    ("hour 24", "Sun, 06 Nov 1994 24:00:00 GMT", None),
    ("minute 60", "Sun, 06 Nov 1994 08:60:37 GMT", None),
    ("second 61", "Sun, 06 Nov 1994 08:49:61 GMT", None),
    ("lower case", "sun, 06 nov 1994 08:49:37 gmt", None),
    ("UTC for GMT", "Sun, 06 Nov 1994 08:49:37 UTC", None),
    ("Z for GMT", "Sun, 06 Nov 1994 08:49:37 Z", None),
    ("offset for GMT", "Sun, 06 Nov 1994 08:49:37 +0000", None),
    ("no zone", "Sun, 06 Nov 1994 08:49:37", None),
    ("one-digit day", "Sun, 6 Nov 1994 08:49:37 GMT", None),
    ("two-digit year", "Sun, 06 Nov 94 08:49:37 GMT", None),
    ("four-digit year in rfc850", "Sunday, 06-Nov-1994 08:49:37 GMT", None),
    ("short day in rfc850", "Sun, 06-Nov-94 08:49:37 GMT", None),
    ("unknown month", "Sun, 06 Foo 1994 08:49:37 GMT", None),
    ("unknown day", "Xxx, 06 Nov 1994 08:49:37 GMT", None),
    ("two blanks", "Sun,  06 Nov 1994 08:49:37 GMT", None),
    ("blank after", "Sun, 06 Nov 1994 08:49:37 GMT ", None),
    ("line end after", "Sun, 06 Nov 1994 08:49:37 GMT\n", None),
    ("other digits", "Sun, 0\u0666 Nov 1994 08:49:37 GMT", None),
    ("asctime with GMT", "Sun Nov  6 08:49:37 1994 GMT", None),
    ("nothing", "", None),
    ("number", "0", None),
    ("long", "Sun, " * 10000, None),
]


@pytest.mark.parametrize(("name", "text", "when"), READ, ids=[row[0] for row in READ])
def test_read(name: str, text: str, when: datetime | None) -> None:
    assert parse_http_date(text, NOW) == when, name


def test_two_digit_years_near_the_turn_of_a_century() -> None:
    """ "More than 50 years in the future" slides with the clock, and has no trouble with a leap day's present."""
    assert parse_http_date("Monday, 01-Jan-10 00:00:00 GMT", datetime(2090, 6, 1, tzinfo=UTC)) == datetime(2110, 1, 1, tzinfo=UTC)
    assert parse_http_date("Monday, 01-Jan-60 00:00:00 GMT", datetime(2090, 6, 1, tzinfo=UTC)) == datetime(2060, 1, 1, tzinfo=UTC)
    assert parse_http_date("Monday, 01-Mar-74 00:00:00 GMT", datetime(2024, 2, 29, tzinfo=UTC)) == datetime(1974, 3, 1, tzinfo=UTC)


def test_write() -> None:
    assert http_date(EXAMPLE) == "Sun, 06 Nov 1994 08:49:37 GMT"
    assert http_date(EXAMPLE.replace(microsecond=999_999)) == "Sun, 06 Nov 1994 08:49:37 GMT"
    assert http_date(datetime(1994, 11, 7, 0, 19, 37, tzinfo=timezone(timedelta(hours=15, minutes=30)))) == "Sun, 06 Nov 1994 08:49:37 GMT"
    assert http_date(datetime(7, 1, 1, tzinfo=UTC)) == "Mon, 01 Jan 0007 00:00:00 GMT"


INSTANTS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001 (hypothesis wants naive bounds)


@given(INSTANTS)
@settings(deadline=None)
def test_round_trip(when: datetime) -> None:
    assert parse_http_date(http_date(when), NOW) == when.replace(microsecond=0)


@given(INSTANTS)
@settings(deadline=None)
def test_agrees_with_the_standard_library(when: datetime) -> None:
    text = http_date(when)
    assert text == format_datetime(when, usegmt=True)
    if when.year > 1900:
        assert parsedate_to_datetime(text) == when.replace(microsecond=0)


@given(st.datetimes(datetime(1976, 11, 22), datetime(2076, 11, 20), timezones=st.just(UTC)))  # noqa: DTZ001
@settings(deadline=None)
def test_obsolete_forms_round_trip(when: datetime) -> None:
    second = when.replace(microsecond=0)
    assert parse_http_date(second.strftime("%A, %d-%b-%y %H:%M:%S GMT"), NOW) == second
    assert parse_http_date(second.strftime("%a %b %e %H:%M:%S %Y"), NOW) == second


@given(st.text(max_size=40))
@settings(deadline=None)
def test_any_text_is_read_or_refused(text: str) -> None:
    parse_http_date(text, NOW)


def test_the_date_of_an_answer_is_the_second_it_is_asked_in(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = EXAMPLE.timestamp()
    monkeypatch.setattr("mediacdn.http.dates.time.time", lambda: moment)
    line = DateLine()
    assert line() == b"Sun, 06 Nov 1994 08:49:37 GMT"
    moment += 0.999
    assert line() == b"Sun, 06 Nov 1994 08:49:37 GMT"
    moment += 0.001
    assert line() == b"Sun, 06 Nov 1994 08:49:38 GMT"
    moment -= 60
    assert line() == b"Sun, 06 Nov 1994 08:48:38 GMT"
