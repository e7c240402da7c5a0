"""Slow, silent, greedy and rude clients, each against limits of tenths of a second."""

import asyncio
import contextlib
import json
import selectors
import threading
import time
from typing import Any

import pytest

GET = b"GET /a HTTP/1.1\r\nHost: t\r\n\r\n"


def problem(body: bytes) -> str:
    return str(json.loads(body)["code"])


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_head_that_is_not_complete_in_time_is_answered_408(start: Any, loop: str) -> None:
    client = start(loop=loop, header_timeout=0.3).connect()
    client.sendall(GET[:-2])
    begun = time.monotonic()
    status, fields, body = client.answer()
    assert (status, fields["connection"], problem(body)) == (408, "close", "request_timeout")  # RFC 9110 section 15.5.9
    assert fields["content-type"] == "application/problem+json"
    assert 0.2 < time.monotonic() - begun < 1.0
    assert client.everything() == b""


def test_the_second_head_of_a_connection_has_the_same_time(start: Any) -> None:
    client = start(header_timeout=0.3, idle_timeout=30).connect()
    client.sendall(GET)
    assert client.answer()[0] == 200
    client.sendall(GET[:5])
    assert client.answer()[0] == 408


@pytest.mark.parametrize(("sent", "times"), [(b"", 0), (b"\r\n", 3)], ids=["nothing", "blank lines"])
def test_a_connection_without_a_request_is_closed_silently(start: Any, sent: bytes, times: int) -> None:
    client = start(header_timeout=0.3, idle_timeout=30).connect()
    for _ in range(times):
        client.sendall(sent)
    assert client.everything() == b""


def test_an_idle_connection_is_kept_for_idle_timeout(start: Any) -> None:
    client = start(header_timeout=0.2, idle_timeout=0.8).connect()
    for _ in range(2):
        client.sendall(GET)
        assert client.answer()[0] == 200
        time.sleep(0.4)
    assert 0.2 < client.ended_after() < 1.0


def test_a_hundred_dribblers_are_all_closed(start: Any) -> None:
    server = start(header_timeout=0.8)
    watch = selectors.DefaultSelector()
    for _ in range(100):
        client = server.connect()
        client.setblocking(False)
        watch.register(client, selectors.EVENT_READ)
    begun, answered, sent = time.monotonic(), set(), 0
    head = GET[:-2] + b"X: " + b"y" * 1000
    while watch.get_map() and time.monotonic() - begun < 5:
        for key in list(watch.get_map().values()):
            if key.fileobj not in answered:
                key.fileobj.send(head[sent : sent + 1])
        for key, _ in watch.select(0.05):
            piece = key.fileobj.recv(4096)
            if piece:
                assert piece.startswith(b"HTTP/1.1 408")
                answered.add(key.fileobj)
            else:
                watch.unregister(key.fileobj)
        sent += 1
    assert not watch.get_map()
    assert len(answered) == 100
    assert time.monotonic() - begun < 3
    other = server.connect()
    other.sendall(GET)
    assert other.answer()[0] == 200


def test_a_body_that_stalls_is_cut_with_408(start: Any) -> None:
    client = start(min_body_rate=1000, min_body_rate_window=0.4).connect()
    client.sendall(b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 100000\r\n\r\nsome")
    begun = time.monotonic()
    status, _, body = client.answer()
    assert (status, problem(body)) == (408, "request_timeout")
    assert 0.3 < time.monotonic() - begun < 1.5


@pytest.mark.parametrize("framing", ["Content-Length: 3000", "Transfer-Encoding: chunked"])
def test_a_slow_but_steady_body_is_kept(start: Any, framing: str) -> None:
    client = start(min_body_rate=1000, min_body_rate_window=0.4).connect()
    client.sendall(f"POST /echo HTTP/1.1\r\nHost: t\r\n{framing}\r\n\r\n".encode())
    chunked = "chunked" in framing
    for _ in range(15):  # 2000 bytes/s for 1.5 s
        time.sleep(0.1)
        client.sendall(b"c8\r\n" * chunked + b"x" * 200 + b"\r\n" * chunked)
    client.sendall(b"0\r\n\r\n" * chunked)
    assert client.answer()[2] == b"x" * 3000


def test_an_application_that_reads_slowly_is_not_the_clients_fault(start: Any) -> None:
    size = 3_000_000  # more than the socket and reading buffers hold, so reading pauses
    client = start(min_body_rate=1_000_000, min_body_rate_window=0.2).connect()
    client.settimeout(20)
    client.sendall(b"POST /lazy HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
    assert client.answer()[0] == 200


def test_a_client_that_waits_for_100_is_not_slow(start: Any, app: Any) -> None:
    async def late(scope: Any, receive: Any, send: Any) -> None:
        if scope.get("path") == "/echo":
            await asyncio.sleep(0.8)
        await app(scope, receive, send)

    client = start(late, min_body_rate=1000, min_body_rate_window=0.2).connect()
    client.sendall(b"POST /echo HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    assert client.answer()[0] == 100
    client.sendall(b"hello")
    assert client.answer()[2] == b"hello"


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_reader_that_stops_is_cut(start: Any, loop: str) -> None:
    client = start(loop=loop, min_body_rate=1000, min_body_rate_window=0.4).connect(receive_buffer=4096)
    client.sendall(b"GET /big/50000000 HTTP/1.1\r\nHost: t\r\n\r\n")
    time.sleep(2)
    assert len(client.everything()) < 50_000_000


def test_a_slow_but_steady_reader_is_kept(start: Any) -> None:
    size = 8_000_000
    client = start(min_body_rate=100_000, min_body_rate_window=0.5).connect(receive_buffer=65536)
    client.sendall(b"GET /big/%d HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n" % size)
    taken = 0
    begun = time.monotonic()
    while taken < 2_000_000:  # 1 MB/s for four windows, while most of the body sits in one write
        taken += len(client.recv(20_000))
        time.sleep(0.02)
    assert time.monotonic() - begun > 1.5
    rest = client.everything()
    assert taken + len(rest) > size


def test_small_answers_to_a_reader_that_stops_are_cut_too(start: Any) -> None:
    """The flow never pauses on one small write; the buffer alone tells."""
    server = start(min_body_rate=1000, min_body_rate_window=0.3, header_timeout=0.2, idle_timeout=0.5)
    client = server.connect(receive_buffer=4096)
    client.sendall(b"GET /big/60000 HTTP/1.1\r\nHost: t\r\n\r\n" * 200)
    time.sleep(3)
    assert len(client.everything()) < 200 * 60_000


HEADS = [
    (b"GET /" + b"a" * 16_384 + b" HTTP/1.1\r\nHost: t\r\n\r\n", 414, "uri_too_long", "RFC 9110 section 15.5.15"),
    (b"GET /" + b"a" * 200_000, 414, "uri_too_long", "a target without an end"),
    (b"GET / HTTP/1.1\r\nHost: t\r\nX: " + b"a" * 70_000 + b"\r\n\r\n", 431, "fields_too_large", "RFC 6585 section 5"),
    (b"GET / HTTP/1.1\r\nHost: t\r\nX: " + b"a" * 300_000, 431, "fields_too_large", "a field without an end"),
    (b"GET / HTTP/1.1\r\nHost: t\r\n" + b"".join(b"X%d: a\r\n" % n for n in range(100)) + b"\r\n", 431, "fields_too_large", "101 fields"),
    (b"GET / HTTP/1.1\r\nHost: t\r\n" + b"X: a\r\n" * 200, 431, "fields_too_large", "fields without an end"),
]


@pytest.mark.parametrize(("sent", "status", "code", "clause"), HEADS, ids=[each[3] for each in HEADS])
def test_heads_beyond_the_limits(start: Any, sent: bytes, status: int, code: str, clause: str) -> None:
    client = start().connect()
    client.sendall(sent)
    answer = client.answer()
    assert (answer[0], problem(answer[2])) == (status, code)
    assert client.everything() == b""


def test_heads_at_the_limits_are_served(start: Any) -> None:
    client = start().connect()
    client.sendall(b"GET /" + b"a" * 16_383 + b" HTTP/1.1\r\nHost: t\r\n" + b"".join(b"X%d: a\r\n" % n for n in range(99)) + b"\r\n")
    assert client.answer()[0] == 200
    client.sendall(b"GET / HTTP/1.1\r\nHost: t\r\nX: " + b"a" * 65_000 + b"\r\n\r\n")
    assert client.answer()[0] == 200


@pytest.mark.parametrize(
    "endless",
    [b"5;" + b"x" * 300_000, b"5\r\nhello\r\n0\r\nX: " + b"y" * 300_000, b"5\r\nhello\r\n0\r\n" + b"X: y\r\n" * 60_000],
    ids=["chunk extension", "trailer field", "trailer fields"],
)
def test_chunked_framing_without_content_is_bounded(start: Any, endless: bytes) -> None:
    client = start().connect()
    client.sendall(b"POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n" + endless)
    assert client.answer()[0] in (400, 431)
    assert client.everything() == b""


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("size", [300_000, 4_000_000, 60_000_000])
def test_an_early_answer_reaches_a_client_that_still_sends(start: Any, loop: str, size: int) -> None:
    client = start(loop=loop).connect()
    client.sendall(b"POST /early HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % size)
    failure: list[OSError] = []

    def send() -> None:
        try:
            client.sendall(bytes(size))
        except OSError as exc:
            failure.append(exc)

    sender = threading.Thread(target=send)
    sender.start()
    status, fields, body = client.answer()
    assert (status, body, fields["connection"]) == (413, b"too large", "close")
    assert client.everything() == b""
    client.close()
    sender.join(5)
    assert not sender.is_alive()


def test_an_early_answer_reaches_a_client_that_reads_after_sending(start: Any) -> None:
    """As Python's http.client does: all of the body first."""
    client = start().connect()
    client.sendall(b"POST /early HTTP/1.1\r\nHost: t\r\nContent-Length: 4000000\r\n\r\n")
    client.sendall(bytes(4_000_000))
    time.sleep(0.3)
    assert client.answer()[0] == 413


def test_lingering_ends(start: Any) -> None:
    client = start().connect()
    client.sendall(b"POST /early HTTP/1.1\r\nHost: t\r\nContent-Length: 1000000\r\n\r\n")
    assert client.answer()[0] == 413
    begun = time.monotonic()
    with contextlib.suppress(ConnectionError):
        while time.monotonic() - begun < 6:
            client.sendall(b"x")
            time.sleep(0.05)
    assert 1.5 < time.monotonic() - begun < 4


def test_a_body_that_was_read_keeps_the_connection(start: Any) -> None:
    client = start().connect()
    for _ in range(3):
        client.sendall(b"POST /early HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello")
        status, fields, _ = client.answer()
        assert status == 413
        assert "connection" not in fields


def test_connections_of_one_address_are_limited(start: Any) -> None:
    server = start(max_connections_per_address=5)
    clients = [server.connect() for _ in range(5)]
    for client in clients:
        client.sendall(GET)
        assert client.answer()[0] == 200
    for _ in range(3):
        extra = server.connect()
        extra.sendall(GET)
        status, fields, body = extra.answer()
        assert (status, problem(body), fields["retry-after"], fields["connection"]) == (429, "too_many_requests", "1", "close")
        assert extra.everything() == b""
    clients[0].close()
    time.sleep(0.1)
    again = server.connect()
    again.sendall(GET)
    assert again.answer()[0] == 200


def test_a_flood_from_one_address_is_bounded_and_forgotten(start: Any) -> None:
    server = start(max_connections_per_address=10)
    clients = [server.connect() for _ in range(200)]
    time.sleep(0.3)
    assert server.protocol.addresses.turned_away <= 10
    for client in clients:
        client.close()
    time.sleep(0.3)
    assert server.protocol.addresses.turned_away == 0
    assert len(server.protocol.addresses) == 0


def test_trusted_proxies_are_not_limited(start: Any) -> None:
    server = start(max_connections_per_address=1, trusted_proxies=("127.0.0.0/8",))
    for client in [server.connect() for _ in range(10)]:
        client.sendall(GET)
        assert client.answer()[0] == 200


def test_unix_sockets_are_not_limited(start: Any, tmp_path: object) -> None:
    server = start(max_connections_per_address=1, uds=f"{tmp_path}/s")
    for client in [server.connect() for _ in range(10)]:
        client.sendall(GET)
        assert client.answer()[0] == 200


def test_an_application_that_fails_is_a_problem_document(start: Any, caplog: pytest.LogCaptureFixture) -> None:
    client = start().connect()
    client.sendall(b"GET /broken HTTP/1.1\r\nHost: t\r\n\r\n")
    status, _, body = client.answer()
    assert (status, problem(body)) == (500, "internal_error")
    assert b"on purpose" not in body
    assert "on purpose" in caplog.text
