"""Range fields to ranges. A row: clause of RFC 9110, field, size, and the answer: "200" (ignored), "416", or the inclusive ranges of a 206."""

import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediacdn.http.ranges import MAX_RANGES, PART_COST, byteranges_body, content_range, resolve_ranges, unsatisfied_range
from mediacdn.model import ByteRange

Row = tuple[str, str, int, str]

FIRST_LAST: list[Row] = [
    ("14.1.2 first 500 bytes", "bytes=0-499", 10000, "0-499"),
    ("14.1.2 second 500 bytes", "bytes=500-999", 10000, "500-999"),
    ("14.1.2 one byte", "bytes=0-0", 10000, "0-0"),
    ("14.1.2 last byte by position", "bytes=9999-9999", 10000, "9999-9999"),
    ("14.1.2 to the end", "bytes=9500-", 10000, "9500-9999"),
    ("14.1.2 whole by open range", "bytes=0-", 10000, "0-9999"),
    ("14.1.2 whole by positions", "bytes=0-9999", 10000, "0-9999"),
    ("14.1.2 last-pos at the size is clamped", "bytes=0-10000", 10000, "0-9999"),
    ("14.1.2 last-pos beyond is clamped", "bytes=9000-20000", 10000, "9000-9999"),
    ("14.1.2 last-pos far beyond is clamped", "bytes=1-999999999", 10000, "1-9999"),
    ("14.1.2 first-pos at the size", "bytes=10000-", 10000, "416"),
    ("14.1.2 first-pos at the size, closed", "bytes=10000-10001", 10000, "416"),
    ("14.1.2 first-pos beyond", "bytes=20000-", 10000, "416"),
    ("14.1.2 one-byte representation, its byte", "bytes=0-0", 1, "0-0"),
    ("14.1.2 one-byte representation, open", "bytes=0-", 1, "0-0"),
    ("14.1.2 one-byte representation, beyond", "bytes=1-", 1, "416"),
    ("14.1.2 more than 4 GiB", "bytes=4294967296-4294967305", 5_000_000_000, "4294967296-4294967305"),
    ("14.1.2 end of 20 GB", "bytes=19999999999-", 20_000_000_000, "19999999999-19999999999"),
    ("14.1.1 leading zeros of first-pos", "bytes=007-9", 100, "7-9"),
    ("14.1.1 leading zeros of last-pos", "bytes=7-0009", 100, "7-9"),
    ("14.1.1 many leading zeros", f"bytes={'0' * 50}7-{'0' * 60}9", 100, "7-9"),
    ("14.1.1 only zeros", f"bytes={'0' * 5000}-0", 100, "0-0"),
    ("14.1.1 last before first is invalid", "bytes=9-8", 100, "200"),
    ("14.1.1 last before first, both beyond, is invalid", "bytes=900-800", 100, "200"),
    ("14.1.1 last before first across the end is invalid", "bytes=900-8", 100, "200"),
    ("14.1.1 equal positions are valid", "bytes=8-8", 100, "8-8"),
]

SUFFIX: list[Row] = [
    ("14.1.2 last 500 bytes", "bytes=-500", 10000, "9500-9999"),
    ("14.1.2 last byte", "bytes=-1", 10000, "9999-9999"),
    ("14.1.2 suffix of the size", "bytes=-10000", 10000, "0-9999"),
    ("14.1.2 suffix beyond the size is the whole", "bytes=-10001", 10000, "0-9999"),
    ("14.1.2 suffix far beyond", "bytes=-99999999999", 10000, "0-9999"),
    ("14.1.2 suffix one short of the size", "bytes=-9999", 10000, "1-9999"),
    ("14.1.2 suffix of nothing", "bytes=-0", 10000, "416"),
    ("14.1.2 suffix of nothing, more zeros", "bytes=-000", 10000, "416"),
    ("14.1.2 suffix with leading zeros", "bytes=-0005", 10000, "9995-9999"),
    ("14.1.2 suffix of one byte", "bytes=-1", 1, "0-0"),
    ("14.1.2 suffix of more than one byte", "bytes=-2", 1, "0-0"),
]

EMPTY: list[Row] = [
    ("14.4 nothing has no Content-Range: open range", "bytes=0-", 0, "200"),
    ("14.4 nothing has no Content-Range: closed range", "bytes=0-499", 0, "200"),
    ("14.4 nothing has no Content-Range: suffix", "bytes=-5", 0, "200"),
    ("14.4 nothing has no Content-Range: several", "bytes=0-,-1", 0, "200"),
    ("14.4 one member asks for the whole", "bytes=5-,0-", 0, "200"),
    ("14.1.2 beyond nothing", "bytes=1-", 0, "416"),
    ("14.1.2 beyond nothing, closed", "bytes=5-9", 0, "416"),
    ("14.1.2 suffix of nothing of nothing", "bytes=-0", 0, "416"),
    ("14.1.1 invalid stays invalid", "bytes=2-1", 0, "200"),
]

UNITS: list[Row] = [
    ("14.1 unit in upper case", "BYTES=0-4", 100, "0-4"),
    ("14.1 unit in mixed case", "Bytes=0-4", 100, "0-4"),
    ("14.2 unknown unit is ignored", "seconds=0-4", 100, "200"),
    ("14.2 unknown unit, other grammar", "items=a;b", 100, "200"),
    ("14.2 unit none", "none=0-4", 100, "200"),
    ("14.1 longer unit", "bytess=0-4", 100, "200"),
    ("14.1 shorter unit", "byte=0-4", 100, "200"),
    ("14.1 no unit", "=0-4", 100, "200"),
    ("14.1 no unit nor equals", "0-4", 100, "200"),
    ("14.1 unit that only folds to bytes", "byte\u017f=0-4", 100, "200"),
    ("14.2 blank before equals", "bytes =0-4", 100, "200"),
    ("14.2 colon for equals", "bytes: 0-4", 100, "200"),
    ("14.2 blank for equals (Content-Range form)", "bytes 0-4/100", 100, "200"),
]

MALFORMED: list[Row] = [
    (f"14.1.1 not a range-spec: {member!r}", f"bytes={member}", 100, "200")
    for member in (
        "-", "--", "0", "5", "a-b", "0-b", "a-5", "--5", "-5-", "0--5", "0-5-", "0-5-9", "1.5-3", "0-5.0", "+0-5", "0-+5", "-+5", "- 5", "0 -5", "0- 5",
        "0 - 5", "0x0-0x5", "1e1-20", "0_0-5", "\u0660-\u0665", "\u00b2-5", "0\u20135", "*", "*-5", "0-*", "\"0-5\"", "0-5/100", "0-5;q=1", "0:5", "0..5",
        "0-5\x00", "0-5\n", "\x0b0-5", "\u00a00-5", "bytes=0-5", "0-5=", "(0-5)", "-a", "a-", "0-5 6-9",
    )
] + [
    ("14.2 nothing at all", "", 100, "200"),
    ("14.2 unit alone", "bytes", 100, "200"),
    ("14.2 empty set", "bytes=", 100, "200"),
    ("5.6.1.2 only empty members", "bytes=,", 100, "200"),
    ("5.6.1.2 only empty members and blanks", "bytes= , ,\t,", 100, "200"),
    ("14.2 one bad member spoils the set: last", "bytes=0-4,x", 100, "200"),
    ("14.2 one bad member spoils the set: first", "bytes=x,0-4", 100, "200"),
    ("14.2 one bad member spoils the set: between", "bytes=0-4,9-8,90-99", 100, "200"),
    ("14.2 semicolons do not separate", "bytes=0-4;90-99", 100, "200"),
    ("5.3 two fields joined are malformed", "bytes=0-4, bytes=90-94", 100, "200"),
]  # fmt: skip

LISTS: list[Row] = [
    ("14.1.2 first and last byte", "bytes=0-0,-1", 10000, "0-0 9999-9999"),
    ("14.1.2 middle of the representation", "bytes= 0-999, 4500-5499, -1000", 10000, "0-999 4500-5499 9000-9999"),
    ("5.6.1 OWS after the comma", "bytes=0-4, 200-204", 1000, "0-4 200-204"),
    ("5.6.1 OWS before the comma", "bytes=0-4 ,200-204", 1000, "0-4 200-204"),
    ("5.6.1 tabs around the comma", "bytes=0-4\t,\t200-204", 1000, "0-4 200-204"),
    ("5.6.1 OWS at the start", "bytes= 0-4", 1000, "0-4"),
    ("5.6.1 OWS at the end", "bytes=0-4 ", 1000, "0-4"),
    ("5.6.1.2 empty member first", "bytes=,0-4", 1000, "0-4"),
    ("5.6.1.2 empty member last", "bytes=0-4,", 1000, "0-4"),
    ("5.6.1.2 empty members between", "bytes=0-4,, ,200-204", 1000, "0-4 200-204"),
    ("5.6.1.2 a reasonable number of empty members", "bytes=" + "," * 100 + "0-4", 1000, "0-4"),
    ("5.6.1.2 an unreasonable number of empty members", "bytes=" + "," * 1000 + "0-4", 1000, "200"),
    ("15.3.7.2 order as asked", "bytes=900-904,0-4,500-504", 1000, "900-904 0-4 500-504"),
    ("15.3.7.2 order as asked, suffix first", "bytes=-1,0-0", 1000, "999-999 0-0"),
    ("14.1.2 unsatisfiable member dropped: last", "bytes=0-4,1000-", 1000, "0-4"),
    ("14.1.2 unsatisfiable member dropped: first", "bytes=1000-,0-4", 1000, "0-4"),
    ("14.1.2 unsatisfiable member dropped: empty suffix", "bytes=-0,0-4", 1000, "0-4"),
    ("14.1.2 unsatisfiable members dropped, two stay", "bytes=0-4,5000-5001,900-,-0", 1000, "0-4 900-999"),
    ("14.1.2 no member satisfiable", "bytes=1000-,2000-2001,-0", 1000, "416"),
]

COALESCED: list[Row] = [
    ("14.1.2 adjacent", "bytes=500-600,601-999", 10000, "500-999"),
    ("14.1.2 overlapping", "bytes=500-700,601-999", 10000, "500-999"),
    ("15.3.7.2 overlapping, backwards", "bytes=601-999,500-700", 10000, "500-999"),
    ("15.3.7.2 equal", "bytes=0-4,0-4", 10000, "0-4"),
    ("15.3.7.2 one inside the other", "bytes=0-999,100-199", 10000, "0-999"),
    ("15.3.7.2 the other inside the one", "bytes=100-199,0-999", 10000, "0-999"),
    ("15.3.7.2 whole and part", "bytes=0-,5-9", 10000, "0-9999"),
    ("15.3.7.2 whole twice", "bytes=0-,0-", 10000, "0-9999"),
    ("15.3.7.2 suffix over a tail", "bytes=9000-,-500", 10000, "9000-9999"),
    ("15.3.7.2 suffix reaching back", "bytes=9000-9100,-950", 10000, "9000-9999"),
    ("15.3.7.2 a gap one short of a part's cost", f"bytes=0-9,{10 + PART_COST - 1}-200", 10000, "0-200"),
    ("15.3.7.2 a gap of a part's cost", f"bytes=0-9,{10 + PART_COST}-200", 10000, f"0-9 {10 + PART_COST}-200"),
    ("15.3.7.2 a gap of one byte", "bytes=0-9,11-20", 10000, "0-20"),
    ("15.3.7.2 a chain", "bytes=0-99,90-199,190-299", 10000, "0-299"),
    ("15.3.7.2 a chain, shuffled", "bytes=190-299,0-99,90-199", 10000, "0-299"),
    ("15.3.7.2 a bridge joins two", "bytes=0-99,500-599,50-550", 10000, "0-599"),
    ("15.3.7.2 place of the first of the joined", "bytes=5000-5009,0-9,5005-5020", 10000, "5000-5020 0-9"),
    ("15.3.7.2 place of the first of the joined, backwards", "bytes=5005-5020,0-9,5000-5009", 10000, "5000-5020 0-9"),
    ("15.3.7.2 two groups keep their order", "bytes=8000-8009,0-9,8005-8019,5-19", 10000, "8000-8019 0-19"),
    ("15.3.7.2 a long one swallows the later", "bytes=0-5000,10-19,2000-2010,6000-6009", 10000, "0-5000 6000-6009"),
]

MANY: list[Row] = [
    ("17.15 the largest number of ranges", "bytes=" + ",".join(f"{n * 100}-{n * 100}" for n in range(MAX_RANGES)), 10**6,
     " ".join(f"{n * 100}-{n * 100}" for n in range(MAX_RANGES))),
    ("17.15 one range more", "bytes=" + ",".join(f"{n * 100}-{n * 100}" for n in range(MAX_RANGES + 1)), 10**6, "200"),
    ("17.15 one range more, all equal", "bytes=" + ",".join(["0-0"] * (MAX_RANGES + 1)), 10**6, "200"),
    ("17.15 one range more, unsatisfiable", "bytes=" + ",".join(["0-0"] * MAX_RANGES + ["-0"]), 10**6, "200"),
    ("17.15 Apache Killer", "bytes=0-," + ",".join(f"5-{n}" for n in range(5, 1300)), 10**6, "200"),
    ("17.15 all overlapping", "bytes=" + ",".join(f"0-{n}" for n in range(MAX_RANGES)), 10**6, f"0-{MAX_RANGES - 1}"),
    ("17.15 the whole a hundred times", "bytes=" + ",".join(["0-"] * MAX_RANGES), 10**6, "0-999999"),
]  # fmt: skip

LARGE: list[Row] = [
    (f"14.1.1 no limit to digits: {name}", f"bytes={spec}", 1000, answer)
    for name, spec, answer in (
        ("2^31", f"0-{2**31}", "0-999"),
        ("2^63 - 1", f"0-{2**63 - 1}", "0-999"),
        ("2^63", f"0-{2**63}", "0-999"),
        ("2^64 - 1", f"0-{2**64 - 1}", "0-999"),
        ("2^64 does not wrap to 0", f"{2**64}-", "416"),
        ("2^64 + 5 does not wrap to 5", f"{2**64 + 5}-", "416"),
        ("2^63 does not become negative", f"{2**63}-{2**63 + 1}", "416"),
        ("suffix 2^63 (CVE-2017-7529)", f"-{2**63}", "0-999"),
        ("suffix 2^64", f"-{2**64}", "0-999"),
        ("suffix of the size and 2^63 (CVE-2017-7529)", f"-999,-{2**63 - 999}", "0-999"),
        ("10^20 both", f"{10**20}-{10**20}", "416"),
        ("10^21 before 10^20 is invalid", f"{10**21}-{10**20}", "200"),
        ("10^20 before 10^21", f"{10**20}-{10**21}", "416"),
        ("same length, less is invalid", f"{'8' * 300}-{'7' * 300}", "200"),
        ("same length, more", f"{'7' * 300}-{'8' * 300}", "416"),
        ("zeros do not count in comparing", f"{'7' * 300}-{'0' * 300}{'6' * 300}", "200"),
        ("4300 digits, where int() gives up", f"0-{'9' * 4301}", "0-999"),
        ("60000 digits", f"0-{'9' * 60000}", "0-999"),
        ("60000 digits of suffix", f"-{'9' * 60000}", "0-999"),
        ("60000 digits of first-pos", f"{'9' * 60000}-", "416"),
        ("60000 zeros", f"{'0' * 60000}1-1", "1-1"),
    )
]


def grid() -> list[Row]:
    """Every pair of positions near the borders of small representations, answered from the bytes themselves."""
    rows: list[Row] = []
    for size in (1, 2, 10):
        edges = sorted({0, 1, size - 1, size, size + 1})
        for first in edges:
            for last in (*edges, None):
                header = f"bytes={first}-{'' if last is None else last}"
                if last is not None and last < first:
                    rows.append(("14.1.1 invalid pair", header, size, "200"))
                    continue
                wanted = [byte for byte in range(size) if first <= byte and (last is None or byte <= last)]
                rows.append(("14.1.2 pair of positions", header, size, f"{wanted[0]}-{wanted[-1]}" if wanted else "416"))
        for length in edges:
            wanted = list(range(size))[size - min(length, size) :]
            rows.append(("14.1.2 suffix", f"bytes=-{length}", size, f"{wanted[0]}-{wanted[-1]}" if wanted else "416"))
    return rows


ROWS = FIRST_LAST + SUFFIX + EMPTY + UNITS + MALFORMED + LISTS + COALESCED + MANY + LARGE + grid()


def shown(ranges: tuple[ByteRange, ...] | None) -> str:
    if ranges is None:
        return "200"
    return " ".join(f"{span.start}-{span.stop - 1}" for span in ranges) or "416"


@pytest.mark.parametrize(("clause", "header", "size", "answer"), ROWS, ids=[f"{n}: {row[0]}" for n, row in enumerate(ROWS)])
def test_range_field(clause: str, header: str, size: int, answer: str) -> None:
    assert shown(resolve_ranges(header, size)) == answer, clause


def test_table_is_large_enough() -> None:
    assert len(ROWS) >= 206


HOSTILE = {
    "many ranges": "bytes=" + "0-1," * 16000,
    "many empty members": "bytes=" + "," * 65000,
    "many blanks": "bytes=0-1" + " " * 65000 + "x",
    "blank members": "bytes=" + " ," * 100 + " " * 65000,
    "many dashes": "bytes=" + "-" * 65000,
    "a hundred long numbers": "bytes=" + ",".join(["9" * 640 + "-"] * 100),
    "one long number": "bytes=" + "9" * 65000,
    "two long numbers": f"bytes={'9' * 32000}-{'9' * 32000}",
    "a long unit": "b" * 65000,
    "a long unit with equals": "b" * 65000 + "=0-1",
    "descending": "bytes=" + ",".join(f"{n}-" for n in range(9999, 9899, -1)),
}


@pytest.mark.parametrize("header", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_fields_cost_little(header: str) -> None:
    """dangers, Range amplification: 64 KB in far less than 50 ms (the best of three, so that a busy machine does not decide)."""
    best = 1.0
    for _ in range(3):
        started = time.perf_counter()
        resolve_ranges(header, 10**6)
        best = min(best, time.perf_counter() - started)
    assert best < 0.02


NUMBERS = st.integers(0, 400) | st.integers(0, 10**30)
SPECS = st.one_of(
    st.tuples(NUMBERS, NUMBERS).map(lambda pair: f"{min(pair)}-{max(pair)}"),
    NUMBERS.map(lambda first: f"{first}-"),
    NUMBERS.map(lambda length: f"-{length}"),
)


@given(st.lists(SPECS, min_size=1, max_size=MAX_RANGES), st.integers(0, 500))
@settings(max_examples=300, deadline=None)
def test_valid_sets_lose_no_byte_and_gain_none_beyond_gaps(specs: list[str], size: int) -> None:
    """15.3.7.2: what was asked for is sent, inside the representation, once, and parts are worth their headers."""
    asked: set[int] = set()
    for spec in specs:
        first, _, last = spec.partition("-")
        start = int(first) if first else max(size - int(last), 0)
        stop = size if not (first and last) else min(int(last) + 1, size)
        asked.update(range(start, stop))
    ranges = resolve_ranges("bytes=" + ",".join(specs), size)
    if not ranges:
        assert not asked
        assert size == 0 or ranges == ()
        return
    sent = [byte for span in ranges for byte in range(span.start, span.stop)]
    assert len(sent) == len(set(sent)) <= size
    assert asked <= set(sent) <= set(range(size))
    ordered = sorted(ranges, key=lambda span: span.start)
    for left, right in pairwise(ordered):
        assert right.start - left.stop >= PART_COST
    extra = len(sent) - len(asked)
    assert extra < PART_COST * len(specs)
    body = byteranges_body(ranges, size, "application/octet-stream", "b" * 24)
    assert body.length <= size + 65536


@given(
    st.text(st.sampled_from("0123456789-, \tbytes=x"), max_size=60).map(lambda text: f"bytes={text}") | st.text(max_size=40),
    st.integers(0, 200),
)
@settings(max_examples=500, deadline=None)
def test_any_text_gives_ranges_inside_the_size(header: str, size: int) -> None:
    for span in resolve_ranges(header, size) or ():
        assert 0 <= span.start < span.stop <= size


def test_content_range() -> None:
    """14.4 and 15.5.17."""
    assert content_range(ByteRange(0, 500), 1234) == "bytes 0-499/1234"
    assert content_range(ByteRange(1233, 1234), 1234) == "bytes 1233-1233/1234"
    assert unsatisfied_range(47022) == "bytes */47022"
    assert unsatisfied_range(0) == "bytes */0"


def test_multipart_byteranges_is_framed_as_rfc_2046_section_5_1_1() -> None:
    content = bytes(range(256)) * 4
    ranges = resolve_ranges("bytes=0-1,1000-1001,-3", 1024)
    assert ranges is not None
    body = byteranges_body(ranges, 1024, "image/png", "frontier42")
    sent = b"".join(head + content[span.start : span.stop] for head, span in zip(body.heads, ranges, strict=True)) + body.tail
    assert body.content_type == "multipart/byteranges; boundary=frontier42"
    assert body.length == len(sent)
    assert sent == (
        b"--frontier42\r\nContent-Type: image/png\r\nContent-Range: bytes 0-1/1024\r\n\r\n\x00\x01"
        b"\r\n--frontier42\r\nContent-Type: image/png\r\nContent-Range: bytes 1000-1023/1024\r\n\r\n"
        + content[1000:]
        + b"\r\n--frontier42--\r\n"
    )


def test_multipart_byteranges_is_read_by_a_mime_parser() -> None:
    """14.6: an independent reader finds every part's bytes and range."""
    from email import message_from_bytes
    from email.message import Message

    content = bytes(range(33, 127)) * 20
    ranges = resolve_ranges("bytes=900-950,0-9,-40", len(content))
    assert ranges is not None
    body = byteranges_body(ranges, len(content), "text/plain", "frontier42")
    sent = b"".join(head + content[span.start : span.stop] for head, span in zip(body.heads, ranges, strict=True)) + body.tail
    message = message_from_bytes(f"Content-Type: {body.content_type}\r\n\r\n".encode() + sent)
    parts = message.get_payload()
    assert isinstance(parts, list)
    assert len(parts) == 3
    for part, span in zip(parts, ranges, strict=True):
        assert isinstance(part, Message)
        assert part["Content-Range"] == content_range(span, len(content))
        assert part.get_content_type() == "text/plain"
        assert part.get_payload(decode=True) == content[span.start : span.stop]
