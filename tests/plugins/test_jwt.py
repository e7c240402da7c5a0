"""Driver `jwt`, tokens and claims: what is believed, and every way to be believed without right that we know of."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from litestar.datastructures import Headers

from mediacdn import ConfigError, InvalidParameter, InvalidToken, Principal, Scope, TokenMinter
from mediacdn_jwt.strict import decode_base64url
from tests.services.jwks import jwks_server
from tests.services.tokens import (
    AUDIENCE,
    ISSUER,
    NOW,
    Journal,
    SetClock,
    authorization,
    b64,
    claims,
    compact,
    jwk,
    opened,
    private_key,
    private_pem,
    public_pem,
    static,
    token,
)

pytestmark = pytest.mark.anyio

STAMP = int(NOW.timestamp())
ALL = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")


async def refusal(text: str, **config: Any) -> InvalidToken:
    async with opened(**static(**config)) as driver:
        with pytest.raises(InvalidToken) as caught:
            await driver.authenticate(authorization(text))
    return caught.value


FITS = [
    ("RS256", "rsa"), ("RS384", "rsa"), ("RS512", "rsa"), ("PS256", "rsa"), ("PS384", "rsa"), ("PS512", "rsa"),
    ("ES256", "p256"), ("ES384", "p384"), ("ES512", "p521"), ("EdDSA", "ed25519"),
]  # fmt: skip


@pytest.mark.parametrize(("algorithm", "kind"), FITS)
async def test_every_asymmetric_algorithm_verifies(algorithm: str, kind: str) -> None:
    async with opened(**static(kind, algorithms=ALL)) as driver:
        principal = await driver.authenticate(authorization(token(kind, algorithm=algorithm)))
    assert principal == Principal("ann", frozenset({"media:read", "media:write"}), datetime.fromtimestamp(STAMP + 600, UTC), claims())


@pytest.mark.parametrize(("algorithm", "kind"), FITS)
async def test_another_key_of_the_same_kind_does_not(algorithm: str, kind: str) -> None:
    async with opened(**static(kind, algorithms=ALL)) as driver:
        with pytest.raises(InvalidToken, match="signature"):
            await driver.authenticate(authorization(token(f"{kind}/other", algorithm=algorithm)))


CREDENTIALS = [
    ({}, "none"),
    ({"authorization": "Basic dXNlcjpwYXNz"}, "none"),
    ({"authorization": 'Digest username="a", realm="b"'}, "none"),
    ({"authorization": ""}, "none"),
    ({"authorization": "Bearer {token}"}, "ann"),
    ({"authorization": "bEARER {token}"}, "ann"),
    ({"authorization": "Bearer   {token} "}, "ann"),
    ({"authorization": "Bearer"}, "refused"),
    ({"authorization": "Bearer "}, "refused"),
    ({"authorization": "Bearer {token} x"}, "refused"),
    ({"authorization": "Bearer {token},Bearer {token}"}, "refused"),
    ({"authorization": "Basic x, Bearer {token}"}, "refused"),
    ({"authorization": "Bearer {token}, Basic x"}, "refused"),
    ({"authorization": "Bearer \u00e9"}, "refused"),
    ({"authorization": "Bearer " + "a" * 8193}, "refused"),
]


@pytest.mark.parametrize(("headers", "expected"), CREDENTIALS)
async def test_credentials_of_a_request(headers: dict[str, str], expected: str) -> None:
    headers = {name: value.replace("{token}", token()) for name, value in headers.items()}
    async with opened(**static()) as driver:
        if expected == "refused":
            with pytest.raises(InvalidToken) as caught:
                await driver.authenticate(headers)
            assert caught.value.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
        else:
            principal = await driver.authenticate(headers)
            assert (principal.id if principal else "none") == expected


async def test_two_authorization_fields_are_refused() -> None:
    async with opened(**static()) as driver:
        one = (b"authorization", f"Bearer {token()}".encode())
        assert await driver.authenticate(Headers.from_scope({"headers": [one]}))  # type: ignore[typeddict-item]
        for other in (one, (b"authorization", b"Basic x")):
            with pytest.raises(InvalidToken):
                await driver.authenticate(Headers.from_scope({"headers": [one, other]}))  # type: ignore[typeddict-item]
            with pytest.raises(InvalidToken):
                await driver.authenticate(Headers.from_scope({"headers": [other, one]}))  # type: ignore[typeddict-item]


def header_attack(**members: Any) -> str:
    return token(header=members)


def with_parts(header: str | None = None, payload: str | None = None, signed: str | None = None) -> str:
    parts = token().split(".")
    return ".".join(new if new is not None else old for new, old in zip((header, payload, signed), parts, strict=True))


def trailing_bits(part: str) -> str:
    """Spell the same bytes with an unused bit of the last character set."""
    assert len(part) % 4 in (2, 3)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return part[:-1] + alphabet[alphabet.index(part[-1]) | 1]


def odd_payload() -> tuple[str, str, str]:
    """A good token whose payload and signature both leave unused bits."""
    for filler in range(3):
        parts = token(note="x" * filler).split(".")
        if len(parts[1]) % 4 and len(parts[2]) % 4:
            return parts[0], parts[1], parts[2]
    raise AssertionError


@pytest.mark.parametrize("text", ["Zg==", "Zg=", "Zh", "Zm9=", "Zm9v\n", " Zm9v", "Zm+v", "Zm/v", "Z", "Zm9vZ", "Zm\u00e9v", "Zm9\uff56"])
def test_base64url_has_one_spelling(text: str) -> None:
    """RFC 4648 sections 3.2, 3.3 and 3.5 as RFC 7515 section 2 narrows them."""
    assert (decode_base64url("Zg"), decode_base64url("Zm9v"), decode_base64url("")) == (b"f", b"foo", b"")
    with pytest.raises(ValueError):
        decode_base64url(text)


GOOD_HEADER = b'{"alg":"ES256","kid":"one"}'
GOOD_CLAIMS = json.dumps(claims()).encode()
P256 = private_key("p256")

ATTACKS: dict[str, str] = {
    # RFC 8725 section 2.1: the token chooses how it is checked
    **{f"alg {alg}": compact({"alg": alg, "kid": "one"}, claims(), b"x") for alg in ("none", "None", "NONE", "nOnE", "none ", "")},
    "alg none without a signature": compact({"alg": "none", "kid": "one"}, claims(), b""),
    "no alg": compact(b'{"kid":"one"}', claims(), P256),
    "alg null": compact(b'{"alg":null,"kid":"one"}', claims(), P256),
    "alg a list": compact(b'{"alg":["ES256"],"kid":"one"}', claims(), P256),
    "alg in lower case": compact({"alg": "es256", "kid": "one"}, claims(), P256, "ES256"),
    "HS256 with the public PEM": compact({"alg": "HS256", "kid": "one"}, claims(), public_pem("p256").encode()),
    "HS256 with the public PEM stripped": compact({"alg": "HS256", "kid": "one"}, claims(), public_pem("p256").strip().encode()),
    "HS512 with the public PEM": compact({"alg": "HS512", "kid": "one"}, claims(), public_pem("p256").encode()),
    "HS256 with an empty secret": compact({"alg": "HS256", "kid": "one"}, claims(), b""),
    "RS256 with the EC key": compact({"alg": "RS256", "kid": "one"}, claims(), private_key("rsa")),
    "EdDSA with the EC key": compact({"alg": "EdDSA", "kid": "one"}, claims(), private_key("ed25519")),
    "ES384 is not on the list": compact({"alg": "ES384", "kid": "one"}, claims(), private_key("p384")),
    "ES256K": compact({"alg": "ES256K", "kid": "one"}, claims(), P256, "ES256"),
    # kid is a key of a dictionary and nothing else
    "kid traversal": token(kid="../../../../dev/null"),
    "kid file": token(kid="/etc/hostname"),
    "kid SQL": token(kid="x' UNION SELECT 'key' --"),
    "kid shell": token(kid="one|id"),
    "kid with NUL": token(kid="one\0"),
    "kid in another case": token(kid="ONE"),
    "kid a list": compact({"alg": "ES256", "kid": ["one"]}, claims(), P256),
    "kid an object": compact({"alg": "ES256", "kid": {"one": 1}}, claims(), P256),
    "kid a number": compact({"alg": "ES256", "kid": 1}, claims(), P256),
    "kid empty": token(kid=""),
    "kid huge": token(kid="k" * 4000),
    "kid that is not ours": token(kid="two"),
    # RFC 7515 section 4.1.11, RFC 7797
    "crit": header_attack(crit=["exp"], exp=1),
    "crit empty": header_attack(crit=[]),
    "crit unknown": header_attack(crit=["http://example.com/x"]),
    "b64 false": header_attack(b64=False, crit=["b64"]),
    "b64 false, not critical": header_attack(b64=False),
    "b64 true": header_attack(b64=True),
    # a key that the token brings along
    "embedded jwk": compact({"alg": "ES256", "jwk": jwk("p256/evil")}, claims(), private_key("p256/evil")),
    "embedded jwk under a known kid": compact({"alg": "ES256", "kid": "one", "jwk": jwk("p256/evil")}, claims(), private_key("p256/evil")),
    "embedded x5c": compact({"alg": "ES256", "kid": "one", "x5c": ["MIIB"]}, claims(), private_key("p256/evil")),
    # RFC 8725 section 3.11
    "a logout token": header_attack(typ="logout+jwt"),
    "a DPoP proof": header_attack(typ="dpop+JWT"),
    "a security event": header_attack(typ="application/secevent+jwt"),
    "typ a number": header_attack(typ=1),
    # RFC 7515 section 2: one spelling
    "padded": ".".join(part + "=" * (-len(part) % 4) for part in odd_payload()),
    "padded needlessly": token() + "==",
    "payload's unused bits": ".".join((odd_payload()[0], trailing_bits(odd_payload()[1]), odd_payload()[2])),
    "signature's unused bits": ".".join((*odd_payload()[:2], trailing_bits(odd_payload()[2]))),
    "plain base64's +": with_parts(signed="+" * 86),
    "plain base64's /": with_parts(signed="/" * 86),
    "a line feed inside": with_parts(signed="\n" + token().split(".")[2]),
    "a blank inside": with_parts(payload=" " + token().split(".")[1]),
    # RFC 7515 section 7.1: three parts
    "no dots": "abc",
    "two parts": ".".join(token().split(".")[:2]),
    "four parts": token() + ".x",
    "five parts, a JWE": "a.b.c.d.e",
    "no signature": with_parts(signed=""),
    "no payload": with_parts(payload=""),
    "no header": with_parts(header=""),
    "only dots": "..",
    "JSON serialisation": '{"payload":"x","signatures":[]}',
    # RFC 7515 section 4: names are unique
    "alg twice": compact(b'{"alg":"none","alg":"ES256","kid":"one"}', claims(), P256),
    "alg twice, escaped": compact(b'{"alg":"ES256","\\u0061lg":"ES256","kid":"one"}', claims(), P256),
    "sub twice": compact(GOOD_HEADER, GOOD_CLAIMS.replace(b"{", b'{"sub":"root",', 1), P256),
    "a nested name twice": compact(GOOD_HEADER, GOOD_CLAIMS.replace(b"{", b'{"act":{"a":1,"a":2},', 1), P256),
    # shapes
    "header a list": compact(b'["ES256"]', claims(), P256),
    "header a text": compact(b'"ES256"', claims(), P256),
    "header not JSON": compact(b"{", claims(), P256),
    "header not UTF-8": compact(b'{"alg":"ES256","kid":"\xff"}', claims(), P256),
    "header UTF-16": compact(GOOD_HEADER.decode().encode("utf-16"), claims(), P256),
    "header with a BOM": compact(b"\xef\xbb\xbf" + GOOD_HEADER, claims(), P256),
    "header nested deeply": compact(b'{"alg":"ES256","kid":"one","x":' + b"[" * 2000 + b"]" * 2000 + b"}", claims(), P256),
    "payload a list": compact(GOOD_HEADER, b"[]", P256),
    "payload not JSON": compact(GOOD_HEADER, b"exp", P256),
    "payload nested deeply": compact(GOOD_HEADER, b'{"x":' + b"[" * 2500 + b"]" * 2500 + b"}", P256),
    "payload with a huge number": compact(GOOD_HEADER, GOOD_CLAIMS.replace(b"{", b'{"n":' + b"9" * 5000 + b",", 1), P256),
    "a token inside the token": compact({"alg": "ES256", "kid": "one", "cty": "JWT"}, token().encode(), P256),
    "too large": token(filler="x" * 8000),
    # signatures
    "signature of another payload": ".".join((*token(sub="root").split(".")[:2], token().split(".")[2])),
    "signature empty bytes": with_parts(signed="AA"),
    "signature of zeros (CVE-2022-21449)": with_parts(signed=b64(bytes(64))),
    "signature in DER": compact(GOOD_HEADER, claims(), b"\x30\x06\x02\x01\x01\x02\x01\x01"),
    # RFC 7519 section 4.1: claims
    "iss wrong": token(iss="https://evil.example"),
    "iss missing": token(iss=None),
    "iss with a slash more": token(iss=ISSUER + "/"),
    "iss in another case": token(iss=ISSUER.upper()),
    "iss a list": token(iss=[ISSUER]),
    "aud wrong": token(aud="other"),
    "aud missing": token(aud=None),
    "aud empty": token(aud=[]),
    "aud an object": token(aud={AUDIENCE: 1}),
    "aud a mixed list": token(aud=[AUDIENCE, 1]),
    "aud a part of ours": token(aud=AUDIENCE[:-1]),
    "aud ours and more": token(aud=AUDIENCE + "2"),
    "exp missing": token(exp=None),
    "exp past the leeway": token(exp=STAMP - 30),
    "exp zero": token(exp=0),
    "exp negative": token(exp=-1),
    "exp text": token(exp=str(STAMP + 600)),
    "exp true": token(exp=True),
    "exp a list": token(exp=[STAMP + 600]),
    "exp null": compact(GOOD_HEADER, json.dumps({**claims(), "exp": None}).encode(), P256),
    "exp NaN": compact(GOOD_HEADER, json.dumps({**claims(), "exp": float("nan")}).encode(), P256),
    "exp Infinity": compact(GOOD_HEADER, json.dumps({**claims(), "exp": float("inf")}).encode(), P256),
    "exp 1e999": compact(GOOD_HEADER, GOOD_CLAIMS.replace(str(STAMP + 600).encode(), b"1e999"), P256),
    "exp 10^400": compact(GOOD_HEADER, GOOD_CLAIMS.replace(str(STAMP + 600).encode(), b"1" + b"0" * 400), P256),
    "exp past the year 9999": token(exp=253402300800),
    "nbf beyond the leeway": token(nbf=STAMP + 31),
    "nbf text": token(nbf="0"),
    "iat beyond the leeway": token(iat=STAMP + 31),
    "iat huge": token(iat=1e300),
    "iat true": token(iat=True),
    "NaN in a claim that nobody reads": token(note=float("nan")),
    "sub missing": token(sub=None),
    "sub empty": token(sub=""),
    "sub blank": token(sub=" "),
    "sub a number": token(sub=7),
    "sub a list": token(sub=["ann"]),
    "sub too long": token(sub="a" * 257),
    "sub with NUL": token(sub="ann\0"),
    "sub with a line feed": token(sub="ann\nadmin"),
    "sub half a character": token(sub="ann\ud800"),
    "half a character elsewhere": token(note="\udfff"),
    "scope a number": token(scope=1),
    "scope an object": token(scope={"media:admin": True}),
    "scope a mixed list": token(scope=["media:read", 1]),
}  # fmt: skip


@pytest.mark.parametrize("text", ATTACKS.values(), ids=ATTACKS.keys())
async def test_attacks_are_refused_and_leave_no_trace_of_the_token(text: str) -> None:
    journal = Journal()
    async with opened(journal=journal, **static("p256", algorithms=("RS256", "ES256", "EdDSA", "PS256"))) as driver:
        with pytest.raises(InvalidToken) as caught:
            await driver.authenticate(authorization(text))
        assert caught.value.status == 401
        with pytest.raises(InvalidToken):  # nothing refused is remembered as good
            await driver.authenticate(authorization(text))
    said = f"{journal.entries} {caught.value.detail} {caught.value.extra} {caught.value.headers}"
    assert not any(part and len(part) > 8 and part in said for part in text.split("."))
    assert journal.events() == ["token_refused", "token_refused"]


GOOD: dict[str, tuple[str, str]] = {
    "within the leeway after exp": (token(exp=STAMP - 29), "ann"),
    "fractions of a second": (token(exp=STAMP + 0.5, iat=STAMP - 0.5), "ann"),
    "nbf within the leeway": (token(nbf=STAMP + 30), "ann"),
    "iat within the leeway": (token(iat=STAMP + 30), "ann"),
    "no iat": (token(iat=None), "ann"),
    "aud in a list": (token(aud=["other", AUDIENCE]), "ann"),
    "the last second of 9999": (token(exp=253402300799), "ann"),
    "the longest sub": (token(sub="\u00e9" * 256), "\u00e9" * 256),
    "a sub of a provider": (token(sub="auth0|5f7c8ec7c33c6c004bbafe82"), "auth0|5f7c8ec7c33c6c004bbafe82"),
    "no typ": (compact({"alg": "ES256", "kid": "one"}, claims(), P256), "ann"),
    "RFC 9068": (token(header={"typ": "at+jwt"}), "ann"),
    "RFC 9068 in full": (token(header={"typ": "application/at+jwt"}), "ann"),
    "no kid, one key": (token(kid=None), "ann"),
    "unknown header members": (token(header={"x": [1], "cty": "json"}), "ann"),
    "an emoji spelled as a pair": (compact(GOOD_HEADER, GOOD_CLAIMS.replace(b"{", b'{"n":"\\ud83d\\ude00",', 1), P256), "ann"),
}


@pytest.mark.parametrize(("text", "subject"), GOOD.values(), ids=GOOD.keys())
async def test_good_tokens(text: str, subject: str) -> None:
    async with opened(**static()) as driver:
        for _ in range(2):
            assert (await driver.authenticate(authorization(text))).id == subject


@pytest.mark.parametrize("member", ["jku", "x5u"])
async def test_urls_in_a_token_are_never_asked(member: str) -> None:
    async with jwks_server([jwk("p256/evil", "one")]) as trap:
        evil = compact({"alg": "ES256", "kid": "one", member: trap.url}, claims(), private_key("p256/evil"))
        unknown = compact({"alg": "ES256", "kid": "evil", member: trap.url}, claims(), private_key("p256/evil"))
        for text in (evil, unknown):
            await refusal(text, jwks_allow=("127.0.0.0/8",))
        # Good but for the member: it is ignored, not followed.
        async with opened(**static()) as driver:
            assert await driver.authenticate(authorization(token(header={member: trap.url})))
        assert trap.hits == 0


async def test_without_a_kid_the_key_must_be_the_only_one_that_fits() -> None:
    async with opened(**static("p256", "rsa")) as driver:
        assert await driver.authenticate(authorization(token(kid=None)))
    async with opened(**static("p256", "p256/other")) as driver:
        with pytest.raises(InvalidToken):
            await driver.authenticate(authorization(token(kid=None)))


async def test_the_key_and_not_the_token_says_which_algorithm() -> None:
    async with opened(**static("rsa", "p256", algorithms=("RS256", "ES256"))) as driver:
        for text in (token("p256", "one"), token("rsa", "two", "RS256"), token("rsa", "one", "PS256")):
            with pytest.raises(InvalidToken):
                await driver.authenticate(authorization(text))


async def test_an_audience_that_is_not_asked_for_is_refused() -> None:
    assert "audience" in (await refusal(token(), audience=None)).detail
    async with opened(**static(audience=None)) as driver:
        assert await driver.authenticate(authorization(token(aud=None)))
    async with opened(**static(audience=("a", "media"))) as driver:
        assert await driver.authenticate(authorization(token()))


SCOPES = [
    ("text", {"scope": "media:read openid"}, {"media:read", "openid"}),
    ("list", {"scope": ["media:read", "media:admin"]}, {"media:read", "media:admin"}),
    ("empty", {"scope": ""}, set()),
    ("blanks", {"scope": "  media:read  "}, {"media:read"}),
    ("mapped", {"scope": "files.write staff"}, {"media:write", "media:read", "media:admin"}),
    ("absent", {}, {"media:read"}),
]


@pytest.mark.parametrize(("changes", "expected"), [row[1:] for row in SCOPES], ids=[row[0] for row in SCOPES])
async def test_scopes(changes: dict[str, Any], expected: set[str]) -> None:
    table = static(scope_map={"files.write": "media:write", "staff": "media:read media:admin"}, default_scopes=(Scope.READ.value,))
    async with opened(**table) as driver:
        assert (await driver.authenticate(authorization(token(**changes)))).scopes == expected


async def test_other_names_of_claims() -> None:
    async with opened(**static(scope_claim="scp", subject_claim="client_id")) as driver:
        principal = await driver.authenticate(authorization(token(scp="media:admin", client_id="robot", scope="x")))
        assert (principal.id, principal.scopes, principal.claims["sub"]) == ("robot", {"media:admin"}, "ann")


async def test_a_remembered_token_expires_and_costs_no_second_check(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, headers = SetClock(), authorization(token())
    async with opened(clock=clock, **static()) as driver:
        first = await driver.authenticate(headers)
        with monkeypatch.context() as patched:
            patched.setattr(driver, "_jws", None)
            clock.step(629)
            assert await driver.authenticate(headers) is first
        clock.step(1)
        with pytest.raises(InvalidToken, match="expired"):
            await driver.authenticate(headers)


async def test_only_so_many_tokens_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mediacdn_jwt.driver.MAX_REMEMBERED", 3)
    async with opened(**static()) as driver:
        texts = [token(sub=f"user{place}") for place in range(5)]
        found = [await driver.authenticate(authorization(text)) for text in texts]
        again = [await driver.authenticate(authorization(text)) for text in reversed(texts)]
    assert [one is other for one, other in zip(reversed(found), again, strict=True)] == [True, True, True, False, False]


CONFIGS = [
    ({"algorithms": ("HS256",)}, "HS256"),
    ({"algorithms": ("none",)}, "none"),
    ({"algorithms": ("RS256", "HS512")}, "HS512"),
    ({"algorithms": ()}, "algorithms"),
    ({"leeway": 61}, "leeway"),
    ({"leeway": -1}, "leeway"),
    ({"leeway": float("nan")}, "leeway"),
    ({"jwks_ttl": 0}, "jwks_ttl"),
    ({"unknown_kid_interval": 0}, "unknown_kid_interval"),
    ({"default_scopes": ("media:admin",)}, "default_scopes"),
    ({"default_scopes": ("media:read media:admin",)}, "default_scopes"),
    ({"jwks_allow": ("loopback",)}, "jwks_allow"),
    ({"development": True}, "development"),
    ({"keys": {}}, "jwks_url or keys"),
    ({"keys": {}, "issuer": None, "development": False}, "jwks_url or keys"),
    ({"issuer": ""}, "empty"),
    ({"audience": ""}, "empty"),
    ({"audience": ()}, "empty"),
    ({"jwks_url": "http://auth.example/jwks", "jwks_allow": ()}, "https"),
    ({"jwks_url": "ftp://auth.example/jwks"}, "jwks_url"),
    ({"jwks_url": "https://user:secret@auth.example/jwks"}, "credentials"),
    ({"jwks_url": "https://[::1/jwks"}, "jwks_url"),
    ({"jwks_url": "/jwks"}, "jwks_url"),
    ({"keys": {"one": "/nonexistent.pem"}}, "keys.one"),
    ({"keys": {"one": "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"}}, "keys.one"),
    ({"keys": {"one": "rsa1024"}}, "1024 bits"),
    ({"keys": {"one": "private"}}, "private"),
    ({"keys": {"one": "p384"}}, "algorithm"),
]


@pytest.mark.parametrize(("changes", "names"), CONFIGS)
async def test_what_cannot_be_safe_refuses_the_start(changes: dict[str, Any], names: str) -> None:
    made = {"rsa1024": lambda: public_pem("rsa1024"), "private": lambda: private_pem("p256"), "p384": lambda: public_pem("p384")}
    keys = {kid: made[text]() if text in made else text for kid, text in changes.get("keys", {}).items()}
    with pytest.raises(ConfigError, match=names) as caught:
        async with opened(**static(**{**changes, **({"keys": keys} if "keys" in changes else {})})):
            pass
    assert "secret" not in caught.value.detail


async def test_a_static_key_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "auth.pem").write_text(public_pem("rsa"))
    async with opened(**static(keys={"one": str(tmp_path / "auth.pem")})) as driver:
        assert await driver.authenticate(authorization(token("rsa", algorithm="RS256")))
        assert not isinstance(driver, TokenMinter)
        await driver.check()


async def test_the_development_key_mints_what_it_verifies(tmp_path: Path) -> None:
    clock, scopes = SetClock(), frozenset({"media:read", "media:admin"})
    async with opened(tmp_path, clock=clock, scope_map={"media:admin": "nothing"}) as driver:
        assert isinstance(driver, TokenMinter)
        await driver.check()
        text = await driver.mint("dev", scopes, timedelta(hours=1))
        principal = await driver.authenticate(authorization(text))
        assert (principal.id, principal.scopes, principal.expires_at) == ("dev", scopes, NOW + timedelta(hours=1))
        none = await driver.authenticate(authorization(await driver.mint("dev", frozenset(), timedelta(hours=1))))
        assert none.scopes == frozenset()
    async with opened(tmp_path, clock=clock) as again:
        assert (await again.authenticate(authorization(text))).id == "dev"
        clock.step(3631)
        with pytest.raises(InvalidToken):
            await again.authenticate(authorization(text))
    async with opened(tmp_path / "elsewhere") as other:
        with pytest.raises(InvalidToken):
            await other.authenticate(authorization(text))
    key = tmp_path / "keys" / "development.pem"
    assert key.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("subject", "lifetime"), [("", 60), ("a\n", 60), ("a" * 257, 60), ("a", 0), ("a", -1), ("a", 10**9)])
async def test_mint_makes_nothing_that_would_be_refused(tmp_path: Path, subject: str, lifetime: int) -> None:
    async with opened(tmp_path) as driver:
        with pytest.raises(InvalidParameter):
            await driver.mint(subject, frozenset(), timedelta(seconds=lifetime))


async def test_tokens_of_the_service_are_nothing_to_the_development_key(tmp_path: Path) -> None:
    async with opened(tmp_path) as driver:
        for text in (token(), token("ed25519", "development", "EdDSA", iss="mediacdn-development", aud="mediacdn")):
            with pytest.raises(InvalidToken):
                await driver.authenticate(authorization(text))
