"""Files that change under the server: never a wrong body with a clean end, never the end of the process."""

import http.client
import socket
import threading
from pathlib import Path

import pytest

from tests.services.samples import binary
from tests.services.served import Served, served

SIZE = 9_000_000


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    with served(tmp_path_factory.mktemp("damage"), "[limits]\nmax_upload_size = 100000000\n") as running:
        yield running


def stored(server: Served, record: dict[str, object]) -> Path:
    name = str(record["storage_key"]).rpartition("/")[2]
    (found,) = [each for each in (server.data / "objects").rglob("*") if each.name.endswith(name)]
    return found


def test_a_file_that_shrinks_under_a_reader(own: Served) -> None:
    """What was promised cannot come: the connection breaks, and nothing else does."""
    size = 5 * SIZE  # more than the sockets' buffers hold
    record = own.upload(binary(size, b"shrinks"), public="true")
    own.client.get(f"/v1/media/{record['id']}", headers={"Range": "bytes=0-0"})  # open from now on
    with socket.create_connection(("127.0.0.1", int(own.url.rpartition(":")[2])), timeout=10) as raw:
        raw.sendall(f"GET /v1/media/{record['id']} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        raw.recv(1000)
        with stored(own, record).open("r+b") as file:
            file.truncate(100)
        received = 0
        try:
            while chunk := raw.recv(65536):
                received += len(chunk)
        except ConnectionError:
            pass
    assert received < size
    assert own.process.poll() is None
    assert own.client.get("/healthz").status_code == 200


def test_a_file_that_is_gone_or_short_before_it_is_opened(own: Served) -> None:
    missing = own.upload(binary(1000, b"missing"), public="true")
    stored(own, missing).unlink()
    assert own.client.get(f"/v1/media/{missing['id']}").status_code == 500
    short = own.upload(binary(1000, b"short"), public="true")
    with stored(own, short).open("r+b") as file:
        file.truncate(10)
    answer = own.client.get(f"/v1/media/{short['id']}")
    assert (answer.status_code, answer.json()["code"]) == (500, "object_corrupt")


def test_a_reader_that_leaves_stops_the_reading(own: Served) -> None:
    record = own.upload(binary(SIZE, b"leaves"), public="true")
    before = own.client.get("/metrics").text
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", int(own.url.rpartition(":")[2])), timeout=10) as raw:
            raw.sendall(f"GET /v1/media/{record['id']} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            raw.recv(1000)
    threading.Event().wait(0.5)

    def open_files(text: str) -> float:
        return float(next(line.split()[1] for line in text.splitlines() if line.startswith("process_open_fds")))

    assert open_files(own.client.get("/metrics").text) <= open_files(before) + 3
    assert own.client.get(f"/v1/media/{record['id']}").content == binary(SIZE, b"leaves")


def test_a_stop_lets_answers_finish(tmp_path: Path) -> None:
    """dangers.md 1.25: SIGTERM cuts no answer and loses no upload."""
    with served(tmp_path) as server:
        record = server.upload(binary(SIZE, b"stop"), public="true")
        host, port = server.url.removeprefix("http://").split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=20)
        connection.request("GET", f"/v1/media/{record['id']}")
        answer = connection.getresponse()
        first = answer.read(1000)
        codes: list[int] = []
        stopping = threading.Thread(target=lambda: codes.append(server.stop()))
        stopping.start()
        threading.Event().wait(0.5)
        assert first + answer.read() == binary(SIZE, b"stop")
        connection.close()
        stopping.join(30)
        assert codes == [0]
