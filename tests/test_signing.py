"""Signed URLs, api.md "Signed URLs": one spelling each, any change refused, and the same result from every published recipe."""

import hmac
import json
import os
import shutil
import string
import subprocess
import sys
from base64 import urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediacdn.errors import ConfigError, InvalidParameter, InvalidSignature, LinkExpired, MediaError
from mediacdn.model import Link
from mediacdn.signing import (
    KeyRing,
    canonical,
    link_covers,
    mask,
    mint_prefix,
    rounded,
    sign_query,
    verify_prefix,
    verify_query,
)

RECIPES = Path(__file__).parent / "recipes"
VECTORS = json.loads((RECIPES / "vectors.json").read_text())
RING = KeyRing({"old": bytes(32), "k1": bytes(range(32))}, "k1")
ID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
PATH = f"/v1/media/{ID}"
IAT, NOW, EXP = 1_700_000_000, 1_800_000_000, 2_000_000_000


def _verify(url: str, method: str = "GET", now: int = NOW, **more: Any) -> Link:
    path, _, query = url.partition("?")
    return verify_query(RING.keys.get, method, path, query, now, **more)


def _sign(path: str = PATH, **more: Any) -> str:
    return sign_query(RING, path, **{"exp": EXP, "iat": IAT, **more})


def _forge(query: str, sorted_query: str, method: str = "GET", path: str = PATH, kid: str = "k1") -> str:
    """Sign a spelling that sign_query would never write, as a holder of the key could."""
    digest = hmac.digest(RING.keys[kid], f"v1\n{method}\n{path}\n{sorted_query}".encode(), "sha256")
    return f"{path}?{query}&sig={urlsafe_b64encode(digest).decode().rstrip('=')}"


# The published vectors, and the programs that make them.

QUERY_VECTORS = [pytest.param(row, id=row["says"]) for row in VECTORS["query"]]
PREFIX_VECTORS = [pytest.param(row, id=row["says"]) for row in VECTORS["prefix"]]
PROGRAMS = [
    ("python", sys.executable, [sys.executable, "sign.py"]),
    ("javascript", "node", ["node", "sign.mjs"]),
    ("go", "go", ["go", "run", "sign.go"]),
    ("openssl", "openssl", ["sh", "sign.sh"]),
]


@pytest.mark.parametrize("row", QUERY_VECTORS)
def test_query_vectors(row: dict[str, Any]) -> None:
    more = dict(row["more"])
    method = more.pop("m", "GET")
    assert sign_query(RING, row["path"], exp=row["exp"], iat=row["iat"], method=method, **more) == row["url"]
    link = _verify(row["url"], method)
    assert link == Link(IAT, EXP, "k1", more.get("sub"), more.get("ip"), more.get("disposition"))


@pytest.mark.parametrize("row", PREFIX_VECTORS)
def test_prefix_vectors(row: dict[str, Any]) -> None:
    more = row["more"]
    assert mint_prefix(RING, row["media"], exp=row["exp"], iat=row["iat"], **more) == row["token"]
    link = verify_prefix(RING.keys.get, row["token"], "GET", NOW)
    assert link == Link(IAT, EXP, "k1", more.get("sub"), more.get("ip"), None, ID, tuple(more.get("covers", ())))


@pytest.mark.parametrize("row", QUERY_VECTORS)
@pytest.mark.parametrize("command", [pytest.param(command, id=name) for name, tool, command in PROGRAMS if shutil.which(tool)])
def test_recipes_sign_the_same(command: list[str], row: dict[str, Any], tmp_path: Path) -> None:
    arguments = [row["path"], str(row["exp"]), str(row["iat"]), *[f"{name}={value}" for name, value in row["more"].items()]]
    environment = {**os.environ, "LINK_KID": VECTORS["kid"], "LINK_SECRET": VECTORS["secret"], "PYTHONUTF8": "1"}
    ran = subprocess.run([*command, *arguments], cwd=RECIPES, env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout == row["url"] + "\n"


def test_canonical_text() -> None:
    params = [("sub", "a b~é"), ("exp", "2"), ("kid", "k"), ("iat", "1")]
    assert canonical("GET", "/v1/media/%2e", params) == b"v1\nGET\n/v1/media/%2e\nexp=2&iat=1&kid=k&sub=a%20b~%C3%A9"


# Any change is refused.

FULL = _sign(sub="Zoë/1", ip="192.0.2.0/24", disposition="attachment")
PUT = _sign(method="PUT", sub="bob")
SUBJECTS = [(_sign(), "GET"), (FULL, "GET"), (PUT, "PUT")]


@pytest.mark.parametrize(("url", "method"), SUBJECTS)
def test_every_byte_counts(url: str, method: str) -> None:
    """Replaced, removed, doubled, its case changed, escaped, or with something put before it: no position gives a second spelling."""
    _verify(url, method)
    for at, here in enumerate(url):
        for other in {
            *"AaZz09-_.~%&=+/;?# \n\0é",
            here.swapcase(),
            f"%{ord(here):02X}",
            f"%{ord(here):02x}",
            "",
            here + here,
            "&" + here,
        } - {here}:
            with pytest.raises(InvalidSignature):
                _verify(url[:at] + other + url[at + 1 :], method)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SUBJECTS), st.data())
def test_no_single_edit_verifies(subject: tuple[str, str], data: st.DataObject) -> None:
    url, method = subject
    start = data.draw(st.integers(0, len(url)))
    stop = data.draw(st.integers(start, min(len(url), start + 6)))
    edited = url[:start] + data.draw(st.text(max_size=6)) + url[stop:]
    if edited == url:
        assert _verify(edited, method).exp == EXP
    else:
        with pytest.raises(InvalidSignature):
            _verify(edited, method)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(SUBJECTS), st.data())
def test_parameters_dropped_doubled_reordered_or_added(subject: tuple[str, str], data: st.DataObject) -> None:
    url, method = subject
    path, _, query = url.partition("?")
    pairs = query.split("&")
    at = data.draw(st.integers(0, len(pairs) - 1))
    name = pairs[at].partition("=")[0]
    kinds = {
        "dropped": pairs[:at] + pairs[at + 1 :],
        "doubled": [*pairs[: at + 1], *pairs[at:]],
        "doubled elsewhere": [*pairs, pairs[at]],
        "repeated with another value": [*pairs[:at], f"{name}=1", *pairs[at:]],
        "emptied": [*pairs[:at], f"{name}=", *pairs[at + 1 :]],
        "without a value": [*pairs[:at], name, *pairs[at + 1 :]],
        "added": [*pairs[:at], f"{data.draw(st.text(string.ascii_lowercase, min_size=1, max_size=5))}=1", *pairs[at:]],
        "in another case": [*pairs[:at], pairs[at].replace(name, name.upper(), 1), *pairs[at + 1 :]],
    }
    for changed in kinds.values():
        if changed != pairs:
            with pytest.raises(InvalidSignature):
                _verify(f"{path}?{'&'.join(changed)}", method)
    # What is signed is sorted by name, so the order in the URL says nothing and any is the same link.
    assert _verify(f"{path}?{'&'.join(data.draw(st.permutations(pairs)))}", method) == _verify(url, method)


@settings(max_examples=200, deadline=None)
@given(st.text(), st.text(), st.sampled_from(["GET", "HEAD", "PUT", "", "get"]), st.integers(-(2**40), 2**40))
def test_arbitrary_text_is_refused_and_never_raises_otherwise(path: str, query: str, method: str, now: int) -> None:
    with pytest.raises(InvalidSignature):
        verify_query(RING.keys.get, method, path, query, now)
    with pytest.raises(InvalidSignature):
        verify_prefix(RING.keys.get, query, method, now)
    assert isinstance(mask(path + query), str)


ODD_SPELLINGS = [
    ("a leading zero", _forge("exp=02000000000&iat=1700000000&kid=k1", "exp=02000000000&iat=1700000000&kid=k1")),
    ("a plus sign", _forge("exp=%2B2000000000&iat=1700000000&kid=k1", "exp=%2B2000000000&iat=1700000000&kid=k1")),
    ("a negative number", _forge("exp=2000000000&iat=-1&kid=k1", "exp=2000000000&iat=-1&kid=k1")),
    ("a number beyond any time", _forge(f"exp={10**11}&iat=1&kid=k1", f"exp={10**11}&iat=1&kid=k1")),
    ("other digits of Unicode", _forge("exp=\uff12000000000&iat=1700000000&kid=k1", "exp=\uff12000000000&iat=1700000000&kid=k1")),
    ("an escaped unreserved character", _forge("exp=2000000000&iat=1&kid=k1&sub=%61", "exp=2000000000&iat=1&kid=k1&sub=%61")),
    ("lower-case escapes", _forge("exp=2000000000&iat=1&kid=k1&sub=%c3%ab", "exp=2000000000&iat=1&kid=k1&sub=%c3%ab")),
    ("escapes that are not UTF-8", _forge("exp=2000000000&iat=1&kid=k1&sub=%FF", "exp=2000000000&iat=1&kid=k1&sub=%FF")),
    ("a broken escape", _forge("exp=2000000000&iat=1&kid=k1&sub=%4", "exp=2000000000&iat=1&kid=k1&sub=%4")),
    ("a control character", _forge("exp=2000000000&iat=1&kid=k1&sub=a%0A", "exp=2000000000&iat=1&kid=k1&sub=a%0A")),
    ("an empty value", _forge("exp=2000000000&iat=1&kid=k1&sub=", "exp=2000000000&iat=1&kid=k1&sub=")),
    ("GET written out", _forge("exp=2000000000&iat=1&kid=k1&m=GET", "exp=2000000000&iat=1&kid=k1&m=GET")),
    (
        "a disposition that is not ours",
        _forge("exp=2000000000&iat=1&kid=k1&disposition=inline", "disposition=inline&exp=2000000000&iat=1&kid=k1"),
    ),
    ("a parameter that the path does not know", _forge("exp=2000000000&iat=1&kid=k1&w=320", "exp=2000000000&iat=1&kid=k1&w=320")),
    ("a dot segment in the path", _forge("exp=2000000000&iat=1&kid=k1", "exp=2000000000&iat=1&kid=k1", path=PATH + "/../x")),
    ("a path without its slash", _forge("exp=2000000000&iat=1&kid=k1", "exp=2000000000&iat=1&kid=k1", path=PATH[1:])),
    ("an unknown kid", _sign().replace("kid=k1", "kid=k2")),
    ("another key of the ring", _forge("exp=2000000000&iat=1&kid=k1", "exp=2000000000&iat=1&kid=k1", kid="old")),
    ("a padded signature", _sign() + "="),
    ("a signature in plain base64", next(url for n in range(99) if "-" in (url := _sign(sub=f"s{n}"))[-43:]).replace("-", "+")),
]


@pytest.mark.parametrize("url", [row[1] for row in ODD_SPELLINGS], ids=[row[0] for row in ODD_SPELLINGS])
def test_odd_spellings_are_refused_even_when_signed(url: str) -> None:
    with pytest.raises(InvalidSignature):
        _verify(url)


def test_the_forger_of_these_tests_can_sign() -> None:
    assert _verify(_forge("exp=2000000000&iat=1&kid=k1&sub=%C3%AB", "exp=2000000000&iat=1&kid=k1&sub=%C3%AB")).sub == "ë"


def test_spare_bits_of_the_signature_are_not_free() -> None:
    """43 characters hold 258 bits, two more than the digest: the last character has three other spellings of the same bytes."""
    alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
    url = _sign()
    last = alphabet.index(url[-1])
    assert last % 4 == 0
    for spare in (1, 2, 3):
        with pytest.raises(InvalidSignature):
            _verify(url[:-1] + alphabet[last + spare])


METHODS = [
    ("GET", None, True),
    ("HEAD", None, True),
    ("PUT", None, False),
    ("get", None, False),
    ("PUT", "PUT", True),
    ("GET", "PUT", False),
    ("HEAD", "PUT", False),
    ("HEAD", "HEAD", True),
    ("GET", "HEAD", False),
]


@pytest.mark.parametrize(("method", "signed", "opens"), METHODS)
def test_methods(method: str, signed: str | None, opens: bool) -> None:
    url = _sign(method=signed) if signed else _sign()
    if opens:
        assert _verify(url, method).iat == IAT
    else:
        with pytest.raises(InvalidSignature):
            _verify(url, method)


# The order: shape, kid, signature, exp; so an expired link that was also changed is 403 and tells nobody that it was once good.

TIMES = [
    ("its last second", EXP - 1, IAT, EXP, None),
    ("exp itself is past", EXP, IAT, EXP, LinkExpired),
    ("long past", EXP + 10**9, IAT, EXP, LinkExpired),
    ("iat within the leeway", NOW, NOW + 60, EXP, None),
    ("iat beyond the leeway", NOW, NOW + 61, EXP, InvalidSignature),
    ("both: past wins", EXP, EXP + 100, EXP, LinkExpired),
]


@pytest.mark.parametrize(("now", "iat", "exp", "error"), [row[1:] for row in TIMES], ids=[row[0] for row in TIMES])
def test_times(now: int, iat: int, exp: int, error: type[MediaError] | None) -> None:
    query = f"exp={exp}&iat={iat}&kid=k1"
    body = f"p1.{ID}.{exp}.{iat}.k1."
    sig = urlsafe_b64encode(hmac.digest(RING.keys["k1"], b"p1\nGET\n" + body.encode(), "sha256")).decode().rstrip("=")
    checks: list[Callable[[], Link]] = [
        lambda: _verify(_forge(query, query), now=now),
        lambda: verify_prefix(RING.keys.get, f"{body}.{sig}", "GET", now),
    ]
    for check in checks:
        if error is None:
            assert (check().iat, check().exp) == (iat, exp)
        else:
            with pytest.raises(error):
                check()


def test_a_signer_whose_clock_is_ahead_is_told_so() -> None:
    query = f"exp={EXP}&iat={NOW + 61}&kid=k1"
    with pytest.raises(InvalidSignature, match="made 61 s ahead"):
        _verify(_forge(query, query), now=NOW)


def test_a_changed_expired_link_is_invalid_and_not_expired() -> None:
    with pytest.raises(InvalidSignature):
        _verify(_sign().replace("exp=2000000000", "exp=1900000000"), now=EXP)
    with pytest.raises(LinkExpired):
        _verify(_sign(), now=EXP)


def test_an_older_key_still_verifies() -> None:
    url = sign_query(KeyRing(RING.keys, "old"), PATH, exp=EXP, iat=IAT)
    assert _verify(url).kid == "old"


# Parameters of a route's own.


def test_further_parameters_are_signed_where_a_route_knows_them() -> None:
    url = _sign(extra=[("tags", "a,b"), ("a1", "x"), ("a", "ü")], sub="bob")
    link = _verify(url, further=("a", "a1", "tags"))
    assert link.sub == "bob"
    for known in ((), ("tags",), ("a", "a1")):
        with pytest.raises(InvalidSignature):
            _verify(url, further=known)
    for changed in (url.replace("tags=a", "tags=b"), url.replace("a=%C3%BC&a1=x", "a1=x&a=%C3%BC"), url.replace("a1=x", "a1=x&a1=x")):
        assert changed != url
        with pytest.raises(InvalidSignature):
            _verify(changed, further=("a", "a1", "tags"))
    with pytest.raises(InvalidSignature):
        _verify(_sign() + "&sig=" + "A" * 43, further=("sig",))
    assert _verify(_sign(), further=("a",)).sub is None


REFUSED_TO_SIGN = [
    ("a path without a slash", {"path": "v1/media"}),
    ("a path with a query", {"path": "/v1/media?x"}),
    ("a space in the path", {"path": "/v1/a b"}),
    ("a line feed in the path", {"path": "/v1/a\nb"}),
    ("a dot segment", {"path": "/v1/../media"}),
    ("a dot segment at the end", {"path": "/v1/.."}),
    ("exp before iat", {"exp": IAT}),
    ("times that are not seconds", {"exp": EXP * 1000}),
    ("iat 0", {"iat": 0}),
    ("an empty sub", {"sub": ""}),
    ("a control character in sub", {"sub": "a\nb"}),
    ("half a character in sub", {"sub": "\ud800"}),
    ("a sub beyond the limit", {"sub": "x" * 769}),
    ("an ip that is none", {"ip": "192.0.2.256"}),
    ("a prefix with host bits", {"ip": "192.0.2.1/24"}),
    ("an address with a zone", {"ip": "fe80::1%eth0"}),
    ("a disposition that is not ours", {"disposition": "inline"}),
    ("a method in lower case", {"method": "put"}),
    ("a reserved name", {"extra": [("exp", "1")]}),
    ("a name twice", {"extra": [("a", "1"), ("a", "2")]}),
    ("a name that needs escapes", {"extra": [("A b", "1")]}),
    ("an empty further value", {"extra": [("a", "")]}),
]


@pytest.mark.parametrize("more", [row[1] for row in REFUSED_TO_SIGN], ids=[row[0] for row in REFUSED_TO_SIGN])
def test_what_could_not_be_verified_is_not_signed(more: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter):
        _sign(**more)


@settings(max_examples=200, deadline=None)
@given(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=60),
    st.one_of(st.none(), st.ip_addresses().map(str), st.ip_addresses(v=4, network="198.51.0.0/16").map(lambda ip: f"{ip}/32")),
    st.sampled_from([None, "attachment"]),
    st.sampled_from(["GET", "PUT", "DELETE"]),
)
def test_what_is_signed_verifies(sub: str, ip: str | None, disposition: str | None, method: str) -> None:
    link = _verify(_sign(sub=sub, ip=ip, disposition=disposition, method=method), method)
    assert (link.sub, link.disposition, link.media, link.covers) == (sub, disposition, None, None)
    assert (link.ip is None) == (ip is None)


# Prefix tokens.

TOKEN = mint_prefix(RING, ID, exp=EXP, iat=IAT, covers=["w=320,h=240"], sub="Zoë", ip="2001:db8::/32")


def test_tokens_stand_in_a_path_segment() -> None:
    assert set(TOKEN) <= set(string.ascii_letters + string.digits + "-._~")
    assert TOKEN.startswith("p1.")


def test_every_byte_of_a_token_counts() -> None:
    verify_prefix(RING.keys.get, TOKEN, "GET", NOW)
    for at, here in enumerate(TOKEN):
        for other in {*"AZaz09-_.~%=/é\n", here.swapcase(), f"%{ord(here):02X}", "", here + here} - {here}:
            with pytest.raises(InvalidSignature):
                verify_prefix(RING.keys.get, TOKEN[:at] + other + TOKEN[at + 1 :], "GET", NOW)


@pytest.mark.parametrize(
    ("method", "opens"), [("GET", True), ("HEAD", True), ("PUT", False), ("POST", False), ("DELETE", False), ("get", False)]
)
def test_tokens_open_reading_only(method: str, opens: bool) -> None:
    if opens:
        assert verify_prefix(RING.keys.get, TOKEN, method, NOW).media == ID
    else:
        with pytest.raises(InvalidSignature):
            verify_prefix(RING.keys.get, TOKEN, method, NOW)


def test_a_query_signature_is_no_token_signature() -> None:
    """The two texts begin differently, so no query link can be turned into a token, whatever its path was."""
    body = f"p1.{ID}.{EXP}.{IAT}.k1."
    digest = hmac.digest(RING.keys["k1"], f"v1\nGET\n{body}".encode(), "sha256")
    with pytest.raises(InvalidSignature):
        verify_prefix(RING.keys.get, f"{body}.{urlsafe_b64encode(digest).decode().rstrip('=')}", "GET", NOW)


def _told(more: bytes) -> str:
    """Sign a token that says `more`, as a holder of the key could."""
    body = f"p1.{ID}.{EXP}.{IAT}.k1.{urlsafe_b64encode(more).decode().rstrip('=')}"
    digest = hmac.digest(RING.keys["k1"], b"p1\nGET\n" + body.encode(), "sha256")
    return f"{body}.{urlsafe_b64encode(digest).decode().rstrip('=')}"


NONSENSE = [
    b"****",
    b"covers",
    b"covers=",
    b"covers=%",
    b"covers=%FF",
    b"sub=%61",
    b"sub=%0A",
    b"\xff",
    b"sub=a&sub=b",
    b"sub=a&ip=b",
    b"not=known",
    b"&",
]


@pytest.mark.parametrize("more", NONSENSE)
def test_a_token_that_says_nonsense_is_refused_even_when_signed(more: bytes) -> None:
    assert verify_prefix(RING.keys.get, _told(b"ip=b&sub=a"), "GET", NOW).sub == "a"
    with pytest.raises(InvalidSignature):
        verify_prefix(RING.keys.get, _told(more), "GET", NOW)


@pytest.mark.parametrize(
    "more",
    [{"media_id": ID.lower()}, {"media_id": "8" + ID[1:]}, {"covers": ["a;b"]}, {"covers": ["a/b"]}, {"covers": [""]}, {"sub": ""}, {"exp": IAT}, {"covers": ["v" * 256] * 1 + [f"{n}" * 200 for n in range(9)]}],
)  # fmt: skip
def test_tokens_that_are_not_minted(more: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter):
        mint_prefix(RING, **{"media_id": ID, "exp": EXP, "iat": IAT, **more})


COVERED = [
    ("", True),
    ("/thumb", True),
    ("/poster", True),
    ("/waveform", True),
    ("/player", True),
    ("/storyboard.vtt", True),
    ("/storyboard/0001.webp", True),
    ("/hls/master.m3u8", True),
    ("/hls/720p.m3u8", True),
    ("/hls/segments/720p/00001.m4s", True),
    ("/v/thumb", True),
    ("/v/w=320,h=240", True),
    ("/v/w=321,h=240", False),
    ("/v/card", False),
    ("/v/", False),
    ("/v", False),
    ("/", False),
    ("/record", False),
    ("/sign", False),
    ("/download", False),
    ("/explain", False),
    ("/tasks/x", False),
    ("/thumb/", False),
    ("/thumbs", False),
    ("/hls", False),
    ("/hls/", False),
    ("/hls/../record", False),
    ("/hls/./master.m3u8", False),
    ("/hls//master.m3u8", False),
    ("/hls/%2e%2e/record", False),
    ("/hls/master.m3u8?x", False),
    ("/hls/master.m3u8\n", False),
    ("/storyboard/../record", False),
    ("/storyboards", False),
    ("thumb", False),
]


@pytest.mark.parametrize(("rest", "covered"), COVERED)
def test_what_a_token_covers(rest: str, covered: bool) -> None:
    link = verify_prefix(RING.keys.get, TOKEN, "GET", NOW)
    assert link_covers(link, ID, rest) is covered
    assert not link_covers(link, "01ARZ3NDEKTSV4RRFFQ69G5FAW", rest)
    assert not link_covers(_verify(_sign()), ID, rest)


def test_registered_presets_are_covered() -> None:
    link = verify_prefix(RING.keys.get, mint_prefix(RING, ID, exp=EXP, iat=IAT), "GET", NOW)
    assert link_covers(link, ID, "/v/card", presets={"thumb", "card"})
    assert not link_covers(link, ID, "/v/w=320,h=240", presets={"thumb", "card"})


# Addresses, windows, logs.

ADDRESSES = [
    ("192.0.2.1", "192.0.2.1"),
    ("::ffff:192.0.2.1", "192.0.2.1"),
    ("192.0.2.0/24", "192.0.2.0/24"),
    ("2001:DB8:0::1", "2001:db8::1"),
    ("2001:DB8::/32", "2001:db8::/32"),
]


@pytest.mark.parametrize(("ip", "written"), ADDRESSES)
def test_addresses_have_one_spelling(ip: str, written: str) -> None:
    assert _verify(_sign(ip=ip)).ip == written


WINDOWS = [
    ("off", 1000, 600, 0, 0, (1000, 1600)),
    ("down and up", 1010, 600, 300, 0, (900, 1800)),
    ("on the boundary", 900, 600, 300, 0, (900, 1500)),
    ("a window longer than the lifetime", 1010, 60, 3600, 0, (0, 3600)),
    ("after a revocation inside the window", 1010, 600, 300, 1005, (1005, 1800)),
    ("a revocation before the window", 1010, 600, 300, 800, (900, 1800)),
    ("a revocation this very second", 1010, 600, 0, 1011, (1011, 1611)),
    ("never without a lifetime", 1010, 0, 0, 0, (1010, 1011)),
]


@pytest.mark.parametrize(
    ("now", "lifetime", "window", "not_before", "times"), [row[1:] for row in WINDOWS], ids=[row[0] for row in WINDOWS]
)
def test_rounded(now: int, lifetime: int, window: int, not_before: int, times: tuple[int, int]) -> None:
    assert rounded(now, lifetime, window, not_before) == times


@given(st.integers(1, 2**33), st.integers(1, 10**6), st.integers(0, 10**5), st.integers(0, 2**33))
def test_rounded_never_shortens_and_never_predates(now: int, lifetime: int, window: int, not_before: int) -> None:
    iat, exp = rounded(now, lifetime, window, not_before)
    assert exp >= now + lifetime
    assert iat >= not_before
    assert iat <= max(now, not_before)
    assert iat < exp


def test_the_same_viewer_gets_the_same_url() -> None:
    urls = {_sign(iat=iat, exp=exp, sub="bob") for iat, exp in (rounded(now, 600, 300) for now in range(1_700_000_101, 1_700_000_400))}
    assert len(urls) == 1


SIG = _sign()[-43:]
MASKED = [
    (_sign(), f"{PATH}?exp=2000000000&iat=1700000000&kid=k1&sig=***"),
    (f"https://cdn.example{_sign()}#t=10", f"https://cdn.example{PATH}?exp=2000000000&iat=1700000000&kid=k1&sig=***#t=10"),
    (f"{PATH}?sig={SIG}&sig={SIG}", f"{PATH}?sig=***&sig=***"),
    (f"{PATH}?SIG={SIG}&exp=1", f"{PATH}?SIG=***&exp=1"),
    (f"sig={SIG}&exp=1", "sig=***&exp=1"),
    (f"/s/{TOKEN}{PATH}/hls/master.m3u8", f"/s/***{PATH}/hls/master.m3u8"),
    (f"https://cdn.example/base/s/{TOKEN}", "https://cdn.example/base/s/***"),
    (f"/login?next=%2Fs%2F{TOKEN}%2Fv1", "/login?next=%2Fs%2F***%2Fv1"),
    (f"/login?next=%2Fv1%3Fkid%3Dk1%26sig%3D{SIG}", "/login?next=%2Fv1%3Fkid%3Dk1%26sig%3D***"),
    (f"/s//{TOKEN}{PATH}", f"/s//***{PATH}"),  # the router takes these spellings too
    (f"/%73/{TOKEN}{PATH}", f"/%73/***{PATH}"),
    (f"//%53%2F/{TOKEN}{PATH}", f"//%53%2F/***{PATH}"),
    (f"{PATH}?%73i%67={SIG}", f"{PATH}?%73i%67=***"),
    (PATH, PATH),
    (f"{PATH}?design=1&s=2", f"{PATH}?design=1&s=2"),
]


@pytest.mark.parametrize(("url", "masked"), MASKED)
def test_mask(url: str, masked: str) -> None:
    assert mask(url) == masked
    assert mask(masked) == masked


RINGS = [
    ({"k1": bytes(31)}, "k1", "at least 32"),
    ({"k1": bytes(32)}, "k2", "not among"),
    ({}, "k1", "none"),
    ({"k.1": bytes(32)}, "k.1", "a key id"),
    ({"": bytes(32)}, "", "a key id"),
]


@pytest.mark.parametrize(("keys", "current", "says"), RINGS)
def test_rings_that_are_refused(keys: dict[str, bytes], current: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        KeyRing(keys, current)


@pytest.mark.parametrize("size", [32, 63, 64, 65, 200])
def test_any_length_of_key_is_that_of_hmac(size: int) -> None:
    """RFC 2104 hashes keys longer than a block first."""
    secret = os.urandom(size)
    url = sign_query(KeyRing({"k1": secret}, "k1"), PATH, exp=EXP, iat=IAT)
    path, _, query = url.partition("?")
    text, _, told = query.partition("&sig=")
    expected = urlsafe_b64encode(hmac.digest(secret, f"v1\nGET\n{path}\n{text}".encode(), "sha256")).decode().rstrip("=")
    assert told == expected
