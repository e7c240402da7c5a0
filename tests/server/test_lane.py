"""The lane alone, before an application that says who answered: what it takes, what it leaves, and how it keeps a connection's order, pace and end."""

import asyncio
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import uvloop
from msgspec import Struct

from mediacdn.config import Server
from mediacdn.server.deadlines import deadline_protocol
from mediacdn.server.framing import MAX_FIELDS, MAX_TURN
from mediacdn.server.lane import HOT, MOST_AT_ONCE, Lane
from mediacdn.server.run import serve

SIZE = 3_000_000
GET = b"GET %s HTTP/1.1\r\nHost: t\r\n\r\n"


class Prepared(Struct, frozen=True):
    status: int
    head: tuple[bytes, ...]
    pieces: Sequence[bytes | bytearray | memoryview]
    sent: Callable[[int], None]
    file: int = -1
    offset: int = 0
    count: int = 0
    keep: Any = None


class Place:
    """A running server whose lane answers /hot, /hot/N (N bytes in two pieces), /file (SIZE bytes of a file) and leaves all else, and an application which
    answers everything: /wait after a while, the rest at once with what it was asked.
    """

    def __init__(self, folder: Path, limits: dict[str, Any]) -> None:
        self.settings = Server(host="127.0.0.1", port=0, shutdown_timeout=5.0, **limits)
        self.path = folder / "file"
        self.content = os.urandom(SIZE)
        self.path.write_bytes(self.content)
        self.asked: list[tuple[str, bytes]] = []
        self.met = 0
        self.fields: list[dict[bytes, bytes]] = []
        self.sent: list[int] = []
        self._clients: list[socket.socket] = []
        self._bound: list[str] = []
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)
        with self.path.open("rb") as self.file:
            self._thread.start()
            assert self._ready.wait(10)

    def _run(self) -> None:
        with (
            self.path.open("rb") as self.file,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
            pytest.raises(asyncio.CancelledError),
        ):
            runner.run(self._main())

    async def _main(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()

        def ready(where: str) -> None:
            self._bound.append(where)
            self._ready.set()

        await serve(self._app, self.settings, ready=ready, protocol=deadline_protocol(self.settings, Lane))

    def meet(self, headers: Sequence[tuple[bytes, bytes]], client: tuple[str, int] | None) -> dict[bytes, bytes] | None:
        self.met += 1
        fields = dict(headers)
        return None if b"x-leave" in fields else fields

    def answer(self, method: str, url: bytes, met: dict[bytes, bytes], further: tuple[bytes, bytes] | None = None) -> Prepared | None:
        self.asked.append((method, url))
        self.fields.append(met if further is None else met | {further[0]: further[1]})
        if url == b"/broken":
            raise LookupError("on purpose")
        size = int(url[5:] or 20) if url.startswith(b"/hot") else SIZE
        fields = (b"x-by: lane\r\n", b"content-length: %d\r\n" % size)
        if url == b"/file":
            return Prepared(200, fields, (), self.sent.append, self.file.fileno(), 0, SIZE, self)
        if not url.startswith(b"/hot"):
            return None
        self.body = bytearray(self.content * (size // SIZE + 1))[:size] if method == "GET" else bytearray()
        return Prepared(200, fields, (self.body[:7], memoryview(self.body)[7:]), self.sent.append)

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            self.state = scope["state"]
            self.state[HOT] = self
            while True:
                message = await receive()
                await send({"type": message["type"] + ".complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        if scope["path"] == "/wait":
            await asyncio.sleep(0.2)
        body = f"{scope['method']} {scope['path']}".encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-by", b"app"), (b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})

    def connect(self, *, slow: bool = False) -> socket.socket:
        client = socket.socket()
        if slow:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(10)
        client.connect(("127.0.0.1", int(self._bound[0].rpartition(":")[2])))
        self._clients.append(client)
        return client

    def hold(self) -> None:
        """Keep the event loop for a moment, so that what comes meanwhile is one turn's."""
        self._loop.call_soon_threadsafe(time.sleep, 0.3)
        time.sleep(0.1)

    def leave(self) -> None:
        """Begin a graceful end."""
        self._loop.call_soon_threadsafe(self._task.cancel)  # type: ignore[union-attr]

    def stop(self) -> None:
        for each in self._clients:
            each.close()
        if self._thread.is_alive():
            self.leave()
        self._thread.join(10)
        assert not self._thread.is_alive()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Callable[..., Place]]:
    places: list[Place] = []

    def start(**limits: Any) -> Place:
        places.append(Place(tmp_path, limits))
        return places[-1]

    yield start
    for each in places:
        each.stop()


def heard(client: socket.socket, number: int, *, head: bool = False) -> list[tuple[bytes, bytes]]:
    """Read so many answers: who gave each, and its body. Raises: EOFError when the connection ends before."""
    found: list[tuple[bytes, bytes]] = []
    rest = b""
    while len(found) < number:
        top, end, body = rest.partition(b"\r\n\r\n")
        size = 0 if head or not end else int(re.findall(rb"content-length: (\d+)", top)[0])
        if end and len(body) >= size:
            found.append((re.findall(rb"x-by: (\w+)", top)[0], body[:size]))
            rest = body[size:]
            continue
        piece = client.recv(262_144)
        if not piece:
            raise EOFError(len(rest))
        rest += piece
    assert rest == b""
    return found


def taken(client: socket.socket, pause: float = 0.0) -> bytes:
    """Read to the end of the connection, whatever it is."""
    everything = b""
    try:
        while piece := client.recv(65_536):
            everything += piece
            time.sleep(pause)
    except ConnectionError:
        pass
    return everything


@pytest.mark.parametrize(
    ("sent", "who"),
    [
        (GET % b"/hot", b"lane"),
        (b"HEAD /hot HTTP/1.1\r\nHost: t\r\n\r\n", b"lane"),
        (b"GET /hot HTTP/1.1\r\nHost: t\r\nConnection: keep-alive\r\n\r\n", b"lane"),
        (b"GET /hot HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n", b"lane"),
        (GET % b"/cold", b"app"),  # the lane is asked, and declines
        (GET % b"/broken", b"app"),
    ],
)
def test_what_the_lane_is_asked(place: Any, sent: bytes, who: bytes) -> None:
    running = place()
    client = running.connect()
    for _ in range(2):  # the connection stays open for the next
        client.sendall(sent)
        [(by, body)] = heard(client, 1, head=sent.startswith(b"HEAD"))
        assert by == who
        assert body == (b"" if sent.startswith(b"HEAD") else running.content[:20] if who == b"lane" else sent.partition(b" HTTP")[0])
    assert len(running.asked) == 2
    assert running.sent == [0 if sent.startswith(b"HEAD") else 20] * 2 * (who == b"lane")


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /hot HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n",
        b"DELETE /hot HTTP/1.1\r\nHost: t\r\n\r\n",
        b"OPTIONS /hot HTTP/1.1\r\nHost: t\r\n\r\n",
        b"GET /hot HTTP/1.0\r\nHost: t\r\n\r\n",
        b"GET /hot HTTP/1.0\r\nHost: t\r\nConnection: keep-alive\r\n\r\n",
        b"GET /hot HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n",
        b"GET /hot HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"GET /hot HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\n\r\n",
        b"GET /hot HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n\r\nabc",
        b"GET /hot HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_what_the_lane_is_never_asked(place: Any, sent: bytes) -> None:
    running = place()
    client = running.connect()
    client.sendall(sent)
    assert heard(client, 1) == [(b"app", sent.partition(b" HTTP")[0])]
    assert running.asked == []


AGENT = b"GET %s HTTP/1.1\r\nHost: t\r\nUser-Agent: a\r\n%sAccept: */*\r\n\r\n"
TAG = b"If-None-Match: %s\r\n"


def said(running: Any, client: socket.socket, *requests: bytes) -> list[bytes]:
    """Who answered each, one after the other."""
    found = []
    for each in requests:
        client.sendall(each)
        found.append(heard(client, 1)[0][0])
    return found


def test_fields_are_taken_apart_once_for_a_reader_that_repeats_them(place: Any) -> None:
    running = place()
    client = running.connect()
    assert said(running, client, *(AGENT % (b"/hot/%d" % number, b"") for number in range(1, 6))) == [b"lane"] * 5
    assert running.met == 1
    assert [url for _, url in running.asked] == [b"/hot/%d" % number for number in range(1, 6)]
    assert all(fields == {b"host": b"t", b"user-agent": b"a", b"accept": b"*/*"} for fields in running.fields)
    assert said(running, running.connect(), AGENT % (b"/hot", b"")) == [b"lane"]
    assert running.met == 2  # another connection may be another reader


@pytest.mark.parametrize("first", [b"", TAG % b'"x"', b"range: bytes=0-1\r\n"])
def test_a_condition_or_a_range_may_come_go_and_change(place: Any, first: bytes) -> None:
    running = place()
    further = [first, b"", TAG % b'"a"', b'if-none-match: W/"b c"\r\n', b"Range: bytes=1-2\r\n", b"range: bytes=-3\r\n", b""]
    assert said(running, running.connect(), *(AGENT % (b"/hot", each) for each in further)) == [b"lane"] * 7
    assert [len(fields) for fields in running.fields] == [3 + bool(each) for each in further]
    assert [fields.get(b"if-none-match") for fields in running.fields][2:4] == [b'"a"', b'W/"b c"']
    assert [fields.get(b"range") for fields in running.fields][4:6] == [b"bytes=1-2", b"bytes=-3"]
    assert running.met == (2 if first else 1)  # what they have in common, and the first as it came


@pytest.mark.parametrize(
    ("then", "who"),
    [
        (b"GET /hot HTTP/1.1\r\nHost: u\r\nUser-Agent: a\r\nAccept: */*\r\n\r\n", b"lane"),
        (b"HEAD /hot HTTP/1.1\r\nHost: t\r\nUser-Agent: a\r\nAccept: */*\r\n\r\n", b"lane"),
        (AGENT % (b"/hot", (TAG % b"1") * 2), b"lane"),
        (AGENT % (b"/hot", TAG % b"1" + b"Range: bytes=0-1\r\n"), b"lane"),
        (AGENT % (b"/hot", b"If-None-Match:\t1\r\n"), b"lane"),
        (AGENT % (b"/hot", b"X-If-None-Match: 1\r\n"), b"lane"),
        (AGENT % (b"/hot", b"Connection: close\r\n"), b"app"),
        (AGENT % (b"/hot", b"x-leave: 1\r\n"), b"app"),
        (AGENT.replace(b"1.1", b"1.0") % (b"/hot", b"Connection: keep-alive\r\n"), b"app"),
        (AGENT % (b"/cold", b""), b"app"),
        (AGENT % (b"/broken", b""), b"app"),
    ],
)
def test_what_is_not_the_same_is_taken_apart_anew(place: Any, then: bytes, who: bytes) -> None:
    running = place()
    client = running.connect()
    assert said(running, client, AGENT % (b"/hot", b""), AGENT % (b"/hot", b"")) == [b"lane"] * 2
    client.sendall(then)
    assert heard(client, 1, head=then.startswith(b"HEAD"))[0][0] == who
    if b"close" not in then and b"1.0" not in then:
        assert said(running, client, AGENT % (b"/hot", b"")) == [b"lane"]
    asked = [url for _, url in running.asked]
    assert asked.count(b"/cold") + asked.count(b"/broken") <= 1  # what declined is not asked a second time


@pytest.mark.parametrize(
    "first",
    [b"Range: \x80\r\n", b"RANGE: bytes=0-1\r\n", b"RANGE: x\r\nRange: bytes=0-1\r\n", b"Range:\tbytes=0-1\r\n", b"Range:  bytes=0-1\r\n"],
)
def test_a_second_range_is_not_taken_for_the_only_one(place: Any, first: bytes) -> None:
    running = place()
    client = running.connect()
    once, twice = AGENT % (b"/hot", first), AGENT % (b"/hot", b"Range: bytes=3-9\r\n" + first)
    assert said(running, client, once, once, twice, once) == [b"lane"] * 4
    assert running.met >= 2
    assert running.fields[2] == running.fields[0]  # as the application's side makes of two: here the last


@pytest.mark.parametrize(
    "wrong",
    [
        b"GET /hot\x00 HTTP/1.1\r\nHost: t\r\nUser-Agent: a\r\nAccept: */*\r\n\r\n",
        b"GET /hot /hot HTTP/1.1\r\nHost: t\r\nUser-Agent: a\r\nAccept: */*\r\n\r\n",
        b"GET  HTTP/1.1\r\nHost: t\r\nUser-Agent: a\r\nAccept: */*\r\n\r\n",
        b"GET hot HTTP/1.1\r\nHost: t\r\nUser-Agent: a\r\nAccept: */*\r\n\r\n",
    ],
)
def test_known_fields_do_not_make_a_request_well_formed(place: Any, wrong: bytes) -> None:
    running = place()
    client = running.connect()
    assert said(running, client, AGENT % (b"/hot", b""), AGENT % (b"/hot", b"")) == [b"lane"] * 2
    client.sendall(wrong)
    assert taken(client).startswith(b"HTTP/1.1 400 ")
    alone = running.connect()
    alone.sendall(wrong)
    assert taken(alone).startswith(b"HTTP/1.1 400 ")


def test_a_body_after_known_fields_is_the_next_request(place: Any) -> None:
    """Nothing hides behind fields that are known: what follows the blank line is parsed as what it is."""
    running = place()
    client = running.connect()
    once = AGENT % (b"/hot", b"Content-Length: 0\r\n")
    assert said(running, client, once, once) == [b"lane"] * 2
    client.sendall(once + AGENT % (b"/cold", b"") + once)
    assert [who for who, _ in heard(client, 3)] == [b"lane", b"app", b"lane"]


def test_known_fields_do_not_lengthen_what_a_head_may_be(place: Any) -> None:
    running = place(max_header_size=1024)
    client = running.connect()
    assert said(running, client, AGENT % (b"/hot", b""), AGENT % (b"/hot", b"")) == [b"lane"] * 2
    client.sendall(AGENT % (b"/hot/" + b"0" * 2000 + b"20", b""))
    assert taken(client).startswith(b"HTTP/1.1 431 ")


def test_known_fields_and_one_more_are_not_too_many(place: Any) -> None:
    """Which a condition or a range would be that comes to as many fields as there may be."""
    running = place()
    client = running.connect()
    most = b"".join(b"X-%d: 1\r\n" % number for number in range(MAX_FIELDS - 3))
    assert said(running, client, AGENT % (b"/hot", most), AGENT % (b"/hot", most)) == [b"lane"] * 2
    client.sendall(AGENT % (b"/hot", TAG % b"1" + most))
    assert taken(client).startswith(b"HTTP/1.1 431 ")


def _readers(running: Any, number: int) -> list[socket.socket]:
    """Connections whose fields are known."""
    clients = [running.connect() for _ in range(number)]
    for client in clients:
        assert said(running, client, AGENT % (b"/hot", b"")) == [b"lane"]
    return clients


def _noted(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, order: list[str]) -> None:
    real = getattr(owner, name)

    def noting(*args: Any) -> Any:
        order.append(name)
        return real(*args)

    monkeypatch.setattr(owner, name, noting)


def test_answers_of_one_turn_leave_together(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    running = place()
    order: list[str] = []
    clients = _readers(running, 2 * MOST_AT_ONCE + 5)
    _noted(monkeypatch, running, "answer", order)
    _noted(monkeypatch, Lane, "_deliver", order)
    running.hold()
    for number, client in enumerate(clients, 1):
        client.sendall(AGENT % (b"/hot/%d" % number, b""))
    for number, client in enumerate(clients, 1):
        assert heard(client, 1) == [(b"lane", running.content[:number])], "each its own"
    waiting = [order[:at].count("answer") - order[:at].count("_deliver") for at in range(len(order) + 1)]
    assert waiting[-1] == 0
    assert max(waiting) == MOST_AT_ONCE


def test_one_answer_that_fails_holds_up_no_other(place: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    running = place()
    clients = _readers(running, 3)
    deliver = Lane._deliver

    def failing(lane: Lane, prepared: Any) -> None:
        if prepared.head[1] == b"content-length: 2\r\n":
            raise LookupError("on purpose")
        deliver(lane, prepared)

    monkeypatch.setattr(Lane, "_deliver", failing)
    running.hold()
    for number, client in enumerate(clients, 1):
        client.sendall(AGENT % (b"/hot/%d" % number, b""))
    assert [taken(clients[1]), *(heard(clients[at], 1)[0][1] for at in (0, 2))] == [b"", running.content[:1], running.content[:3]]
    assert "on purpose" in caplog.text


@pytest.mark.parametrize(
    ("then", "answers"),
    [
        (lambda lane: lane.shutdown(), 1),
        (lambda lane: lane._tick() or lane.shutdown(), 1),
        (lambda lane: lane.eof_received() or lane.transport.close(), 1),
        (lambda lane: lane.data_received(AGENT % (b"/hot/8", b"")), 2),
        (lambda lane: lane.transport.abort() or lane.connection_lost(None), 0),
    ],
)
def test_what_was_decided_leaves_before_anything_else(
    place: Any, monkeypatch: pytest.MonkeyPatch, then: Callable[[Any], Any], answers: int
) -> None:
    running = place()
    [client] = _readers(running, 1)
    running.sent.clear()
    again = Lane._again

    def known(lane: Any, data: bytes) -> bool:
        lane._again = lambda data: again(lane, data)
        lane._idle_since = -1e9  # as if its time were up
        lane.loop.call_soon(then, lane)  # before the turn's answers leave
        return again(lane, data)

    monkeypatch.setattr(Lane, "_again", known)
    client.sendall(AGENT % (b"/hot/9", b""))
    client.settimeout(1)
    if answers == 2:
        assert heard(client, 2) == [(b"lane", running.content[:9]), (b"lane", running.content[:8])]
    else:
        assert taken(client).partition(b"\r\n\r\n")[2] == running.content[: 9 * answers]
        assert running.sent == [9 * answers], "told once"


def test_fields_that_always_differ_are_soon_not_compared(place: Any) -> None:
    running = place()
    client = running.connect()
    assert said(running, client, *(AGENT % (b"/hot", b"Cookie: %d\r\n" % number) for number in range(20))) == [b"lane"] * 20
    assert running.met == 20


def test_a_fault_is_logged_and_the_application_answers(place: Any, caplog: pytest.LogCaptureFixture) -> None:
    client = place().connect()
    with caplog.at_level(logging.ERROR):
        client.sendall(GET % b"/broken" + GET % b"/hot")
        assert [by for by, _ in heard(client, 2)] == [b"app", b"lane"]
    assert [(each.message, each.exc_info is not None) for each in caplog.records] == [("The hot lane failed", True)]


@pytest.mark.parametrize("cut", [0, 1, 40, 200])
def test_answers_keep_their_order(place: Any, cut: int) -> None:
    """Whoever gives them, and however the requests arrive: what waits for an application's answer, waits."""
    running = place()
    client = running.connect()
    paths = [b"/hot", b"/wait", b"/hot/100000", b"/cold", b"/file", b"/hot", b"/file", b"/file", b"/wait", b"/hot/5", b"/cold", b"/hot"]
    whole = b"".join(GET % each for each in paths)
    for piece in (whole[:cut], whole[cut:]):
        client.sendall(piece)
        time.sleep(0.01)
    expected = {b"/hot": running.content[:20], b"/hot/5": running.content[:5], b"/hot/100000": running.content[:100_000]}
    for path, (by, body) in zip(paths, heard(client, len(paths)), strict=True):
        if path in (b"/wait", b"/cold"):
            assert (by, body) == (b"app", b"GET " + path)
        else:  # a file waits for an empty buffer, and where the one before it left something the application is asked
            assert body == (expected.get(path, running.content) if by == b"lane" else b"GET " + path)
            assert by == b"lane" or path == b"/file"


@pytest.mark.parametrize("ended", [False, True])
def test_a_flood_of_requests_takes_turns(place: Any, ended: bool) -> None:
    """However much one connection pipelines, the event loop comes to the others in between, and it is answered to its end."""
    running, number = place(), 2000
    turns: list[int] = []

    def turn() -> None:
        turns.append(len(running.asked))
        if turns[-1] < number:
            running._loop.call_soon(turn)

    client = running.connect()
    client.sendall(GET % b"/hot")
    heard(client, 1)
    running._loop.call_soon_threadsafe(turn)
    client.sendall(GET % b"/hot/1" * (number - 1))
    if ended:
        client.shutdown(socket.SHUT_WR)
    assert heard(client, number - 1) == [(b"lane", running.content[:1])] * (number - 1)
    assert max(after - before for before, after in pairwise(turns)) <= 2 * MAX_TURN


def test_a_large_answer_is_not_joined_but_whole(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed: list[list[int]] = []
    push_all = Lane.push_all

    def watched(self: Lane, pieces: list[bytes | memoryview]) -> None:
        pushed.append([len(each) for each in pieces])
        push_all(self, pieces)

    monkeypatch.setattr(Lane, "push_all", watched)
    running = place()
    client = running.connect()
    for size in (65_536, 65_537, 2_000_000):
        client.sendall(GET % b"/hot/%d" % size)
        assert heard(client, 1) == [(b"lane", running.content[:size])]
    assert [each[1:] for each in pushed] == [[7, 65_530], [7, 1_999_993]]


@pytest.mark.parametrize("size", [60_000, 12_000_000])
def test_a_slow_reader_holds_nothing_of_what_a_view_is_of(place: Any, size: int) -> None:
    running = place()
    client = running.connect(slow=True)
    client.sendall(GET % b"/hot/%d" % size)
    client.recv(1)
    deadline = time.monotonic() + 10
    while not running.sent:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    running.body.append(0)  # raises BufferError while there is a view of it
    client.shutdown(socket.SHUT_WR)
    assert taken(client).endswith(running.body[-1001:-1])


def test_a_reader_who_pauses_holds_the_next_request(place: Any) -> None:
    running = place()
    client = running.connect(slow=True)
    number = 30
    client.sendall(GET % b"/hot/500000" * number)
    time.sleep(0.3)
    asked = len(running.asked)
    assert asked < number  # what is not asked yet holds no memory: the buffers of the sockets are all that is full
    assert [body for _, body in heard(client, number)] == [running.content[:500_000]] * number
    assert len(running.asked) == number
    assert running.sent == [500_000] * number


def test_a_file_that_is_read_slowly_holds_the_next_request(place: Any) -> None:
    running = place()
    client = running.connect(slow=True)
    client.sendall(GET % b"/file" + GET % b"/hot" + GET % b"/cold")
    time.sleep(0.2)
    assert running.asked == [("GET", b"/file")]
    assert running.sent == []
    assert heard(client, 3) == [(b"lane", running.content), (b"lane", running.content[:20]), (b"app", b"GET /cold")]
    assert running.sent == [SIZE, 20]


@pytest.mark.parametrize("path", [b"/file", b"/hot/12000000"])  # more than the kernel takes at once
def test_a_reader_who_stops_is_cut(place: Any, path: bytes) -> None:
    running = place(min_body_rate=100_000, min_body_rate_window=0.4)
    client = running.connect(slow=True)
    client.sendall(GET % path)
    time.sleep(1.5)
    assert len(taken(client)) < (SIZE if path == b"/file" else 12_000_000)
    if path == b"/file":
        assert running.sent == [0]


def test_a_slow_but_steady_reader_of_a_file_is_kept(place: Any) -> None:
    running = place(min_body_rate=1000, min_body_rate_window=0.4)
    client = running.connect(slow=True)
    client.sendall(GET % b"/file")
    got = 0
    begun = time.monotonic()
    while time.monotonic() - begun < 1.2:
        got += len(client.recv(20_000))
        time.sleep(0.02)
    while got < SIZE:
        got += len(client.recv(262_144))
    assert running.sent == [SIZE]


def test_an_idle_connection_ends_after_its_time(place: Any) -> None:
    client = place(header_timeout=0.2, idle_timeout=0.8).connect()
    for _ in range(2):
        client.sendall(GET % b"/hot")
        heard(client, 1)
        time.sleep(0.4)  # beyond the header_timeout, which is for a head that has begun
    begun = time.monotonic()
    assert taken(client) == b""
    assert 0.2 < time.monotonic() - begun < 1.2


def test_a_head_after_an_answer_of_the_lane_has_its_time(place: Any) -> None:
    client = place(header_timeout=0.3, idle_timeout=30).connect()
    client.sendall(GET % b"/hot" + b"GET /h")
    answers = taken(client)
    assert answers.startswith(b"HTTP/1.1 200")
    assert b"HTTP/1.1 408" in answers


def test_the_end_closes_idle_connections_at_once(place: Any) -> None:
    running = place()
    clients = [running.connect() for _ in range(3)]
    for client, path in zip(clients, (b"/hot", b"/file", b"/cold"), strict=True):
        client.sendall(GET % path)
        heard(client, 1)
    begun = time.monotonic()
    running.leave()
    assert [taken(client) for client in clients] == [b""] * 3
    assert time.monotonic() - begun < 1


@pytest.mark.parametrize("path", [b"/file", b"/hot/3000000"])
def test_an_answer_under_way_is_finished_at_the_end(place: Any, path: bytes) -> None:
    running = place()
    client = running.connect(slow=True)
    client.sendall(GET % path + GET % b"/hot")
    beginning = client.recv(1000)
    running.leave()
    time.sleep(0.3)
    answers = beginning + taken(client)
    assert answers.partition(b"\r\n\r\n")[2][:SIZE] == running.content


def test_a_file_that_ends_early_ends_its_connection(place: Any, caplog: pytest.LogCaptureFixture) -> None:
    running = place()
    client = running.connect(slow=True)
    client.sendall(GET % b"/file" + GET % b"/hot")
    beginning = client.recv(1000)
    os.truncate(running.path, SIZE - 500_000)
    answers = beginning + taken(client)
    assert answers.count(b"HTTP/1.1 ") == 1
    assert len(answers) < SIZE  # what the kernel had taken before is sent all the same
    assert running.sent == [0]
    assert [each.message for each in caplog.records if "broken off" in each.message] == [
        "answer broken off: The stored object ended before its recorded size"
    ]


def test_a_reader_who_leaves_a_file_is_noticed(place: Any) -> None:
    running = place()
    client = running.connect(slow=True)
    client.sendall(GET % b"/file" + GET % b"/hot")
    client.recv(1000)
    client.close()
    deadline = time.monotonic() + 3
    while not running.sent and time.monotonic() < deadline:
        time.sleep(0.01)
    assert running.sent == [0]
    assert running.asked == [("GET", b"/file")]


@pytest.mark.parametrize(
    "unfinished", [b"", b"GET /hot HTTP/1.1\r\nHo", b"POST /wait HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\nhalf"]
)
def test_a_reader_who_says_no_more_gets_what_was_asked_for(place: Any, unfinished: bytes) -> None:
    """RFC 1122 section 4.2.2.13: a connection closed in one direction. What was not asked for whole is not waited for."""
    running = place(header_timeout=60)
    client = running.connect(slow=True)
    client.sendall(GET % b"/file" + GET % b"/wait" + GET % b"/hot/500000" + GET % b"/file" + GET % b"/hot" * 40 + unfinished)
    client.shutdown(socket.SHUT_WR)
    answers = [running.content, b"GET /wait", running.content[:500_000], running.content, *[running.content[:20]] * 40]
    assert [body for _, body in heard(client, 44)] == answers
    assert client.recv(1) == b""
    assert running.sent == [SIZE, 500_000, SIZE, *[20] * 40]


def test_without_what_is_handed_in_every_request_is_the_applications(place: Any) -> None:
    running = place()
    client = running.connect()
    running.state.pop(HOT)
    client.sendall(GET % b"/hot")
    assert heard(client, 1) == [(b"app", b"GET /hot")]
