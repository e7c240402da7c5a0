"""Several server processes behind one address: who answers, what one's death costs the others, how all of them end, and what is told of them together."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.services.command import alive, children, environment, run, within
from tests.services.program import Program
from tests.services.samples import png
from tests.services.served import Served, served

FOUR = ("--no-worker", "--workers", "4")
GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
BIG = 9_000_000


@pytest.fixture
def four(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path / "data", arguments=FOUR) as running:
        yield running


def connect(server: Served) -> socket.socket:
    url = httpx.URL(server.url)
    return socket.create_connection((url.host, url.port), timeout=10)


def ask(client: socket.socket) -> bytes:
    client.sendall(GET)
    return client.recv(65536)


def holders(server: Served) -> dict[int, int]:
    """For each client port of an open connection the server process that holds it, from the kernel's own tables."""
    port = httpx.URL(server.url).port
    owners: dict[int, int] = {}
    inodes: dict[str, int] = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].partition(":")[2], 16) == port and fields[3] == "01":
            inodes[fields[9]] = int(fields[2].partition(":")[2], 16)
    for pid in children(server.process.pid):
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            try:
                inode = os.readlink(f"/proc/{pid}/fd/{descriptor}").removeprefix("socket:[").removesuffix("]")
            except FileNotFoundError:
                continue
            if inode in inodes:
                owners[inodes[inode]] = pid
    return owners


def metric(server: Served, name: str) -> float:
    text = server.client.get("/metrics").text
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))


def requests(server: Served) -> float:
    return metric(server, 'mediacdn_requests_total{method="GET",route="/healthz",status="200"}')


def big(server: Served) -> str:
    return str(server.upload(png(8, 8, b"big") + bytes(BIG), public="true")["id"])


class Download(threading.Thread):
    """A client that is slow to read a big answer; `got` bytes of its body when it ended."""

    def __init__(self, server: Served, media: str) -> None:
        super().__init__()
        self.got = self.promised = 0
        url = httpx.URL(server.url)
        self.client = socket.socket()
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        self.client.connect((url.host, url.port))
        self.client.settimeout(20)
        self.client.sendall(f"GET /v1/media/{media} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.client.recv(4096)
        fields, _, body = head.partition(b"\r\n\r\n")
        found = re.search(rb"content-length: (\d+)", fields)
        assert found, fields
        self.promised, self.got = int(found[1]), len(body)

    def run(self) -> None:
        with self.client:
            begun = time.monotonic()
            while self.got < self.promised:
                try:
                    chunk = self.client.recv(262_144)
                except OSError:
                    return
                if not chunk:
                    return
                self.got += len(chunk)
                time.sleep(max(0.0, begun + 1.5 * self.got / self.promised - time.monotonic()))


def test_all_answer_on_one_address_and_metrics_are_their_sum(four: Served) -> None:
    assert four.said["pid"] == four.process.pid
    clients = [connect(four) for _ in range(64)]
    for client in clients:
        for _ in range(3):
            assert ask(client).startswith(b"HTTP/1.1 200")
    held = Counter(holders(four)[client.getsockname()[1]] for client in clients)
    assert held.keys() == set(children(four.process.pid))
    assert len(held) == 4
    assert max(held.values()) < 64 * 0.6
    # Whoever is asked, over a connection of any of them.
    for _ in range(8):
        with httpx.Client(base_url=four.url, trust_env=False) as other:
            text = other.get("/metrics").text
        assert 'mediacdn_requests_total{method="GET",route="/healthz",status="200"} 192.0\n' in text
        assert "\nmediacdn_processes 4.0\n" in text
        assert text.count("# TYPE mediacdn_requests_total counter") == 1
    for client in clients:
        client.close()


def test_the_parent_may_fork_at_any_time(tmp_path: Path) -> None:
    """A fork beside a second thread may leave the child with a lock that nobody releases."""
    with served(tmp_path / "data", arguments=("--workers", "2")) as server:
        within(15, lambda: len(children(server.process.pid)) == 3)
        assert len(os.listdir(f"/proc/{server.process.pid}/task")) == 1
        worker = next(pid for pid in children(server.process.pid) if b"--tethered" in Path(f"/proc/{pid}/cmdline").read_bytes())
        os.kill(worker, signal.SIGKILL)
        within(15, lambda: len(children(server.process.pid)) == 3)
        everybody = children(server.process.pid)
        # Another is forked while the worker runs.
        os.kill(next(pid for pid in everybody if b"--tethered" not in Path(f"/proc/{pid}/cmdline").read_bytes()), signal.SIGKILL)
        within(15, lambda: len(children(server.process.pid)) == 3)
        everybody = children(server.process.pid)
        server.kill()
        within(20, lambda: not any(map(alive, everybody)))


def test_a_killed_process_takes_its_own_connections_only_and_comes_back(four: Served) -> None:
    before = children(four.process.pid)
    clients = {client.getsockname()[1]: client for client in (connect(four) for _ in range(32))}
    for client in clients.values():
        ask(client)
    held = holders(four)
    victim = held[next(iter(clients))]
    counted = requests(four)
    broken: set[int] = set()
    answered: Counter[int] = Counter()
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            for port, client in clients.items():
                try:
                    if ask(client):
                        answered[port] += 1
                    else:
                        broken.add(port)
                except OSError:
                    broken.add(port)

    thread = threading.Thread(target=load)
    thread.start()
    time.sleep(0.2)
    os.kill(victim, signal.SIGKILL)
    within(15, lambda: len(now := children(four.process.pid)) == 4 and victim not in now)
    time.sleep(0.5)
    stop.set()
    thread.join()
    assert broken == {port for port in clients if held[port] == victim}
    assert set(children(four.process.pid)) > set(before) - {victim}
    within(10, lambda: metric(four, "mediacdn_processes ") == 4)
    # What the dead had counted when it was last asked stays, or the sum would fall.
    assert requests(four) >= counted + sum(count for port, count in answered.items() if held[port] != victim)
    assert metric(four, "mediacdn_processes_ended_total") == 1
    assert any(f"server process {victim} ended with -9" in line for line in four.log)
    for client in clients.values():
        client.close()


def test_new_connections_do_not_wait_for_a_process_that_is_away(four: Served) -> None:
    victims: list[int] = []
    known: set[int] = set()
    for pause in ("0.5", "1.0", "2.0", "4.0"):
        pids = children(four.process.pid)
        victims.append((victims and (set(pids) - known).pop()) or pids[0])  # the same slot each time
        known = set(pids)
        os.kill(victims[-1], signal.SIGKILL)
        within(10, lambda pause=pause: any(f"started again in {pause} s" in line for line in four.log))  # type: ignore[misc]
        if pause != "4.0":
            within(10, lambda: metric(four, "mediacdn_processes ") == 4)
            within(10, lambda known=known: set(children(four.process.pid)) - known)  # type: ignore[misc]
    begun = time.monotonic()
    for _ in range(64):
        with connect(four) as client:
            assert ask(client).startswith(b"HTTP/1.1 200")
    assert time.monotonic() - begun < 3
    within(10, lambda: len(children(four.process.pid)) == 4)


def test_one_that_is_told_to_end_does_so_in_order_and_is_replaced(four: Served) -> None:
    download = Download(four, big(four))
    pid = holders(four)[download.client.getsockname()[1]]
    download.start()
    os.kill(pid, signal.SIGTERM)
    time.sleep(0.3)
    for _ in range(40):
        with connect(four) as client:
            assert ask(client).startswith(b"HTTP/1.1 200")
    download.join()
    assert download.got == download.promised
    within(10, lambda: len(now := children(four.process.pid)) == 4 and pid not in now)


@pytest.mark.parametrize("how", ["parent", "group", "interrupt"])
def test_a_signal_under_load_cuts_no_answer(four: Served, how: str) -> None:
    """To the whole group, as a terminal or systemd sends it, each process hears it beside its parent's order: that is one wish, not two."""
    media = big(four)
    downloads = [Download(four, media) for _ in range(8)]
    for each in downloads:
        each.start()
    begun = time.monotonic()
    if how == "parent":
        four.process.terminate()
    else:
        os.killpg(four.process.pid, signal.SIGTERM if how == "group" else signal.SIGINT)
    assert four.process.wait(20) == 0
    assert time.monotonic() - begun > 0.5
    for each in downloads:
        each.join()
    assert [each.got for each in downloads] == [each.promised for each in downloads]


def test_a_second_signal_ends_the_wait(four: Served) -> None:
    download = Download(four, big(four))  # reads no further
    four.process.terminate()
    time.sleep(0.5)
    assert four.process.poll() is None
    begun = time.monotonic()
    four.process.terminate()
    assert four.process.wait(20) == 0
    assert time.monotonic() - begun < 2
    download.client.close()


def test_a_killed_parent_leaves_nobody(four: Served) -> None:
    everybody = children(four.process.pid)
    with connect(four) as client:
        ask(client)
        os.kill(four.process.pid, signal.SIGKILL)
        within(5, lambda: not any(map(alive, everybody)))
    four.kill()
    four.start()  # neither the data directory nor anything else is held
    assert four.client.get("/healthz").status_code == 200


def test_drain_delay_serves_on_while_readiness_says_no(tmp_path: Path) -> None:
    with served(tmp_path / "data", "[server]\ndrain_delay = 5.0\n", arguments=("--no-worker", "--workers", "2")) as server:
        server.process.terminate()
        within(4, lambda: {httpx.get(server.url + "/readyz", trust_env=False).status_code for _ in range(8)} == {503})  # of both
        assert server.process.wait(15) == 0


def test_a_unix_socket_is_shared(tmp_path: Path) -> None:
    path = tmp_path / "s"
    command = ["serve", "--uds", str(path), "--data", str(tmp_path / "data"), "--json", "--no-worker", "--workers", "2"]
    process = Program(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment())
    assert process.stdout is not None
    try:
        assert json.loads(process.stdout.readline())["url"] == f"unix:{path}"
        first, second = children(process.pid)
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://localhost") as client:
            assert client.get("/healthz").status_code == 200
        os.kill(first, signal.SIGKILL)
        for _ in range(20):
            with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://localhost") as client:
                assert client.get("/healthz").status_code == 200
        within(10, lambda: len(now := children(process.pid)) == 2 and first not in now and second in now)
    finally:
        process.terminate()
        assert process.wait(20) == 0
        process.stdout.close()
    assert not path.exists()


def test_processes_that_cannot_start_end_the_whole_with_their_sentence(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with served(data):
        pass
    shutil.rmtree(data / "objects")
    (data / "objects").write_text("in the way")
    said = []
    for processes in ("1", "2"):
        done = run("serve", "--port", "0", "--data", data, "--no-worker", "--workers", processes)
        assert (done.returncode, done.stdout) == (1, "")
        said.append(done.stderr.splitlines()[-1])
    assert said[0].startswith("mediacdn: The storage failed")
    assert said[0] == said[1]


def test_a_port_that_another_server_of_ours_listens_on_is_refused(four: Served, tmp_path: Path) -> None:
    """The kernel would let two share it, and spread the connections between their data."""
    done = run("serve", "--port", httpx.URL(four.url).port, "--data", tmp_path / "other", "--no-worker", "--workers", "2")
    assert done.returncode == 1
    assert "Address already in use" in done.stderr


def test_lines_of_several_processes_stay_whole() -> None:
    program = """
import structlog
from mediacdn import logs
writer = logs.configure("info", "json", shared=True)
log = structlog.get_logger()
for number in range(9000):
    log.info("line", number=number, path="x" * (number % 400))
writer.drain()
"""
    reader, writer = os.pipe()
    begun = [subprocess.Popen([sys.executable, "-c", program], stderr=writer, env=environment()) for _ in range(3)]
    os.close(writer)
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        text = b""
        time.sleep(1)  # the pipe is full: each writes as soon as another's page is read
        while chunk := pipe.read(5000):
            text += chunk
    assert [each.wait(20) for each in begun] == [0, 0, 0]
    lines = [json.loads(line) for line in text.splitlines()]
    assert len([line for line in lines if line["event"] == "line"]) == 27_000
