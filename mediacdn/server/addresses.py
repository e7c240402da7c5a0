"""How many connections each client address holds, so that one cannot take them all."""

from collections.abc import Iterable
from ipaddress import IPv6Address, ip_address, ip_network

from mediacdn.errors import ConfigError

V6_SITE = 64
"""An IPv6 client commands at least a /64 (RFC 6177), so that is what counts as one address."""


class Addresses:
    """Open connections by address. `exempt` are addresses or networks that carry many clients: trusted proxies. Raises: ConfigError for one that is neither."""

    def __init__(self, limit: int, exempt: Iterable[str] = ()) -> None:
        self._limit = limit
        self._open: dict[str, int] = {}
        self.turned_away = 0
        """Refused connections that are still being told so."""
        try:
            self._exempt = tuple(
                ip_network(each, strict=False) for each in exempt if each != "unix"
            )  # a unix socket has no address to count
        except ValueError as exc:
            raise ConfigError(f"server.trusted_proxies: {exc}") from exc

    def enter(self, host: str) -> str | None:
        """Count a connection from `host`; the key to `leave` with, or None when the address has all that it may hold."""
        key = _site(host) if ":" in host else host
        count = self._open.get(key, 0)
        if count >= self._limit and not self._is_exempt(host):
            return None
        self._open[key] = count + 1
        return key

    def leave(self, key: str) -> None:
        """End what `enter` counted."""
        count = self._open[key] - 1
        if count:
            self._open[key] = count
        else:
            del self._open[key]

    @property
    def limit(self) -> int:
        return self._limit

    def __len__(self) -> int:
        """Addresses that hold a connection."""
        return len(self._open)

    def _is_exempt(self, host: str) -> bool:
        address = ip_address(host.partition("%")[0])
        if isinstance(address, IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address in each for each in self._exempt)


def _site(host: str) -> str:
    address = IPv6Address(host.partition("%")[0])
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return f"{int(address) >> (128 - V6_SITE):x}::/{V6_SITE}"
