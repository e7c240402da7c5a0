"""Tasks as server-sent events, over raw sockets: what is said, resuming, and everything that ends a stream."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from mediacdn.routes import watching
from tests.services import workshop
from tests.services.samples import png
from tests.services.served import Served, served
from tests.services.workshop import Bench


class Heard:
    """A stream as it comes over the socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._file = connection.makefile("rb")
        self.status = int(self._file.readline().split()[1])
        self.fields: dict[str, str] = {}
        while (line := self._file.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode().partition(":")
            self.fields[name.lower()] = value.strip()

    def chunk(self) -> bytes:
        """The next chunk; b"" at the end of the body."""
        size = int(self._file.readline() or b"0", 16)
        data = self._file.read(size)
        self._file.readline()
        return data

    def event(self) -> dict[str, str] | None:
        """The next event with data, None at the end."""
        while block := self.chunk():
            found = dict(line.split(": ", 1) for line in block.decode().splitlines() if line and not line.startswith(":"))
            if "data" in found:
                return found
        return None

    def events(self) -> list[dict[str, str]]:
        return list(iter(self.event, None))

    def body(self) -> Any:
        return json.loads(self._file.read(int(self.fields["content-length"])))


@contextmanager
def listening(server: Served, task: str, *fields: str, who: tuple[str, ...] = ("alice", "write")) -> Iterator[Heard]:
    at = urlsplit(server.url)
    with socket.create_connection((at.hostname or "", at.port or 0), timeout=30) as connection:
        lines = [
            f"GET /v1/media/tasks/{task}/events HTTP/1.1",
            f"Host: {at.netloc}",
            f"Authorization: Bearer {server.token(*who)}",
            *fields,
        ]
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        heard = Heard(connection)
        try:
            yield heard
        finally:
            heard._file.close()


def told(event: dict[str, str] | None) -> tuple[str, str, str]:
    assert event is not None
    return event["event"], event["id"], json.loads(event["data"])["status"]


def test_a_task_is_followed_while_it_changes(server: Served, bench: Bench, task: dict[str, Any]) -> None:
    with listening(server, task["id"]) as heard:
        assert (heard.status, heard.fields["content-type"], heard.fields["cache-control"]) == (200, "text/event-stream", "no-store")
        assert "x-request-id" in heard.fields
        assert heard.chunk() == b"retry: 2000\n\n"
        first = heard.event()
        assert told(first) == ("task", "1", "Pending")
        assert first is not None
        assert json.loads(first["data"]) == task
        job = bench.lease(task["id"])
        assert told(heard.event()) == ("task", "2", "Processing")
        bench.note(job, 0.5)
        half = heard.event()
        assert half is not None
        assert json.loads(half["data"])["progress"] == 0.5
        bench.complete(job)
        assert told(heard.event()) == ("task", "4", "Completed")
        assert told(heard.event()) == ("end", "4-end", "Completed")
        assert heard.chunk() == b""
    assert within(lambda: any(f"tasks/{task['id']}/events" in line for line in server.log)), "it is in the access log"
    metrics = server.client.get("/metrics").text
    assert '/events",status="200"' in metrics


def within(true: Any, seconds: float = 10) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if true():
            return True
        time.sleep(0.05)
    return False


def test_nothing_is_sent_twice(server: Served, bench: Bench, task: dict[str, Any]) -> None:
    job = bench.lease(task["id"])
    with listening(server, task["id"], "Last-Event-ID: 1") as heard:
        assert told(heard.event()) == ("task", "2", "Processing")
    with listening(server, task["id"], "Last-Event-ID: 2") as heard:
        bench.note(job, 0.5)
        assert told(heard.event()) == ("task", "3", "Processing")
    bench.complete(job)
    with listening(server, task["id"], "Last-Event-ID: 3") as heard:
        assert [told(each) for each in heard.events()] == [("task", "4", "Completed"), ("end", "4-end", "Completed")]
    with listening(server, task["id"], "Last-Event-ID: 4") as heard:
        assert [told(each) for each in heard.events()] == [("end", "4-end", "Completed")]
    with listening(server, task["id"], "Last-Event-ID: 4-end") as heard:
        assert heard.status == 204
    with listening(server, task["id"]) as heard:
        assert [told(each) for each in heard.events()] == [("task", "4", "Completed"), ("end", "4-end", "Completed")]


@pytest.mark.parametrize("id", ["999", "x", "1-end", "4-end-end", "-1", ""])
def test_an_id_that_was_never_sent_counts_as_none(server: Served, bench: Bench, task: dict[str, Any], id: str) -> None:
    bench.complete(bench.lease(task["id"]))
    with listening(server, task["id"], f"Last-Event-ID: {id}") as heard:
        assert [told(each)[0] for each in heard.events()] == ["task", "end"]


def test_a_task_that_starts_again_is_followed_again(server: Served, bench: Bench, media: dict[str, Any], task: dict[str, Any]) -> None:
    bench.fail(bench.lease(task["id"]))
    assert server.client.post(f"/v1/media/{media['id']}/tasks/small", headers=server.auth()).status_code == 202
    with listening(server, task["id"], "Last-Event-ID: 3-end") as heard:
        assert told(heard.event()) == ("task", "4", "Pending")


@pytest.mark.parametrize("how", ["quarantine", "delete"])
def test_a_reader_who_may_not_read_any_more_hears_no_more(server: Served, bench: Bench, task: dict[str, Any], how: str) -> None:
    with listening(server, task["id"]) as heard:
        assert told(heard.event()) == ("task", "1", "Pending")
        path, admin = f"/v1/media/{task['media_id']}", server.auth("root", "admin")
        answer = (
            server.client.post(f"{path}/quarantine", headers=admin) if how == "quarantine" else server.client.delete(path, headers=admin)
        )
        assert answer.is_success
        bench.complete(bench.lease(task["id"]))
        assert heard.events() == []
    with listening(server, task["id"], "Last-Event-ID: 1") as heard:
        assert heard.status == (451 if how == "quarantine" else 404)


def test_a_token_that_ends_ends_its_streams(server: Served, bench: Bench, task: dict[str, Any]) -> None:
    with listening(server, task["id"], who=("alice", "read", "2s")) as heard:
        assert told(heard.event()) == ("task", "1", "Pending")
        assert heard.events() == []


def test_a_task_that_is_removed_ends_its_streams(server: Served, bench: Bench, task: dict[str, Any]) -> None:
    from datetime import timedelta

    async def prune(catalog: Any) -> None:
        await catalog.jobs.cancel(task["id"])
        await catalog.jobs.prune(timedelta(0), timedelta(0))

    with listening(server, task["id"]) as heard:
        assert told(heard.event()) == ("task", "1", "Pending")
        bench.do(prune)
        assert [told(each)[0] for each in heard.events()] in ([], ["task", "end"])


def test_streams_are_bounded_and_given_back(server: Served, task: dict[str, Any]) -> None:
    open_now = []
    try:
        for caller in range(watching.STREAMS // watching.OWN):
            for _ in range(watching.OWN):
                opened = listening(server, task["id"], who=(f"reader{caller}", "read"))
                open_now.append(opened)
                assert opened.__enter__().status == 200, len(open_now)
            with listening(server, task["id"], who=(f"reader{caller}", "read")) as heard:
                assert (heard.status, heard.body()["code"]) == (429, "too_many_requests")
                assert int(heard.fields["retry-after"]) > 0
        with listening(server, task["id"]) as heard:
            assert (heard.status, heard.body()["code"]) == (503, "overloaded")
            assert int(heard.fields["retry-after"]) > 0
    finally:
        for opened in open_now:
            opened.__exit__(None, None, None)

    def answers() -> bool:
        with listening(server, task["id"]) as heard:
            return heard.status == 200

    assert within(answers), "clients that left free their places"


def test_streams_work_across_processes_and_end_when_the_server_drains(plugin: dict[str, str], tmp_path: Path) -> None:
    with served(tmp_path / "data", workshop.TOML, environ=plugin, arguments=("--no-worker", "--workers", "2")) as running:
        bench = Bench(running.data)
        media = running.upload(png(8, 8, b"many"))
        task = running.client.post(f"/v1/media/{media['id']}/tasks/small", headers=running.auth()).json()["id"]
        streams = [listening(running, task) for _ in range(6)]
        heard = [each.__enter__() for each in streams]
        assert [told(each.event()) for each in heard] == [("task", "1", "Pending")] * 6
        bench.lease(task)
        assert [told(each.event()) for each in heard] == [("task", "2", "Processing")] * 6
        text = running.client.get("/metrics").text
        assert 'mediacdn_jobs_waiting{lane="images"}' in text
        began = time.monotonic()
        assert running.stop() == 0
        assert [each.event() for each in heard] == [None] * 6
        assert time.monotonic() - began < 8
        for each in streams:
            each.__exit__(None, None, None)
