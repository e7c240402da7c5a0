"""What counts as one address."""

import pytest

from mediacdn.errors import ConfigError
from mediacdn.server.addresses import Addresses

PAIRS = [
    ("192.0.2.1", "192.0.2.1", True, "the same"),
    ("192.0.2.1", "192.0.2.2", False, "a neighbour"),
    ("192.0.2.1", "::ffff:192.0.2.1", True, "RFC 4291 2.5.5.2 mapped"),
    ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True, "RFC 6177 one /64"),
    ("2001:db8:1:2::1", "2001:db8:1:3::1", False, "RFC 6177 another /64"),
    ("fe80::1%eth0", "fe80::2%eth1", True, "RFC 4007 zones do not count"),
]


@pytest.mark.parametrize(("first", "second", "same", "clause"), PAIRS, ids=[each[3] for each in PAIRS])
def test_which_addresses_share_a_limit(first: str, second: str, same: bool, clause: str) -> None:
    addresses = Addresses(1)
    key = addresses.enter(first)
    assert key is not None
    assert (addresses.enter(second) is None) is same
    addresses.leave(key)
    assert addresses.enter(first) == key


@pytest.mark.parametrize(
    ("exempt", "host"),
    [("10.0.0.0/8", "10.1.2.3"), ("10.0.0.7", "::ffff:10.0.0.7"), ("2001:db8::/32", "2001:db8::5"), ("10.0.0.1/8", "10.9.9.9")],
)
def test_proxies_are_exempt(exempt: str, host: str) -> None:
    addresses = Addresses(1, (exempt,))
    keys = [addresses.enter(host) for _ in range(5)]
    assert None not in keys
    for key in keys:
        addresses.leave(str(key))
    assert len(addresses) == 0


def test_a_proxy_that_is_no_address_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"server\.trusted_proxies"):
        Addresses(1, ("proxy.example",))
