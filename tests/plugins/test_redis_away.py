"""A server whose Redis was never there: it starts, works, says degraded and stays ready; doctor warns. With PostgreSQL's bus beside it the same."""

import json
import socket
import time
from pathlib import Path

import pytest

from tests.services.command import run
from tests.services.postgres import PostgresServer
from tests.services.samples import png
from tests.services.served import Served, served

TOML = """
plugins = ["local", "jwt", "vips", "redis"]
[redis]
url = "redis://127.0.0.1:{port}"
[edge]
bus = "redis"
[jobs]
broker = "redis"
[limits]
counters = "redis"
uploads_per_second = 0.01
uploads_burst = 4
"""


def doctor(server: Served) -> tuple[int, dict[str, dict[str, str]]]:
    done = run("doctor", "--data", server.data, "--config", server.data / "mediacdn.toml", "--json")
    return done.returncode, {each["part"]: each for each in json.loads(done.stdout)["findings"]}


@pytest.fixture
def nobody() -> int:
    """A port at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_all_works_without(tmp_path: Path, nobody: int) -> None:
    with served(tmp_path, TOML.format(port=nobody), arguments=()) as server:
        ready = server.client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
        assert {ready.json()["checks"][each] for each in ("broker", "bus", "counters")} == {"unavailable"}
        answers = []
        for number in range(6):
            began = time.monotonic()
            answers.append(server.client.post("/v1/media", content=png(16, 16, str(number).encode()), headers=server.auth()))
            assert time.monotonic() - began < 3
        assert [each.status_code for each in answers] == [201] * 4 + [429] * 2, "this process counts"
        media, deadline = answers[0].json()["id"], time.monotonic() + 20
        while not server.client.get(f"/v1/media/{media}/derivatives", headers=server.auth()).json()["items"]:
            assert time.monotonic() < deadline, "no thumbnail"
            time.sleep(0.05)
        code, findings = doctor(server)
        assert code == 0
        for part in ("edge bus", "jobs broker", "limits counters"):
            assert (findings[part]["state"], findings[part]["found"]) == ("warn", "redis: Redis does not answer")
            assert "[redis]" in findings[part]["fix"]


def test_the_bus_of_the_database(tmp_path: Path, postgres_server: PostgresServer, postgres_template: str) -> None:
    url = postgres_server.url(postgres_server.create_database(postgres_template))
    with served(tmp_path, f'[database]\nurl = "{url}"\n[edge]\nbus = "postgres"\n[edge.postgres]\nchannel = "here"\n') as server:
        ready = server.client.get("/readyz").json()
        assert (ready["status"], ready["checks"]["bus"]) == ("ready", "ok")
        assert "broker" not in ready["checks"]
        code, findings = doctor(server)
        assert (code, findings["edge bus"]["state"], findings["edge bus"]["found"]) == (0, "ok", "postgres: it answers")
