"""Recipes and tasks over a served app: asking, asking again, who may, and what a wish is refused for."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from mediacdn.model import JobState, StepRun
from tests.services import workshop
from tests.services.samples import png
from tests.services.served import Served, served
from tests.services.workshop import Bench

UNKNOWN = "01JZZZZZZZZZZZZZZZZZZZZZZZ"


def ask(
    server: Served, media: dict[str, Any], code: str = "small", who: tuple[str, str] = ("alice", "write"), **wish: Any
) -> httpx.Response:
    return server.client.post(f"/v1/media/{media['id']}/tasks/{code}", json=wish, headers=server.auth(*who))


def read(server: Served, task: dict[str, Any]) -> dict[str, Any]:
    answer = server.client.get(f"/v1/media/tasks/{task['id']}", headers=server.auth())
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_recipes_are_told_of(server: Served) -> None:
    listed = server.client.get("/v1/recipes", headers=server.auth(scope="read")).json()["items"]
    assert [(each["code"], each["version"]) for each in listed] == [("small", 1), ("small", 2), ("toned", 1)]
    newest = server.client.get("/v1/recipes/small", headers=server.auth(scope="read")).json()
    assert newest == listed[1]
    assert server.client.get("/v1/recipes/small@1", headers=server.auth(scope="read")).json() == listed[0]
    assert listed[2]["args_schema"]["properties"] == {"tone": {"type": "string", "enum": ["warm", "cold"]}}
    missing = server.client.get("/v1/recipes/smal", headers=server.auth())
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    for path in ("/v1/recipes", "/v1/recipes/small"):
        assert server.client.get(path).status_code == 401


def test_a_task_as_it_is_asked_for(server: Served, media: dict[str, Any]) -> None:
    asked = ask(server, media, "toned", args={"tone": "warm"})
    task = asked.json()
    assert asked.status_code == 202
    assert asked.headers["location"] == f"/v1/media/tasks/{task['id']}"
    assert datetime.fromisoformat(task.pop("created_at"))
    assert task == {
        "id": task["id"],
        "media_id": media["id"],
        "code": "toned@1",
        "args": {"tone": "warm"},
        "status": "Pending",
        "progress": 0.0,
        "attempts": 0,
        "started_at": None,
        "ended_at": None,
        "steps": [],
    }
    again = ask(server, media, "toned@1", args={"tone": "warm"}, track=False)
    assert (again.status_code, again.json()["id"]) == (200, task["id"])
    other = ask(server, media, "toned", args={"tone": "cold"})
    assert (other.status_code, other.json()["id"] != task["id"]) == (202, True)
    assert ask(server, media, "small", track=False).status_code == 202
    listed = server.client.get(f"/v1/media/{media['id']}/tasks", headers=server.auth()).json()
    assert [each["code"] for each in listed["items"]] == ["toned@1", "toned@1"], "what is not tracked is not listed"


def test_without_a_body_there_are_no_arguments(server: Served, media: dict[str, Any]) -> None:
    asked = server.client.post(f"/v1/media/{media['id']}/tasks/small", headers=server.auth())
    assert (asked.status_code, asked.json()["args"]) == (202, {})
    assert ask(server, media, "small@2").json()["id"] == asked.json()["id"]
    assert ask(server, media, "small@1").json()["id"] != asked.json()["id"]


@pytest.mark.parametrize(
    ("code", "body", "status", "named", "argument"),
    [
        ("none", {}, 404, "not_found", None),
        ("small@9", {}, 404, "not_found", None),
        ("toned", {"args": {"tone": "hot"}}, 422, "invalid_argument", "tone"),
        ("toned", {"args": {"ton": "warm"}}, 422, "invalid_argument", "ton"),
        ("toned", {"args": {"tone": None}}, 422, "invalid_argument", "tone"),
        ("toned", {"args": {"tone": {"a": [1]}}}, 422, "invalid_argument", "tone"),
        ("toned", {"args": ["tone"]}, 400, "invalid_parameter", None),
        ("toned", {"arguments": {}}, 400, "invalid_parameter", None),
        ("toned", {"track": "perhaps"}, 400, "invalid_parameter", None),
        ("toned", [1], 400, "invalid_parameter", None),
    ],
)
def test_a_wish_that_is_refused(
    server: Served, media: dict[str, Any], code: str, body: Any, status: int, named: str, argument: str | None
) -> None:
    refused = server.client.post(f"/v1/media/{media['id']}/tasks/{code}", json=body, headers=server.auth())
    assert (refused.status_code, refused.json()["code"], refused.json().get("argument")) == (status, named, argument)
    assert server.client.get(f"/v1/media/{media['id']}/tasks", headers=server.auth()).json() == {"items": [], "next": None}


def test_media_that_a_recipe_does_not_take(server: Served, picture: bytes) -> None:
    text = server.upload(b"plain words " + picture.hex().encode())
    refused = ask(server, text)
    assert (refused.status_code, refused.json()["code"]) == (422, "unprocessable")
    assert refused.json()["accepts"] == ["image/*"]
    assert "image/*" in refused.json()["detail"]


def test_media_that_are_withheld_are_worked_on_for_nobody(server: Served, media: dict[str, Any]) -> None:
    admin = ("root", "admin")
    assert server.client.post(f"/v1/media/{media['id']}/quarantine", headers=server.auth(*admin)).status_code == 200
    assert ask(server, media).status_code == 451
    assert (ask(server, media, who=admin).status_code, ask(server, media, who=admin).json()["code"]) == (409, "conflict")


def test_there_is_an_end_to_the_tasks_of_one_caller(plugin: dict[str, str], tmp_path: Path) -> None:
    toml = workshop.TOML + "[limits]\nuploads_per_second = 0\ntasks_per_caller = 2\n"
    with served(tmp_path / "data", toml, environ=plugin) as own:
        first, second, third = (own.upload(png(8, 8, bytes([number]))) for number in range(3))
        assert [ask(own, each).status_code for each in (first, second)] == [202, 202]
        refused = ask(own, third)
        assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (429, "too_many_tasks", "60")
        assert own.client.get(f"/v1/media/{third['id']}/tasks", headers=own.auth()).json()["items"] == []
        again = ask(own, first)
        assert again.status_code == 200, "what waits already is told of"
        assert ask(own, third, who=("root", "admin")).status_code == 202, "an admin's are not counted"
        own.client.delete(f"/v1/media/tasks/{again.json()['id']}", headers=own.auth()).raise_for_status()
        assert ask(own, third, code="toned", args={"tone": "warm"}).status_code == 202


def test_the_timeline(server: Served, bench: Bench, task: dict[str, Any]) -> None:
    job = bench.lease(task["id"])
    running = StepRun(name="scale", action="bench", state=JobState.PROCESSING, started_at=job.started_at, input="ab" * 32)
    bench.note(job, 0.25, running)
    seen = read(server, task)
    assert (seen["status"], seen["progress"], seen["attempts"], "error" in seen) == ("Processing", 0.25, 1, False)
    [step] = seen["steps"]
    assert step == {
        "name": "scale",
        "action": "bench",
        "status": "Processing",
        "started_at": seen["started_at"],
        "ended_at": None,
        "input": "ab" * 32,
        "output": None,
        "tools": {},
    }
    bench.fail(job)
    seen = read(server, task)
    assert (seen["status"], seen["error"]) == ("Failed", {"code": "undecodable", "message": "It is broken"})
    assert seen["ended_at"] is not None


def test_a_failed_task_starts_again_when_asked_for(server: Served, bench: Bench, media: dict[str, Any], task: dict[str, Any]) -> None:
    bench.fail(bench.lease(task["id"]))
    again = ask(server, media)
    assert (again.status_code, again.json()["id"], again.json()["status"]) == (202, task["id"], "Pending")
    assert "error" not in again.json()


@pytest.mark.parametrize(("fate", "status"), [("kept", 200), ("quarantined", 200), ("deleted", 202)])
def test_a_completed_task_starts_again_when_its_output_is_gone(
    server: Served, bench: Bench, media: dict[str, Any], task: dict[str, Any], picture: bytes, fate: str, status: int
) -> None:
    output = server.upload(png(4, 4, picture))
    bench.complete(bench.lease(task["id"]), output["id"])
    if fate == "deleted":
        assert server.client.delete(f"/v1/media/{output['id']}", headers=server.auth("root", "admin")).status_code == 204
    if fate == "quarantined":
        assert server.client.post(f"/v1/media/{output['id']}/quarantine", headers=server.auth("root", "admin")).status_code == 200
    again = ask(server, media)
    assert (again.status_code, again.json()["id"]) == (status, task["id"])
    assert again.json()["status"] == ("Pending" if fate == "deleted" else "Completed")


def test_cancelling(server: Served, bench: Bench, media: dict[str, Any], task: dict[str, Any]) -> None:
    path = f"/v1/media/tasks/{task['id']}"
    for _ in range(2):
        cancelled = server.client.delete(path, headers=server.auth())
        assert (cancelled.status_code, cancelled.json()["status"]) == (200, "Cancelled")
    assert ask(server, media).status_code == 202
    bench.complete(bench.lease(task["id"]))
    late = server.client.delete(path, headers=server.auth())
    assert (late.status_code, late.json()["code"]) == (409, "conflict")


def test_pages_of_tasks(server: Served, media: dict[str, Any]) -> None:
    made = [ask(server, media, code).json()["id"] for code in ("small@1", "small@2", "toned")]
    path, found, cursor = f"/v1/media/{media['id']}/tasks", [], ""
    while True:
        page = server.client.get(path, params={"limit": 1, **({"cursor": cursor} if cursor else {})}, headers=server.auth()).json()
        found += [each["id"] for each in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert found == made[::-1]
    assert server.client.get(path, params={"cursor": "x"}, headers=server.auth()).status_code == 400


@pytest.mark.parametrize("id", [UNKNOWN, "x", UNKNOWN.lower(), "record"])
def test_tasks_that_are_not_there(server: Served, id: str) -> None:
    for path in (f"/v1/media/tasks/{id}", f"/v1/media/tasks/{id}/events"):
        assert server.client.get(path, headers=server.auth()).status_code == 404
        assert server.client.get(path).status_code == 401
    assert server.client.delete(f"/v1/media/tasks/{id}", headers=server.auth()).status_code == 404


# Who may. Under "any" every token reads private media; under "owner" others do not know that they exist.

PEOPLE = {
    "nobody": None,
    "owner": ("alice", "write"),
    "owner who only reads": ("alice", "read"),
    "another": ("bob", "write"),
    "admin": ("root", "admin"),
}
MATRIX = [
    # who, reading under any, reading under owner, acting under any, acting under owner
    ("nobody", 401, 401, 401, 401),
    ("owner", 200, 200, 200, 200),
    ("owner who only reads", 200, 200, 403, 403),
    ("another", 200, 404, 403, 404),
    ("admin", 200, 200, 200, 200),
]


@pytest.fixture(scope="module")
def discreet(plugin: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server on which private media are their owners' alone."""
    with served(
        tmp_path_factory.mktemp("discreet") / "data", workshop.TOML + '[auth]\nprivate_read = "owner"\n', environ=plugin
    ) as running:
        yield running


@pytest.mark.parametrize(("who", "reads_any", "reads_owner", "acts_any", "acts_owner"), MATRIX)
def test_who_may(
    server: Served,
    discreet: Served,
    tmp_path: Path,
    who: str,
    reads_any: int,
    reads_owner: int,
    acts_any: int,
    acts_owner: int,
) -> None:
    for running, reads, acts in ((server, reads_any, acts_any), (discreet, reads_owner, acts_owner)):
        media = running.upload(png(8, 8, f"{who}{tmp_path}".encode()))
        task = ask(running, media).json()
        person = PEOPLE[who]
        headers = running.auth(*person) if person else {}
        at = f"/v1/media/{media['id']}"
        for path in (
            f"{at}/tasks",
            f"{at}/ancestors",
            f"{at}/descendants",
            f"{at}/derivatives",
            f"/v1/media/tasks/{task['id']}",
        ):
            assert running.client.get(path, headers=headers).status_code == reads, path
        with running.client.stream("GET", f"/v1/media/tasks/{task['id']}/events", headers=headers) as answer:
            assert answer.status_code == reads
        assert running.client.post(f"{at}/tasks/small", headers=headers).status_code == acts
        assert running.client.delete(f"/v1/media/tasks/{task['id']}", headers=headers).status_code == acts
        for method, path in (("GET", ""), ("POST", f"/{task['id']}/retry"), ("DELETE", f"/{task['id']}")):
            expected = 401 if person is None else 200 if who == "admin" else 403
            assert running.client.request(method, f"/v1/admin/jobs{path}", headers=headers).status_code == expected, path


def test_administration(server: Served, bench: Bench, task: dict[str, Any]) -> None:
    admin = server.auth("root", "admin")

    def listed(**filters: str) -> list[str]:
        return [each["id"] for each in server.client.get("/v1/admin/jobs", params=filters, headers=admin).json()["items"]]

    assert task["id"] in listed(state="Pending", lane="images")
    assert task["id"] not in listed(state="Failed")
    assert task["id"] not in listed(lane="video")
    assert len(listed(limit="1")) == 1
    path = f"/v1/admin/jobs/{task['id']}"
    assert server.client.post(f"{path}/retry", headers=admin).status_code == 409
    bench.fail(bench.lease(task["id"]))
    retried = server.client.post(f"{path}/retry", headers=admin)
    assert (retried.status_code, retried.json()["status"], retried.json()["attempts"]) == (200, "Pending", 0)
    assert (retried.json()["kind"], retried.json()["lane"], retried.json()["created_by"]) == ("recipe", "images", "alice")
    assert server.client.delete(path, headers=admin).json()["status"] == "Cancelled"
    for each in (UNKNOWN, "x"):
        assert server.client.delete(f"/v1/admin/jobs/{each}", headers=admin).status_code == 404
        assert server.client.post(f"/v1/admin/jobs/{each}/retry", headers=admin).status_code == 404
    refused = server.client.get("/v1/admin/jobs", params={"state": "Done"}, headers=admin)
    assert (refused.status_code, refused.json()["detail"]) == (
        400,
        "state must be one of Pending, Processing, Completed, Failed, Cancelled",
    )
    explained = server.client.get(f"/v1/media/{task['media_id']}/explain", headers=admin).json()
    assert explained["jobs"] == [f"{task['id']} small@2 Cancelled"]


def test_ancestry_over_http(server: Served, bench: Bench, media: dict[str, Any], picture: bytes) -> None:
    child = server.upload(png(4, 4, picture))
    bench.link(child["id"], media["id"])

    def kin(id: str, which: str, **filters: str) -> list[Any]:
        answer = server.client.get(f"/v1/media/{id}/{which}", params=filters, headers=server.auth())
        assert answer.status_code == 200, answer.text
        found: list[Any] = answer.json()["items"]
        return found

    [record] = kin(child["id"], "ancestors")
    assert record == server.client.get(f"/v1/media/{media['id']}/record", headers=server.auth()).json()
    assert [each["id"] for each in kin(media["id"], "descendants")] == [child["id"]]
    assert [each["id"] for each in kin(media["id"], "derivatives", relationship="small")] == [child["id"]]
    assert kin(media["id"], "derivatives", relationship="other") == []
    refused = server.client.get(f"/v1/media/{media['id']}/ancestors", params={"cursor": "x"}, headers=server.auth())
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_parameter")
    page = server.client.get(f"/v1/media/{media['id']}/derivatives", headers={**server.auth(), "Origin": "https://elsewhere.example"})
    assert "access-control-allow-origin" not in page.headers, "records are no media"
