"""Where one request ends and the next begins: what is refused, what is dropped, and answers that do not depend on how the bytes arrive."""

import json
import random
import socket
import time
from typing import Any

import pytest

from mediacdn.server import framing

POST = b"POST /echo HTTP/1.1\r\nHost: t\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
NEXT = b"GET /smuggled HTTP/1.1\r\nHost: t\r\n\r\n"

REFUSED = [
    ("RFC 9112 6.1 length then chunked", POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + END),
    ("RFC 9112 6.1 chunked then length", POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + END),
    ("RFC 9112 6.3 two lengths that differ", POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
    ("RFC 9112 6.3 two equal lengths", POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
    ("RFC 9110 8.6 a list of lengths", POST + b"Content-Length: 5, 5\r\n\r\nhello"),
    ("RFC 9110 8.6 a sign", POST + b"Content-Length: +5\r\n\r\nhello"),
    ("RFC 9110 8.6 a negative length", POST + b"Content-Length: -5\r\n\r\nhello"),
    ("RFC 9110 8.6 hexadecimal", POST + b"Content-Length: 0x5\r\n\r\nhello"),
    ("RFC 9110 8.6 no digits", POST + b"Content-Length: \r\n\r\nhello"),
    ("RFC 9110 8.6 beyond 64 bits", POST + b"Content-Length: 99999999999999999999\r\n\r\nhello"),
    ("RFC 9112 7 a coding not understood", POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + END),
    ("RFC 9112 6.3 chunked not last", POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n" + END),
    ("RFC 9112 6.3 identity", POST + b"Transfer-Encoding: identity\r\n\r\n" + END),
    ("RFC 9112 6.1 chunked twice", POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + END),
    ("RFC 9112 6.1 chunked with a tab inside", POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + END),
    ("RFC 9112 6.1 chunks in HTTP/1.0", b"POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" + END),
    ("RFC 9112 7.1 chunk size 0x5", CHUNKED + b"0x5\r\nhello\r\n" + END),
    ("RFC 9112 7.1 chunk size -1", CHUNKED + b"-1\r\nhello\r\n" + END),
    ("RFC 9112 7.1 space after the size", CHUNKED + b"5 \r\nhello\r\n" + END),
    ("RFC 9112 7.1 size beyond 64 bits", CHUNKED + b"FFFFFFFFFFFFFFFFF\r\nhello\r\n" + END),
    ("RFC 9112 7.1 no size", CHUNKED + b"\r\nhello\r\n" + END),
    ("RFC 9112 7.1 LF after the size", CHUNKED + b"5\nhello\r\n" + END),
    ("RFC 9112 7.1 LF in an extension", CHUNKED + b"5;a\nb\r\nhello\r\n" + END),
    ("RFC 9112 7.1 no CRLF after the content", CHUNKED + b"5\r\nhelloX" + END),
    ("RFC 9112 5.2 obs-fold", b"GET / HTTP/1.1\r\nHost: t\r\nX: a\r\n b\r\n\r\n"),
    ("RFC 9112 5.2 obs-fold of a coding", POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + END),
    ("RFC 9112 2.2 bare LF lines", b"GET / HTTP/1.1\nHost: t\n\n"),
    ("RFC 9112 2.2 one bare LF", b"GET / HTTP/1.1\r\nHost: t\nX: b\r\n\r\n"),
    ("RFC 9112 2.2 bare CR", b"GET / HTTP/1.1\r\nHost: t\r\nX: a\rb\r\n\r\n"),
    ("RFC 9112 5.1 space before the colon", b"GET / HTTP/1.1\r\nHost: t\r\nX : b\r\n\r\n"),
    ("RFC 9112 2.2 space before the first field", b"GET / HTTP/1.1\r\n Host: t\r\n\r\n"),
    ("RFC 9112 5 empty name", b"GET / HTTP/1.1\r\nHost: t\r\n: b\r\n\r\n"),
    ("RFC 9112 5 no colon", b"GET / HTTP/1.1\r\nHost: t\r\nfoo\r\n\r\n"),
    ("RFC 9110 5.1 name with a parenthesis", b"GET / HTTP/1.1\r\nHost: t\r\nX(: b\r\n\r\n"),
    ("RFC 9110 5.5 NUL in a value", b"GET / HTTP/1.1\r\nHost: t\r\nX: a\0b\r\n\r\n"),
    ("RFC 9110 5.1 NUL in a name", b"GET / HTTP/1.1\r\nHost: t\r\nContent\0-Length: 5\r\n\r\n"),
    ("RFC 9112 3 NUL in the target", b"GET /\0 HTTP/1.1\r\nHost: t\r\n\r\n"),
    ("RFC 9112 3 8 bits in the target", b"GET /\xff HTTP/1.1\r\nHost: t\r\n\r\n"),
    ("RFC 9112 3.2 fragment", b"GET /a#b HTTP/1.1\r\nHost: t\r\n\r\n"),
    ("RFC 9112 3 tab after the method", b"GET\t/ HTTP/1.1\r\nHost: t\r\n\r\n"),
    ("RFC 9110 9.1 method in small letters", b"get / HTTP/1.1\r\nHost: t\r\n\r\n"),
    ("RFC 9112 3.2.3 CONNECT", b"CONNECT t:80 HTTP/1.1\r\nHost: t\r\n\r\n"),
    ("RFC 9112 3.2 no Host", b"GET / HTTP/1.1\r\n\r\n"),
    ("RFC 9112 3.2 two Hosts", b"GET / HTTP/1.1\r\nHost: t\r\nHost: u\r\n\r\n"),
    ("RFC 9112 3.2 Host with a path", b"GET / HTTP/1.1\r\nHost: t/x\r\n\r\n"),
    ("RFC 9112 3.2 Host with a user", b"GET / HTTP/1.1\r\nHost: u@t\r\n\r\n"),
    ("RFC 9112 3.2 8 bits in Host", b"GET / HTTP/1.1\r\nHost: t\xe9\r\n\r\n"),
    ("RFC 9112 2.3 HTTP/0.9", b"GET /\r\n\r\n"),
    ("RFC 9110 2.5 HTTP/1.2", b"GET / HTTP/1.2\r\nHost: t\r\n\r\n"),
    ("RFC 9110 2.5 HTTP/2.0", b"GET / HTTP/2.0\r\nHost: t\r\n\r\n"),
    ("RFC 9113 3.4 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ("TLS to a plain port", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
]


@pytest.mark.parametrize(("clause", "sent"), REFUSED, ids=[each[0] for each in REFUSED])
def test_ambiguous_requests_get_one_400_and_the_end(start: Any, clause: str, sent: bytes) -> None:
    client = start().connect()
    client.sendall(sent + NEXT)
    status, fields, body = client.answer()
    assert (status, json.loads(body)["code"], fields["connection"]) == (400, "bad_request", "close")
    assert client.everything() == b""


def test_a_fault_after_the_answer_began_cuts_it_off(start: Any) -> None:
    async def duplex(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": message["type"] + ".complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while (message := await receive())["type"] != "http.disconnect":
            await send({"type": "http.response.body", "body": message["body"], "more_body": True})

    client = start(duplex).connect()
    client.sendall(CHUNKED + b"5\r\nhello\r\n")
    time.sleep(0.2)
    client.sendall(b"oops\r\n")
    taken = client.everything()
    assert taken.count(b"HTTP/1.1") == 1
    assert b"hello" in taken
    assert not taken.endswith(END)


def test_a_fault_in_a_later_request_waits_for_the_earlier_answers(start: Any) -> None:
    client = start().connect()
    client.sendall(b"GET /wait HTTP/1.1\r\nHost: t\r\n\r\nGET /b HTTP/1.1\r\nHost: t\r\n\r\nGET /c HTTP/1.1\r\n\r\n" + NEXT)
    assert [client.answer()[0] for _ in range(3)] == [200, 200, 400]
    assert client.everything() == b""


def test_trailers_do_not_reach_the_head(start: Any) -> None:
    client = start().connect()
    client.sendall(
        b"POST /fields HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nAuthorization: x\r\nHost: u\r\n\r\n"
        + NEXT
    )
    time.sleep(0.1)
    assert b"authorization" not in client.answer()[2]
    assert client.answer()[2] == b"GET /smuggled"  # and the next request is its own


MIXED = (
    b"\r\nGET /a?x=1 HTTP/1.1\r\nHost: t\r\n\r\n"
    b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 13\r\n\r\nfour\r\n\r\nGET /"
    b"HEAD /b HTTP/1.1\r\nHost: t\r\n\r\n"
    b"POST /chunked HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n6;e=f\r\none\r\n\r\r\n4\r\n\ntwo\r\n0\r\nX: y\r\n\r\n"
    b"POST /echo HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nhello"
    b"POST /echo HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nworld\r\n0\r\n\r\n"
    b"GET /ws HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n"
    b"GET http://other/abs HTTP/1.1\r\nHost: t\r\n\r\n"
    b"GET /last HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"
    b"GET /never HTTP/1.1\r\nHost: t\r\n\r\n"
)
BODIES = [b"GET /a", b"four\r\n\r\nGET /", b"", b"one\r\n\r\ntwo", b"hello", b"world", b"GET /ws", b"", b"GET /abs", b"GET /last"]


def answers(client: Any) -> list[bytes]:
    taken = []
    for number in range(len(BODIES)):
        status, _, body = client.answer(head=number == 2)
        assert status == 200
        taken.append(body)
    assert client.everything() == b""
    return taken


def test_pipelined_requests_split_at_every_byte_give_the_same_answers(start: Any) -> None:
    server = start()
    for at in range(len(MIXED) + 1):
        with server.connect() as client:
            client.sendall(MIXED[:at])
            if at % 8 == 0:
                time.sleep(0.002)  # let the first part arrive alone; elsewhere the kernel decides
            client.sendall(MIXED[at:])
            assert answers(client) == BODIES, at


def test_bodies_past_the_parser_split_at_every_byte(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "BULK", 1)
    server = start()
    for at in range(0, len(MIXED) + 1, 3):
        with server.connect() as client:
            client.sendall(MIXED[:at])
            if at % 4 == 0:
                time.sleep(0.002)
            client.sendall(MIXED[at:])
            assert answers(client) == BODIES, at


@pytest.mark.parametrize("end", [b"", b"Connection: close\r\n", b"Connection: Upgrade\r\nUpgrade: h2c\r\n"], ids=["", "close", "upgrade"])
def test_a_large_body_ends_by_its_length_alone(start: Any, end: bytes) -> None:
    """What looks like a request within it is not one; what comes after it is, unless it was to be the last."""
    body = (NEXT * 6000)[:-1] + b"x"
    assert len(body) > 3 * framing.BULK
    sent = POST + end + b"Content-Length: %d\r\n\r\n" % len(body) + body + b"GET /after HTTP/1.1\r\nHost: t\r\n\r\n"
    chance = random.Random(1)
    server = start()
    for _ in range(3):
        with server.connect() as client:
            at = 0
            while at < len(sent):
                size = chance.choice((1, 50, 5_000, 70_000))
                client.sendall(sent[at : at + size])
                at += size
            assert client.answer()[2] == body
            assert client.everything() == b"" if b"close" in end else client.answer()[2] == b"GET /after"


def test_pipelined_requests_byte_by_byte(start: Any) -> None:
    client = start().connect()
    for at in range(MIXED.index(b"GET /never")):  # what comes byte by byte after a last request may meet a closed connection
        client.send(MIXED[at : at + 1])
        if at % 3 == 0:
            time.sleep(0.0005)
    assert answers(client) == BODIES


def test_thousands_of_pipelined_requests_are_answered_one_at_a_time(start: Any) -> None:
    server = start(header_timeout=20)
    client = server.connect()
    client.sendall(b"".join(b"GET /%d HTTP/1.1\r\nHost: t\r\n\r\n" % number for number in range(5_000)))
    assert [client.answer()[2] for _ in range(5_000)] == [b"GET /%d" % number for number in range(5_000)]


def test_pipelining_to_a_slow_application_is_bounded(start: Any) -> None:
    client = start(min_body_rate=0).connect()
    client.settimeout(1)
    client.sendall(b"GET /wait HTTP/1.1\r\nHost: t\r\n\r\n")
    flood, sent = NEXT * 2_000, 0
    client.setblocking(False)
    begun = time.monotonic()
    try:
        while time.monotonic() - begun < 0.4:
            sent += client.send(flood)
    except BlockingIOError:
        pass
    assert sent < 20_000_000  # the kernel's buffers, not ours
    client.setblocking(True)
    client.settimeout(10)
    assert client.answer()[2] == b"GET /wait"
    assert client.answer()[2] == b"GET /smuggled"


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("path", [b"/wait", b"/big/3000000"])
def test_a_client_that_says_no_more_is_answered(start: Any, loop: str, path: bytes) -> None:
    """RFC 1122 section 4.2.2.13: its end is the end of its requests, not of its interest."""
    client = start(loop=loop).connect(receive_buffer=4096)
    client.sendall(b"GET %b HTTP/1.1\r\nHost: t\r\n\r\n" % path + NEXT)
    client.shutdown(socket.SHUT_WR)
    assert len(client.answer()[2]) == (9 if path == b"/wait" else 3_000_000)
    assert client.answer()[2] == b"GET /smuggled"
    assert client.ended_after() < 1


def test_a_body_that_its_client_broke_off_is_answered_by_nobody(start: Any) -> None:
    client = start().connect()
    client.sendall(POST + b"Content-Length: 9\r\n\r\nhalf")
    client.shutdown(socket.SHUT_WR)
    assert client.everything() == b""


def test_the_authority_of_an_absolute_target_stands_in_for_host(start: Any) -> None:
    client = start().connect()
    client.sendall(b"GET http://real:81/fields HTTP/1.1\r\nHost: other\r\n\r\n")
    assert client.answer()[2] == b"host=real:81"  # RFC 9112 section 3.2.2


def test_blanks_behind_a_value_are_no_part_of_it(start: Any) -> None:
    client = start().connect()
    client.sendall(b"POST /fields HTTP/1.1\r\nHost: \t t \t\r\nX: a b\t \r\nY: \t\r\nTransfer-Encoding: chunked \r\n\r\n0\r\n\r\n")
    assert client.answer()[2] == b"host=t\nx=a b\ny=\ntransfer-encoding=chunked"


def test_an_old_client_gets_no_chunks(start: Any) -> None:
    client = start().connect()
    client.sendall(b"POST /chunked HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello")
    status, fields, body = client.answer()
    assert (status, body, fields["connection"]) == (200, b"hello", "close")
    assert "transfer-encoding" not in fields  # RFC 9112 section 6.1
