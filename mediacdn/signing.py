"""Signed URLs: the canonical text, HMAC-SHA256, and the two forms of a link (query and prefix token). Pure: it is handed keys and the time, and leaves
where keys live to keyring, and revocation, client addresses and the record's state to whoever holds the card.

But for the order of its parameters a link has exactly one spelling: numbers have no leading zeros, values are percent-encoded where RFC 3986 section 2.3 asks and
nowhere else. So what verifies says, byte for byte, what was signed.
"""

import hashlib
import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from binascii import b2a_base64
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import quote, unquote_to_bytes

from msgspec import Struct

from mediacdn.errors import ConfigError, InvalidParameter, InvalidSignature, LinkExpired
from mediacdn.model import Link

LEEWAY = 60
"""Seconds that an offline signer's clock may run ahead of ours."""
_BLOCK = 64
SECRET_SIZE = 32
"""Least bytes of a secret: the output size of SHA-256 (RFC 2104 section 3)."""

_RESERVED = frozenset({"exp", "iat", "kid", "m", "sub", "ip", "disposition", "sig"})
_TOLD = frozenset({"covers", "ip", "sub"})
_PLACES = {name: place for place, name in enumerate(("exp", "iat", "kid", "m", "sub", "ip", "disposition"))} | {"sig": 99}
_KID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]{0,4095}")
_DOT_SEGMENT = re.compile(r"/\.{1,2}(?:/|\Z)")
_METHOD = re.compile(r"[A-Z]{1,16}")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_PREFIX_TEXT = b"p1\nGET\n"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LONGEST = 768
"""Characters of one percent-encoded value."""
_NUMBER = r"([1-9][0-9]{0,10})"
_VALUE = r"[A-Za-z0-9._~%-]"
_OWN = (
    rf"exp={_NUMBER}&iat={_NUMBER}&kid=({_KID.pattern})(?:&m=({_METHOD.pattern}))?(?:&sub=({_VALUE}{{1,{_LONGEST}}}))?(?:&ip=({_VALUE}{{1,96}}))?"
    r"(?:&disposition=(attachment))?"
)
_FURTHER = rf"((?:&{_NAME.pattern}={_VALUE}{{1,{_LONGEST}}})*)"
_QUERY = re.compile(rf"{_OWN}()&sig=([A-Za-z0-9_-]{{43}})")
_QUERY_WITH_FURTHER = re.compile(rf"{_OWN}{_FURTHER}&sig=([A-Za-z0-9_-]{{43}})")
"""The same with a tail that no media path has: matching it costs twice the time."""
SORTED_QUERY = (
    rb"(exp=([1-9][0-9]{0,10})&iat=([1-9][0-9]{0,10})&kid=([A-Za-z0-9_-]{1,64})(?:&sub=([A-Za-z0-9._~-]{1,768}))?)&sig=([A-Za-z0-9_-]{43})"
)
"""The query of nearly every link, as a pattern for bytes: in the order of names, nothing encoded, no rarer parameter. What is signed, exp, iat, kid, sub and sig are its groups."""
_SIGNATURE = 43
"""Characters of HMAC-SHA256 in base64url."""
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_MEDIA_ID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
_TOKEN = re.compile(
    rf"(p1\.({_MEDIA_ID.pattern})\.{_NUMBER}\.{_NUMBER}\.({_KID.pattern})\.([A-Za-z0-9_-]{{0,2048}}))\.([A-Za-z0-9_-]{{43}})", re.ASCII
)
_VARIANT = re.compile(r"[A-Za-z0-9._~=,:@+-]{1,256}")
_BELOW = re.compile(
    r"(?:/thumb|/poster|/mp4|/opus|/preview|/waveform(?:\.png)?|/player|/subtitles/[A-Za-z0-9-]+|(?:/hls|/dash|/storyboard)(?:/[A-Za-z0-9_][A-Za-z0-9._-]*)+"
    r"|/storyboard[._-][A-Za-z0-9._-]+|/storyboard|)"
)
# The router decodes letters and takes runs of slashes for one, so an open link has these spellings too.
_SIG = re.compile(r"((?:^|[?&;\s]|%26|%3F)(?:s|%[57]3)(?:i|%[46]9)(?:g|%[46]7)(?:=|%3D))[^&#\s\"']*", re.IGNORECASE)
_UPLOAD = re.compile(r"([0-9A-Z]{26}(?:\.|%2E))[A-Za-z0-9_%-]{20,}", re.IGNORECASE)
_PREFIX = re.compile(r"((?:/|%2F)(?:s|%[57]3)(?:/|%2F)+)(?:(?!%2F)[^/?#\s\"'])+", re.IGNORECASE)


class KeyRing(Struct, frozen=True):
    """The secrets by kid, and the kid that signs. Raises ConfigError for a short secret, a kid outside A-Z a-z 0-9 _ -, or an unknown `current`."""

    keys: dict[str, bytes]
    current: str

    def __post_init__(self) -> None:
        for kid, secret in self.keys.items():
            if not _KID.fullmatch(kid):
                raise ConfigError(f"signing key {kid!r}: a key id is 1 to 64 of the characters A-Z a-z 0-9 _ -")
            if len(secret) < SECRET_SIZE:
                raise ConfigError(f"signing key {kid}: a secret needs at least {SECRET_SIZE} bytes, this one has {len(secret)}")
        if self.current not in self.keys:
            raise ConfigError(f"the current signing key {self.current!r} is not among the keys: {', '.join(self.keys) or 'none'}")

    def __repr__(self) -> str:
        """Name the kids alone: a repr ends up in logs and tracebacks."""
        return f"KeyRing(keys=[{', '.join(self.keys)}], current={self.current})"


def canonical(method: str, path: str, params: Iterable[tuple[str, str]]) -> bytes:
    """Make the text that a query link's signature covers.

    `path` is as sent after `server.base_path`, not decoded; `params` are decoded names and values, `sig` left out. Four lines without a last line feed: `v1`,
    method, path, and the parameters sorted by name, UTF-8, everything but RFC 3986 unreserved characters percent-encoded in upper case, joined with `&`.
    """
    pairs = "&".join([f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in sorted(params)])
    return f"v1\n{method}\n{path}\n{pairs}".encode()


def sign_query(
    ring: KeyRing,
    path: str,
    *,
    exp: int,
    iat: int,
    sub: str | None = None,
    ip: str | None = None,
    disposition: str | None = None,
    method: str = "GET",
    extra: Iterable[tuple[str, str]] = (),
) -> str:
    """Sign `path` and give it back with its query: `path?exp=…&iat=…&kid=…[&m=…][&sub=…][&ip=…][&disposition=…][&extra…]&sig=…`.

    `exp` and `iat` are unix seconds; `ip` is an address or a prefix; `disposition` is "attachment"; GET covers HEAD and is not written as `m`. `extra` are
    parameters of a route that names them to verify_query; media paths take none. Raises InvalidParameter for what verify_query would refuse.
    """
    _sayable_path(path)
    if not _METHOD.fullmatch(method):
        raise InvalidParameter("method: one HTTP method in upper case")
    if disposition not in (None, "attachment"):
        raise InvalidParameter('disposition: only "attachment" can be signed')
    _times(exp, iat)
    further = sorted(extra)
    names = [name for name, _ in further]
    for name in names:
        if not _NAME.fullmatch(name) or name in _RESERVED or names.count(name) > 1:
            raise InvalidParameter(f"{name!r} cannot be a further signed parameter")
    params = [("exp", str(exp)), ("iat", str(iat)), ("kid", ring.current)]
    if method != "GET":
        params.append(("m", method))
    if sub is not None:
        params.append(("sub", sub))
    if ip is not None:
        params.append(("ip", _network(ip)))
    if disposition is not None:
        params.append(("disposition", disposition))
    params += further
    query = "&".join(f"{name}={_encode(name, value)}" for name, value in params)
    return f"{path}?{query}&sig={_signature(ring.keys[ring.current], canonical(method, path, params))}"


def verify_query(
    ring_lookup: Callable[[str], bytes | None], method: str, raw_path: str, raw_query: str, now: int, *, further: Collection[str] = ()
) -> Link:
    """Check a query link in the contract's order (shape, kid, signature, exp) and give what it says.

    `raw_path` and `raw_query` (without `?`) are as sent, after `server.base_path`; `now` is unix seconds. `further` are the names of other parameters that this
    route understands in a signed link; media paths have none, there every unlisted name is refused. Raises InvalidSignature (403), LinkExpired (410).
    Left to the caller: `iat` against the media's `links_valid_from`, and `ip`.
    """
    pattern = _QUERY_WITH_FURTHER if further else _QUERY
    shape = pattern.fullmatch(raw_query) or pattern.fullmatch(raw_query := _in_order(raw_query))
    if shape is None or not _PATH.fullmatch(raw_path) or ("/." in raw_path and _DOT_SEGMENT.search(raw_path)):
        raise InvalidSignature
    exp, iat, kid, m, sub, ip, disposition, rest, sig = shape.groups()
    signed_method = m or "GET"
    if m == "GET" or (method != signed_method and not (method == "HEAD" and m is None)):
        raise InvalidSignature
    # The values are kept as sent: they are canonical (checked below), so the sorted text can be laid out without decoding and encoding again.
    if rest:
        ordered = _with_further(raw_query[: -len(sig) - 5], rest, further)
    elif m is sub is ip is disposition is None:
        ordered = raw_query[:-48]  # exp, iat and kid stand in their order, before "&sig=" and 43 characters
    else:
        ordered = (
            f"{'disposition=attachment&' if disposition else ''}exp={exp}&iat={iat}{f'&ip={ip}' if ip else ''}&kid={kid}"
            f"{f'&m={m}' if m else ''}{f'&sub={sub}' if sub else ''}"
        )
    told_sub = sub and _decode(sub)
    told_ip = ip and _decode(ip)
    secret = ring_lookup(kid)
    if secret is None or not hmac.compare_digest(_signature(secret, f"v1\n{signed_method}\n{raw_path}\n{ordered}".encode()), sig):
        raise InvalidSignature
    return Link(*_timely(int(iat), int(exp), now), kid, told_sub, told_ip, disposition)


def verify_sorted(ring_lookup: Callable[[str], bytes | None], raw_path: bytes, groups: Sequence[bytes], now: int) -> Link:
    """`verify_query` for a GET or HEAD whose query has the form SORTED_QUERY, given its `groups`; the path is known to be sayable and without dot segments."""
    signed, exp, iat, kid, sub, sig = groups
    name = kid.decode()
    secret = ring_lookup(name)
    if secret is None or not hmac.compare_digest(_mac(secret, b"v1\nGET\n%b\n%b" % (raw_path, signed)), sig):
        raise InvalidSignature
    return Link(*_timely(int(iat), int(exp), now), name, sub.decode() if sub else None)


def _in_order(raw_query: str) -> str:
    """The same parameters as `sign_query` orders them. What is signed is sorted by name, so a signer may write them in any order, but each only once."""
    pairs = {pair.partition("=")[0]: pair for pair in raw_query.split("&")}
    if len(pairs) != raw_query.count("&") + 1:
        raise InvalidSignature
    return "&".join(pairs[name] for name in sorted(pairs, key=lambda name: (_PLACES.get(name, 50), name)))


def mint_prefix(
    ring: KeyRing,
    media_id: str,
    *,
    exp: int,
    iat: int,
    covers: Sequence[str] = (),
    sub: str | None = None,
    ip: str | None = None,
) -> str:
    """Make the token of `/s/{token}/v1/media/{id}/…`: `p1.{id}.{exp}.{iat}.{kid}.{more}.{sig}`, all characters of which may stand in a path segment.

    `more` is the base64url of the canonical parameters `covers` (variants joined with `;`), `ip` and `sub`, empty when there are none. The signature covers `p1`
    LF `GET` LF and the token before its last dot: it opens GET and HEAD only. `covers` lists ad-hoc variants; the rest is fixed (link_covers).
    Raises InvalidParameter.
    """
    if not _MEDIA_ID.fullmatch(media_id):
        raise InvalidParameter("a prefix link is for one media id")
    _times(exp, iat)
    params = []
    if covers:
        if not all(_VARIANT.fullmatch(variant) for variant in covers):
            raise InvalidParameter("covers: a variant is w=320,h=240,… in canonical order")
        params.append(("covers", ";".join(sorted(set(covers)))))
    if ip is not None:
        params.append(("ip", _network(ip)))
    if sub is not None:
        params.append(("sub", sub))
    more = "&".join(f"{name}={_encode(name, value)}" for name, value in params)
    body = f"p1.{media_id}.{exp}.{iat}.{ring.current}.{urlsafe_b64encode(more.encode()).decode().rstrip('=')}"
    token = f"{body}.{_signature(ring.keys[ring.current], _PREFIX_TEXT + body.encode())}"
    if not _TOKEN.fullmatch(token):
        raise InvalidParameter("the link says too much: sub or covers are too long")
    return token


def verify_prefix(ring_lookup: Callable[[str], bytes | None], token: str, method: str, now: int) -> Link:
    """Check a prefix token in the order shape, kid, signature, exp; the Link's `media` and `covers` are set.

    Left to the caller: link_covers for the path below, `iat` against the media's `links_valid_from`, `ip`. Raises InvalidSignature (403), LinkExpired (410).
    """
    shape = _TOKEN.fullmatch(token)
    if shape is None or method not in ("GET", "HEAD"):
        raise InvalidSignature
    body, media_id, exp, iat, kid, more, sig = shape.groups()
    secret = ring_lookup(kid)
    if secret is None or not hmac.compare_digest(_signature(secret, _PREFIX_TEXT + body.encode()), sig):
        raise InvalidSignature
    covers: tuple[str, ...] = ()
    sub = ip = None
    if more:
        told = _more(more)
        listed, ip, sub = told.get("covers"), told.get("ip"), told.get("sub")
        covers = tuple(listed.split(";")) if listed else ()
    return Link(*_timely(int(iat), int(exp), now), kid, sub, ip, None, media_id, covers)


def link_covers(link: Link, media_id: str, rest: str, presets: Collection[str] = ("thumb",)) -> bool:
    """Tell whether a prefix link opens `rest`, the path below `/v1/media/{media_id}`: "" is the original, else "/thumb", "/hls/…", "/v/{variant}", ….

    `presets` are the registered presets' names. A path with an escape, a dot segment or an empty segment is never covered. A query link has no prefix: False.
    """
    if link.covers is None or link.media != media_id:
        return False
    if rest.startswith("/v/"):
        return rest[3:] in presets or rest[3:] in link.covers
    return _BELOW.fullmatch(rest) is not None


def rounded(now: int, lifetime: int, window: int, not_before: int = 0) -> tuple[int, int]:
    """Give (iat, exp) for a link of at least `lifetime` seconds: with a `window` (seconds, 0 is off) iat goes down and exp up to its multiples, so that the same
    viewer gets the same URL. `not_before` is the media's `links_valid_from`: iat never lies before it, or the new link would be born revoked."""
    start = max(now, not_before)
    end = start + max(lifetime, 1)
    if window > 0:
        start -= start % window
        end += -end % window
    return max(start, not_before), end


def mask(url_or_path: str) -> str:
    """Hide what would open a link, for logs: the values of `sig`, the token of `/s/{token}/`, and what makes an upload's URL its owner's; also where they are percent-encoded inside another URL."""
    low = url_or_path.lower()
    if "/s/" not in low and "%" not in low and "/uploads/" not in low:  # nearly every request: the searches cost more than these looks
        found = low.count("sig")
        if not found:
            return url_or_path
        if found == 1 and url_or_path.endswith("&sig=", 0, -_SIGNATURE):
            return f"{url_or_path[:-_SIGNATURE]}***"
    return _UPLOAD.sub(r"\1***", _PREFIX.sub(r"\1***", _SIG.sub(r"\1***", url_or_path)))


def _signature(secret: bytes, text: bytes) -> str:
    return _mac(secret, text).decode()


def _mac(secret: bytes, text: bytes) -> bytes:
    """base64url without padding (RFC 4648 section 5), spelled with b2a_base64: this runs for every request by link."""
    inner, outer = _keyed(secret)
    within, around = inner.copy(), outer.copy()
    within.update(text)
    around.update(within.digest())
    return b2a_base64(around.digest(), newline=False)[:43].translate(_URL_SAFE)


@lru_cache(maxsize=64)
def _keyed(secret: bytes) -> tuple["hashlib._Hash", "hashlib._Hash"]:
    """HMAC-SHA256's inner and outer hash that have the key (RFC 2104 section 2): to copy these takes six tenths of what to copy an HMAC takes, and a third of what
    hmac.digest does, which looks its algorithm up anew each time."""
    block = (hashlib.sha256(secret).digest() if len(secret) > _BLOCK else secret).ljust(_BLOCK, b"\0")
    return hashlib.sha256(block.translate(hmac.trans_36)), hashlib.sha256(block.translate(hmac.trans_5C))


def _timely(iat: int, exp: int, now: int) -> tuple[int, int]:
    """An `iat` ahead of the clock would outlive a revocation that comes before it, so it is refused beyond the leeway."""
    if now >= exp:
        raise LinkExpired
    if iat > now + LEEWAY:  # whoever is told so holds the key: the signature is right
        raise InvalidSignature(f"The link was made {iat - now} s ahead of this server's clock")
    return iat, exp


def _times(exp: int, iat: int) -> None:
    if not 0 < iat < exp < 10**11:
        raise InvalidParameter("a link's end lies after its beginning, both in unix seconds")


def _sayable_path(path: str) -> None:
    if not _PATH.fullmatch(path) or _DOT_SEGMENT.search(path):
        raise InvalidParameter("a signed path starts with / and has neither dot segments nor characters that a URL must encode")


def _address(text: str) -> IPv4Address | IPv6Address:
    address = ip_address(text)
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            raise ValueError("a zone means something on one machine only")
        return address.ipv4_mapped or address
    return address


def _network(ip: str) -> str:
    try:
        return str(ip_network(ip)) if "/" in ip else str(_address(ip))
    except ValueError:
        raise InvalidParameter("ip: an address, or a prefix without host bits") from None


def _encode(name: str, value: str) -> str:
    try:
        encoded = quote(value, safe="")
    except UnicodeEncodeError:
        encoded = ""
    if not 0 < len(encoded) <= _LONGEST or _CONTROL.search(value):
        raise InvalidParameter(
            f"{name}: a signed value is text, not empty, without control characters, at most {_LONGEST} characters when encoded"
        )
    return encoded


def _decode(raw: str) -> str:
    """Undo the percent-encoding of a value that has exactly one: anything else is another spelling of a link, and refused."""
    if "%" not in raw:
        return raw
    try:
        value = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise InvalidSignature from None
    if quote(value, safe="") != raw or _CONTROL.search(value):
        raise InvalidSignature
    return value


def _with_further(signed: str, rest: str, further: Collection[str]) -> str:
    """Sort all parameters of a link that carries more than the contract's own; those must be known to the route, in order, and once each."""
    pairs = [pair.partition("=") for pair in rest[1:].split("&")]
    names = [name for name, _, _ in pairs]
    if names != sorted(set(names)) or not _RESERVED.isdisjoint(names) or not all(name in further for name in names):
        raise InvalidSignature
    for _, _, value in pairs:
        _decode(value)
    # By name, not by the whole pair: "=" sorts after digits, so "a1=…" would overtake "a=…".
    return "&".join(sorted(signed.split("&"), key=lambda pair: pair.partition("=")[0]))


def _more(more: str) -> dict[str, str]:
    """Read a token's third part. A name that we do not know may be a restriction that we would not keep, so it is refused."""
    try:
        text = urlsafe_b64decode(more + "=" * (-len(more) % 4)).decode("ascii")
    except (Base64Error, UnicodeDecodeError):
        raise InvalidSignature from None
    pairs = [pair.partition("=") for pair in text.split("&")]
    names = [name for name, _, _ in pairs]
    if names != sorted(set(names)) or not _TOLD.issuperset(names) or not all(value for _, _, value in pairs):
        raise InvalidSignature
    return {name: _decode(value) for name, _, value in pairs}
