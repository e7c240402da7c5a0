"""Signed links: what opens, what does not, and with which answer."""

import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from tests.services.samples import png, text
from tests.services.served import Served, served


def sign(server: Served, media: str, **wish: Any) -> str:
    answer = server.client.post(f"/v1/media/{media}/sign", json=wish, headers=server.auth())
    assert answer.status_code == 200, answer.text
    return str(answer.json()["url"])


@pytest.fixture(scope="module")
def media(server: Served) -> str:
    return str(server.upload(text(500, b"links"))["id"])


def test_a_link_opens_without_a_token(server: Served, media: str) -> None:
    answer = server.client.get(sign(server, media, expires=60))
    assert (answer.status_code, answer.content) == (200, text(500, b"links"))
    assert answer.headers["cache-control"] in {f"private, max-age={left}" for left in (58, 59, 60)}
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert server.client.head(sign(server, media)).status_code == 200
    assert server.client.get(sign(server, media), headers={"Range": "bytes=1-2"}).status_code == 206


def test_any_change_is_403(server: Served, media: str) -> None:
    url = sign(server, media, sub="for-bob")
    path, query = urlsplit(url).path, urlsplit(url).query
    pairs = parse_qsl(query)
    other = server.upload(text(501, b"other"))["id"]
    changed = [
        f"{path}?{query}&extra=1",
        f"{path}?{query}&exp=1",
        f"{path}?exp=1&{query}",
        f"/v1/media/{other}?{query}",
        f"{path}?{urlencode([(n, v) for n, v in pairs if n != 'iat'])}",
        f"{path}?{urlencode([(n, v if n != 'exp' else str(int(v) + 1)) for n, v in pairs])}",
        f"{path}?{urlencode([(n, v if n != 'sub' else 'for-eve') for n, v in pairs])}",
        f"{path}?{query}=",
        f"{path}?{query[:-1]}",
        f"{path}?{query.replace('sig=', 'sig=A')}",
        f"{path}?{query.replace('kid=', 'kid=x')}",
    ]
    for each in changed:
        answer = server.client.get(each)
        assert answer.status_code == 403, each
        assert answer.json()["code"] == "invalid_signature", each


def test_a_link_is_for_reading_only(server: Served, media: str) -> None:
    query = urlsplit(sign(server, media)).query
    assert server.client.get(f"/v1/media/{media}/record?{query}").status_code == 401
    assert server.client.post(f"/v1/media/{media}/sign?{query}", json={}).status_code == 401
    assert server.client.delete(f"/v1/media/{media}?{query}").status_code == 401
    assert server.client.get(f"/v1/media?{query}").status_code in (400, 401)


def test_expired_is_410(server: Served, media: str) -> None:
    url = sign(server, media, expires=1)
    time.sleep(2.1)
    answer = server.client.get(url)
    assert (answer.status_code, answer.json()["code"]) == (410, "link_expired")


def test_revoked_is_403_and_new_links_open(server: Served) -> None:
    media = server.upload(text(77, b"revoke"))["id"]
    old, old_prefix = sign(server, media), sign(server, media, prefix=True)
    assert server.client.get(old).status_code == 200
    assert server.client.post(f"/v1/media/{media}/revoke", headers=server.auth("bob")).status_code == 403
    assert server.client.post(f"/v1/media/{media}/revoke", headers=server.auth()).status_code == 200
    for url in (old, old_prefix):
        answer = server.client.get(url)
        assert (answer.status_code, answer.json()["code"]) == (403, "link_revoked")
    assert server.client.get(sign(server, media)).status_code == 200


def test_made_private_kills_links_and_reads(server: Served) -> None:
    media = server.upload(text(78, b"private"), public="true")["id"]
    old = sign(server, media)
    answer = server.client.patch(f"/v1/media/{media}/record", json={"public": False}, headers=server.auth())
    assert answer.status_code == 200
    assert server.client.get(f"/v1/media/{media}").status_code == 401
    assert server.client.get(old).json()["code"] == "link_revoked"


def test_prefix_links(server: Served, media: str) -> None:
    url = sign(server, media, prefix=True)
    assert url.startswith("/s/")
    assert server.client.get(url).content == text(500, b"links")
    other = server.upload(text(79, b"prefix"))["id"]
    token = url.split("/")[2]
    assert server.client.get(f"/s/{token}/v1/media/{other}").json()["code"] == "invalid_signature"
    assert server.client.get(f"/s/{token[:-2]}AA/v1/media/{media}").json()["code"] == "invalid_signature"
    assert server.client.get(f"/s/x/v1/media/{media}").status_code == 403


def test_bound_to_an_address(server: Served, media: str) -> None:
    assert server.client.get(sign(server, media, ip="127.0.0.0/8")).status_code == 200
    assert server.client.get(sign(server, media, ip="203.0.113.7")).json()["code"] == "invalid_signature"
    answer = server.client.post(f"/v1/media/{media}/sign", json={"ip": "nowhere"}, headers=server.auth())
    assert answer.status_code == 400


def test_disposition(server: Served, media: str) -> None:
    assert server.client.get(sign(server, media, disposition="attachment")).headers["content-disposition"].startswith("attachment")
    assert server.client.get(sign(server, media)).headers["content-disposition"].startswith("inline")


def test_download_redirects_to_a_fresh_link(server: Served, media: str) -> None:
    answer = server.client.get(f"/v1/media/{media}/download", headers={**server.auth("bob", "read"), "Host": "evil.example"})
    assert (answer.status_code, answer.headers["cache-control"]) == (302, "no-store")
    assert answer.headers["location"].startswith(f"/v1/media/{media}?exp=")
    followed = server.client.get(answer.headers["location"])
    assert followed.content == text(500, b"links")
    assert followed.headers["content-disposition"].startswith("attachment")


def test_a_batch(server: Served, media: str) -> None:
    wishes = [{"id": media}, {"id": "01ARZ3NDEKTSV4RRFFQ69G5FAV"}, {"id": media, "prefix": True}]
    answer = server.client.post("/v1/sign", json={"items": wishes}, headers=server.auth("bob", "read"))
    first, second, third = answer.json()["items"]
    assert server.client.get(first["url"]).status_code == 200
    assert second == {"id": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "code": "not_found", "detail": second["detail"]}
    assert third["url"].startswith("/s/")
    assert server.client.post("/v1/sign", json={"items": wishes}).status_code == 401


@pytest.mark.parametrize(
    "wish", [{"expires": 0}, {"expires": -1}, {"expires": 10**9}, {"nonsense": 1}, {"disposition": "x"}, {"expires": "soon"}]
)
def test_wrong_wishes(server: Served, media: str, wish: dict[str, Any]) -> None:
    answer = server.client.post(f"/v1/media/{media}/sign", json=wish, headers=server.auth())
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")


def test_a_link_never_outlives_its_makers_token(server: Served, media: str) -> None:
    short = {"Authorization": f"Bearer {server.token('bob', 'read', '30s')}"}
    url = server.client.post(f"/v1/media/{media}/sign", json={"expires": 3600}, headers=short).json()["url"]
    assert int(dict(parse_qsl(urlsplit(url).query))["exp"]) <= time.time() + 31
    owner = {"Authorization": f"Bearer {server.token('alice', 'read', '30s')}"}
    url = server.client.post(f"/v1/media/{media}/sign", json={"expires": 3600}, headers=owner).json()["url"]
    assert int(dict(parse_qsl(urlsplit(url).query))["exp"]) > time.time() + 3000


def test_state_beats_every_link(server: Served) -> None:
    media = server.upload(png(5, 5, b"state"))["id"]
    url, prefix, admin = sign(server, media), sign(server, media, prefix=True), server.auth("root", "admin")
    server.client.post(f"/v1/media/{media}/quarantine", json={"reason": "test"}, headers=admin).raise_for_status()
    assert [server.client.get(each).status_code for each in (url, prefix)] == [451, 451]
    server.client.delete(f"/v1/media/{media}/quarantine", headers=admin).raise_for_status()
    assert [server.client.get(each).status_code for each in (url, prefix)] == [200, 200]
    server.client.delete(f"/v1/media/{media}", headers=admin).raise_for_status()
    assert [server.client.get(each).status_code for each in (url, prefix)] == [404, 404]


def test_windows_public_url_and_base_path(tmp_path: Path) -> None:
    """The same viewer gets the same URL within a window; URLs stand under public_url, and the signed path leaves the base path out."""
    toml = '[server]\npublic_url = "https://cdn.example"\nbase_path = "/files"\n[signing]\nwindow = 3600\n'
    with served(tmp_path, toml) as own:
        answer = own.client.post("/files/v1/media", content=text(50), headers=own.auth())
        record = answer.json()
        assert record["urls"]["original"] == f"https://cdn.example/files/v1/media/{record['id']}" == answer.headers["location"]
        urls = {
            own.client.post(f"/files/v1/media/{record['id']}/sign", json={"expires": 600}, headers=own.auth()).json()["url"]
            for _ in range(3)
        }
        assert len(urls) == 1
        local = urls.pop().removeprefix("https://cdn.example")
        assert own.client.get(local).content == text(50)
        assert own.client.get(local.removeprefix("/files")).status_code == 404
