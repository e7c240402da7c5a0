"""A plugin from elsewhere works beside the built wheel: this builds both distributions, installs them where the repository is out of sight, and uses them.

The new environment sees the dependencies of this one through a .pth file and needs no network.
"""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import sysconfig
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).parent.parent
EXAMPLE = Path(__file__).parent / "external_plugin"
SECRET = "correct horse battery staple"
CONFIG = """
plugins = ["local", "jwt", "example", "excerpt"]

[server]
log_format = "json"

[storage.default]
driver = "sqlite"

[auth]
authenticators = ["api-keys", "jwt"]

[auth.api-keys.keys.scanner]
secret = {file = "scanner-key"}

[auth.api-keys.keys.reader]
secret = "another horse battery staple"
scopes = ["media:read"]
"""


def environment(**more: str) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MEDIACDN_", "UV_", "PYTHON", "PYTEST_", "VIRTUAL_ENV", "COV_"))
    }
    return {**kept, **more}


def run(*command: str | Path, cwd: Path, **more: str) -> str:
    done = subprocess.run(command, cwd=cwd, env=environment(**more), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def uv() -> Path:
    found = shutil.which("uv", path=f"{ROOT / '.uv' / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        pytest.fail("uv is missing; `make test` puts it into .uv, as does: python3 -m pip install --target .uv uv")
    return Path(found)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both wheels by distribution, built without isolation by the hatchling of this environment."""
    out = tmp_path_factory.mktemp("wheels")
    copy = tmp_path_factory.mktemp("source") / "mediacdn-example"
    shutil.copytree(EXAMPLE, copy, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for source in (ROOT, copy):
        run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", out, cwd=source)
    return {wheel.name.split("-")[0].replace("_", "-"): wheel for wheel in out.glob("*.whl")}


@pytest.fixture(scope="module")
def site(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the two wheels, and with this environment's packages behind them."""
    folder = tmp_path_factory.mktemp("site") / "venv"
    run(uv(), "venv", "-q", "--offline", "--no-project", "--python", sys.executable, folder, cwd=folder.parent)
    run(uv(), "pip", "install", "-q", "--offline", "--no-deps", "--python", folder / "bin" / "python", *wheels.values(), cwd=folder.parent)
    [packages] = folder.glob("lib/python*/site-packages")
    # A plain line is a folder whose own .pth files are not read: the editable install of the repository stays out of sight.
    (packages / "behind.pth").write_text("\n".join({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}) + "\n")
    return folder


def test_the_wheel_holds_the_packages_and_nothing_else(wheels: dict[str, Path]) -> None:
    names = zipfile.ZipFile(wheels["mediacdn"]).namelist()
    tops = {name.split("/")[0] for name in names}
    folders = {folder.name for folder in (ROOT / "plugins").glob("mediacdn_*")}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"mediacdn", *folders}
    assert {"mediacdn/py.typed", "mediacdn/testing/storage.py", *(f"{folder}/py.typed" for folder in folders)} <= {*names}
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".md"))]


def test_everything_is_imported_from_the_wheels(site: Path, tmp_path: Path) -> None:
    script = "import json, mediacdn, mediacdn_local, mediacdn_jwt, mediacdn_example as e, mediacdn_excerpt as x; print(json.dumps([m.__file__ for m in (mediacdn, mediacdn_local, mediacdn_jwt, e, x)]))"
    files = json.loads(run(site / "bin" / "python", "-c", script, cwd=tmp_path))
    assert [file for file in files if not Path(file).is_relative_to(site)] == []


@pytest.mark.timeout(400)
def test_its_own_tests_pass_beside_the_wheel(site: Path, tmp_path: Path) -> None:
    shutil.copy(EXAMPLE / "pyproject.toml", tmp_path)
    shutil.copytree(EXAMPLE / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    told = run(site / "bin" / "python", "-m", "pytest", "-v", "-p", "no:cacheprovider", "--basetemp", tmp_path / "scratch", cwd=tmp_path)
    assert "TestSqlite::test_reads_back_what_was_put[0] PASSED" in told
    assert " passed" in told.splitlines()[-1]


@pytest.fixture(scope="module")
def served(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A server with the example's storage, authenticator and route: its address and its data directory."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "mediacdn.toml").write_text(CONFIG)
    (folder / "scanner-key").write_text(SECRET + "\n")
    (folder / "scanner-key").chmod(0o600)
    command = [site / "bin" / "mediacdn", "serve", "--config", "mediacdn.toml", "--port", "0", "--data", "data", "--json"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first, (folder / "log").read_text()
        yield json.loads(first)["url"], folder / "data"
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 0, (folder / "log").read_text()
    assert SECRET not in (folder / "log").read_text()


@pytest.fixture(scope="module")
def http(served: tuple[str, Path]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served[0], timeout=20) as client:
        yield client


@pytest.fixture(scope="module")
def media(http: httpx.Client) -> dict[str, Any]:
    answer = http.post("/v1/media?title=Shelf", content=b"GIF89a" + bytes(300_000), headers={"X-Api-Key": SECRET})
    assert answer.status_code == 201, answer.text
    record: dict[str, Any] = answer.json()
    return record


def test_an_upload_lands_in_the_plugins_storage(http: httpx.Client, media: dict[str, Any], served: tuple[str, Path]) -> None:
    assert media["owner"] == "scanner"
    answer = http.get(f"/v1/media/{media['id']}", headers={"X-Api-Key": SECRET, "Range": "bytes=0-5"})
    assert (answer.status_code, answer.content) == (206, b"GIF89a")
    whole = http.get(f"/v1/media/{media['id']}", headers={"X-Api-Key": SECRET}).content
    assert whole == b"GIF89a" + bytes(300_000)
    db = sqlite3.connect(served[1] / "example" / "objects.sqlite")
    assert db.execute("SELECT size FROM objects WHERE key = ?", (media["storage_key"],)).fetchall() == [(300_006,)]
    db.close()


def test_the_plugins_route_knows_the_caller_and_its_rights(http: httpx.Client, media: dict[str, Any]) -> None:
    greeted = http.get(f"/example/hello/{media['id']}", headers={"X-Api-Key": SECRET})
    assert greeted.json() == {"hello": "scanner", "id": media["id"], "title": "Shelf", "size": 300_006}
    assert http.get(f"/example/hello/{media['id']}").status_code == 401
    assert http.get(f"/example/hello/{'0' * 26}", headers={"X-Api-Key": SECRET}).status_code == 404


def test_the_plugins_authenticator_decides(http: httpx.Client, media: dict[str, Any]) -> None:
    path = f"/v1/media/{media['id']}"
    refused = http.get(path, headers={"X-Api-Key": SECRET + "x"})
    assert (refused.status_code, refused.json()["code"]) == (401, "invalid_token")
    assert "WWW-Authenticate" in refused.headers
    assert http.get(path).status_code == 401
    assert http.get(path, headers={"X-Api-Key": "another horse battery staple"}).status_code == 200
    write = http.post("/v1/media", content=b"GIF89a", headers={"X-Api-Key": "another horse battery staple"})
    assert (write.status_code, write.json()["code"]) == (403, "insufficient_scope")


def test_a_recipe_of_thirty_lines_is_told_of_run_and_served(http: httpx.Client) -> None:
    who = {"X-Api-Key": SECRET}
    [listed] = [each for each in http.get("/v1/recipes", headers=who).json()["items"] if each["code"] == "excerpt"]
    assert listed == http.get("/v1/recipes/excerpt", headers=who).json()
    assert {name: listed[name] for name in ("version", "title", "args", "steps", "requires")} == {
        "version": 1,
        "title": "Excerpt",
        "args": [
            {"name": "words", "type": "integer", "required": False, "default": 10, "min": 1, "max": 1000, "summary": "How many to keep"}
        ],
        "steps": [{"name": "cut", "action": "excerpt", "spec_template": {"words": "${words}"}, "relationship": "excerpt"}],
        "requires": ["text/plain"],
    }
    text = http.post("/v1/media", content=b"one two  three\nfour five", headers=who).json()["id"]
    refused = http.post(f"/v1/media/{text}/tasks/excerpt", json={"args": {"words": 0}}, headers=who)
    assert (refused.status_code, refused.json()["code"], refused.json()["argument"]) == (422, "invalid_argument", "words")
    asked = http.post(f"/v1/media/{text}/tasks/excerpt", json={"args": {"words": 3}}, headers=who)
    assert asked.status_code == 202
    task, deadline = asked.json(), time.monotonic() + 20
    while task["status"] not in ("Completed", "Failed"):
        assert time.monotonic() < deadline, task
        time.sleep(0.05)
        task = http.get(f"/v1/media/tasks/{task['id']}", headers=who).json()
    assert (task["status"], [step["status"] for step in task["steps"]]) == ("Completed", ["Completed"])
    assert http.post(f"/v1/media/{text}/tasks/excerpt", json={"args": {"words": 3}}, headers=who).json()["id"] == task["id"]
    [made] = http.get(f"/v1/media/{text}/derivatives", params={"relationship": "excerpt"}, headers=who).json()["items"]
    assert (made["id"], made["source_id"]) == (task["steps"][0]["output"], text)
    served = http.get(f"/v1/media/{made['id']}", headers=who)
    assert (served.content, served.headers["content-type"].partition(";")[0]) == (b"one two three", "text/plain")


def test_it_has_thirty_lines_and_the_guide_shows_them() -> None:
    code = (EXAMPLE / "mediacdn_excerpt.py").read_text()
    assert len([line for line in code.splitlines() if line.strip()]) <= 30
    assert f"```python\n{code}```" in (ROOT / "plugins" / "README.md").read_text()


def test_the_command_line_shows_the_plugin_and_hides_its_secrets(site: Path, tmp_path: Path) -> None:
    (tmp_path / "mediacdn.toml").write_text(CONFIG)
    (tmp_path / "scanner-key").write_text(SECRET)
    (tmp_path / "scanner-key").chmod(0o600)
    plugins = run(site / "bin" / "mediacdn", "plugins", "--config", "mediacdn.toml", "--json", cwd=tmp_path)
    assert "mediacdn-example" in plugins
    assert "sqlite" in plugins
    assert "api-keys" in plugins
    config = run(site / "bin" / "mediacdn", "config", "--config", "mediacdn.toml", "--json", cwd=tmp_path)
    assert "horse" not in config
    assert "api-keys" in config


def test_a_wrong_key_of_the_plugins_table_refuses_the_start(site: Path, tmp_path: Path) -> None:
    (tmp_path / "mediacdn.toml").write_text('plugins = ["local", "jwt", "example"]\n[storage.default]\ndriver = "sqlite"\npth = "x"\n')
    command = [site / "bin" / "mediacdn", "serve", "--config", "mediacdn.toml", "--port", "0", "--data", "data", "--no-worker"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    assert "storage.default.pth" in done.stderr
    assert "did you mean storage.default.path?" in done.stderr
