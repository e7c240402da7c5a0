"""Schemathesis over the served OpenAPI document: whatever is sent, the server answers as the document says, and never with a 5xx."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.services import bucket, workshop
from tests.services.samples import png
from tests.services.served import Served, served
from tests.services.streams import publish

CONFIG = """
[generation]
database = "none"

[checks]
enabled = false
not_a_server_error.enabled = true
status_code_conformance.enabled = true
content_type_conformance.enabled = true
response_headers_conformance.enabled = true
response_schema_conformance.enabled = true
negative_data_rejection.enabled = true
positive_data_acceptance.enabled = true
positive_data_acceptance.expected-statuses = ["2xx", "3xx", 401, 403, 404, 409, 412, 416]
unsupported_method.enabled = true
allow_header_conformance.enabled = true
ignored_auth.enabled = true

[parameters]
"path.media_id" = "{media}"
"path.variant" = "thumb"
"path.path" = "master.m3u8"
"path.code" = "small"
"path.language" = "en"
"path.task_id" = "{task}"
"path.job_id" = "{job}"

[[operations]]
include-method = "DELETE"
include-path = "/v1/media/{{media_id}}"
parameters = {{ "path.media_id" = "{doomed}" }}

[[operations]]
include-path-regex = "^/v1/media/[{{]media_id[}}]/(thumb|v/.*|(hls|dash)/.*|storyboard.*|poster|mp4|opus|preview|waveform.*|subtitles/.*)$"
parameters = {{ "path.media_id" = "{linked}" }}

[[operations]]
include-path-regex = "^/s/"
parameters = {{ "path.media_id" = "{linked}", "path.token" = "{token}" }}

# An upload that another operation has given up is 410.
[[operations]]
include-path-regex = "^/v1/uploads/"
parameters = {{ "path.token" = "{upload}" }}
checks.positive_data_acceptance.enabled = false

# What no schema can say: `expires_in` excludes `expires_at`, which lies in the future; there is no variant that this server makes.
[[operations]]
include-method-regex = "POST|PATCH|PUT"
checks.positive_data_acceptance.enabled = false
# Bodies are read leniently: 0 for false, "7" for 7, and an empty form field for none.
checks.negative_data_rejection.enabled = false
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server of its own: much is written, quarantined and deleted here."""
    folder = tmp_path_factory.mktemp("schemathesis")
    toml = 'plugins = ["local", "jwt", "vips", "workshop", "bucket"]\n[limits]\nuploads_per_second = 0\n[uploads]\ndirect = "bucket"\nper_owner = 100000\n'
    toml += '[storage.default]\ndriver = "local"\n' + bucket.storage("bucket", folder / "bucket")
    environ = workshop.install(folder / "site")
    bucket.install(folder / "more")
    environ["PYTHONPATH"] += f":{folder / 'more'}"
    with served(folder / "data", toml, environ=environ) as running:
        yield running


@pytest.fixture
def config(server: Served, tmp_path: Path) -> Path:
    """A configuration that names media of the test's own: one to work on, one to delete, and one that only a prefix link opens."""
    media, doomed, linked = (server.upload(png(8, 8, f"{tmp_path}{number}".encode()), sub="writer")["id"] for number in range(3))
    for mount in ("hls", "dash", "storyboard"):
        publish(server.data, linked, {"master.m3u8": b"#EXTM3U"}, mount)
    for name in ("poster", "mp4", "opus", "preview", "waveform", "waveform-picture", "subtitles:en"):
        publish(server.data, linked, {}, name)
    url = server.client.post(f"/v1/media/{linked}/sign", json={"prefix": True}, headers=server.auth("writer")).json()["url"]
    token = urlsplit(url).path.split("/")[2]
    subtitles(server, linked, token)
    # Both are cancelled: the streams of a task that has ended end too, and a job that is to be started again must have ended.
    task, job = (
        server.client.post(f"/v1/media/{linked}/tasks/{code}", headers=server.auth("writer")).json()["id"] for code in ("small", "toned")
    )
    for each in (task, job):
        assert server.client.delete(f"/v1/media/tasks/{each}", headers=server.auth("writer")).status_code == 200
    upload = uploads(server)
    file = tmp_path / "schemathesis.toml"
    file.write_text(CONFIG.format(media=media, doomed=doomed, linked=linked, token=token, task=task, job=job, upload=upload))
    return file


def subtitles(server: Served, media: str, token: str) -> None:
    """Do with subtitles what cannot be done twice."""
    path, auth = f"/v1/media/{media}/subtitles/en", server.auth("writer")
    assert {server.client.request(method, path, headers=auth).status_code for method in ("GET", "HEAD")} == {200}
    assert {server.client.request(method, f"/s/{token}{path}").status_code for method in ("GET", "HEAD")} == {200}
    assert server.client.delete(path, headers=auth).status_code == 204


def uploads(server: Served) -> str:
    """Do with uploads what takes bytes that no document can describe, and give the token of one that is open."""
    tus, auth = {"Tus-Resumable": "1.0.0"}, server.auth("writer")
    urls = [server.client.post("/v1/uploads", headers={**auth, **tus, "Upload-Length": "3"}).headers["location"] for _ in range(3)]
    patch = {**tus, "Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}
    assert server.client.patch(urls[0], content=b"abc", headers=patch).status_code == 204
    assert server.client.post(urls[1], content=b"abd", headers={**patch, "X-HTTP-Method-Override": "PATCH"}).status_code == 204
    assert (server.client.get(urls[2]).status_code, server.client.head(urls[2]).status_code) == (200, 204)
    assert server.client.delete(urls[2], headers=tus).status_code == 204
    offer = server.client.post("/v1/uploads/presigned", json={"size": 3}, headers=auth).json()
    (server.data.parent / "bucket" / "objects" / f"uploads+{offer['upload_id'].partition('.')[0]}.direct").write_bytes(b"abe")
    assert server.client.post(f"/v1/uploads/{offer['upload_id']}/complete", json={}, headers=auth).status_code == 202
    return str(server.client.post("/v1/uploads", headers={**auth, **tus, "Upload-Length": "3"}).headers["location"].rpartition("/")[2])


def check(
    server: Served, config: Path, *, credentials: dict[str, str], examples: int, only: str = "", phases: str = "examples,coverage,fuzzing"
) -> None:
    command = [
        sys.executable,
        "-m",
        "schemathesis.cli",
        "--config-file",
        str(config),
        "--no-color",
        "run",
        f"{server.url}/schema/openapi.json",
    ]
    command += ["--phases", phases, "--max-examples", str(examples), "--seed", "1"]
    command += ["--continue-on-failure", "--request-timeout", "10", "--max-redirects", "0"]
    command += ["--include-path-regex", only] if only else []
    command += [word for name, value in credentials.items() for word in ("--header", f"{name}: {value}")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=config.parent, timeout=100)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


def successes(server: Served) -> set[tuple[str, str]]:
    """Every (method, route) that has answered below 400 so far."""
    seen = re.findall(r'mediacdn_requests_total\{method="(\w+)",route="([^"]+)",status="[23]\d\d"\}', server.client.get("/metrics").text)
    return {(method, re.sub(r":str", "", route)) for method, route in seen}


def test_an_admin_gets_what_the_document_says(server: Served, config: Path) -> None:
    check(server, config, credentials=server.auth("root", "admin"), examples=5)
    document = server.client.get("/schema/openapi.json").json()
    operations = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    taken = {("PUT", "/v1/media/{media_id}/subtitles/{language}")}  # by a plugin that is not here
    assert operations - successes(server) - taken == set(), "the run told nothing of these"


def test_a_reader_gets_what_the_document_says(server: Served, config: Path) -> None:
    check(server, config, credentials=server.auth("reader", "read"), examples=4, phases="examples,fuzzing")


def test_a_stranger_gets_what_the_document_says(server: Served, config: Path) -> None:
    check(server, config, credentials={}, examples=4, phases="examples,fuzzing")


TITLES = """
[parameters]
"path.media_id" = "{media}"
"path.movie_id" = "{movie}"
"path.series_id" = "{series}"
"path.season_id" = "{season}"
"path.episode_id" = "{episode}"

# What it deletes, others work on; and a media belongs to one title, a number to one season.
[[operations]]
include-method = "DELETE"
checks.positive_data_acceptance.enabled = false

[[operations]]
include-method-regex = "POST|PATCH"
checks.positive_data_acceptance.enabled = false
checks.negative_data_rejection.enabled = false
"""


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    toml = 'plugins = ["local", "jwt", "vips", "titles", "compat"]\n[limits]\nuploads_per_second = 0\n'
    with served(tmp_path_factory.mktemp("shown"), toml) as running:
        yield running


def test_titles_and_the_urls_of_others_do_too(shown: Served, tmp_path: Path) -> None:
    auth = shown.auth("writer")

    def made(path: str, **body: object) -> str:
        answer = shown.client.post(path, json=body, headers=auth)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    media, held, other = (shown.upload(png(8, 8, f"{tmp_path}{number}".encode()), sub="writer")["id"] for number in range(3))
    series = made("/v1/series", title="Loops")
    season = made(f"/v1/series/{series}/seasons", number=1)
    named = {"movie": made("/v1/movies", title="Up", media_id=held), "series": series, "season": season, "media": media}
    named["episode"] = made(f"/v1/seasons/{season}/episodes", number=1, media_id=other)
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG.partition("[parameters]")[0] + TITLES.format(**named))
    only = "^/v1/(movies|series|seasons|episodes)|^/media-files/|^/api/media/|^/media/upload$"
    check(shown, config, credentials=shown.auth("root", "admin"), examples=1, only=only, phases="examples,coverage")
