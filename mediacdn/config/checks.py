"""What must hold beyond the type of a single key; each rule that fails is one problem of the Reader."""

import base64
import binascii
import re
from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from mediacdn.config.decoding import Path, Reader, nearest
from mediacdn.config.sections import Auth, Config, Limits, Rule, Server, Signing
from mediacdn.model import Scope

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")
HOST = re.compile(r"(\*\.)?([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.?\Z")
TYPE = re.compile(r"(\*/\*|[a-z0-9][a-z0-9!#$&^_.+-]*/(\*|[a-z0-9][a-z0-9!#$&^_.+-]*))\Z")
KEY_BYTES = 32


def check(config: Config, reader: Reader) -> None:
    """Check the configuration as a whole."""
    _server(config.server, reader)
    _signing(config.signing, reader)
    _auth(config.auth, reader)
    _limits(config.limits, reader)
    for number, origin in enumerate(config.cors.media_origins):
        if origin != "*" and not is_origin(origin):
            reader.problem(
                ("cors", "media_origins", number), f'expected "*" or an origin such as https://app.example.org, found {origin!r}'
            )
    for number, origin in enumerate(config.cors.origins):
        if not is_origin(origin):
            reader.problem(("cors", "origins", number), f"expected an origin such as https://app.example.org, found {origin!r}")
    if config.database.url and not config.database.url.startswith(("postgresql://", "postgres://")):
        reader.problem(
            ("database", "url"), "expected postgresql://user:password@host:port/name, or nothing for SQLite in the data directory"
        )
    _names(config.storage, ("storage",), reader)
    for number, rule in enumerate(config.routing):
        _rule(rule, number, config, reader)
    _once(config.plugins, ("plugins",), reader)


def _server(server: Server, reader: Reader) -> None:
    if not re.match(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*\Z", server.base_path):
        reader.problem(
            ("server", "base_path"), f'expected "" or a path such as "/media", without a slash at its end, found {server.base_path!r}'
        )
    if server.public_url is not None and (flaw := _url_flaw(server.public_url)):
        reader.problem(("server", "public_url"), f"expected an absolute URL such as https://cdn.example.org; {flaw}")
    for number, proxy in enumerate(server.trusted_proxies):
        try:
            if proxy != "unix":
                ip_network(proxy)
        except ValueError as error:
            reader.problem(("server", "trusted_proxies", number), f'expected an address, a network such as 10.0.0.0/8, or "unix"; {error}')
    for number, host in enumerate(server.allowed_hosts):
        if host != "*" and not is_host(host):
            reader.problem(
                ("server", "allowed_hosts", number),
                f'expected a host name such as cdn.example.org or *.example.org, or "*", found {host!r}',
            )


def _url_flaw(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        host = f"{parts.hostname or ''}" if parts.port != 0 else ""
    except ValueError as error:
        return str(error)
    if parts.scheme not in ("http", "https") or not is_host(host):
        return "it needs http:// or https:// and a host"
    if parts.username is not None or parts.query or parts.fragment or url.endswith(("?", "#")):
        return "it must not have a user, a query or a fragment"
    return "it must not end with a slash" if url.endswith("/") else None


def is_host(host: str) -> bool:
    """Whether this names a host: a name, `*.name`, or an address (IPv6 with or without brackets)."""
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return len(host) < 254 and HOST.match(host) is not None
    return True


def is_origin(origin: str) -> bool:
    """Whether this is an origin as a browser writes it (RFC 6454 section 6.2): scheme, host, port when it is not the default, nothing more."""
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return False
    default = {"http": 80, "https": 443}.get(parts.scheme)
    return (
        origin == f"{parts.scheme}://{parts.netloc}" == origin.lower()
        and "@" not in origin
        and is_host(parts.hostname or "")
        and port != default
    )


def _signing(signing: Signing, reader: Reader) -> None:
    _names(signing.keys, ("signing", "keys"), reader)
    for kid, text in signing.keys.items():
        try:
            size = len(base64.b64decode(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4), validate=True))
        except (binascii.Error, ValueError):
            size = 0
        if size < KEY_BYTES:
            reader.problem(("signing", "keys", kid), f"expected base64 of at least {KEY_BYTES} bytes (openssl rand -base64 32 makes one)")
    if signing.current is not None and signing.current not in signing.keys:
        reader.problem(
            ("signing", "current"), f"names {signing.current!r}, which is none of signing.keys" + _meant(signing.current, signing.keys)
        )
    if signing.current is None and len(signing.keys) > 1:
        reader.problem(("signing", "current"), f"must name the key that signs, one of {', '.join(signing.keys)}")
    if signing.default_expires > signing.max_expires:
        reader.problem(("signing", "default_expires"), f"is more than signing.max_expires ({signing.max_expires})")


def _auth(auth: Auth, reader: Reader) -> None:
    _once(auth.authenticators, ("auth", "authenticators"), reader)
    ours = [scope.value for scope in Scope]
    for number, scope in enumerate(auth.default_scopes):
        if scope not in ours[:2]:
            never = "media:admin is never given by default" if scope == Scope.ADMIN else f"expected {ours[0]} or {ours[1]}, found {scope!r}"
            reader.problem(("auth", "default_scopes", number), never)
    for theirs, scope in auth.scope_map.items():
        if scope not in ours:
            reader.problem(("auth", "scope_map", theirs), f"expected one of {', '.join(ours)}, found {scope!r}{_meant(scope, ours)}")


def _limits(limits: Limits, reader: Reader) -> None:
    for key in ("allow_types", "deny_types"):
        for number, pattern in enumerate(getattr(limits, key)):
            _type(pattern, ("limits", key, number), reader)
    for pattern in limits.by_type:
        _type(pattern, ("limits", "by_type", pattern), reader)
    if limits.uploads_per_second > 0 and limits.uploads_burst < 1:
        reader.problem(("limits", "uploads_burst"), "must be at least 1 where limits.uploads_per_second is set")


def _rule(rule: Rule, number: int, config: Config, reader: Reader) -> None:
    path: Path = ("routing", number)
    if rule.storage not in config.storage:
        known = ", ".join(f"storage.{name}" for name in config.storage)
        reader.problem(
            (*path, "storage"), f"names {rule.storage!r}, which is not configured{_meant(rule.storage, config.storage)} (there is {known})"
        )
    if rule.type is not None:
        _type(rule.type, (*path, "type"), reader)
    if rule.min_size is not None and rule.max_size is not None and rule.min_size > rule.max_size:
        reader.problem((*path, "min_size"), f"is more than max_size ({rule.max_size})")


def _type(pattern: str, path: Path, reader: Reader) -> None:
    if not TYPE.match(pattern):
        reader.problem(path, f"expected a media type such as image/png, image/* or */* in lower case, found {pattern!r}")


def _names(names: Iterable[str], path: Path, reader: Reader) -> None:
    for name in names:
        if not NAME.match(name):
            reader.problem((*path, name), "is not a name; use at most 64 letters, digits, - and _, the first a letter or digit")


def _once(names: tuple[str, ...], path: Path, reader: Reader) -> None:
    _names(names, path, reader)
    for name in {name for name in names if names.count(name) > 1}:
        reader.problem(path, f"names {name!r} twice")


def _meant(name: str, known: Iterable[str]) -> str:
    near = nearest(name, known)
    return f"; did you mean {near!r}?" if near else ""
