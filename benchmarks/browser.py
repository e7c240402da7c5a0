"""What a browser asks: a request with eight headers beside Host, lists of such requests in a drawn order, and a light client that compares answers byte by byte."""

import random
import re
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import Struct

HEADERS = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0\r\n"
    "Accept: image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5\r\n"
    "Accept-Language: en-GB,en;q=0.7,de;q=0.3\r\n"
    "Accept-Encoding: gzip, deflate, br, zstd\r\n"
    "Referer: https://chat.example/rooms/garden\r\n"
    "Sec-Fetch-Dest: image\r\n"
    "Sec-Fetch-Mode: no-cors\r\n"
    "Sec-Fetch-Site: same-site\r\n"
)
LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
DRAWS = 2**20


class Ask(Struct, frozen=True):
    """A request and its right answer. `body` gives the bytes that a right answer carries; it is called when an answer is compared."""

    path: str
    status: int
    body: Callable[[], bytes]
    header: str = ""

    def line(self) -> str:
        """As play.lua reads it."""
        return f"{self.path}\t{self.header}" if self.header else self.path


class Answer(Struct, frozen=True):
    """What came: the status, the size of the head in bytes (the empty line included), the head and the body."""

    status: int
    head: bytes
    body: bytes

    def header(self, name: str) -> str:
        """A header's value, or nothing."""
        found = re.search(rb"\r\n" + re.escape(name.encode()) + rb": *([^\r]*)", self.head, re.IGNORECASE)
        return found[1].decode("latin-1") if found else ""


def zipf(links: int, file: Path, exponent: float = 1.0, draws: int = DRAWS) -> list[int]:
    """Draw links by Zipf's law, their ranks shuffled among them; writes the draws to `file`, a number a line. The same for everybody: the seed is fixed."""
    chance = random.Random(20260101)
    ranked = list(range(links))
    chance.shuffle(ranked)
    total, cumulative = 0.0, []
    for rank in range(1, links + 1):
        total += rank**-exponent
        cumulative.append(total)
    drawn = chance.choices(ranked, cum_weights=cumulative, k=draws)
    file.write_text("\n".join(map(str, drawn)) + "\n")
    return drawn


class Client:
    """One keep-alive connection that asks as the load does."""

    def __init__(self, url: str, timeout: float = 30.0) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._host = parts.netloc
        self._socket = socket.create_connection((parts.hostname, parts.port), timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, path: str, header: str = "", *, method: str = "GET") -> Answer:
        """Ask and read the whole answer. Raises: OSError, RuntimeError when it ends early."""
        further = f"{header}\r\n" if header else ""
        self._socket.sendall(f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\n{HEADERS}{further}\r\n".encode())
        got = b""
        while b"\r\n\r\n" not in got:
            got += self._more()
        head, _, body = got.partition(b"\r\n\r\n")
        head += b"\r\n\r\n"
        status = int(head[9:12])
        length = LENGTH.search(head)
        if length is None and status not in (204, 304):
            raise RuntimeError(f"an answer of unknown length: {head!r}")
        size = 0 if method == "HEAD" or status in (204, 304) or length is None else int(length[1])
        pieces = [body]
        left = size - len(body)
        while left > 0:
            pieces.append(self._more())
            left -= len(pieces[-1])
        return Answer(status, head, b"".join(pieces))

    def close(self) -> None:
        self._socket.close()

    def _more(self) -> bytes:
        got = self._socket.recv(262_144)
        if not got:
            raise RuntimeError("the connection ended early")
        return got


class Checker(threading.Thread):
    """Beside the load: asks for what the load asks for, every so many seconds, and compares the answers with the right bytes. `done` tells how many."""

    def __init__(self, url: str, asks: Sequence[Ask], order: Sequence[int], start: int, pause: float) -> None:
        super().__init__(daemon=True)
        self._url, self._asks, self._order, self._at, self._pause = url, asks, order, start, pause
        self._ending = threading.Event()
        self._compared = 0
        self._wrong = ""
        self.start()

    def run(self) -> None:
        try:
            client = Client(self._url)
            while not self._ending.wait(self._pause):
                which = self._order[self._at % len(self._order)] if self._order else self._at
                self._at += 1
                compare(client, self._asks[which % len(self._asks)])
                self._compared += 1
            client.close()
        except (OSError, RuntimeError) as error:
            self._wrong = f"{type(error).__name__}: {error}"

    def done(self) -> int:
        """End, and tell how many answers were compared. Raises: RuntimeError when one was wrong."""
        self._ending.set()
        self.join()
        if self._wrong:
            raise RuntimeError(f"{self._url}: {self._wrong}")
        return self._compared


def compare(client: Client, ask: Ask) -> Answer:
    """Ask, and hold the answer against the right one. Raises: RuntimeError when it is another."""
    answer = client.ask(ask.path, ask.header)
    if answer.status != ask.status or answer.body != ask.body():
        raise RuntimeError(
            f"a wrong answer to {ask.path} {ask.header}: {answer.status}, {len(answer.body)} bytes\n{answer.head.decode('latin-1')}"
        )
    return answer


def head_sizes(url: str, ask: Ask) -> int:
    """The size of the head of a second answer, as a hit has it, in bytes."""
    client = Client(url)
    compare(client, ask)
    time.sleep(0.05)
    size = len(compare(client, ask).head)
    client.close()
    return size
