"""Who is at the other end: the client's address behind trusted proxies, addresses against prefixes, and hosts that are ours."""

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Literal, TypeAlias

from mediacdn.errors import ConfigError

Network: TypeAlias = IPv4Network | IPv6Network
Trusted: TypeAlias = Network | Literal["unix"]
"""A network of proxies that are believed, or "unix": whoever can open the server's unix socket."""

MAX_HOPS = 32
"""How many members of X-Forwarded-For are looked at, from the right."""

_MAPPED = 96
_PORT = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5}")
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*+)\.?)(?::[0-9]*)?")


def client_address(peer: str | None, forwarded_for: str | None, trusted: Sequence[Trusted]) -> str | None:
    """Give the address of the client, IPv4-mapped IPv6 as IPv4; None where there is none (a unix socket, or a peer that has no IP).

    `peer` is the address of the connection's other end as the transport gives it, None for a unix socket. Only when it is `trusted`
    does X-Forwarded-For count: its members are walked from the right, past trusted ones, to the first that is not; without such a
    member the farthest trusted one is the client. A member that is no address ends the walk, for nobody vouches for what stands to
    its left.
    """
    if peer is None:
        if "unix" not in trusted:
            return None
        client = None
    else:
        if not trusted and ":" not in peer:
            return peer
        client = _address(peer)
        if client is None or not _is_trusted(client, trusted):
            return None if client is None else str(client)
    if forwarded_for:
        for member in reversed(forwarded_for.rsplit(",", MAX_HOPS)[-MAX_HOPS:]):
            hop = _address(_without_port(member.strip(" \t")))
            if hop is None:
                break
            client = hop
            if not _is_trusted(hop, trusted):
                break
    return None if client is None else str(client)


def peer_trusted(peer: str | None, trusted: Sequence[Trusted]) -> bool:
    """Say whether the connection's other end (None for a unix socket) is a trusted proxy itself."""
    if peer is None:
        return "unix" in trusted
    address = _address(peer)
    return address is not None and _is_trusted(address, trusted)


def address_matches(ip: str, allowed: str) -> bool:
    """Say whether `ip` is `allowed` or within it (an address or a CIDR prefix, whose host bits are not looked at); False when either is malformed."""
    address = _address(ip)
    if address is None:
        return False
    try:
        return address in _unmapped(ip_network(allowed, strict=False))
    except ValueError:
        return False


def parse_networks(items: Iterable[str]) -> tuple[Trusted, ...]:
    """Read addresses, CIDR prefixes and the word "unix". Raises ConfigError, naming the item, for anything else, also for a prefix with host bits."""
    networks: list[Trusted] = []
    for item in items:
        if item == "unix":
            networks.append("unix")
            continue
        try:
            networks.append(_unmapped(ip_network(item)))
        except ValueError as error:
            raise ConfigError(f'{item!r} is no address, CIDR prefix or "unix": {error}') from None
    return tuple(networks)


def host_allowed(host_header: str, allowed: Sequence[str]) -> bool:
    """Say whether a Host field names one of `allowed`: names, addresses, `*.suffix` for every name below a suffix, `*` for all.

    An empty `allowed` allows every host. Ports, case and a trailing dot do not count (RFC 9110 section 4.2.3, RFC 3986 section 3.2.2);
    a Host that is not of the grammar is never allowed against a list.
    """
    if not allowed:
        return True
    host = _host(host_header)
    if host is None:
        return False
    for entry in allowed:
        if entry == host or entry == "*":
            return True
        if entry.startswith("*."):
            suffix = _host(entry[2:])
            if suffix is not None and host.endswith(f".{suffix}"):
                return True
        elif _host(f"[{entry}]" if entry.count(":") > 1 and entry[0] != "[" else entry) == host:
            return True
    return False


def _host(text: str) -> str | None:
    found = _HOST.fullmatch(text)
    if found is None:
        return None
    literal, name = found.groups()
    if literal is None:
        return str(name).lower()
    try:
        return f"[{IPv6Address(literal)}]"
    except ValueError:
        return None


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if address.version == 6 else address


def _unmapped(network: Network) -> Network:
    if network.version == 6 and network.prefixlen >= _MAPPED and (low := network.network_address.ipv4_mapped) is not None:
        return IPv4Network((low, network.prefixlen - _MAPPED))
    return network


def _without_port(member: str) -> str:
    found = _PORT.fullmatch(member)
    return member if found is None else found[1] or found[2]


def _is_trusted(address: IPv4Address | IPv6Address, trusted: Sequence[Trusted]) -> bool:
    return any(not isinstance(network, str) and address in network for network in trusted)
