"""A load that remembers: readers of public media and writers of new ones, each answer with its moment; writers try again until they are told that it is stored."""

import hashlib
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from http.client import HTTPConnection, HTTPException

from msgspec import Struct

from tests.services import samples
from tests.services.nodes import Node, Nodes

AGAIN = 0.1
PACE = 0.01


class Answer(Struct, frozen=True):
    """What one request came to: when it began and ended, and "ok", or who said what instead: "node 503 catalog_unavailable", "nginx 502", "no answer (…)"."""

    began: float
    ended: float
    what: str
    retry_after: bool = True

    @property
    def ok(self) -> bool:
        return self.what == "ok"


class Client:
    """One keep-alive connection through nginx, opened anew when it broke."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: HTTPConnection | None = None

    def ask(
        self, method: str, path: str, body: bytes | Iterator[bytes], headers: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Ask once. Raises: OSError, HTTPException."""
        if self._connection is None:
            self._connection = HTTPConnection("127.0.0.1", self._port, timeout=20)
        try:
            self._connection.request(method, path, body or None, dict(headers))
            answer = self._connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        except (OSError, HTTPException):
            self.close()
            raise

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def warm(nodes: Iterable[Node], hot: Mapping[str, bytes]) -> None:
    """Read each path over connections of their own, so that every process of these nodes has a copy."""
    for node in nodes:
        for path, body in hot.items():
            for _ in range(8 * node.processes):
                client = Client(node.port)
                status, _, found = client.ask("GET", path, b"", {})
                client.close()
                assert (status, found) == (200, body)


class Load:
    """Readers and writers, from `start` to `finish`. `stored` maps digests to ids of what was acknowledged, `open` counts what never was."""

    def __init__(self, nodes: Nodes, hot: Mapping[str, bytes], *, readers: int = 3, writers: int = 3, seed: str = "") -> None:
        self.reads: list[Answer] = []
        self.writes: list[Answer] = []
        self.stored: dict[str, str] = {}
        self.doubted: list[str] = []
        self.open = 0
        self._nodes = nodes
        self._hot = list(hot.items())
        self._seed = seed
        self._ending = threading.Event()
        self._failures: list[BaseException] = []
        self._threads = [threading.Thread(target=self._guarded, args=(self._read, number), daemon=True) for number in range(readers)]
        self._threads += [threading.Thread(target=self._guarded, args=(self._write, number), daemon=True) for number in range(writers)]

    def start(self) -> None:
        for each in self._threads:
            each.start()

    def finish(self) -> None:
        """Stop, and wait. Raises: what ended a thread."""
        self._ending.set()
        for each in self._threads:
            each.join(60)
            if each.is_alive():
                raise RuntimeError("the load does not end")
        if self._failures:
            raise self._failures[0]

    def _guarded(self, work: object, number: int) -> None:
        try:
            work(number)  # type: ignore[operator]
        except BaseException as error:  # of a thread: `stop` raises it, also an assertion or a SystemExit
            self._failures.append(error)

    def _read(self, number: int) -> None:
        client, turn = Client(self._nodes.port), number
        while not self._ending.is_set():
            media, body = self._hot[turn % len(self._hot)]
            turn += 1
            began = time.monotonic()
            try:
                status, headers, found = client.ask("GET", f"/v1/media/{media}", b"", {})
                what = "ok" if (status, found) == (200, body) else "other bytes" if status == 200 else who(status, headers, found)
            except (OSError, HTTPException) as error:
                what = nobody(error)
            self.reads.append(Answer(began, time.monotonic(), what))
            time.sleep(PACE)
        client.close()

    def _write(self, number: int) -> None:
        client, turn = Client(self._nodes.port), 0
        while not self._ending.is_set():
            turn += 1
            name = f"{self._seed} {number} {turn}"
            body = samples.png(16, 16, name.encode()) if turn % 3 == 0 else samples.binary(2000, name.encode())
            headers = {**self._nodes.auth("writer"), "Idempotency-Key": name}
            while not self._try(client, body, headers):
                if self._ending.wait(AGAIN):
                    self.open += 1
                    break
            time.sleep(PACE)
        client.close()

    def _try(self, client: Client, body: bytes, headers: Mapping[str, str]) -> bool:
        began = time.monotonic()
        try:
            status, fields, found = client.ask("POST", "/v1/media", body, headers)
        except (OSError, HTTPException) as error:
            self.writes.append(Answer(began, time.monotonic(), nobody(error)))
            return False
        what = "ok" if status in (200, 201) else who(status, fields, found)
        self.writes.append(Answer(began, time.monotonic(), what, "retry-after" in fields))
        if status in (200, 201):
            self.stored[hashlib.sha256(body).hexdigest()] = found.partition(b'"id":"')[2][:26].decode()
        return status in (200, 201)


def nobody(error: Exception) -> str:
    """What a request came to that was not answered."""
    return f"no answer ({type(error).__name__})"


def who(status: int, headers: Mapping[str, str], body: bytes) -> str:
    """Who refused, and how."""
    if "problem+json" not in headers.get("content-type", ""):
        return f"nginx {status}"
    code = body.partition(b'"code":"')[2].partition(b'"')[0].decode()
    return f"node {status} {code}"
