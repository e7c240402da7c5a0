"""Where /download and records send a reader: our own link, the storage's or a CDN's; never for what may not be read, never for longer than anything it hangs on."""

import json
import time
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio
import httpx
import pytest
from msgspec.structs import replace

from mediacdn.config import Links
from mediacdn.drivers import SystemClock
from mediacdn.errors import ConfigError, Unavailable
from mediacdn.links import Elsewhere, StorageLinks
from mediacdn.model import Card, State, Status
from tests.plugins.test_cloudfront import KEY_ID, as_cloudfront_does
from tests.services.command import run
from tests.services.presigning import install
from tests.services.samples import png, text
from tests.services.served import Served, served
from tests.services.tokens import private_pem

PRESIGNED = """
plugins = ["local", "jwt", "vips", "bucket"]
[storage.default]
driver = "presigning"
[storage.near]
driver = "local"
path = "near"
[[routing]]
storage = "near"
tag = "near"
[links]
via = "storage"
expires = 120
min_size = 100
records = true
[limits]
uploads_per_second = 0
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("presigned")
    with served(folder / "data", PRESIGNED, environ=install(folder / "site")) as running:
        yield running


def download(server: Served, media: str, **headers: str) -> httpx.Response:
    return server.client.get(f"/v1/media/{media}/download", headers=headers or server.auth(), follow_redirects=False)


def claims(url: str) -> dict[str, Any]:
    assert url.startswith("https://bucket.example.net/originals/")
    found: dict[str, Any] = json.loads(urlsafe_b64decode(parse_qs(urlsplit(url).query)["c"][0]))
    return found


def test_the_storages_own_url(server: Served) -> None:
    media = server.upload(text(200), filename="Übung.txt")["id"]
    answer = download(server, media)
    assert (answer.status_code, answer.headers["cache-control"]) == (302, "no-store")
    told = claims(answer.headers["location"])
    assert told["expires"] in (119, 120)
    assert (told["key"], told["type"]) == (f"originals/{media}.txt", "text/plain; charset=utf-8")
    assert told["disposition"] == "attachment; filename=\"Ubung.txt\"; filename*=UTF-8''%C3%9Cbung.txt"


def test_a_record_that_is_read_has_it_too_and_no_304_keeps_it(server: Served) -> None:
    for body, kind in (
        (png(20, 20, b"inline"), "inline"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'>" + b" " * 100 + b"</svg>", "attachment"),
    ):
        media = server.upload(body)["id"]
        first = server.client.get(f"/v1/media/{media}/record", headers=server.auth())
        told = claims(first.json()["urls"]["original"])
        assert told["disposition"].startswith(kind)
        assert first.json()["urls"]["download"] == f"/v1/media/{media}/download"
        again = server.client.get(f"/v1/media/{media}/record", headers={**server.auth(), "If-None-Match": first.headers["etag"]})
        assert again.status_code == 200
    small = server.upload(text(50))["id"]
    record = server.client.get(f"/v1/media/{small}/record", headers=server.auth())
    assert record.json()["urls"]["original"] == f"/v1/media/{small}"
    etag = {"If-None-Match": record.headers["etag"]}
    assert server.client.get(f"/v1/media/{small}/record", headers={**server.auth(), **etag}).status_code == 304


@pytest.mark.parametrize("params", [{"tags": "near"}, {"title": "small"}], ids=["a storage that cannot", "under min_size"])
def test_ours_where_there_is_no_other(server: Served, params: dict[str, str]) -> None:
    media = server.upload(text(99 if "title" in params else 150), **params)["id"]
    location = download(server, media).headers["location"]
    assert location.startswith(f"/v1/media/{media}?exp=")
    got = server.client.get(location)
    assert (got.status_code, got.headers["content-disposition"]) == (200, f'attachment; filename="{media}.txt"')


def test_never_for_what_may_not_be_read(server: Served) -> None:
    admin = server.auth("root", "admin")
    media = server.upload(text(300))["id"]
    assert download(server, media, authorization="").status_code == 401
    assert download(server, "01ARZ3NDEKTSV4RRFFQ69G5FAV").status_code == 404
    server.client.post(f"/v1/media/{media}/quarantine", headers=admin)
    for who in (server.auth(), admin):
        answer = download(server, media, **who)
        assert answer.status_code == 451 or "bucket.example.net" not in answer.headers.get("location", "")
        record = server.client.get(f"/v1/media/{media}/record", headers=who)
        assert "bucket.example.net" not in record.text
    server.client.request("DELETE", f"/v1/media/{media}/quarantine", headers=admin)
    assert download(server, media).status_code == 302
    server.client.delete(f"/v1/media/{media}", headers=admin)
    assert download(server, media).status_code == 404


def test_no_longer_than_the_media_or_the_callers_token(server: Served) -> None:
    media = server.upload(text(301), expires_in="30")["id"]
    assert 20 <= claims(download(server, media).headers["location"])["expires"] <= 30
    other = server.upload(text(302))["id"]
    short = {"Authorization": f"Bearer {server.token('bob', 'read', '40s')}"}
    assert 20 <= claims(download(server, other, **short).headers["location"])["expires"] <= 40
    assert claims(download(server, other).headers["location"])["expires"] >= 119


def test_cookies_need_a_cdn_that_has_them(server: Served) -> None:
    media = server.upload(text(303))["id"]
    assert server.client.post(f"/v1/media/{media}/cookies", headers=server.auth()).status_code == 404
    assert "/v1/media/{media_id}/cookies" not in server.client.get("/schema/openapi.json").json()["paths"]


class Moody:
    """A links driver that gives, or raises, what the test says."""

    def __init__(self, mood: Any) -> None:
        self._mood = mood

    async def link(self, card: Card, path: str, expires: timedelta, *, media_type: str, disposition: str) -> str | None:
        if isinstance(self._mood, Exception):
            raise self._mood
        if self._mood is ...:
            await anyio.sleep(60)
        return str(self._mood) if self._mood else None


CARD = Card(
    "01ARZ3NDEKTSV4RRFFQ69G5FAV", "o", False, State.LIVE, Status.READY, 1, 0, None, "s", "k", 9, "0" * 64, "image/png", SystemClock().now()
)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("mood", "card", "given"),
    [
        ("https://a.example/x?y=z", CARD, True),
        (None, CARD, False),
        (Unavailable("down"), CARD, False),
        (RuntimeError("a fault"), CARD, False),
        (..., CARD, False),
        ("https://a.example/\r\nX-Evil: 1", CARD, False),
        ("/elsewhere", CARD, False),
        ("javascript:alert(1)", CARD, False),
        ("https://a.example/x", replace(CARD, state=State.QUARANTINED), False),
        ("https://a.example/x", replace(CARD, state=State.DELETED), False),
        ("https://a.example/x", replace(CARD, digest=""), False),
        ("https://a.example/x", replace(CARD, size=8), False),
        ("https://a.example/x", replace(CARD, expires_at=CARD.modified), False),
    ],
)
async def test_the_rules_hold_for_any_driver(monkeypatch: pytest.MonkeyPatch, mood: Any, card: Card, given: bool) -> None:
    monkeypatch.setattr("mediacdn.links.PATIENCE", 0.05)
    now = SystemClock().now()
    elsewhere = Elsewhere(Moody(mood), Links(via="moody", min_size=9), SystemClock())
    found = await elsewhere.link(card, "/p", now + timedelta(hours=1), attachment=True)
    assert (found is not None) == given
    if found is not None:
        assert timedelta(seconds=298) < found[1] - now <= timedelta(seconds=301)
    assert await elsewhere.link(card, "/p", now, attachment=True) is None
    assert await Elsewhere(None, Links(), SystemClock()).link(card, "/p", now + timedelta(hours=1), attachment=True) is None


def test_a_storage_that_cannot_presign_refuses_the_start() -> None:
    with pytest.raises(ConfigError, match="no configured storage can presign"):
        StorageLinks({})


def test_cloudfront_in_front_of_us(tmp_path: Path) -> None:
    """What the distribution asks of its origin, once it has let a URL pass, is answered; cookies open what lies beneath one media."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cdn.pem").write_text(private_pem("rsa"))
    toml = f"""
plugins = ["local", "jwt", "cloudfront"]
[server]
base_path = "/m"
[links]
via = "cloudfront"
[links.cloudfront]
url = "https://cdn.example.org/m"
key_id = "{KEY_ID}"
private_key = {{file = "cdn.pem"}}
cookie_domain = "example.org"
"""
    with served(tmp_path / "data", toml) as server, httpx.Client(base_url=server.url, trust_env=False) as client:
        base = "" if server.url.endswith("/m") else "/m"
        body = text(5000)
        answer = client.post(f"{base}/v1/media", content=body, headers=server.auth())
        media = answer.json()["id"]
        location = client.get(f"{base}/v1/media/{media}/download", headers=server.auth()).headers["location"]
        good, asked = as_cloudfront_does(location, int(time.time()))
        assert good
        assert not as_cloudfront_does(location, int(time.time()) + 300)[0]
        got = client.get(base + asked.removeprefix("https://cdn.example.org/m"))
        assert (got.status_code, got.content) == (200, body)
        assert got.headers["content-disposition"].startswith("attachment")
        assert got.headers["cache-control"].startswith("private"), "the CDN keeps nothing of what is private"
        made = client.post(f"{base}/v1/media/{media}/cookies", headers=server.auth())
        assert made.status_code == 200
        assert client.post(f"{base}/v1/media/{media}/cookies").status_code == 401
        given = made.headers.get_list("set-cookie")
        assert len(given) == 3
        path = urlsplit(made.json()["url"]).path
        assert all(f"Path={path}" in each and "Domain=example.org" in each and "Secure" in each and "HttpOnly" in each for each in given)
        assert client.get(base + path.removeprefix("/m")).content == body
        assert client.get(base + path.removeprefix("/m") + "/record").status_code in (401, 403, 404)
        client.post(f"{base}/v1/media/{media}/quarantine", headers=server.auth("root", "admin"))
        assert client.get(base + asked.removeprefix("https://cdn.example.org/m")).status_code == 451
        assert client.post(f"{base}/v1/media/{media}/cookies", headers=server.auth()).status_code == 451


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ('via = "cloudfrnt"', "cloudfrnt"),
        ("expires = 301", "at most 300"),
        ("expires = 5", "from 10 to 300"),
        ('[links.cloudfront]\nurl = "x"', "configures a driver that links.via does not name"),
        ('via = "cloudfront"', "url is missing"),
    ],
)
def test_what_cannot_work_refuses_the_start(tmp_path: Path, toml: str, problem: str) -> None:
    (tmp_path / "wrong.toml").write_text(f'plugins = ["local", "jwt", "cloudfront"]\n[links]\n{toml}\n')
    named = ["serve", "--port", "0", "--no-worker", "--data", tmp_path / "data"] if "via" in toml else ["config"]
    done = run(*named, "--config", tmp_path / "wrong.toml")
    assert done.returncode == 1
    assert problem.replace("at most 300", "from 10 to 300") in " ".join((done.stdout + done.stderr).split())
