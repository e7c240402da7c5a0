"""Uploads that are inspected: what is rejected leaves nothing, what is quarantined is never readable, and what fails is refused."""

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.services.command import run, within
from tests.services.inspectors import install
from tests.services.samples import png, text
from tests.services.served import Served, served

TOML = """
plugins = ["local", "jwt", "vips", "clerk"]

[limits]
uploads_per_second = 1000
uploads_burst = 10000

[inspection]
inspectors = ["words", "others"]
deadline = 0.5

[inspection.others]
marker = "?"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    environ = install(tmp_path_factory.mktemp("plugin"))
    with served(tmp_path_factory.mktemp("inspected"), TOML, environ=environ) as running:
        yield running


def said(word: str, seed: str, size: int = 100) -> bytes:
    return text(size, seed.encode()) + b" " + word.encode() + text(20, seed.encode())


def post(server: Served, body: bytes, how: str, **headers: str) -> httpx.Response:
    asked: dict[str, Any] = {"content": body} if how == "raw" else {"files": {"file": ("a.txt", body)}}
    if how == "chunked":
        asked = {"content": iter([body[:50], body[50:]])}
    return server.client.post("/v1/media", params={"public": "true"}, headers={**server.auth(), **headers}, **asked)


def kept(server: Served) -> tuple[set[str], list[Any]]:
    files = {str(each) for each in (server.data / "objects").rglob("*") if each.is_file()}
    with closing(sqlite3.connect(server.data / "catalog.sqlite3")) as catalog:
        return files, [catalog.execute(f"select count(*) from {table}").fetchone() for table in ("media", "objects", "jobs")]


@pytest.mark.parametrize("how", ["raw", "multipart", "chunked"])
@pytest.mark.parametrize("size", [100, 3_000_000])
@pytest.mark.parametrize(("word", "status", "code"), [("reject!", 422, "content_rejected"), ("reject?", 422, "content_rejected"),
                                                      ("crash!", 503, "inspection_unavailable"), ("hang?", 503, "inspection_unavailable")])  # fmt: skip
def test_what_is_refused_leaves_nothing(server: Served, how: str, size: int, word: str, status: int, code: str) -> None:
    before = kept(server)
    body = said(word, how + word, size)
    answer = post(server, body, how)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    if status == 422:
        assert answer.json()["detail"] == "reject text/plain of alice"
    else:
        assert answer.headers["retry-after"]
        assert "engine" not in answer.text
    within(10, lambda: kept(server) == before)  # it is taken back beside the answer, for which nobody waits
    assert post(server, body, how).status_code == status, "a second time as well"


@pytest.mark.parametrize("how", ["raw", "multipart", "chunked"])
@pytest.mark.parametrize("size", [100, 3_000_000])
def test_what_is_accepted_is_stored_as_ever(server: Served, how: str, size: int) -> None:
    body = said("fine", how, size)
    first = post(server, body, how)
    assert (first.status_code, first.json()["quarantined"]) == (201, False)
    assert server.client.get(f"/v1/media/{first.json()['id']}").content == body
    again = post(server, body, how)
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
    assert post(server, b"", how).status_code in (200, 201)


@pytest.mark.parametrize("how", ["raw", "multipart"])
def test_what_is_quarantined_is_stored_and_withheld_from_the_first_moment(server: Served, how: str) -> None:
    body = said("withhold!", how)
    answer = post(server, body, how)
    assert (answer.status_code, answer.json()["quarantined"]) == (201, True)
    media = f"/v1/media/{answer.json()['id']}"
    for path in (media, f"{media}/thumb", f"{media}/record"):
        assert server.client.get(path).status_code in (401, 404, 451), path
    assert server.client.get(media, headers=server.auth()).status_code == 451
    again = post(server, body, how)
    assert (again.status_code, again.json()["quarantined"]) == (201, True)
    assert again.json()["id"] != answer.json()["id"], "no duplicate of what is withheld"
    admin = server.auth("root", "admin")
    released = server.client.delete(f"{media}/quarantine", headers=admin)
    assert released.status_code == 200
    assert server.client.get(media).content == body
    assert server.client.get(f"/v1/media/{again.json()['id']}").status_code == 451, "each was withheld for itself"


def test_what_is_released_gets_the_thumbnail_that_it_would_have_had(server: Served) -> None:
    body = png(8, 8, b"withheld") + b"withhold!"
    media = post(server, body, "raw").json()
    assert media["quarantined"]
    tasks = f"/v1/media/{media['id']}/tasks"
    admin = server.auth("root", "admin")

    def planned() -> list[str]:
        return sorted(each["code"] for each in server.client.get(tasks, headers=admin).json()["items"])

    assert planned() == []
    for _ in range(2):  # once, however often it is withheld and released
        server.client.delete(f"/v1/media/{media['id']}/quarantine", headers=admin).raise_for_status()
        assert planned() == ["look@1", "thumb@1"]
        server.client.post(f"/v1/media/{media['id']}/quarantine", json={"reason": "x", "scope": "media"}, headers=admin).raise_for_status()


@pytest.mark.parametrize("how", ["raw", "multipart"])
def test_a_retry_is_answered_as_the_upload_that_was_withheld(server: Served, how: str) -> None:
    body = said("withhold!", "retried " + how)
    first, again = (post(server, body, how, **{"Idempotency-Key": "once " + how}) for _ in range(2))
    assert (first.status_code, first.json()["quarantined"]) == (201, True)
    assert (again.status_code, again.json(), again.headers["location"]) == (201, first.json(), first.headers["location"])
    admin = server.auth("root", "admin")
    path = f"/v1/media/{first.json()['id']}/quarantine"
    server.client.delete(path, headers=admin).raise_for_status()
    server.client.post(path, json={"reason": "x", "scope": "media"}, headers=admin).raise_for_status()
    assert post(server, body, how, **{"Idempotency-Key": "once " + how}).status_code == 451, "what happened since beats it"


def test_what_inspectors_say_is_counted(server: Served) -> None:
    def counted() -> dict[str, float]:
        lines = server.client.get("/metrics").text.splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line.startswith("mediacdn_inspections_total{")}

    before = counted()
    for word in ("fine", "reject!", "withhold!", "crash?"):
        post(server, said(word, "counted"), "raw")
    risen = {name: value - before.get(name, 0) for name, value in counted().items() if value != before.get(name, 0)}
    assert risen['mediacdn_inspections_total{inspector="words",outcome="reject"}'] == 1
    assert risen['mediacdn_inspections_total{inspector="words",outcome="quarantine"}'] == 1
    assert risen['mediacdn_inspections_total{inspector="others",outcome="failed"}'] == 1
    assert risen['mediacdn_inspections_total{inspector="words",outcome="accept"}'] >= 1


def test_readiness_and_doctor_know_who_inspects_and_acts(server: Served, tmp_path: Path) -> None:
    checks = server.client.get("/readyz").json()["checks"]
    assert (checks["inspector.words"], checks["action.translate"]) == ("ok", "ok")
    environ = install(tmp_path / "plugin")
    told = {}
    for name, toml in (("well", TOML), ("ill", TOML + '[inspection.words]\nmarker = "ill"\n')):
        (tmp_path / f"{name}.toml").write_text(toml)
        done = run("doctor", "--json", "--data", tmp_path / name, "--config", tmp_path / f"{name}.toml", environ=environ)
        told[name] = {each["part"]: each["state"] for each in json.loads(done.stdout)["findings"]}
    assert (told["well"]["inspector words"], told["well"]["inspector others"], told["well"]["actions"]) == ("ok", "ok", "ok")
    assert (told["ill"]["inspector words"], told["ill"]["inspector others"]) == ("fail", "ok")


def test_it_is_never_readable_in_between(server: Served) -> None:
    """Read by everybody who learns of an id the moment it is there."""
    ended, seen = threading.Event(), []

    def read() -> None:
        with (
            closing(sqlite3.connect(server.data / "catalog.sqlite3")) as catalog,
            httpx.Client(base_url=server.url, trust_env=False) as client,
        ):
            while not ended.is_set():
                for (found,) in catalog.execute("select id from media order by id desc limit 3").fetchall():
                    answer = client.get(f"/v1/media/{found}")
                    if answer.status_code == 200 and b"withhold!" in answer.content:
                        seen.append(found)

    reading = threading.Thread(target=read)
    with closing(sqlite3.connect(server.data / "catalog.sqlite3")) as catalog:
        released = [found for (found,) in catalog.execute("select id from media where state = 'live'")]
    reading.start()
    try:
        for number in range(30):
            assert post(server, said("withhold!", f"race {number}"), "raw").json()["quarantined"]
    finally:
        ended.set()
        reading.join()
    assert set(seen) <= set(released)


def test_a_verdict_on_an_upload_is_no_verdict_on_who_has_the_bytes_already(tmp_path: Path) -> None:
    environ = install(tmp_path / "plugin")
    plain = (
        TOML.replace('inspectors = ["words", "others"]', "inspectors = []").replace("[inspection.others]", "#").replace('marker = "?"', "")
    )
    body = said("withhold!", "twin")
    with served(tmp_path / "data", plain, environ=environ) as server:
        first = post(server, body, "raw").json()
        assert not first["quarantined"]
    with served(tmp_path / "data", TOML, environ=environ) as server:
        second = post(server, body, "raw")
        assert (second.status_code, second.json()["quarantined"]) == (201, True)
        assert second.json()["id"] != first["id"]
        assert server.client.get(f"/v1/media/{first['id']}").content == body
        assert server.client.get(f"/v1/media/{second.json()['id']}").status_code == 451
        server.client.delete(f"/v1/media/{second.json()['id']}", headers=server.auth("root", "admin"))
        assert server.client.get(f"/v1/media/{first['id']}").content == body, "the bytes they share stay"


@pytest.mark.parametrize(("on_failure", "quarantined"), [("accept", False), ("quarantine", True)])
def test_a_failure_may_let_the_upload_in(tmp_path: Path, on_failure: str, quarantined: bool) -> None:
    toml = TOML.replace("deadline = 0.5", f'deadline = 0.5\non_failure = "{on_failure}"')
    with served(tmp_path / "data", toml, environ=install(tmp_path / "plugin")) as server:
        answer = post(server, said("crash!", "open"), "raw")
        assert (answer.status_code, answer.json()["quarantined"]) == (201, quarantined)
        assert post(server, said("reject?", "open"), "raw").status_code == 422
    assert any("an inspector failed" in line and "the engine is gone" in line for line in server.log), server.log


@pytest.mark.parametrize(
    ("toml", "told"),
    [
        ('inspectors = ["wordz"]', "did you mean 'words'?"),
        ('inspectors = ["words", "words"]', "inspection.inspectors"),
        ('[inspection.words]\nmarker = "?"', "configures a driver that inspection.inspectors does not name"),
        ('inspectors = ["words"]\n[inspection.words]\nmark = "?"', "did you mean"),
        ('on_failure = "open"', "inspection.on_failure"),
    ],
)
def test_what_cannot_be_asked_refuses_the_start(tmp_path: Path, toml: str, told: str) -> None:
    (tmp_path / "wrong.toml").write_text(f'plugins = ["local", "jwt", "clerk"]\n[inspection]\n{toml}\n')
    near = ["--data", tmp_path / "data", "--config", tmp_path / "wrong.toml"]
    done = run("serve", "--port", "0", *near, environ=install(tmp_path / "plugin"))
    assert done.returncode
    assert told in done.stderr
