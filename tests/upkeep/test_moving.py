"""`mediacdn move` on a running server: readers notice nothing, a kill at any moment costs nothing, and both databases agree."""

import hashlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mediacdn.cli import main
from tests.services.command import answered, environment, run, within
from tests.services.postgres import PostgresServer
from tests.services.program import Program
from tests.services.readers import reading
from tests.services.samples import png, text
from tests.services.served import Served, served

TOML = """
[storage.default]
fsync = false
reserve = 0
[storage.far]
path = "far"
fsync = false
reserve = 0
[edge]
memory_local = 65536
[lifecycle]
moved_grace = 1
sweep_every = 3600.0
[limits]
uploads_per_second = 0.0
max_upload_size = 100000000
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "sqlite":
        yield ""
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = server.create_database()
    yield f'[database]\nurl = "{server.url(name)}"\n'
    server.drop_database(name)


@contextmanager
def serving(data: Path, more: str = "", arguments: tuple[str, ...] = ("--no-worker",)) -> Iterator[tuple[Served, list[object]]]:
    with served(data, TOML + more, arguments=arguments) as server:
        yield server, ["--data", data, "--config", data / "mediacdn.toml"]


def files(folder: Path) -> list[Path]:
    return [each for each in folder.rglob("*") if each.is_file()]


def record(server: Served, id: str) -> dict[str, Any]:
    found: dict[str, Any] = server.client.get(f"/v1/media/{id}/record", headers=server.auth("root", "admin")).json()
    return found


def test_a_move_under_readers_killed_again_and_again(tmp_path: Path, database: str) -> None:
    with serving(tmp_path / "data", database) as (server, options):
        bodies = [png(4, 4, bytes([number])) + bytes(1_000_000 + number) for number in range(8)]
        ids = [server.upload(body, tags="pii")["id"] for body in bodies]
        ids += [server.upload(body, tags="pii", public="true")["id"] for body in bodies[:3]]
        stays = server.upload(text(50_000), tags="other")["id"]
        small = server.upload(text(40_000, b"small"), tags="pii")["id"]
        before = {each: record(server, each) for each in (*ids, stays, small)}
        digests = {name: each["digest"] for name, each in before.items()}
        server.client.get(f"/v1/media/{small}", headers=server.auth())
        plan = answered("move", "--to", "far", "--where", "tag=pii", "--dry-run", *options)
        assert (plan["objects"], plan["records"], len(plan["items"])) == (9, 12, 9), "an object that records share is moved once"
        assert files(server.data / "far") == []
        kills = 0
        noise = random.Random(7)
        with reading(server.url, server.auth(), digests, 1) as readers:
            for _ in range(3):
                command = ["move", "--to", "far", "--where", "tag=pii", "--rate", "8M", *map(str, options)]
                moving = Program(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), text=True)
                assert moving.stdout is not None
                if moving.stdout.readline().startswith("default:"):
                    try:  # in the middle of a copy, most of the time
                        moving.wait(noise.uniform(0, 0.12))
                    except subprocess.TimeoutExpired:
                        kills += 1
                os.kill(moving.pid, signal.SIGKILL)
                moving.communicate()
            done = answered("move", "--to", "far", "--where", "tag=pii", *options)
        assert kills == 3
        assert (done["failed"], readers.wrong) == ([], [])
        assert readers.right > 50
        for name, was in before.items():
            now = record(server, name)
            assert now["storage"] == ("default" if name == stays else "far")
            assert (now["digest"], now["etag"], now["size"]) == (was["digest"], was["etag"], was["size"])
        kept = server.client.get(f"/v1/media/{small}", headers=server.auth())
        assert "hit" in kept.headers["Cache-Status"], "the bytes are the same, so copies of them stay good"
        # What the kills left half-way goes by its age.
        old = environment({"MEDIACDN_LIFECYCLE__ABANDONED_AFTER": "1"})
        time.sleep(1.1)
        answered("gc", *options, environ=old)
        assert (len(files(server.data / "objects")), len(files(server.data / "far"))) == (1, 9)
        scrubbed = answered("scrub", "--unknown", *options, environ=old)
        sizes = {each["digest"]: each["size"] for each in before.values()}
        assert scrubbed == {"objects": 10, "bytes": sum(sizes.values()), "findings": []}
        with reading(server.url, server.auth(), digests, 1) as readers:
            within(20, lambda: readers.right > len(digests))
        assert readers.wrong == []


def test_twins_and_what_is_damaged(tmp_path: Path) -> None:
    rule = '[[routing]]\nstorage = "far"\ntag = "far"\n'
    with serving(tmp_path / "data", rule) as (server, options):
        body = png(8, 8, b"twin")
        first = server.upload(body)
        assert answered("move", "--to", "far", "--where", f"id={first['id']}", *options)["copied"] == len(body)
        assert server.upload(body, tags="far")["id"] == first["id"], "it is the duplicate of who goes there now"
        second = server.upload(body)
        assert second["id"] != first["id"]
        moved = answered("move", "--to", "far", "--where", f"id={second['id']}", *options)
        assert (moved["objects"], moved["copied"]) == (1, 0), "its bytes were there"
        assert record(server, second["id"])["storage_key"] == record(server, first["id"])["storage_key"]
        for each in (first["id"], second["id"]):
            server.client.delete(f"/v1/media/{each}", headers=server.auth("root", "admin"))
        time.sleep(1.1)
        answered("gc", *options)
        assert files(server.data / "objects") + files(server.data / "far") == []

        sound, harmed, lost, here = (server.upload(text(3000, seed)) for seed in (b"1", b"2", b"3", b"4"))
        server.upload(text(3000, b"4"), tags="far")
        (twin,) = files(server.data / "far")
        twin.write_bytes(b"!" * 3000)
        for each in files(server.data / "objects"):
            if harmed["id"] in each.name:
                each.write_bytes(each.read_bytes()[:-1] + b"!")
            if lost["id"] in each.name:
                each.unlink()
        done = answered("move", "--to", "far", "--where", "storage=default", *options, code=1)
        assert done["objects"] == 1
        failed = {each["key"].split("/")[1][:26]: each["error"] for each in done["failed"]}
        assert failed.keys() == {harmed["id"], lost["id"], here["id"]}
        assert "same content" in failed[here["id"]], "a damaged twin is no reason to let go of a sound copy"
        assert [record(server, each["id"])["storage"] for each in (sound, harmed, lost, here)] == ["far", *["default"] * 3]
        assert server.client.get(f"/v1/media/{here['id']}", headers=server.auth()).content == text(3000, b"4")
        found = answered("scrub", *options, code=1)["findings"]
        assert {(each["storage"], each["what"]) for each in found} == {("default", "damaged"), ("default", "missing"), ("far", "damaged")}
        assert {media for each in found for media in each["media"]} >= {harmed["id"], lost["id"]}


def test_a_server_has_it_done_by_a_worker(tmp_path: Path) -> None:
    with serving(tmp_path / "data", arguments=()) as (server, _):
        admin = server.auth("root", "admin")
        media = [server.upload(text(3000, bytes([number])), tags="pii")["id"] for number in range(3)]
        wish = {"to": "far", "where": ["tag=pii"]}
        answer = server.client.post("/v1/admin/move", json=wish, headers=admin)
        assert (answer.status_code, answer.json()["kind"]) == (202, "move"), answer.text
        within(20, lambda: {record(server, each)["storage"] for each in media} == {"far"})
        late = server.upload(text(3000, b"late"), tags="pii")["id"]
        again = within(10, lambda: server.client.post("/v1/admin/move", json=wish, headers=admin)).json()
        assert again["id"] == answer.json()["id"]
        within(20, lambda: (server.client.post("/v1/admin/move", json=wish, headers=admin), record(server, late)["storage"] == "far")[1])
        for bad, status in (
            ({"to": "nowhere", "where": ["tag=a"]}, 404),
            ({"to": "far", "where": []}, 400),
            ({"to": "far", "where": ["colour=red"]}, 400),
            ({"to": "far", "where": ["tag=\x00"]}, 400),
        ):
            assert server.client.post("/v1/admin/move", json=bad, headers=admin).status_code == status, bad
        assert server.client.post("/v1/admin/move", json=wish, headers=server.auth()).status_code == 403


def test_derivatives_and_variants_go_with_a_tag(tmp_path: Path) -> None:
    with serving(tmp_path / "data", arguments=()) as (server, options):
        media = server.upload(png(700, 500), tags="pii")
        url = f"/v1/media/{media['id']}"
        within(30, lambda: server.client.get(f"{url}/descendants", headers=server.auth()).json()["items"])
        link = server.client.post(f"{url}/sign", json={"expires": 600, "variant": "w=50,format=webp"}, headers=server.auth()).json()["url"]
        webp = {**server.auth(), "Accept": "image/webp"}
        thumb, variant = server.client.get(f"{url}/thumb", headers=webp), server.client.get(link)
        assert (thumb.status_code, variant.status_code) == (200, 200)
        assert answered("move", "--to", "far", "--where", "variant=*", *options)["objects"] >= 2
        time.sleep(1.1)
        answered("gc", *options)
        assert len(files(server.data / "objects")) == 1
        assert server.client.get(f"{url}/thumb", headers=webp).content == thumb.content
        assert server.client.get(link).content == variant.content
        assert answered("move", "--to", "far", "--where", "tag=pii", *options)["objects"] == 1
        time.sleep(1.1)
        answered("gc", *options)
        assert files(server.data / "objects") == []
        assert server.client.get(f"{url}/thumb", headers=webp).content == thumb.content
        assert server.client.get(link).content == variant.content
        assert hashlib.sha256(server.client.get(url, headers=server.auth()).content).hexdigest() == media["digest"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--to", "far"], "give conditions with --where, or --all"),
        (["--to", "far", "--all", "--where", "tag=a"], "give conditions with --where, or --all"),
        (["--to", "far", "--where", "colour=red"], "is no condition"),
        (["--to", "nowhere", "--all"], "There is no storage 'nowhere'; there is default, far"),
        (["--to", "far", "--all", "--rate", "fast"], "is not a size"),
    ],
)
def test_what_is_refused(kept: list[object], arguments: list[str], sentence: str) -> None:
    done = CliRunner().invoke(main, ["move", *arguments, *map(str, kept)])
    assert done.exit_code in (1, 2)
    assert sentence in done.output


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    data = tmp_path_factory.mktemp("kept")
    (data / "m.toml").write_text(TOML)
    options: list[object] = ["--data", data, "--config", data / "m.toml"]
    assert run("migrate", *options).returncode == 0
    return options
