"""Calls to caches in front: for everything that makes public copies untrue, durable, made until they are answered well, and to nowhere else."""

import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from mediacdn.config import Purge, PurgeCall, load
from mediacdn.errors import Conflict, Unavailable
from mediacdn.purging import Purging, requests
from tests.services.command import run, within
from tests.services.forgetful import forgetful
from tests.services.proxy import free_port
from tests.services.samples import text
from tests.services.served import Served, served

IDS = ["01ARZ3NDEKTSV4RRFFQ69G5FA1", "01ARZ3NDEKTSV4RRFFQ69G5FA2", "01ARZ3NDEKTSV4RRFFQ69G5FA3"]
ONE, TWO, THREE = IDS
TOML = """
[lifecycle]
sweep_every = 0.2
[jobs]
backoff_base = 0.02
backoff_max = 0.2
poll_every = 0.05
lease = 1
[limits]
uploads_per_second = 0
[[purge]]
name = "front"
url = "{url}/purge"
headers = {{Surrogate-Key = "{{ids}}"}}
token_header = "Fastly-Key"
token = "the-secret"
allow = ["127.0.0.0/8"]
timeout = 2
again_after = {again}
everything = {{url = "{url}/purge_all"}}
"""


@pytest.mark.parametrize(
    ("purge", "ids", "made"),
    [
        pytest.param(
            Purge(url="https://a/service/S/purge", headers={"Surrogate-Key": "{ids}"}, token="t", token_header="Fastly-Key", batch=2),
            IDS,
            [
                ("POST", "https://a/service/S/purge", {"Surrogate-Key": f"{ONE} {TWO}", "Fastly-Key": "t"}, None),
                ("POST", "https://a/service/S/purge", {"Surrogate-Key": THREE, "Fastly-Key": "t"}, None),
            ],
            id="Fastly",
        ),
        pytest.param(
            Purge(
                url="https://a/zones/Z/purge_cache",
                headers={"Content-Type": "application/json"},
                body='{"tags": {ids_json}}',
                token="Bearer t",
                everything=PurgeCall("https://a/zones/Z/purge_cache", body='{"purge_everything": true}'),
            ),
            IDS[:2],
            [
                (
                    "POST",
                    "https://a/zones/Z/purge_cache",
                    {"Content-Type": "application/json", "Authorization": "Bearer t"},
                    f'{{"tags": ["{ONE}", "{TWO}"]}}'.encode(),
                )
            ],
            id="Cloudflare",
        ),
        pytest.param(
            Purge(url="http://a:6081/", method="PURGE", headers={"xkey-softpurge": "{ids}"}),
            IDS,
            [("PURGE", "http://a:6081/", {"xkey-softpurge": " ".join(IDS)}, None)],
            id="Varnish xkey",
        ),
        pytest.param(
            Purge(url="http://a:6081/", method="BAN", headers={"X-Ban": "{id}"}),
            IDS[:2],
            [("BAN", "http://a:6081/", {"X-Ban": ONE}, None), ("BAN", "http://a:6081/", {"X-Ban": TWO}, None)],
            id="Varnish BAN",
        ),
        pytest.param(
            Purge(url="http://a/purge/v1/media/{id}", method="GET"),
            IDS[:1],
            [("GET", f"http://a/purge/v1/media/{ONE}", {}, None)],
            id="nginx, by path",
        ),
        pytest.param(
            Purge(url="https://a/tags/{ids}", separator=",", method="DELETE"),
            IDS[:2],
            [("DELETE", f"https://a/tags/{ONE},{TWO}", {}, None)],
            id="in the path",
        ),
        pytest.param(
            Purge(url="http://a/{id}", everything=PurgeCall("http://a/all", method="PURGE"), token="t"),
            None,
            [("PURGE", "http://a/all", {"Authorization": "t"}, None)],
            id="everything",
        ),
        pytest.param(Purge(url="http://a/{id}"), None, [], id="everything, and no way to say it"),
        pytest.param(Purge(url="http://a/{id}"), [], [], id="nothing"),
    ],
)
def test_what_is_sent(purge: Purge, ids: list[str] | None, made: list[Any]) -> None:
    assert [(each.method, each.url, each.headers, each.body) for each in requests(purge, ids)] == made


def test_the_documented_tables_are_configurations() -> None:
    readme = (Path(__file__).parents[2] / "deploy" / "README.md").read_text()
    (found,) = [block for block in re.findall(r"```toml\n(.*?)```", readme, re.DOTALL) if "[[purge]]" in block]
    environ = {"FASTLY_TOKEN": "f", "CLOUDFLARE_AUTHORIZATION": "Bearer c"}
    with NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(found)
        file.flush()
        config = load(Path(file.name), environ).config
    assert {each.name for each in config.purge} == {"fastly", "cloudflare", "varnish", "varnish-ban", "nginx"}
    for purge in config.purge:
        text = "".join(f"{each.url}{each.headers}{each.body!r}" for each in [*requests(purge, IDS), *requests(purge, None)])
        assert all(each in text for each in IDS)
        assert not re.search(r"\{(id|ids|ids_json)\}", text)


def admin(server: Served, method: str, path: str, **more: Any) -> Any:
    answer = server.client.request(method, path, headers=server.auth("root", "admin"), **more)
    assert answer.is_success, answer.text
    return answer


def test_what_is_told_and_what_is_not(tmp_path: Path) -> None:
    with forgetful() as cache, served(tmp_path / "data", TOML.format(url=cache.url, again=0), arguments=()) as server:
        number = iter(range(100))

        def stored(**params: str) -> str:
            return str(server.upload(text(200 + next(number)), **params)["id"])

        public: dict[str, str] = {}
        for name in ("quarantined", "deleted", "hidden", "shortened", "expired", "purged", "tagged", "kept", "titled", "revoked"):
            public[name] = stored(public="true", tags="t" if name == "tagged" else "", **({"expires_in": "1"} if name == "expired" else {}))
        private = stored()
        later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        admin(server, "POST", f"/v1/media/{public['quarantined']}/quarantine", json={"scope": "media"})
        admin(server, "DELETE", f"/v1/media/{public['deleted']}")
        admin(server, "PATCH", f"/v1/media/{public['hidden']}/record", json={"public": False})
        admin(server, "PATCH", f"/v1/media/{public['shortened']}/record", json={"expires_at": later})
        admin(server, "PATCH", f"/v1/media/{public['titled']}/record", json={"title": "Another"})
        admin(server, "POST", f"/v1/media/{public['revoked']}/revoke")
        admin(server, "POST", "/v1/admin/purge", json={"media": public["purged"]})
        admin(server, "POST", "/v1/admin/purge", json={"tags": ["t"]})
        admin(server, "DELETE", f"/v1/media/{private}")
        told = {"quarantined", "deleted", "hidden", "shortened", "expired", "purged", "tagged"}
        within(10, lambda: told <= {name for name, media in public.items() if cache.forgot(media)})
        time.sleep(0.3)
        assert {name for name, media in public.items() if cache.forgot(media)} == told
        assert not cache.forgot(private)
        assert {each.headers["fastly-key"] for each in cache.told} == {"the-secret"}
        assert {(each.method, each.path) for each in cache.told} == {("POST", "/purge")}
        assert all(cache.forgot(public[name]) == 1 for name in told)
        admin(server, "POST", "/v1/admin/purge", json={"all": True})
        within(5, lambda: [each for each in cache.told if each.path == "/purge_all"])
        jobs = admin(server, "GET", "/v1/admin/jobs?kind=purge&limit=100").text
        assert "the-secret" not in jobs
    shown = run("config", "--config", tmp_path / "data" / "mediacdn.toml")
    assert "front" in shown.stdout
    assert "the-secret" not in shown.stdout + "".join(server.log)


def test_it_is_told_until_it_answers_well_and_once_more(tmp_path: Path) -> None:
    with forgetful() as cache, served(tmp_path / "data", TOML.format(url=cache.url, again=1), arguments=()) as server:
        cache.answers.extend([503, 0, 429, 302, 404])
        media = server.upload(text(100), public="true")["id"]
        admin(server, "POST", f"/v1/media/{media}/quarantine")
        began = time.monotonic()
        within(15, lambda: cache.forgot(media) == 2)
        assert not cache.answers
        assert time.monotonic() - began > 0.8, "the second time is for what it fetched meanwhile"
        states = lambda: {job["status"] for job in admin(server, "GET", "/v1/admin/jobs?kind=purge").json()["items"]}  # noqa: E731
        within(5, lambda: states() == {"Completed"})


def test_neither_a_crash_nor_an_outage_loses_it(tmp_path: Path) -> None:
    port = free_port()
    with served(tmp_path / "data", TOML.format(url=f"http://127.0.0.1:{port}", again=0), arguments=()) as server:
        media = server.upload(text(100), public="true")["id"]
        admin(server, "POST", f"/v1/media/{media}/quarantine")
        server.kill()
        server.start()
        with forgetful(port) as cache:
            within(15, lambda: cache.forgot(media))


@pytest.mark.anyio
@pytest.mark.parametrize("allow", [(), ("10.0.0.0/8", "::/0")])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_no_network_that_is_not_allowed(allow: tuple[str, ...], host: str) -> None:
    with forgetful() as cache:
        purge = Purge(url=f"http://{host}:{cache.port}/{{id}}", allow=allow)
        with pytest.raises(Unavailable, match="not allowed"):
            await Purging([purge])(_running("cdn", {"ids": [ONE]}))
        assert not cache.told


@pytest.mark.anyio
async def test_a_cache_that_is_configured_no_more_is_done_with_and_one_without_the_words_has_failed() -> None:
    await Purging([])(_running("cdn", {"ids": [ONE]}))
    with pytest.raises(Conflict, match="everything"):
        await Purging([Purge(url="http://127.0.0.1/{id}")])(_running("cdn", {}))


@pytest.mark.anyio
async def test_statuses_that_mean_done() -> None:
    with forgetful() as cache:
        cache.always = 404
        purge = Purge(url=f"{cache.url}/{{id}}", method="PURGE", allow=("127.0.0.1",))
        with pytest.raises(Unavailable, match="answered 404"):
            await Purging([purge])(_running("cdn", {"ids": [ONE]}))
        await Purging([replace(purge, accept=(404,))])(_running("cdn", {"ids": IDS}))


def _running(code: str, arguments: dict[str, Any]) -> Any:
    return SimpleNamespace(job=SimpleNamespace(id="j", code=code, arguments=arguments), progress=lambda share: None)


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ('url = "https://a/"', "{id}, {ids} or {ids_json} must stand"),
        ('url = "ftp://a/{id}"', "purge[0].url"),
        ('url = "https://{id}.example.org/"', "purge[0].url"),
        ('url = "https://a/{id}"\nmethod = "no way"', "expected a method"),
        ('url = "https://a/{id}"\nallow = ["lan"]', "purge[0].allow[0]"),
        ('url = "https://a/{id}"\n[[purge]]\nurl = "https://b/{id}"', "names 'cdn', which another one is called"),
        ('url = "https://a/{id}"\neverything = {url = "a"}', "purge[0].everything.url"),
        ('url = "https://a/{id}"\nheaders = {"a b" = "c"}', "is not a header field"),
        ('url = "https://a/{id}"\nmetod = "GET"', "did you mean"),
    ],
)
def test_what_cannot_work_refuses_the_start(tmp_path: Path, toml: str, problem: str) -> None:
    (tmp_path / "wrong.toml").write_text(f"[[purge]]\n{toml}\n")
    done = run("config", "--config", tmp_path / "wrong.toml")
    assert done.returncode == 1
    assert problem in " ".join((done.stdout + done.stderr).split())
