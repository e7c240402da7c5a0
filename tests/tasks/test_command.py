"""`mediacdn recipes` and `mediacdn jobs`, straight at a data directory."""

import json
import re
from typing import Any

import pytest

from tests.services import workshop
from tests.services.command import run
from tests.services.samples import png
from tests.services.served import Served
from tests.services.workshop import Bench


@pytest.fixture
def command(server: Served, plugin: dict[str, str]) -> Any:
    def ran(*words: str, code: int = 0) -> Any:
        done = run(*words, "--data", server.data, "--config", server.data / "mediacdn.toml", environ=plugin)
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout) if "--json" in words else done.stdout

    return ran


def test_recipes(command: Any) -> None:
    names = [f"{each['code']}@{each['version']}" for each in command("recipes", "--json")["items"]]
    assert names == ["small@1", "small@2", "toned@1"]
    assert command("recipes", "list").splitlines() == ["small@1  image/*", "small@2  image/*", "toned@1  image/*"]
    assert command("recipes", "show", "small", "--json")["version"] == 2
    assert command("recipes", "show", "toned") == "toned@1\n  takes image/*\n  tone: one of warm, cold\n  1. scale: bench -> toned\n"
    assert command("recipes", "actions") == "bench  image/*\n  w: a whole number from 1 to 8192\n  tone: one of warm, cold\n"
    assert [each["args"][0]["max"] for each in command("recipes", "actions", "--json")["items"]] == [8192]
    assert command("recipes", "show", "none", "--json", code=1)["error"]["code"] == "not_found"


def test_jobs(command: Any, bench: Bench, task: dict[str, Any]) -> None:
    listed = command("jobs", "--json", "--state", "pending", "--lane", "images")["items"]
    assert task["id"] in [each["id"] for each in listed]
    assert f"{task['id']}  Pending     images  small@2  {task['media_id']}" in command("jobs", "list").splitlines()
    bench.fail(bench.lease(task["id"]))
    shown = command("jobs", "show", task["id"])
    assert "Failed" in shown
    assert re.search(r"^  asked for 20\d\d-\d\d-\d\d \d\d:\d\d:\d\dZ, begun 20[\d :-]+Z, took \d+\.\d s$", shown, re.MULTILINE)
    assert "undecodable: It is broken" in shown
    assert command("jobs", "retry", task["id"], "--json")["state"] == "Pending"
    assert command("jobs", "retry", task["id"], "--json", code=1)["error"]["code"] == "conflict"
    assert command("jobs", "cancel", task["id"], "--json")["state"] == "Cancelled"
    assert command("jobs", "show", "none", "--json", code=1)["error"]["code"] == "not_found"


def test_what_is_stale_is_asked_for_anew(server: Served, command: Any, bench: Bench, media: dict[str, Any], picture: bytes) -> None:
    made = server.upload(png(4, 4, picture))
    bench.link(made["id"], media["id"], key="not the newest's")
    bench.credit(made["id"], media["id"], "small", 1)
    [found] = command("recipes", "stale", "--json")["items"]
    assert found == {"id": made["id"], "source": media["id"], "recipe": "small@1", "newest": "small@2", "arguments": {}}
    assert f"{made['id']}  small@1 -> small@2  of {media['id']}" in command("recipes", "stale")
    [asked] = command("recipes", "stale", "--rebuild", "--json")["asked"]
    newest = server.client.get(f"/v1/media/tasks/{asked}", headers=server.auth()).json()
    assert (newest["code"], newest["media_id"], newest["status"]) == ("small@2", media["id"], "Pending")
    assert command("recipes", "stale", "--rebuild", "--json")["asked"] == []


def test_a_table_of_no_action_is_refused(command: Any, server: Served, tmp_path: Any, plugin: dict[str, str]) -> None:
    config = tmp_path / "c.toml"
    config.write_text(workshop.TOML + "[recipes.bentch]\nstrength = 1\n")
    done = run("recipes", "--config", config, "--data", tmp_path, environ=plugin)
    assert done.returncode == 1
    assert "bench" in done.stderr
