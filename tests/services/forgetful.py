"""A cache in front, as far as it is told to forget: it notes every request, and answers as the test says."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from msgspec import Struct


class Told(Struct, frozen=True):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Forgetful:
    """`answers` are statuses of the next requests, 0 breaks the connection; then every one is answered 200."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self.answers: deque[int] = deque()
        self.always = 200
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def forgot(self, text: str) -> int:
        """How many requests it has answered well that name this."""
        return sum(text in f"{each.path} {each.headers} {each.body!r}" for each in self.told)


@contextmanager
def forgetful(port: int = 0) -> Iterator[Forgetful]:
    cache = Forgetful()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def __getattr__(self, name: str) -> object:
            if name.startswith("do_"):
                return self.answer
            raise AttributeError(name)

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status = cache.answers.popleft() if cache.answers else cache.always
            self.close_connection = True
            if status == 0:
                return
            if 200 <= status < 300:
                cache.told.append(Told(self.command, self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        cache.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield cache
        finally:
            server.shutdown()
            thread.join(10)
