"""The client for untrusted URLs: where it refuses to go, what it refuses to read, and that a refused host sees nothing."""

import asyncio
import gzip
import socket
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib import import_module
from ipaddress import ip_network
from typing import Any

import pytest
from aiohttp import web

from mediacdn.errors import InvalidParameter, MediaError, TooLarge, Unavailable
from mediacdn.fetch import FetchRules, fetch, fetch_stream, permitted

pytestmark = pytest.mark.anyio

LOOPBACK = (ip_network("127.0.0.0/8"),)


Route = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Origin:
    """Another server: raw routes, and a count of the connections that reached it."""

    def __init__(self) -> None:
        self.connections = 0
        self.requests: list[web.BaseRequest] = []
        self.routes: dict[str, Route] = {}
        self.port = 0

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def rules(self, *others: "Origin", **changes: Any) -> FetchRules:
        ports = frozenset({self.port, *(other.port for other in others)})
        return FetchRules(**{"ports": ports, "allow": LOOPBACK, "total": 5.0, **changes})

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append(request)
        return await self.routes[request.path](request)


@asynccontextmanager
async def origin() -> AsyncIterator[Origin]:
    served = Origin()
    server = web.Server(served.answer, access_log=None)

    def accept() -> Any:
        served.connections += 1
        return server()

    listener = await asyncio.get_running_loop().create_server(accept, "127.0.0.1", 0)
    served.port = listener.sockets[0].getsockname()[1]
    try:
        yield served
    finally:
        listener.close()
        await server.shutdown(0.1)


def says(body: bytes, status: int = 200, **headers: str) -> Route:
    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(status=status, body=body, headers={name.replace("_", "-"): value for name, value in headers.items()})

    return answer


def streams(chunks: list[bytes], pause: float = 0.0, repeat: int = 1, **headers: str) -> Route:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={name.replace("_", "-"): value for name, value in headers.items()})
        await response.prepare(request)
        for _ in range(repeat):
            for chunk in chunks:
                await response.write(chunk)
                await asyncio.sleep(pause)
        return response

    return answer


PUBLIC = [
    "8.8.8.8",
    "1.1.1.1",
    "2606:4700:4700::1111",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",  # RFC 6052: NAT64 of 8.8.8.8
    "2002:808:808::1",  # RFC 3056: 6to4 of 8.8.8.8
]
NOT_PUBLIC = [
    ("0.0.0.0", "RFC 1122 3.2.1.3"),
    ("10.0.0.1", "RFC 1918"),
    ("172.16.0.1", "RFC 1918"),
    ("192.168.1.1", "RFC 1918"),
    ("100.64.0.1", "RFC 6598 carrier-grade NAT"),
    ("100.100.100.200", "a metadata service inside RFC 6598"),
    ("127.0.0.1", "RFC 1122"),
    ("127.255.255.254", "RFC 1122"),
    ("169.254.169.254", "RFC 3927, metadata services"),
    ("168.63.129.16", "a cloud's host agent"),
    ("192.0.0.192", "RFC 6890, a metadata service"),
    ("192.0.2.1", "RFC 5737"),
    ("192.88.99.1", "RFC 7526"),
    ("198.18.0.1", "RFC 2544"),
    ("198.51.100.1", "RFC 5737"),
    ("203.0.113.1", "RFC 5737"),
    ("224.0.0.1", "multicast"),
    ("239.255.255.250", "multicast"),
    ("240.0.0.1", "RFC 1112 class E"),
    ("255.255.255.255", "broadcast"),
    ("::", "unspecified"),
    ("::1", "loopback"),
    ("::127.0.0.1", "RFC 4291 IPv4-compatible"),
    ("::ffff:127.0.0.1", "RFC 4291 IPv4-mapped"),
    ("::ffff:10.0.0.1", "RFC 4291 IPv4-mapped"),
    ("::ffff:a9fe:a9fe", "mapped metadata service"),
    ("64:ff9b::127.0.0.1", "RFC 6052 NAT64"),
    ("64:ff9b::a9fe:a9fe", "RFC 6052 NAT64 of a metadata service"),
    ("64:ff9b:1::1", "RFC 8215 local NAT64"),
    ("2002:7f00:1::1", "RFC 3056 6to4 of loopback"),
    ("2002:a00:1::", "RFC 3056 6to4 of RFC 1918"),
    ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "RFC 4380 Teredo"),
    ("2001:0:7f00:1::", "RFC 4380 Teredo server on loopback"),
    ("2606:4700::5efe:127.0.0.1", "RFC 5214 ISATAP"),
    ("2606:4700::200:5efe:10.0.0.1", "RFC 5214 ISATAP"),
    ("2001:db8::1", "RFC 3849"),
    ("3fff::1", "RFC 9637"),
    ("5f00::1", "RFC 9602"),
    ("fc00::1", "RFC 4193"),
    ("fd00:ec2::254", "metadata service"),
    ("fe80::1", "RFC 4291 link-local"),
    ("fe80::1%lo", "RFC 4007 scope"),
    ("fec0::1", "RFC 3879 site-local"),
    ("ff02::1", "multicast"),
    ("localhost", "not an address"),
    ("2130706433", "not the usual spelling"),
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_pass(address: str) -> None:
    assert permitted(address)


@pytest.mark.parametrize(("address", "clause"), NOT_PUBLIC)
def test_other_addresses_do_not(address: str, clause: str) -> None:
    assert not permitted(address), clause


def test_allow_opens_one_network_in_all_its_disguises() -> None:
    assert permitted("127.0.0.1", LOOPBACK)
    assert permitted("::ffff:127.0.0.1", LOOPBACK)
    assert not permitted("10.0.0.1", LOOPBACK)
    assert not permitted("::1", LOOPBACK)


REFUSED_URLS = [
    "http://127.0.0.1:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::1]:{port}/",
    "http://localhost:{port}/",
    "http://LOCALHOST:{port}/",
    "http://2130706433:{port}/",
    "http://0x7f000001:{port}/",
    "http://0x7f.1:{port}/",
    "http://127.1:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://127.0.0.1.:{port}/",
    "http://0:{port}/",
    "http://%31%32%37.0.0.1:{port}/",
    "http://\uff11\uff12\uff17.0.0.1:{port}/",
    "http://127\u30020\u30020\u30021:{port}/",
    "http://[fe80::1%25lo]:{port}/",
    "http://user:secret@127.0.0.1:{port}/",
    "http://example.com@127.0.0.1:{port}/",
    "http://@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}\\@example.com/",
    "http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: inside",
    " http://127.0.0.1:{port}/",
    "//127.0.0.1:{port}/",
    "http:///",
    "http://[127.0.0.1:{port}/",
    "http://127.0.0.1:99999/",
    "file:///etc/passwd",
    "ftp://127.0.0.1:{port}/",
    "gopher://127.0.0.1:{port}/_",
    "data:text/plain,x",
    "",
    "http://127.0.0.1:{port}/" + "a" * 9000,
]


@pytest.mark.parametrize("template", REFUSED_URLS)
async def test_refused_urls_connect_to_nothing(template: str) -> None:
    async with origin() as inside:
        inside.routes["/"] = says(b"inside")
        rules = inside.rules(allow=(), schemes=frozenset({"http"}))
        with pytest.raises(InvalidParameter):
            await fetch(template.replace("{port}", str(inside.port)), rules=rules, max_size=1000)
        assert inside.connections == 0


async def test_ports_are_a_list() -> None:
    async with origin() as other:
        with pytest.raises(InvalidParameter):
            await fetch(other.url(), rules=FetchRules(allow=LOOPBACK), max_size=1000)
        assert other.connections == 0


def answers(*addresses: str) -> Callable[..., Any]:
    """A name service that says `addresses` to every question about a name, and leaves literals alone."""
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if str(host).endswith(".test"):
            families = {4: socket.AF_INET, 6: socket.AF_INET6}
            return [
                (families[ip_network(address).version], socket.SOCK_STREAM, 6, "", (address, port, 0, 0)[: 4 if ":" in address else 2])
                for address in addresses
            ]
        return real(host, port, *args, **kwargs)

    return getaddrinfo


@pytest.mark.parametrize("addresses", [("127.0.0.1",), ("8.8.8.8", "127.0.0.1"), ("::ffff:127.0.0.1",), ("64:ff9b::7f00:1",)])
async def test_names_of_private_addresses_are_refused(addresses: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", answers(*addresses))
    async with origin() as inside:
        with pytest.raises(InvalidParameter):
            await fetch(inside.url(host="name.test"), rules=inside.rules(allow=()), max_size=1000)
        assert inside.connections == 0


async def test_the_socket_is_judged_even_where_the_resolver_was_fooled(monkeypatch: pytest.MonkeyPatch) -> None:
    module, judged = import_module("mediacdn.fetch"), []

    def fooled_once(address: str, allow: Any = ()) -> bool:
        judged.append(address)
        return len(judged) == 1 or permitted(address, allow)

    monkeypatch.setattr(socket, "getaddrinfo", answers("127.0.0.1"))
    monkeypatch.setattr(module, "permitted", fooled_once)
    async with origin() as inside:
        with pytest.raises(InvalidParameter):
            await fetch(inside.url(host="name.test"), rules=inside.rules(allow=()), max_size=1000)
        assert judged == ["127.0.0.1", "127.0.0.1"]
        assert inside.connections == 0


async def test_an_allowed_name_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    inner = answers("127.0.0.1")

    def counted(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        asked.append(host)
        return inner(host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", counted)
    async with origin() as other:
        other.routes["/"] = says(b"here", X_Twice="1")
        found = await fetch(other.url(host="name.test"), rules=other.rules(), max_size=1000)
        assert (found.status, found.body, found.headers["x-twice"]) == (200, b"here", "1")
        assert [host for host in asked if host == "name.test"] == ["name.test"]
        assert other.requests[0].headers["Host"] == f"name.test:{other.port}"


async def test_a_presigned_query_arrives_as_written() -> None:
    async with origin() as other:
        other.routes["/a/b"] = says(b"")
        path = "/a%2Fb?X-Sig=a%2Fb%2B%3d&empty=&x=%7E"
        await fetch(other.url(path), rules=other.rules(), max_size=10)
        assert other.requests[0].raw_path == path


async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    async with origin() as other, origin() as proxy:
        other.routes["/"] = says(b"direct")
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url())
        assert (await fetch(other.url(), rules=other.rules(), max_size=10)).body == b"direct"
        assert proxy.connections == 0


REFUSED_HEADERS = [
    {"Host": "inside"},
    {"content-length": "5"},
    {"Transfer-Encoding": "chunked"},
    {"Proxy-Authorization": "x"},
    {"X-A": "1\r\nX-B: 2"},
    {"X A": "1"},
    {"": "1"},
]


@pytest.mark.parametrize("headers", REFUSED_HEADERS)
async def test_headers_of_the_connection_are_not_the_callers(headers: dict[str, str]) -> None:
    async with origin() as other:
        with pytest.raises(InvalidParameter):
            await fetch(other.url(), rules=other.rules(), max_size=10, headers=headers)
        assert other.connections == 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_followed_within_an_origin_with_headers(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", answers("127.0.0.1"))  # a name: no jar keeps an address's cookies
    async with origin() as other:
        other.routes["/a/b"] = says(b"", status, Location="../c?x=%2F", Set_Cookie="kept=1; Path=/")
        other.routes["/c"] = says(b"there")
        found = await fetch(other.url("/a/b", "name.test"), rules=other.rules(), max_size=10, headers={"Authorization": "secret"})
        assert found.body == b"there"
        assert other.requests[1].headers["Authorization"] == "secret"
        assert "Cookie" not in other.requests[1].headers


async def test_a_redirect_to_another_origin_carries_no_headers() -> None:
    async with origin() as first, origin() as second:
        first.routes["/"] = says(b"", 302, Location=second.url())
        second.routes["/"] = says(b"there")
        await fetch(first.url(), rules=first.rules(second), max_size=10, headers={"Authorization": "secret", "Cookie": "a=b"})
        assert not {"Authorization", "Cookie"} & set(second.requests[0].headers)


@pytest.mark.parametrize(
    ("location", "error"),
    [
        ("http://169.254.169.254:{port}/latest/meta-data", InvalidParameter),
        ("http://[::1]:{port}/", InvalidParameter),
        ("//10.0.0.1:{port}/", InvalidParameter),
        ("http://127.0.0.1:1/", InvalidParameter),
        ("file:///etc/passwd", InvalidParameter),
        ("http://user@127.0.0.1:{port}/end", InvalidParameter),
        ("http://[", Unavailable),
        ("/a b", Unavailable),
    ],
)
async def test_every_hop_is_judged(location: str, error: type[MediaError]) -> None:
    async with origin() as other:
        other.routes["/"] = says(b"", 302, Location=location.replace("{port}", str(other.port)))
        other.routes["/end"] = says(b"reached")
        with pytest.raises(error):
            await fetch(other.url(), rules=other.rules(), max_size=10)
        assert other.connections == 1


@pytest.mark.parametrize(("redirects", "asked"), [(0, 1), (3, 4), (10, 11)])
async def test_redirects_are_counted(redirects: int, asked: int) -> None:
    async with origin() as other:
        other.routes["/"] = says(b"", 302, Location="/")
        with pytest.raises(Unavailable):
            await fetch(other.url(), rules=other.rules(redirects=redirects), max_size=10)
        assert len(other.requests) == asked


def packed(size: int) -> bytes:
    return gzip.compress(b"\0" * size)


BODIES = [
    ("exactly the limit", says(b"x" * 100), 100),
    ("declared larger", says(b"x" * 101), TooLarge),
    ("larger without a length", streams([b"x" * 50, b"x" * 51]), TooLarge),
    ("endless", streams([b"x" * 65536], repeat=1_000_000), TooLarge),
    ("another status is an answer", says(b"gone", 404), 4),
    ("gzip though not asked for", says(gzip.compress(b"y" * 100), Content_Encoding="gzip"), 100),
    ("gzip that unfolds past the limit", says(gzip.compress(b"y" * 101), Content_Encoding="gzip"), TooLarge),
    ("gzip bomb", streams([packed(1_000_000)], Content_Encoding="gzip"), TooLarge),
    ("gzip that never says anything", streams([gzip.compress(b"")[:10], *[b"\0\0\0\xff\xff"] * 1000], Content_Encoding="gzip"), TooLarge),
    ("gzip cut short", says(gzip.compress(b"y" * 50)[:-9], Content_Encoding="gzip"), Unavailable),
    ("gzip with a wrong checksum", says(gzip.compress(b"y" * 50)[:-8] + b"\0" * 8, Content_Encoding="gzip"), Unavailable),
    ("gzip with a tail", says(gzip.compress(b"y") + b"tail", Content_Encoding="gzip"), Unavailable),
    ("not gzip at all", says(b"y" * 50, Content_Encoding="gzip"), Unavailable),
    ("gzip twice", says(gzip.compress(packed(10)), Content_Encoding="gzip, gzip"), Unavailable),
    ("deflate", says(zlib.compress(b"y"), Content_Encoding="deflate"), Unavailable),
    ("brotli", says(b"y", Content_Encoding="br"), Unavailable),
]


@pytest.mark.parametrize(("answer", "expected"), [row[1:] for row in BODIES], ids=[row[0] for row in BODIES])
async def test_bodies_are_bounded(answer: Route, expected: Any) -> None:
    async with origin() as other:
        other.routes["/"] = answer
        if isinstance(expected, int):
            assert len((await fetch(other.url(), rules=other.rules(), max_size=100)).body) == expected
        else:
            with pytest.raises(expected):
                await fetch(other.url(), rules=other.rules(), max_size=100)


async def silent(request: web.BaseRequest) -> web.Response:
    await asyncio.sleep(30)
    raise AssertionError


async def short(request: web.BaseRequest) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "50"})
    await response.prepare(request)
    await response.write(b"x" * 20)
    assert request.transport is not None
    request.transport.close()
    return response


DEADLINES = [
    ("no answer within the read deadline", silent, {"read": 0.2}),
    ("a body that stops", streams([b"x"], pause=30), {"read": 0.2}),
    ("a drip within the read deadline meets the total", streams([b"x"], pause=0.05, repeat=1000), {"read": 5.0, "total": 0.4}),
    ("redirects share one total", streams([b""], pause=30), {"read": 5.0, "total": 0.3}),
    ("a body shorter than declared", short, {}),
]


@pytest.mark.parametrize(("answer", "changes"), [row[1:] for row in DEADLINES], ids=[row[0] for row in DEADLINES])
async def test_slow_and_short_answers_are_unavailable(answer: Any, changes: dict[str, Any]) -> None:
    async with origin() as other:
        other.routes["/"] = answer
        started = time.monotonic()
        with pytest.raises(Unavailable):
            await fetch(other.url(), rules=other.rules(**changes), max_size=10_000)
        assert time.monotonic() - started < 3


async def test_nobody_listening_and_garbage_are_unavailable() -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-nothing\r\n\r\n")
        writer.close()

    listener = await asyncio.start_server(babble, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    rules = FetchRules(ports=frozenset({port}), allow=LOOPBACK)
    async with listener:
        with pytest.raises(Unavailable):
            await fetch(f"http://127.0.0.1:{port}/", rules=rules, max_size=10)
        with pytest.raises(Unavailable):
            await fetch(f"https://127.0.0.1:{port}/", rules=rules, max_size=10)
    with pytest.raises(Unavailable):
        await fetch(f"http://127.0.0.1:{port}/", rules=rules, max_size=10)


async def spill(other: Origin) -> None:
    async with fetch_stream(other.url(), rules=other.rules(), max_size=100) as found:
        async for _ in found.chunks:
            raise OSError("disk")


async def test_a_stream_gives_headers_before_the_body_and_the_callers_errors_as_they_are() -> None:
    async with origin() as other:
        other.routes["/"] = streams([b"a" * 10] * 5, pause=0.01)
        async with fetch_stream(other.url(), rules=other.rules(), max_size=100) as found:
            assert (found.status, found.url) == (200, other.url())
            assert b"".join([chunk async for chunk in found.chunks]) == b"a" * 50
        with pytest.raises(OSError, match="disk"):
            await spill(other)


async def test_errors_name_neither_the_url_nor_an_address() -> None:
    async with origin() as other:
        for url in (other.url("/secret-path?sig=abc"), "http://127.0.0.1:1/secret-path?sig=abc", "http://10.0.0.1/secret-path?sig=abc"):
            other.routes["/secret-path"] = says(b"x" * 100)
            with pytest.raises(MediaError) as caught:
                await fetch(url, rules=FetchRules(ports=frozenset({other.port, 1, 80}), allow=LOOPBACK), max_size=10)
            assert not any(word in caught.value.detail for word in ("secret", "sig", "127.", "10."))


@pytest.mark.parametrize(("method", "body"), [("POST", b"{}"), ("PURGE", None), ("DELETE", None), ("REPORT", b"")])
async def test_other_methods_are_sent_as_they_are_and_redirected_nowhere(method: str, body: bytes | None) -> None:
    async with origin() as first:
        sent: list[tuple[str, bytes]] = []

        async def note(request: web.BaseRequest) -> web.Response:
            sent.append((request.method, await request.read()))
            return web.Response(status=204)

        first.routes = {"/": note, "/away": says(b"", 307, Location="/")}
        found = await fetch(first.url(), rules=first.rules(), max_size=100, method=method, body=body)
        assert found.status == 204
        assert sent == [(method, body or b"")]
        with pytest.raises(Unavailable, match="redirects"):
            await fetch(first.url("/away"), rules=first.rules(), max_size=100, method=method, body=body)
        assert len(sent) == 1
