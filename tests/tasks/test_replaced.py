"""A plugin's `thumb@1` gives way to its `thumb@2`: what the old one made is known and made anew, just that, also when nobody remembers its tasks."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.services import distribution
from tests.services.command import answered
from tests.services.served import Served, served

PLUGIN = """
import os
from contextlib import asynccontextmanager
from msgspec import Struct
from mediacdn import Argument, Driver, Made, Plan, Recipe, Step, hookimpl

VERSION = {version}


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Cut:
    arguments = (Argument(name="size", type="integer", default=3), Argument(name="mark", default="v1"))
    accepts = ("text/*",)

    async def run(self, source, spec, sink):
        async with source.file() as file:
            os.write(sink.file(), os.pread(file, spec["size"], 0) + spec["mark"].encode())
        return Made(media_type="text/plain")


@asynccontextmanager
async def cut(config, kit):
    yield Cut()


@hookimpl
def mediacdn_drivers():
    return [Driver("action", "cut", Settings, cut)]


@hookimpl
def mediacdn_plan_jobs(media):
    return [Plan(recipe="thumb")]


@hookimpl
def mediacdn_recipes():
    size = Argument(name="size", type="integer", default=3)
    def recipe(code, version):
        step = Step(name="cut", action="cut", spec={{"size": "${{size}}", "mark": f"v{{version}}"}}, relationship=code)
        return Recipe(code=code, version=version, arguments=(size,), steps=(step,))
    return [recipe("thumb", VERSION), recipe("other", 1)]
"""
TOML = 'plugins = ["local", "jwt", "scissor"]\n'


def install(folder: Path, version: int) -> dict[str, str]:
    for old in folder.glob("scissor-*"):
        old.rename(folder / f"gone-{old.name}")
    found = distribution.install(folder, "scissor", PLUGIN.format(version=version), version)
    return {**found, "PYTHONDONTWRITEBYTECODE": "1"}


def made(server: Served, source: str, relationship: str, count: int) -> list[dict[str, Any]]:
    """What was made of a media, once there are so many."""
    path, deadline = f"/v1/media/{source}/derivatives", time.monotonic() + 20
    while True:
        items: list[dict[str, Any]] = server.client.get(path, params={"relationship": relationship}, headers=server.auth()).json()["items"]
        if len(items) == count or time.monotonic() > deadline:
            assert len(items) == count
            return items
        time.sleep(0.05)


def body(server: Served, media: dict[str, Any]) -> bytes:
    return server.client.get(f"/v1/media/{media['id']}", headers=server.auth()).content


def test_what_was_made_before_is_made_anew(tmp_path: Path) -> None:
    environ = install(tmp_path / "plugin", 1)
    with served(tmp_path / "data", TOML, environ=environ, arguments=()) as server:
        plain, told = (server.upload(each)["id"] for each in (b"one of the texts", b"two of the texts"))
        [thumb] = made(server, plain, "thumb", 1)
        [spared] = made(server, told, "thumb", 1)
        for code, size in (("thumb", 5), ("other", 4)):
            server.client.post(f"/v1/media/{plain}/tasks/{code}", json={"args": {"size": size}}, headers=server.auth()).raise_for_status()
        [large, *_] = (each for each in made(server, plain, "thumb", 2) if each["id"] != thumb["id"])
        made(server, plain, "other", 1)
        server.client.delete(f"/v1/media/{told}", headers=server.auth("root", "admin")).raise_for_status()
    with closing(sqlite3.connect(tmp_path / "data" / "catalog.sqlite3")) as catalog:
        catalog.execute("delete from jobs")  # as they are by their age
        catalog.commit()

    environ = install(tmp_path / "plugin", 2)

    def stale(*words: str) -> dict[str, Any]:
        near = ["--data", tmp_path / "data", "--config", tmp_path / "data" / "mediacdn.toml"]
        found: dict[str, Any] = answered("recipes", "stale", *words, *near, environ=environ)
        return found

    expected = [
        {"id": each["id"], "source": plain, "recipe": "thumb@1", "newest": "thumb@2", "arguments": {"size": size}}
        for each, size in ((thumb, 3), (large, 5))
    ]
    assert stale()["items"] == expected
    assert len(stale("--rebuild")["asked"]) == 2
    assert stale("--rebuild")["asked"] == [], "they are asked for once"
    with served(tmp_path / "data", TOML, environ=environ, arguments=()) as server:
        bodies = sorted(body(server, each) for each in made(server, plain, "thumb", 4))
        assert bodies == [b"one ov1", b"one ov2", b"onev1", b"onev2"]
        made(server, plain, "other", 1)
        assert server.client.get(f"/v1/media/{spared['id']}", headers=server.auth()).status_code == 404
        assert stale()["items"] == [], "what has been made anew is not stale any more"
