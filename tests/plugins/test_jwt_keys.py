"""Driver `jwt`, keys: what a key set may hold, how it is followed through rotation and outage, and how little a caller can make us ask for it."""

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mediacdn import AuthUnavailable, InvalidToken
from mediacdn_jwt.keys import KeyRefused, key_from_jwk
from tests.services.jwks import JwksServer, jwks_server
from tests.services.tokens import (
    AUDIENCE,
    ISSUER,
    Journal,
    SetClock,
    authorization,
    b64,
    claims,
    compact,
    jwk,
    number,
    opened,
    private_key,
    public_pem,
    token,
)

pytestmark = pytest.mark.anyio

ALL = ("RS256", "PS256", "ES256", "ES384", "EdDSA")


def following(server: JwksServer, **config: Any) -> dict[str, Any]:
    return {"issuer": ISSUER, "audience": AUDIENCE, "jwks_url": server.url, "jwks_allow": ("127.0.0.0/8",), **config}


async def until(holds: Callable[[], Awaitable[bool]], within: float = 5.0) -> None:
    end = time.monotonic() + within
    while not await holds():
        assert time.monotonic() < end, "it did not come true"
        await asyncio.sleep(0.02)


async def outcome(driver: Any, text: str) -> str:
    try:
        return str((await driver.authenticate(authorization(text))).id)
    except (InvalidToken, AuthUnavailable) as error:
        return error.code


def smooth_modulus() -> int:
    """A number of 2048 bits with the fingerprint of CVE-2017-15361: a power of 65537 modulo each of the first odd primes."""
    odd_primes = [number for number in range(3, 168, 2) if all(number % smaller for smaller in range(3, number, 2))]
    product = 2 * math.prod(odd_primes)
    return ((1 << 2047) // product + 1) * product + pow(65537, 12345, product)


def with_member(kind: str, **members: Any) -> dict[str, Any]:
    return {**jwk(kind, "one"), **members}


RSA = jwk("rsa", "one")
REFUSED_KEYS: dict[str, tuple[dict[str, Any], str]] = {
    "RFC 7518 6.4 symmetric": ({"kty": "oct", "k": b64(b"k" * 32), "kid": "one"}, "symmetric"),
    "symmetric that claims to be RS256": ({"kty": "oct", "k": b64(b"k" * 32), "kid": "one", "alg": "RS256"}, "symmetric"),
    "a private RSA key": (with_member("rsa", d="AQAB"), "private"),
    "a private EC key": (with_member("p256", d="AQAB"), "private"),
    "RFC 7518 3.3 RSA of 1024 bits": (jwk("rsa1024", "one"), "1024 bits"),
    "RSA of 16384 bits": (with_member("rsa", n=number((1 << 16383) | 1)), "long"),
    "ROCA": (with_member("rsa", n=number(smooth_modulus())), "ROCA"),
    "RSA exponent 1": (with_member("rsa", e="AQ"), "exponent"),
    "RSA exponent 2": (with_member("rsa", e="Ag"), "exponent"),
    "RSA exponent of 40 bits": (with_member("rsa", e=number((1 << 39) | 1)), "long"),
    "RSA without n": ({"kty": "RSA", "e": "AQAB"}, "malformed"),
    "RSA with a number": (with_member("rsa", n=65537), "malformed"),
    "RSA with padding": (with_member("rsa", e="AQAB===="), "malformed"),
    "RSA with plain base64": (with_member("rsa", n="+/" * 200), "malformed"),
    "RSA with an even modulus": (with_member("rsa", n=number(1 << 2047)), "even"),
    "RFC 7518 6.2.1 EC without a curve": ({**jwk("p256", "one"), "crv": None}, "kind"),
    "EC of an unknown curve": (with_member("p256", crv="secp256k1"), "kind"),
    "EC curve a list": (with_member("p256", crv=["P-256"]), "kind"),
    "EC point that is not on the curve": (with_member("p256", y=number(5)), "malformed"),
    "EC point of another curve": (with_member("p384", crv="P-256"), "malformed"),
    "OKP for key agreement": (with_member("ed25519", crv="X25519"), "kind"),
    "OKP too short": (with_member("ed25519", x="AAAA"), "malformed"),
    "RFC 7517 4.1 no kty": ({"kid": "one"}, "kind"),
    "kty unknown": ({"kty": "AKP", "kid": "one"}, "kind"),
    "RFC 7517 4.2 for encryption": (with_member("rsa", use="enc"), "signatures"),
    "use a list": (with_member("rsa", use=["sig"]), "signatures"),
    "RFC 7517 4.3 operations": (with_member("rsa", key_ops=["encrypt"]), "verifying"),
    "operations a text": (with_member("rsa", key_ops="verify"), "verifying"),
    "RFC 7517 4.4 for HS256": (with_member("rsa", alg="HS256"), "algorithm"),
    "for none": (with_member("rsa", alg="none"), "algorithm"),
    "for RSA-OAEP": (with_member("rsa", alg="RSA-OAEP"), "algorithm"),
    "alg of another kind of key": (with_member("p256", alg="RS256"), "algorithm"),
    "alg of another curve": (with_member("p256", alg="ES384"), "algorithm"),
    "alg a list": (with_member("rsa", alg=["RS256"]), "algorithm"),
    "a curve whose algorithm is not on the list": (jwk("p521", "one"), "algorithm"),
    "kid a number": (with_member("rsa", kid=1), "kid"),
    "kid a list": (with_member("rsa", kid=["one"]), "kid"),
    "kid empty": (with_member("rsa", kid=""), "kid"),
    "kid long": (with_member("rsa", kid="k" * 257), "kid"),
    "certificates only": ({"kty": "RSA", "kid": "one", "x5c": ["MIIB"], "x5u": "http://127.0.0.1/"}, "malformed"),
}


@pytest.mark.parametrize(("member", "reason"), REFUSED_KEYS.values(), ids=REFUSED_KEYS.keys())
def test_keys_that_verify_nothing(member: dict[str, Any], reason: str) -> None:
    with pytest.raises(KeyRefused, match=reason):
        key_from_jwk(member, ALL)


GOOD_KEYS = [
    (jwk("rsa", "one"), {"RS256", "PS256"}),
    (jwk("rsa", "one", alg="PS256", use="sig", key_ops=["verify"]), {"PS256"}),
    (jwk("p256", "one"), {"ES256"}),
    (jwk("p384"), {"ES384"}),
    (jwk("ed25519", "one", alg="EdDSA", x5t="ignored"), {"EdDSA"}),
]


@pytest.mark.parametrize(("member", "algorithms"), GOOD_KEYS)
def test_keys_are_bound_to_what_fits_them(member: dict[str, Any], algorithms: set[str]) -> None:
    assert key_from_jwk(member, ALL).algorithms == algorithms


def test_keys_of_a_sound_generator_are_not_taken_for_roca() -> None:
    for place in range(3):
        assert key_from_jwk(jwk(f"rsa/{place}", "one"), ALL)


async def test_a_symmetric_key_in_the_set_is_ignored_and_the_others_serve() -> None:
    secret = b"k" * 32
    journal = Journal()
    async with jwks_server([{"kty": "oct", "k": b64(secret), "kid": "one"}, jwk("p256", "one"), jwk("rsa1024", "weak")]) as server:
        async with opened(journal=journal, **following(server)) as driver:
            assert await outcome(driver, token()) == "ann"
            assert await outcome(driver, token("rsa1024", "weak", "RS256")) == "invalid_token"
    assert journal.events("warning") == ["jwk_ignored"] * (2 * server.hits)
    assert b64(secret) not in str(journal.entries)


async def test_two_keys_of_one_kid_that_both_fit_verify_nothing() -> None:
    async with jwks_server([jwk("p256", "one"), jwk("p256/other", "one"), jwk("rsa", "one")]) as server:
        async with opened(**following(server)) as driver:
            assert await outcome(driver, token()) == "invalid_token"
            assert await outcome(driver, token("rsa", "one", "RS256")) == "ann"


async def test_the_operators_own_key_wins_over_one_of_the_set() -> None:
    async with jwks_server([jwk("p256/other", "one"), jwk("ed25519", "two")]) as server:
        async with opened(**following(server, keys={"one": public_pem("p256")})) as driver:
            assert await outcome(driver, token("ed25519", "two", "EdDSA")) == "ann"
            assert await outcome(driver, token("p256")) == "ann"
            assert await outcome(driver, token("p256/other")) == "invalid_token"


async def test_the_first_request_waits_for_the_first_set() -> None:
    async with jwks_server([jwk("p256", "one")]) as server:
        server.delay = 0.3
        async with opened(**following(server)) as driver:
            with pytest.raises(AuthUnavailable):
                await driver.check()
            assert await asyncio.gather(*(outcome(driver, token(sub=f"u{n}")) for n in range(20))) == [f"u{n}" for n in range(20)]
            await driver.check()
            assert server.hits == 1


async def test_rotation_is_seen_at_once_and_a_removed_key_is_revoked_with_its_tokens() -> None:
    old, new = token("p256", "one"), token("p256/new", "two", sub="bob")
    async with jwks_server([jwk("p256", "one")]) as server:
        async with opened(**following(server, unknown_kid_interval=0.2)) as driver:
            assert await outcome(driver, old) == "ann"
            server.keys.append(jwk("p256/new", "two"))
            assert [await outcome(driver, new), await outcome(driver, old), server.hits] == ["bob", "ann", 2]
            server.keys.pop(0)
            await asyncio.sleep(0.2)
            assert await outcome(driver, token("p256", "three")) == "invalid_token"
            assert [await outcome(driver, new), await outcome(driver, old)] == ["bob", "invalid_token"]
            server.keys.clear()
            await asyncio.sleep(0.2)
            assert [await outcome(driver, old), await outcome(driver, new)] == ["invalid_token", "invalid_token"]
            await driver.check()


async def test_the_same_kid_with_another_key_kills_tokens_of_the_old_one() -> None:
    async with jwks_server([jwk("p256", "one")]) as server:
        async with opened(**following(server, jwks_ttl=0.3)) as driver:
            text = token()
            assert await outcome(driver, text) == "ann"
            server.keys[:] = [jwk("p256/new", "one")]

            async def refused() -> bool:
                return await outcome(driver, text) == "invalid_token"

            await until(refused)
            assert await outcome(driver, token("p256/new", sub="bob")) == "bob"


async def test_keys_are_fetched_again_before_their_time_is_over_without_any_request() -> None:
    async with jwks_server([jwk("p256", "one")]) as server:
        async with opened(**following(server, jwks_ttl=0.25)):
            await asyncio.sleep(1.1)
        assert 4 <= server.hits <= 7
        hits = server.hits
        await asyncio.sleep(0.4)
        assert server.hits == hits, "closed, and still asking"


async def test_a_storm_of_unknown_kids_asks_once() -> None:
    async with jwks_server([jwk("p256", "one")]) as server:
        async with opened(**following(server)) as driver:
            assert await outcome(driver, token()) == "ann"
            server.delay = 0.1
            texts = [token(kid=f"unknown{n}") for n in range(500)]
            assert set(await asyncio.gather(*(outcome(driver, text) for text in texts))) == {"invalid_token"}
            assert server.hits == 2
            for text in texts[:50]:
                assert await outcome(driver, text) == "invalid_token"
            assert server.hits == 2
            assert await outcome(driver, token()) == "ann"


async def test_what_could_never_verify_does_not_have_the_set_fetched() -> None:
    async with jwks_server([jwk("p256", "one")]) as server:
        async with opened(**following(server)) as driver:
            assert await outcome(driver, token()) == "ann"
            hmac = compact({"alg": "HS256", "kid": "new"}, claims(), public_pem("p256").encode())
            none = compact({"alg": "none", "kid": "new"}, claims(), b"x")
            off_list = token("p384", "new", "ES384")
            for text in (hmac, none, off_list, "nonsense", token(header={"crit": []}, kid="new")):
                assert await outcome(driver, text) == "invalid_token"
            assert server.hits == 1


async def test_a_storm_during_an_outage_asks_once_and_known_keys_go_on() -> None:
    async with jwks_server([jwk("p256", "one")]) as server:
        async with opened(**following(server)) as driver:
            assert await outcome(driver, token()) == "ann"
            server.status = 503
            texts = [token(kid=f"unknown{n}") for n in range(100)]
            # Whether the kid is a new key of the service cannot be known now.
            assert set(await asyncio.gather(*(outcome(driver, text) for text in texts))) == {"auth_unavailable"}
            assert server.hits == 2
            assert await outcome(driver, token(sub="bob")) == "bob"


TWICE = json.dumps({"keys": [jwk("p256", "one")]}).encode()
OUTAGES: dict[str, Callable[[JwksServer], None]] = {
    "status 500": lambda server: setattr(server, "status", 500),
    "status 404": lambda server: setattr(server, "status", 404),
    "a redirect": lambda server: (setattr(server, "status", 302), server.headers.update(Location="/other"))[0],
    "slow": lambda server: setattr(server, "delay", 30.0),
    "empty": lambda server: setattr(server, "body", b""),
    "HTML": lambda server: setattr(server, "body", b"<html>Bad gateway</html>"),
    "cut short": lambda server: setattr(server, "body", TWICE[:-20]),
    "a list": lambda server: setattr(server, "body", b"[]"),
    "null": lambda server: setattr(server, "body", b"null"),
    "no keys": lambda server: setattr(server, "body", b"{}"),
    "keys an object": lambda server: setattr(server, "body", b'{"keys":{}}'),
    "a key that is a text": lambda server: setattr(server, "body", b'{"keys":["x"]}'),
    "keys twice": lambda server: setattr(server, "body", b'{"keys":[],' + TWICE[1:]),
    "a name twice in a key": lambda server: setattr(server, "body", TWICE.replace(b'"kty"', b'"kty":"RSA","kty"')),
    "not UTF-8": lambda server: setattr(server, "body", TWICE.replace(b"one", b"\xff\xfe")),
    "nested deeply": lambda server: setattr(server, "body", b'{"keys":' + b"[" * 60000 + b"]" * 60000 + b"}"),
    "too large": lambda server: setattr(server, "body", TWICE + b" " * 200_000),
    "too many": lambda server: setattr(server, "keys", [jwk("p256", f"k{n}") for n in range(101)]),
}


@pytest.mark.parametrize("break_it", OUTAGES.values(), ids=OUTAGES.keys())
async def test_an_outage_keeps_the_last_good_keys_for_the_grace_time(break_it: Callable[[JwksServer], None]) -> None:
    journal = Journal()
    async with jwks_server([jwk("p256", "one")]) as server:
        config = following(server, jwks_ttl=0.2, jwks_grace=0.8, jwks_timeout=0.3)
        async with opened(journal=journal, **config) as driver:
            remembered = token()
            assert await outcome(driver, remembered) == "ann"
            break_it(server)
            hits = server.hits

            async def failed() -> bool:
                return server.hits > hits and "jwks_unavailable" in journal.events("warning")

            await until(failed)
            assert [await outcome(driver, remembered), await outcome(driver, token(sub="bob"))] == ["ann", "bob"]
            await driver.check()

            async def grace_over() -> bool:
                return await outcome(driver, remembered) == "auth_unavailable"

            await until(grace_over)
            assert await outcome(driver, token(sub="bob")) == "auth_unavailable"
            with pytest.raises(AuthUnavailable):
                await driver.check()
            server.status, server.delay, server.body, server.keys, server.headers = 200, 0.0, None, [jwk("p256", "one")], {}

            async def recovered() -> bool:
                return await outcome(driver, remembered) == "ann"

            await until(recovered)
    assert "jwks_failed" not in journal.events()
    assert "/other" not in server.seen


async def test_a_cold_start_without_the_service_is_unavailable_and_static_keys_serve() -> None:
    async with jwks_server() as server:
        server.status = 500
        async with opened(**following(server, keys={"own": public_pem("ed25519")})) as driver:
            assert await outcome(driver, token("ed25519", "own", "EdDSA")) == "ann"
            assert await outcome(driver, token()) == "auth_unavailable"
            assert await outcome(driver, "nonsense") == "invalid_token"
            with pytest.raises(AuthUnavailable) as caught:
                await driver.check()
            assert (caught.value.status, caught.value.headers["Retry-After"]) == (503, "5")
        assert server.hits <= 3


async def test_a_private_service_that_is_not_allowed_is_not_asked() -> None:
    journal = Journal()
    async with jwks_server([jwk("p256", "one")]) as server:
        async with opened(journal=journal, **following(server, jwks_allow=("10.0.0.0/8",))) as driver:
            assert await outcome(driver, token()) == "auth_unavailable"
        assert server.hits == 0
    assert "not allowed" in str(journal.entries)


async def test_closing_does_not_wait_for_a_slow_service() -> None:
    async with jwks_server() as server:
        server.delay = 30.0
        started = time.monotonic()
        async with opened(clock=SetClock(), **following(server)):
            await asyncio.sleep(0.05)
        assert time.monotonic() - started < 2


async def test_an_error_of_what_is_opened_after_it_arrives_as_it_is() -> None:
    async with jwks_server([jwk("p256", "one")]) as server:
        with pytest.raises(RuntimeError, match="the next driver"):
            async with opened(**following(server)):
                raise RuntimeError("the next driver")
    assert private_key("p256")
