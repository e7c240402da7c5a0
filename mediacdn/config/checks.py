"""What must hold beyond the type of a single key; each rule that fails is one problem of the Reader."""

import base64
import binascii
import os
import re
from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from mediacdn.config.decoding import Path, Reader, found
from mediacdn.config.sections import HOSTS, Auth, Config, Edge, EdgeRule, Limits, PurgeCall, Server, Signing, Variants
from mediacdn.config.storages import a_type, check_storages, conditions, meant
from mediacdn.model import Scope

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")
HOST = re.compile(r"(\*\.)?([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.?\Z")
PRESET = re.compile(r"[a-z][a-z0-9-]{0,63}\Z")
FIELD_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}\Z")
ACCEL = re.compile(r"/([A-Za-z0-9._~-]+/)+\Z")
KEY_BYTES = 32
OUR_FIELDS = frozenset((
    "accept-ranges", "age", "allow", "alt-svc", "cache-control", "cache-group-invalidation", "cache-groups", "cache-status",
    "cdn-cache-control", "connection", "content-digest", "content-disposition", "content-encoding", "content-length", "content-range",
    "content-security-policy", "content-type", "cross-origin-resource-policy", "date", "etag", "expires", "last-modified", "link",
    "location", "referrer-policy", "repr-digest", "retry-after", "server", "server-timing", "set-cookie", "trailer", "transfer-encoding",
    "upgrade", "vary", "via", "www-authenticate", "x-content-type-options", "x-request-id",
))  # fmt: skip
"""Fields of an answer that are spoken for, by the server or by HTTP itself; Access-Control-… are too."""


def check(config: Config, reader: Reader) -> None:
    """Check the configuration as a whole."""
    _server(config.server, reader)
    _accel(config, reader)
    _purges(config, reader)
    _names((config.links.via,), ("links", "via"), reader)
    _signing(config.signing, reader)
    _auth(config.auth, reader)
    _limits(config.limits, reader)
    _once(config.inspection.inspectors, ("inspection", "inspectors"), reader)
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
    check_storages(config, reader)
    if config.uploads.direct is not None and config.uploads.direct not in config.storage:
        reader.problem(
            ("uploads", "direct"),
            f"names {config.uploads.direct!r}, which is not configured{meant(config.uploads.direct, config.storage)}",
        )
    _edge(config.edge, config, reader)
    _driver(config.jobs.broker, ("jobs", "broker"), reader)
    _driver(config.limits.counters, ("limits", "counters"), reader)
    _variants(config.variants, reader)
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


def _accel(config: Config, reader: Reader) -> None:
    for storage, prefix in config.server.accel.items():
        path = ("server", "accel", storage)
        if storage not in config.storage:
            reader.problem(path, f"names {storage!r}, which is not configured" + meant(storage, config.storage))
        if not ACCEL.match(prefix):
            reader.problem(
                path, f'expected the path of an internal location such as "/_media/", with a slash at both ends, found {prefix!r}'
            )
    if config.server.accel and not config.server.trusted_proxies:
        reader.problem(("server", "accel"), "does nothing: server.trusted_proxies names no proxy that could ask for it")


def _purges(config: Config, reader: Reader) -> None:
    called: set[str] = set()
    for number, purge in enumerate(config.purge):
        path = ("purge", number)
        _names((purge.name,), (*path, "name"), reader)
        if purge.name in called:
            reader.problem((*path, "name"), f"names {purge.name!r}, which another one is called")
        called.add(purge.name)
        _purge_call(purge, path, reader)
        if not any(mark in text for mark in ("{id}", "{ids}", "{ids_json}") for text in (purge.url, purge.body, *purge.headers.values())):
            reader.problem(path, "says nowhere which media: {id}, {ids} or {ids_json} must stand in its url, headers or body")
        if purge.everything is not None:
            _purge_call(purge.everything, (*path, "everything"), reader)
        if not FIELD_NAME.match(purge.token_header):
            reader.problem((*path, "token_header"), f"expected the name of a header field, found {purge.token_header!r}")
        for at, network in enumerate(purge.allow):
            try:
                ip_network(network)
            except ValueError as error:
                reader.problem((*path, "allow", at), f"expected an address or a network such as 10.0.0.0/8; {error}")


def _purge_call(call: PurgeCall, path: Path, reader: Reader) -> None:
    try:
        parts = urlsplit(call.url)
        known = parts.scheme in ("http", "https") and is_host(parts.hostname or "") and parts.port != 0 and parts.username is None
    except ValueError:
        known = False
    if not known:
        reader.problem(
            (*path, "url"), "expected an absolute http:// or https:// URL without a user, whose host is not made of a placeholder"
        )
    if not re.match(r"[A-Z]{1,32}\Z", call.method):
        reader.problem((*path, "method"), f"expected a method such as POST, PURGE or BAN, found {call.method!r}")
    for name, value in call.headers.items():
        if not FIELD_NAME.match(name) or not value.isprintable():
            reader.problem((*path, "headers", name), "is not a header field of printable text")


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
            ("signing", "current"), f"names {signing.current!r}, which is none of signing.keys" + meant(signing.current, signing.keys)
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
            reader.problem(("auth", "scope_map", theirs), f"expected one of {', '.join(ours)}, found {scope!r}{meant(scope, ours)}")


def _limits(limits: Limits, reader: Reader) -> None:
    for key in ("allow_types", "deny_types"):
        for number, pattern in enumerate(getattr(limits, key)):
            a_type(pattern, ("limits", key, number), reader)
    for pattern in limits.by_type:
        a_type(pattern, ("limits", "by_type", pattern), reader)
    if limits.uploads_per_second > 0 and limits.uploads_burst < 1:
        reader.problem(("limits", "uploads_burst"), "must be at least 1 where limits.uploads_per_second is set")


def _variants(variants: Variants, reader: Reader) -> None:
    """What a preset says is read by the action that makes variants, which opens later."""
    for name, spec in variants.presets.items():
        path = ("variants", "presets", name)
        if not PRESET.match(name) or name == "original":
            reader.problem(path, 'is not the name of a preset; use at most 64 of a-z, 0-9 and -, the first a letter, and not "original"')
        for key, value in spec.items():
            if isinstance(value, dict | list):
                reader.problem((*path, key), f"expected a string, a number, true or false, found {found(value, False)}")
    for each in sorted({each for each in variants.negotiate if variants.negotiate.count(each) > 1}):
        reader.problem(("variants", "negotiate"), f"names {each!r} twice")


def _edge(edge: Edge, config: Config, reader: Reader) -> None:
    for key, name in (("policy", edge.policy if edge.policy != "rules" else None), ("bus", edge.bus)):
        if name is not None:
            _driver(name, ("edge", key), reader)
    if edge.bus == "postgres" and not config.database.url:
        reader.problem(("edge", "bus"), 'is "postgres", which needs database.url; the embedded database serves one node')
    if edge.policy == edge.bus != "rules":
        reader.problem(("edge", "bus"), f"names {edge.bus!r}, as edge.policy does; two drivers cannot share the table [edge.{edge.bus}]")
    if edge.rules and edge.policy != "rules":
        reader.problem(("edge", "rules"), f'are read by the policy "rules" alone, and edge.policy is {edge.policy!r}')
    header = edge.surrogate_key_header
    if header is not None and not FIELD_NAME.match(header):
        reader.problem(
            ("edge", "surrogate_key_header"),
            f"expected the name of a header field such as Surrogate-Key, xkey or Cache-Tag, found {header!r}",
        )
    elif header is not None and (
        header.lower() in OUR_FIELDS or header.lower().startswith(("access-control-", "x-media-", "upload-", "tus-"))
    ):
        reader.problem(("edge", "surrogate_key_header"), f"names {header}, which carries something else in the server's answers")
    _edge_folder(edge, config, reader)
    if edge.ttl + edge.grace == 0 and edge.admit != "never":
        reader.problem(("edge", "ttl"), 'is 0 and so is edge.grace: no copy would ever be used; set admit = "never" to keep none')
    called: dict[str, int] = {}
    for number, rule in enumerate(edge.rules):
        _edge_rule(rule, number, config, reader)
        name = str(number + 1) if rule.name is None else rule.name
        if name in called:
            reader.problem(("edge", "rules", number, "name"), f"names {name!r}, which is what edge.rules[{called[name]}] is called")
        called.setdefault(name, number)
    everything = next((number for number, rule in enumerate(edge.rules) if not _asks(rule)), len(edge.rules))
    for number in range(everything + 1, len(edge.rules)):
        reader.problem(("edge", "rules", number), f"is never reached: edge.rules[{everything}] before it has no conditions")


def _driver(name: str, path: tuple[str, str], reader: Reader) -> None:
    _names([name], path, reader)
    if name in HOSTS[path[0]].__struct_fields__:
        reader.problem(path, f"names the driver {name!r}, whose table [{path[0]}.{name}] would be the key of this name")


def _edge_folder(edge: Edge, config: Config, reader: Reader) -> None:
    """The disk tier empties its folder when it must: nothing else may lie in it."""
    data = os.path.abspath(config.server.data)
    folder = os.path.abspath(os.path.join(data, edge.directory or "edge"))
    kept = {"the data directory": data}
    for name, table in config.storage.items():
        if table.get("driver") == "local" and isinstance(path := table.get("path") or "objects", str):
            kept[f"the objects of storage.{name}"] = os.path.abspath(os.path.join(data, path))
    for what, where in kept.items():
        if where == folder or where.startswith(folder.rstrip("/") + "/"):
            reader.problem(("edge", "directory"), f"must be a folder of its own; {what} would lie in it")
            return


def _edge_rule(rule: EdgeRule, number: int, config: Config, reader: Reader) -> None:
    path: Path = ("edge", "rules", number)
    admit = rule.admit or config.edge.admit
    conditions(rule, path, config, reader)
    if rule.name is not None and (
        rule.name in ("", "default") or not rule.name.isprintable() or (rule.name.isdigit() and rule.name != str(number + 1))
    ):
        reader.problem((*path, "name"), f'expected printable text that is no other rule\'s number and not "default", found {rule.name!r}')
    if rule.variant == "":
        reader.problem((*path, "variant"), 'expected the name of a variant, "original", or "*" for any variant')
    if rule.tiers is not None:
        if len(set(rule.tiers)) < len(rule.tiers):
            reader.problem((*path, "tiers"), "names a tier twice")
        if not rule.tiers and admit != "never":
            reader.problem((*path, "tiers"), 'is empty; to keep no copy, set admit = "never"')
    ttl, grace = config.edge.ttl if rule.ttl is None else rule.ttl, config.edge.grace if rule.grace is None else rule.grace
    if ttl + grace == 0 and admit != "never" and (rule.ttl, rule.grace) != (None, None):
        reader.problem(
            (*path, "ttl" if rule.ttl == 0 else "grace"), 'leaves copies no time in which they are used; set admit = "never" to keep none'
        )
    if rule.pin and admit == "never":
        reader.problem((*path, "pin"), 'pins what admit = "never" does not keep')


def _asks(rule: EdgeRule) -> bool:
    """Whether a rule has a condition that some media may fail."""
    bounds = rule.type not in (None, "*/*") or (rule.min_size or 0) > 0 or rule.max_size is not None or (rule.min_hits or 0) > 1
    return bounds or any(each is not None for each in (rule.public, rule.variant, rule.tag, rule.storage))


def _names(names: Iterable[str], path: Path, reader: Reader) -> None:
    for name in names:
        if not NAME.match(name):
            reader.problem((*path, name), "is not a name; use at most 64 letters, digits, - and _, the first a letter or digit")


def _once(names: tuple[str, ...], path: Path, reader: Reader) -> None:
    _names(names, path, reader)
    for name in {name for name in names if names.count(name) > 1}:
        reader.problem(path, f"names {name!r} twice")
