"""HTTP dates (RFC 9110 section 5.6.7): writes the one form that may be sent, reads the three that may arrive."""

import re
import time
from datetime import UTC, datetime, timedelta

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH_NUMBERS = {name: number for number, name in enumerate(_MONTHS, 1)}

_DAY = f"(?:{'|'.join(_DAYS)})"
_LONG_DAY = "(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
_MONTH = f"({'|'.join(_MONTHS)})"
_TIME = "([0-9]{2}):([0-9]{2}):([0-9]{2})"

_IMF_FIXDATE = re.compile(f"{_DAY}, ([0-9]{{2}}) {_MONTH} ([0-9]{{4}}) {_TIME} GMT")
_RFC850 = re.compile(f"{_LONG_DAY}, ([0-9]{{2}})-{_MONTH}-([0-9]{{2}}) {_TIME} GMT")
_ASCTIME = re.compile(f"{_DAY} {_MONTH} ([0-9]{{2}}| [0-9]) {_TIME} ([0-9]{{4}})")

_SECOND = timedelta(seconds=1)


def http_date(when: datetime) -> str:
    """Write an aware time as IMF-fixdate, `Sun, 06 Nov 1994 08:49:37 GMT`; fractions of a second are cut off (RFC 9110 section 5.6.7)."""
    if when.tzinfo is not UTC:
        when = when.astimezone(UTC)
    return (
        f"{_DAYS[when.weekday()]}, {when.day:02d} {_MONTHS[when.month - 1]} {when.year:04d}"
        f" {when.hour:02d}:{when.minute:02d}:{when.second:02d} GMT"
    )


class DateLine:
    """The Date of answers that begin now (RFC 9110 section 6.6.1): written once a second, never older than the moment it is asked for."""

    def __init__(self) -> None:
        self._second = 0
        self._text = b""

    def __call__(self) -> bytes:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._text = http_date(datetime.fromtimestamp(second, UTC)).encode()
        return self._text


def parse_http_date(text: str, now: datetime) -> datetime | None:
    """Read IMF-fixdate, RFC 850 or asctime form into an aware UTC time of whole seconds; None when it is none of them.

    `now` decides the century of the RFC 850 form: a time that would lie more than 50 years ahead is in the past
    (RFC 9110 section 5.6.7). The grammar is case-sensitive; the name of the day is not compared with the date.
    """
    if text[3:4] == ",":
        found = _IMF_FIXDATE.fullmatch(text)
        if found is None:
            return None
        day, month, year, hour, minute, second = found.groups()
        return _moment(int(year), _MONTH_NUMBERS[month], int(day), int(hour), int(minute), int(second))
    if (found := _ASCTIME.fullmatch(text)) is not None:
        month, day, hour, minute, second, year = found.groups()
        return _moment(int(year), _MONTH_NUMBERS[month], int(day), int(hour), int(minute), int(second))
    if (found := _RFC850.fullmatch(text)) is None:
        return None
    day, month, short_year, hour, minute, second = found.groups()
    fields = (_MONTH_NUMBERS[month], int(day), int(hour), int(minute), int(second))
    latest = (now.year + 50, now.month, now.day, now.hour, now.minute, now.second)
    full_year = latest[0] - latest[0] % 100 + int(short_year)
    if (full_year, *fields) > latest:
        full_year -= 100
    return _moment(full_year, *fields)


def _moment(year: int, month: int, day: int, hour: int, minute: int, second: int) -> datetime | None:
    try:
        if second == 60:  # the grammar has room for leap seconds, datetime has not
            return datetime(year, month, day, hour, minute, 59, tzinfo=UTC) + _SECOND
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
