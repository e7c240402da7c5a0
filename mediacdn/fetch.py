"""The only HTTP client that follows untrusted URLs: it answers for where a request may go and how much it may cost, and leaves what the bytes mean to the caller.

An address is judged three times: as a literal in the URL, as the resolver's answer, and as the socket is made. The last is what closes
the gap between look-up and connect (DNS rebinding), and the first two are why a refused host sees no packet at all.
aiohttp is imported on first use: it costs a third of a second that start-up does not have.
"""

import re
import socket
import time
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from importlib import import_module
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from mediacdn.errors import InvalidParameter, MediaError, TooLarge, Unavailable

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession, TCPConnector
    from aiohttp.abc import ResolveResult
    from yarl import URL

CHUNK = 65536
MAX_URL = 8192
REDIRECTS = frozenset({301, 302, 303, 307, 308})

RESERVED = tuple(
    IPv6Network(text) if ":" in text else IPv4Network(text)
    for text in (
        "168.63.129.16/32",  # the host agent of one large cloud answers on a public address
        "192.0.0.0/24",  # RFC 6890: protocol assignments; a metadata service lives here too
        "192.88.99.0/24",  # RFC 7526: 6to4 relays
        "64:ff9b:1::/48",  # RFC 8215: NAT64 of the local network
        "3fff::/20",  # RFC 9637: documentation
    )
)
"""What `is_global` of some supported Python versions still takes for public."""

GLOBAL_UNICAST = IPv6Network("2000::/3")
NAT64 = IPv6Network("64:ff9b::/96")
ISATAP = frozenset({0x00005EFE, 0x02005EFE})

HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?\.?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")
NUMERIC_HOST = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9A-Fa-f]*)\.?")
OURS = frozenset(
    {"accept-encoding", "connection", "content-length", "expect", "host", "keep-alive",
     "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
)  # fmt: skip
"""Request headers that belong to the connection or name the host: never the caller's to set."""


class FetchRules(Struct, frozen=True, kw_only=True):
    """Where a fetch may go and how long it may take. Times are seconds; `total` covers every hop and the body, None leaves it open.

    `allow` names networks that may be reached although they are not public. `redirects` is how many may be followed; 0 makes any redirect a failure.
    """

    schemes: frozenset[str] = frozenset({"http", "https"})
    ports: frozenset[int] = frozenset({80, 443})
    allow: tuple[IPv4Network | IPv6Network, ...] = ()
    redirects: int = 10
    total: float | None = 30.0
    connect: float = 5.0
    read: float = 10.0


class Fetched(Struct, frozen=True):
    """An answer, whole. Header names are in lower case, repeated fields joined by a comma; `body` is decoded."""

    status: int
    headers: dict[str, str]
    body: bytes


class FetchedStream(Struct, frozen=True):
    """An answer whose body is still on its way: `chunks` can be read once, inside the context, and raises TooLarge or Unavailable."""

    status: int
    headers: dict[str, str]
    url: str
    chunks: AsyncIterator[bytes]


async def fetch(
    url: str, *, rules: FetchRules, max_size: int, headers: Mapping[str, str] | None = None, method: str = "GET", body: bytes | None = None
) -> Fetched:
    """GET `url` (or another `method`, with a `body`) and return the answer, whatever its status, with at most `max_size` bytes of decoded body.

    Raises: InvalidParameter (the URL or a hop's destination is refused; that host was not connected), Unavailable (upstream), TooLarge.
    """
    async with fetch_stream(url, rules=rules, max_size=max_size, headers=headers, method=method, body=body) as found:
        answer = b"".join([chunk async for chunk in found.chunks])
    return Fetched(found.status, found.headers, answer)


@asynccontextmanager
async def fetch_stream(
    url: str, *, rules: FetchRules, max_size: int, headers: Mapping[str, str] | None = None, method: str = "GET", body: bytes | None = None
) -> AsyncIterator[FetchedStream]:
    """GET `url` (or another `method`, with a `body`) and give the answer as soon as its headers are here; limits and errors as for `fetch`.

    `headers` are sent to the first origin only: a redirect to another one does not carry them on. Nothing but a GET is redirected at all.
    """
    from anyio import to_thread

    await to_thread.run_sync(import_module, "aiohttp")  # off the loop: the first import takes hundreds of milliseconds
    import aiohttp

    try:
        first = _parsed(url)
    except ValueError:
        raise InvalidParameter("The URL is malformed") from None
    _judge(first, rules)
    sent = _request_headers(headers or {})
    guard = _Guard(rules)
    async with aiohttp.ClientSession(
        connector=guard.connector(),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
        raise_for_status=False,
    ) as session:
        with _translated(guard):
            response = await _follow(session, first, sent, rules, method, body)
        try:
            if (response.content_length or 0) > max_size:
                raise TooLarge("The other server's answer is larger than allowed")
            async with aclosing(_body(response, max_size, guard)) as chunks:
                yield FetchedStream(response.status, _joined(response), str(response.url), chunks)
        finally:
            response.close()


def permitted(address: str, allow: tuple[IPv4Network | IPv6Network, ...] = ()) -> bool:
    """Tell whether a connection to this IP address may be made: everything that it can lead to must be public, or in `allow`."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return all(any(each in network for network in allow) or _public(each) for each in _led_to(ip))


def _led_to(ip: IPv4Address | IPv6Address) -> list[IPv4Address | IPv6Address]:
    """Where packets to `ip` may end: translations stand for the address inside, tunnels for both ends."""
    if isinstance(ip, IPv4Address):
        return [ip]
    if ip.ipv4_mapped is not None:
        return [ip.ipv4_mapped]
    low = IPv4Address(int(ip) & 0xFFFFFFFF)
    if ip in NAT64:  # RFC 6052
        return [low]
    led: list[IPv4Address | IPv6Address] = [ip]
    if ip.sixtofour is not None:  # RFC 3056
        led.append(ip.sixtofour)
    if ip.teredo is not None:  # RFC 4380
        led.extend(ip.teredo)
    if (int(ip) >> 32) & 0xFFFFFFFF in ISATAP:  # RFC 5214
        led.append(low)
    return led


def _public(ip: IPv4Address | IPv6Address) -> bool:
    if isinstance(ip, IPv6Address) and ip not in GLOBAL_UNICAST:
        return False
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in RESERVED)


def _parsed(url: str) -> "URL":
    """Parse `url` into the very object that the client will use, so that no second parser can read it differently. Raises: ValueError."""
    from yarl import URL

    if len(url) > MAX_URL or any(character <= " " or character in "\\\x7f" for character in url):
        raise ValueError("malformed")
    # An ASCII URL goes out as it came in: requoting would break presigned queries.
    parsed = URL(url, encoded=url.isascii())
    parsed.port  # noqa: B018  # the authority is parsed on first use, and may be malformed
    return parsed


def _judge(url: "URL", rules: FetchRules) -> None:
    host = url.raw_host or ""
    if url.scheme not in rules.schemes:
        raise InvalidParameter("The URL's scheme is not allowed")
    if "@" in url.raw_authority:
        raise InvalidParameter("The URL may not hold credentials")
    if not HOST.fullmatch(host) or len(host) > 253:
        raise InvalidParameter("The URL's host is malformed")
    if url.port not in rules.ports:
        raise InvalidParameter("The URL's port is not allowed")
    # A host that ends in a number is an address however it is spelled (2130706433, 0x7f.1, 127.1): only the usual spelling passes.
    if (":" in host or NUMERIC_HOST.fullmatch(host)) and not permitted(host, rules.allow):
        raise InvalidParameter("The URL's destination is not allowed")


def _request_headers(headers: Mapping[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if name.lower() in OURS or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) or re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value):
            raise InvalidParameter("A request header is not allowed")
    return dict(headers)


class _Guard:
    """Judges every address of one fetch, and remembers having refused one: the client hides the reason in errors of its own."""

    def __init__(self, rules: FetchRules) -> None:
        self._rules = rules
        self.refused = False

    def require(self, address: str) -> None:
        if not permitted(address, self._rules.allow):
            self.refused = True
            raise OSError("destination refused")

    def connector(self) -> "TCPConnector":
        from aiohttp import TCPConnector
        from aiohttp.resolver import ThreadedResolver

        guard = self

        class Checked(ThreadedResolver):
            async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> "list[ResolveResult]":
                found = await super().resolve(host, port, family)
                # One forbidden answer spoils all: a name that is public and private at once is how rebinding begins.
                for entry in found:
                    guard.require(entry["host"])
                return found

        def opened(info: Any) -> socket.socket:
            guard.require(info[4][0])
            return socket.socket(info[0], info[1], info[2])

        return TCPConnector(resolver=Checked(), socket_factory=opened, use_dns_cache=False, force_close=True, limit=1)


@contextmanager
def _translated(guard: _Guard) -> Iterator[None]:
    """Turn the client's errors into ours. Details name no address and no URL: both may hold secrets of the caller or of the network."""
    from aiohttp import ClientConnectorCertificateError, ClientError, InvalidURL

    try:
        yield
    except MediaError:
        raise
    except (InvalidURL, UnicodeError) as error:
        raise InvalidParameter("The URL is malformed") from error
    except (ClientError, OSError) as error:
        if guard.refused:
            raise InvalidParameter("The URL's destination is not allowed") from None
        if isinstance(error, TimeoutError):
            raise Unavailable("The other server did not answer in time") from error
        if isinstance(error, ClientConnectorCertificateError):
            raise Unavailable("The other server's certificate is not trusted") from error
        raise Unavailable("The other server could not be read") from error


async def _follow(
    session: "ClientSession", url: "URL", headers: dict[str, str], rules: FetchRules, method: str, body: bytes | None
) -> "ClientResponse":
    """Ask `url` and whatever it redirects to, each hop judged anew and all within one deadline."""
    from aiohttp import ClientTimeout

    end = None if rules.total is None else time.monotonic() + rules.total
    for followed in range(rules.redirects + 1):
        left = None if end is None else max(end - time.monotonic(), 0.001)
        response = await session.request(
            method,
            url,
            data=body,
            headers={"User-Agent": "mediacdn", "Accept": "*/*", **headers, "Accept-Encoding": "identity"},
            allow_redirects=False,
            timeout=ClientTimeout(total=left, connect=rules.connect, sock_connect=rules.connect, sock_read=rules.read),
        )
        location = response.headers.get("Location")
        if response.status not in REDIRECTS or location is None:
            return response
        response.close()
        if followed == rules.redirects or method != "GET":
            break
        try:
            target = url.join(_parsed(location))
        except ValueError:
            raise Unavailable("The other server redirects to a malformed URL") from None
        _judge(target, rules)
        if target.origin() != url.origin():
            headers = {}
        url = target
    raise Unavailable("The other server redirects too often")


def _joined(response: "ClientResponse") -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in response.headers.items():
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return headers


async def _body(response: "ClientResponse", max_size: int, guard: _Guard) -> AsyncGenerator[bytes, None]:
    """The decoded body, counted: the cap holds for the bytes on the wire as well as for what they unfold to."""
    coding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in ("identity", "", "gzip", "x-gzip"):
        raise Unavailable("The other server's answer has a coding that was not asked for")
    packed = "gzip" in coding
    # Deflate adds at most 5 bytes to a block that it cannot shrink (RFC 1951 section 3.2.4); the rest is gzip's own frame.
    limit = max_size + max_size // 1000 + 1024 if packed else max_size
    async with aclosing(_read(response, limit, guard)) as wire:
        if not packed:
            async for chunk in wire:
                yield chunk
            return
        total = 0
        async with aclosing(_inflated(wire)) as pieces:
            async for piece in pieces:
                total += len(piece)
                if total > max_size:
                    raise TooLarge("The other server's answer is larger than allowed")
                yield piece


async def _read(response: "ClientResponse", limit: int, guard: _Guard) -> AsyncGenerator[bytes, None]:
    total = 0
    with _translated(guard):
        async for chunk in response.content.iter_any():
            total += len(chunk)
            if total > limit:
                raise TooLarge("The other server's answer is larger than allowed")
            yield chunk


async def _inflated(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Gunzip in steps of at most 64 KiB of output, so that a bomb is met by the count and never by memory."""
    from anyio.lowlevel import checkpoint

    inflater = zlib.decompressobj(wbits=31)
    async for chunk in chunks:
        rest = chunk
        while True:
            try:
                piece = inflater.decompress(rest, CHUNK)
            except zlib.error:
                raise Unavailable("The other server's answer is damaged") from None
            if piece:
                await checkpoint()
                yield piece
            rest = inflater.unconsumed_tail
            if not rest and len(piece) < CHUNK:
                break
        if inflater.unused_data:
            raise Unavailable("The other server's answer is damaged")
    if not inflater.eof:
        raise Unavailable("The other server's answer ended early")
