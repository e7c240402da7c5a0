"""Addresses behind proxies, prefixes, and the Host field."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mediacdn.errors import ConfigError
from mediacdn.http.peers import MAX_HOPS, address_matches, client_address, host_allowed, parse_networks

TRUSTED = ("127.0.0.1", "::1", "10.0.0.0/8", "fd00::/8")


@pytest.mark.parametrize(
    ("why", "peer", "forwarded_for", "trusted", "client"),
    [
        ("no proxies are trusted", "192.0.2.1", "203.0.113.9", (), "192.0.2.1"),
        ("the peer is not trusted", "192.0.2.1", "203.0.113.9", TRUSTED, "192.0.2.1"),
        ("the peer is trusted", "10.0.0.1", "203.0.113.9", TRUSTED, "203.0.113.9"),
        ("the right-most untrusted counts", "10.0.0.1", "198.51.100.1, 203.0.113.9", TRUSTED, "203.0.113.9"),
        ("trusted hops are skipped", "10.0.0.1", "198.51.100.1, 203.0.113.9, 10.0.0.2,127.0.0.1", TRUSTED, "203.0.113.9"),
        ("a forged member to the left does not count", "10.0.0.1", "10.0.0.7, 203.0.113.9", TRUSTED, "203.0.113.9"),
        ("all hops are trusted", "10.0.0.1", "10.0.0.3, 10.0.0.2", TRUSTED, "10.0.0.3"),
        ("no field", "10.0.0.1", None, TRUSTED, "10.0.0.1"),
        ("empty field", "10.0.0.1", "", TRUSTED, "10.0.0.1"),
        ("a bad member stops the walk at once", "10.0.0.1", "203.0.113.9, unknown", TRUSTED, "10.0.0.1"),
        ("a bad member stops the walk after a hop", "10.0.0.1", "203.0.113.9, _hidden, 10.0.0.2", TRUSTED, "10.0.0.2"),
        ("an empty member stops the walk", "10.0.0.1", "203.0.113.9,", TRUSTED, "10.0.0.1"),
        ("a number is no address", "10.0.0.1", "203.0.113.9, 3405803781", TRUSTED, "10.0.0.1"),
        ("leading zeros are no address", "10.0.0.1", "203.0.113.010", TRUSTED, "10.0.0.1"),
        ("a member with its port", "10.0.0.1", "203.0.113.9:4711", TRUSTED, "203.0.113.9"),
        ("an IPv6 member", "10.0.0.1", "2001:db8::9", TRUSTED, "2001:db8::9"),
        ("an IPv6 member in brackets", "10.0.0.1", "[2001:db8::9]", TRUSTED, "2001:db8::9"),
        ("an IPv6 member in brackets with its port", "10.0.0.1", "[2001:DB8:0::9]:4711", TRUSTED, "2001:db8::9"),
        ("an IPv6 member that ends like a port", "10.0.0.1", "2001:db8::1:4711", TRUSTED, "2001:db8::1:4711"),
        ("a mapped member is IPv4", "10.0.0.1", "::ffff:203.0.113.9", TRUSTED, "203.0.113.9"),
        ("a mapped trusted hop", "10.0.0.1", "203.0.113.9, ::ffff:10.0.0.2", TRUSTED, "203.0.113.9"),
        ("a mapped trusted peer", "::ffff:10.0.0.1", "203.0.113.9", TRUSTED, "203.0.113.9"),
        ("a mapped peer, none trusted", "::ffff:192.0.2.1", "203.0.113.9", (), "192.0.2.1"),
        ("a trusted IPv6 peer", "::1", "203.0.113.9", TRUSTED, "203.0.113.9"),
        ("an IPv6 peer in canonical form", "2001:DB8:0:0::1", None, (), "2001:db8::1"),
        ("a unix socket that is not trusted", None, "203.0.113.9", TRUSTED, None),
        ("a unix socket that is trusted", None, "203.0.113.9", ("unix",), "203.0.113.9"),
        ("a unix socket that is trusted, with hops", None, "203.0.113.9, 10.0.0.1", ("unix", "10.0.0.0/8"), "203.0.113.9"),
        ("a unix socket that is trusted, no field", None, None, ("unix",), None),
        ("a unix socket that is trusted, bad field", None, "unix", ("unix",), None),
        ("unix covers no address", "192.0.2.1", "203.0.113.9", ("unix",), "192.0.2.1"),
        ("a peer without address", "somewhere", "203.0.113.9", TRUSTED, None),
        ("only so many hops", "10.0.0.1", "203.0.113.9" + ", 10.0.0.2" * MAX_HOPS, TRUSTED, "10.0.0.2"),
        ("one hop fewer", "10.0.0.1", "203.0.113.9" + ", 10.0.0.2" * (MAX_HOPS - 1), TRUSTED, "203.0.113.9"),
    ],
)  # fmt: skip
def test_client_address(why: str, peer: str | None, forwarded_for: str | None, trusted: tuple[str, ...], client: str | None) -> None:
    assert client_address(peer, forwarded_for, parse_networks(trusted)) == client, why


@given(st.text(st.sampled_from("0123456789.:abcf, []"), max_size=60), st.ip_addresses())
@settings(deadline=None)
def test_an_untrusted_peer_cannot_choose_its_address(field: str, peer: object) -> None:
    assume(str(peer) != "192.0.2.255")
    networks = parse_networks(("192.0.2.255",))
    assert client_address(str(peer), field, networks) == client_address(str(peer), None, networks)


@given(st.ip_addresses(v=4).map(str), st.text(max_size=40))
@settings(deadline=None)
def test_what_stands_left_of_the_client_does_not_matter(client: str, left: str) -> None:
    networks = parse_networks(("::1",))
    assert client_address("::1", f"{left}, {client}", networks) == client


@pytest.mark.parametrize(
    ("ip", "allowed", "within"),
    [
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.7", "192.0.2.8", False),
        ("192.0.2.7", "192.0.2.0/24", True),
        ("192.0.2.7", "192.0.2.99/24", True),
        ("192.0.3.7", "192.0.2.0/24", False),
        ("192.0.2.7", "0.0.0.0/0", True),
        ("2001:db8::7", "2001:db8::/32", True),
        ("2001:db9::7", "2001:db8::/32", False),
        ("2001:db8:0::7", "2001:DB8::7", True),
        ("192.0.2.7", "::/0", False),
        ("2001:db8::7", "0.0.0.0/0", False),
        ("::ffff:192.0.2.7", "192.0.2.0/24", True),
        ("192.0.2.7", "::ffff:192.0.2.7", True),
        ("192.0.2.7", "::ffff:192.0.2.0/120", True),
        ("192.0.2.7", "", False),
        ("192.0.2.7", "192.0.2", False),
        ("192.0.2.7", "192.0.2.0/33", False),
        ("192.0.2.7", "unix", False),
        ("192.0.2.7", "*", False),
        ("", "192.0.2.7", False),
        ("unix", "0.0.0.0/0", False),
    ],
)
def test_address_matches(ip: str, allowed: str, within: bool) -> None:
    assert address_matches(ip, allowed) is within


def test_networks() -> None:
    assert [str(network) for network in parse_networks(["127.0.0.1", "10.0.0.0/8", "fd00::/8", "::ffff:10.0.0.0/104", "unix"])] == [
        "127.0.0.1/32",
        "10.0.0.0/8",
        "fd00::/8",
        "10.0.0.0/8",
        "unix",
    ]
    assert parse_networks([]) == ()


@pytest.mark.parametrize("item", ["", "localhost", "10.0.0.1/8", "10.0.0.0/33", "10.0.0", "*", "UNIX", "10.0.0.0-10.0.0.9"])
def test_a_wrong_network_is_named(item: str) -> None:
    with pytest.raises(ConfigError, match="no address") as caught:
        parse_networks(["127.0.0.1", item])
    assert repr(item) in caught.value.detail


ALLOWED = ("media.example.com", "*.cdn.example", "192.0.2.1", "[2001:db8::1]", "2001:db8::2", "Upper.Example")


@pytest.mark.parametrize(
    ("why", "host", "ours"),
    [
        ("exact", "media.example.com", True),
        ("RFC 3986 3.2.2: case", "MEDIA.Example.COM", True),
        ("RFC 3986 3.2.2: case of the list", "upper.example", True),
        ("port", "media.example.com:8400", True),
        ("empty port", "media.example.com:", True),
        ("trailing dot", "media.example.com.", True),
        ("trailing dot and port", "media.example.com.:443", True),
        ("two trailing dots", "media.example.com..", False),
        ("below", "x.media.example.com", False),
        ("above", "example.com", False),
        ("longer", "media.example.com.evil.test", False),
        ("joined", "evilmedia.example.com", False),
        ("wildcard", "a.cdn.example", True),
        ("wildcard, deeper", "a.b.cdn.example:443", True),
        ("wildcard, case and dot", "A.CDN.Example.", True),
        ("wildcard, not the suffix itself", "cdn.example", False),
        ("wildcard, empty label", ".cdn.example", False),
        ("wildcard, joined", "evilcdn.example", False),
        ("the wildcard as text", "*.cdn.example", False),
        ("IPv4", "192.0.2.1:80", True),
        ("IPv4, another", "192.0.2.10", False),
        ("IPv6", "[2001:db8::1]", True),
        ("IPv6 with port", "[2001:db8::1]:8400", True),
        ("IPv6 in another spelling", "[2001:DB8:0:0::1]", True),
        ("IPv6, listed without brackets", "[2001:db8::2]", True),
        ("IPv6 without brackets", "2001:db8::1", False),
        ("IPv6, another", "[2001:db8::3]", False),
        ("IPv6 that is none", "[:::]", False),
        ("nothing", "", False),
        ("only a port", ":80", False),
        ("user part", "media.example.com@evil.test", False),
        ("user part before", "evil@media.example.com", False),
        ("path", "media.example.com/evil", False),
        ("port with text", "media.example.com:80.evil.test", False),
        ("two hosts", "media.example.com, evil.test", False),
        ("blank", "media.example.com evil", False),
        ("line end", "media.example.com\n", False),
        ("NUL", "media.example.com\x00", False),
        ("Unicode", "m\u00e9dia.example.com", False),
    ],
)
def test_host(why: str, host: str, ours: bool) -> None:
    assert host_allowed(host, ALLOWED) is ours, why


def test_host_lists() -> None:
    assert host_allowed("anything", ())
    assert host_allowed("anything", ("*",))
    assert not host_allowed("any thing", ("*",))
    assert not host_allowed("a." * 30000 + "!", ALLOWED)
