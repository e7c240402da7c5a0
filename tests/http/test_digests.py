"""Digest fields (RFC 9530) over structured fields (RFC 9651)."""

import hashlib
import time

import http_sf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediacdn.errors import InvalidParameter
from mediacdn.http.digests import etag, parse_hex_sha256, parse_sha256, repr_digest

HEX = hashlib.sha256(b'{"hello": "world"}\n').hexdigest()
ITEM = "RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg="
OTHER = hashlib.sha256(b"").hexdigest()
OTHER_ITEM = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="

GOOD: list[tuple[str, str, str | None]] = [
    ("RFC 9530 2: the example", f"sha-256=:{ITEM}:", HEX),
    ("RFC 9530 2: among others, first", f"sha-256=:{ITEM}:, sha-512=:YWJj:", HEX),
    ("RFC 9530 2: among others, last", f"sha-512=:YWJj:,\tsha-256=:{ITEM}:", HEX),
    ("RFC 9530 5: other algorithms are skipped", "sha-512=:YWJj:, md5=:YWJj:, unixsum=:YWJj:", None),
    ("RFC 9530 5: adler and any later key", "adler=:YWJj:, x.new_alg-1*=:YWJj:", None),
    ("RFC 9651 4.2: empty field", "", None),
    ("RFC 9651 4.2: blanks around", f"  sha-256=:{ITEM}:  ", HEX),
    ("RFC 9651 3.1.2: parameters are ignored", f'sha-256=:{ITEM}:;a;b=1;c="x; y, z"', HEX),
    ("RFC 9651 4.2.2: the last of a key counts", f"sha-256=:{OTHER_ITEM}:, sha-256=:{ITEM}:", HEX),
    ("RFC 9651 4.2.7: padding may be missing", f"sha-256=:{ITEM.rstrip('=')}:", HEX),
    ("RFC 9651 3.1.1: an inner list elsewhere", f'a=(1 "b, c" tok;q=1.5);z, sha-256=:{ITEM}:', HEX),
    (
        "RFC 9651 3.3: every bare item elsewhere",
        f'a=1, b=-1.5, c="x\\"y\\\\", d=*tok/en:1, e=?0, f=@1659578233, g=%"f%c3%bc", h, sha-256=:{ITEM}:',
        HEX,
    ),
    ("RFC 9651 3.1.1: empty inner list", f"a=(), b=( ), sha-256=:{ITEM}:", HEX),
]

BAD: list[tuple[str, str]] = [
    ("sha-256 without value is boolean", "sha-256"),
    ("sha-256 without value, with parameter", "sha-256;a=1"),
    ("sha-256 is a token", f"sha-256={ITEM[:10]}"),
    ("sha-256 is a string", f'sha-256="{ITEM}"'),
    ("sha-256 is an inner list", f"sha-256=(:{ITEM}:)"),
    ("sha-256 of no bytes", "sha-256=::"),
    ("sha-256 of 31 bytes", "sha-256=:" + "A" * 41 + "Q==:"),
    ("sha-256 of 33 bytes", "sha-256=:" + "A" * 44 + ":"),
    ("sha-256 of 64 bytes", "sha-256=:" + "A" * 86 + "==:"),
    ("hexadecimal for base64", f"sha-256=:{HEX}:"),
    ("base64url", "sha-256=:" + ITEM.replace("/", "_") + ":"),
    ("padding inside", "sha-256=:" + "A" * 20 + "=" + "A" * 23 + ":"),
    ("a length no base64 has", "sha-256=:" + "A" * 45 + ":"),
    ("last of a key is bad", f"sha-256=:{ITEM}:, sha-256=1"),
    ("not closed", f"sha-256=:{ITEM}"),
    ("not opened", f"sha-256={ITEM}:"),
    ("upper-case key (RFC 3230 form)", f"SHA-256={ITEM}"),
    ("upper-case key", f"SHA-256=:{ITEM}:"),
    ("blank before equals", f"sha-256 =:{ITEM}:"),
    ("blank after equals", f"sha-256= :{ITEM}:"),
    ("trailing comma", f"sha-256=:{ITEM}:,"),
    ("trailing comma and blank", f"sha-256=:{ITEM}:, "),
    ("leading comma", f",sha-256=:{ITEM}:"),
    ("two commas", f"sha-256=:{ITEM}:,,a=1"),
    ("semicolon for comma", f"sha-512=:YWJj:;sha-256=:{ITEM}:,;"),
    ("blank for comma", f"sha-512=:YWJj: sha-256=:{ITEM}:"),
    ("bad other member", f"a=!, sha-256=:{ITEM}:"),
    ("bad other member after", f"sha-256=:{ITEM}:, A"),
    ("bad string", f'a="\u00e9", sha-256=:{ITEM}:'),
    ("number too long", f"a=1234567890123456, sha-256=:{ITEM}:"),
    ("inner list not closed", f"a=(1 2, sha-256=:{ITEM}:"),
    ("inner list without blanks", f'a=("x""y"), sha-256=:{ITEM}:'),
    ("blank in base64", f"sha-256=:{ITEM[:20]} {ITEM[20:]}:"),
    ("line end", f"sha-256=:{ITEM}:\n"),
    ("too long", "a, " * 4000 + f"sha-256=:{ITEM}:"),
]


@pytest.mark.parametrize(("clause", "field", "digest"), GOOD, ids=[row[0] for row in GOOD])
def test_digest_field(clause: str, field: str, digest: str | None) -> None:
    assert parse_sha256(field) == digest, clause


@pytest.mark.parametrize(("name", "field"), BAD, ids=[row[0] for row in BAD])
def test_malformed_digest_field(name: str, field: str) -> None:
    with pytest.raises(InvalidParameter):
        parse_sha256(field)


PIECES = [
    "a",
    "sha-256",
    "=",
    ":",
    f":{ITEM}:",
    ":YQ==:",
    "(",
    ")",
    " ",
    ";",
    ",",
    ", ",
    '"x"',
    "1",
    "-",
    "1.5",
    "?1",
    "@1",
    "tok",
    '%"x"',
    "*",
    "A",
    "\t",
]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
@settings(max_examples=800, deadline=None)
def test_agrees_with_another_parser_on_what_is_a_dictionary(field: str) -> None:
    try:
        members = http_sf.parse(field.strip(" \t").encode(), tltype="dictionary")
    except ValueError:
        members = None
    try:
        digest = parse_sha256(field)
    except InvalidParameter:
        assert members is None or "sha-256" in members
        assert members is None or not isinstance(members["sha-256"][0], bytes) or len(members["sha-256"][0]) != 32
    else:
        assert members is not None
        assert ("sha-256" in members) is (digest is not None)
        assert digest is None or members["sha-256"][0].hex() == digest


@pytest.mark.parametrize("field", ["a,", "a=(", "a;", 'a="\\"', "a=1", "a=(1 ", " ", "a=:A", 'a=%"%a'])
def test_hostile_fields_cost_little(field: str) -> None:
    best = 1.0
    for _ in range(3):
        started = time.perf_counter()
        for text in (field * (65000 // len(field)), field * (8000 // len(field)), field[:3] + field[3:] * 4000):
            try:
                parse_sha256(text)
            except InvalidParameter:
                continue
        best = min(best, time.perf_counter() - started)
    assert best < 0.02


def test_hex() -> None:
    assert parse_hex_sha256(HEX) == HEX
    assert parse_hex_sha256(HEX.upper()) == HEX


@pytest.mark.parametrize("text", ["", HEX[:-1], HEX + "0", "g" + HEX[1:], f" {HEX}", f"{HEX}\n", f"0x{HEX[2:]}", "\u0661" * 64])
def test_bad_hex(text: str) -> None:
    with pytest.raises(InvalidParameter):
        parse_hex_sha256(text)


@given(st.binary(min_size=32, max_size=32))
@settings(deadline=None)
def test_round_trip(raw: bytes) -> None:
    assert parse_sha256(repr_digest(raw.hex())) == raw.hex()
    assert http_sf.parse(repr_digest(raw.hex()).encode(), tltype="dictionary") == {"sha-256": (raw, {})}


def test_writing() -> None:
    assert repr_digest(OTHER) == f"sha-256=:{OTHER_ITEM}:"
    assert etag(OTHER) == f'"sha256:{OTHER}"'
