"""What an answer gives away: nothing that its reader could not have read."""

import time
from pathlib import Path

import jwt
import pytest

from tests.services.samples import png, text
from tests.services.served import Served, served


def test_a_duplicate_tells_no_more_than_the_caller_may_read(server: Served, picture: bytes) -> None:
    """api.md "Duplicate": the answer holds only what the caller may read; a token may write without reading."""
    first = server.upload(picture, title="Secret plans", metadata='{"to": "bob"}', filename="plans.png")
    claims = {"iss": "mediacdn-development", "aud": "mediacdn", "sub": "eve", "scope": "media:write", "exp": int(time.time()) + 60}
    token = jwt.encode(claims, (server.data / "keys" / "development.pem").read_bytes(), "EdDSA", {"kid": "development"})
    answer = server.client.post("/v1/media", content=picture, headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200
    assert answer.json()["id"] == first["id"]
    assert (answer.json()["title"], answer.json()["owner"], answer.json()["metadata"], answer.json()["filename"]) == (None, "", {}, None)
    assert "plans" not in answer.text


def test_twins_of_two_owners_do_not_tell_of_each_other(tmp_path: Path) -> None:
    """Under owner-only reading the shared object's key would name the other's media."""
    with served(tmp_path, '[auth]\nprivate_read = "owner"\n') as own:
        body = text(300)
        alice = own.upload(body)
        bob = own.upload(body, sub="bob")
        assert bob["id"] != alice["id"]
        assert bob["storage_key"] is None
        assert alice["id"] not in str(bob)
        seen = own.client.get(f"/v1/media/{bob['id']}/record", headers=own.auth("root", "admin")).json()
        assert seen["storage_key"] == f"originals/{alice['id']}.txt"
        assert alice["id"] not in own.client.get("/v1/media", headers=own.auth("bob")).text


@pytest.mark.parametrize(("act", "status"), [("quarantine", 451), ("delete", 404)])
def test_a_replay_is_not_answered_from_the_past(server: Served, picture: bytes, act: str, status: int) -> None:
    headers = {**server.auth(), "Idempotency-Key": f"{act}-{len(picture)}-{picture[60:70].hex()}"}
    media = server.client.post("/v1/media", content=picture, headers=headers).json()["id"]
    admin = server.auth("root", "admin")
    if act == "quarantine":
        server.client.post(f"/v1/media/{media}/quarantine", json={"scope": "media"}, headers=admin).raise_for_status()
    else:
        server.client.delete(f"/v1/media/{media}", headers=admin).raise_for_status()
    assert server.client.post("/v1/media", content=picture, headers=headers).status_code == status


@pytest.mark.parametrize(
    "path",
    [
        "/v1/sign",
        "/v1/media/01ARZ3NDEKTSV4RRFFQ69G5FAV/sign",
        "/v1/media/01ARZ3NDEKTSV4RRFFQ69G5FAV/quarantine",
        "/v1/media/01ARZ3NDEKTSV4RRFFQ69G5FAV/variants",
        "/v1/media/01ARZ3NDEKTSV4RRFFQ69G5FAV/tasks/hls",
        "/v1/admin/purge",
        "/v1/admin/move",
        "/v1/uploads/presigned",
    ],
)
def test_a_stranger_is_refused_before_the_body_is_read(server: Served, path: str) -> None:
    for body in (b"{", b"[" * 100_000, b'{"nonsense": 1}'):
        assert server.client.post(path, content=body, headers={"Content-Type": "application/json"}).status_code == 401


def test_metrics_are_not_for_a_name_that_points_here(server: Served) -> None:
    """DNS rebinding: the page of another site reaches loopback under its own name."""
    assert server.client.get("/metrics", headers={"Host": "evil.example"}).status_code == 401


def test_few_descriptors_are_enough(tmp_path: Path) -> None:
    """Files kept open never starve uploads and the catalog."""
    toml = "[limits]\nuploads_per_second = 1000\nuploads_burst = 1000\n"
    with served(tmp_path, toml, prefix=("prlimit", "--nofile=128:128")) as own:
        media = [own.upload(png(2, 2, bytes([n])), public="true")["id"] for n in range(150)]
        assert {own.client.get(f"/v1/media/{each}").status_code for each in media} == {200}
        assert own.upload(png(3, 3))["size"] > 0


def test_private_answers_are_not_shown_on_by_a_browser(server: Served, picture: bytes) -> None:
    """RFC 9111 section 4.1: without Vary the next one to ask in the same browser gets them from its cache. A link's answer ends with the link."""
    media = server.upload(picture)["id"]
    assert server.client.get(f"/v1/media/{media}", headers=server.auth()).headers["vary"] == "Authorization"
    url = server.client.post(f"/v1/media/{media}/sign", json={"expires": 5}, headers=server.auth()).json()["url"]
    assert server.client.get(url).headers["cache-control"] in {f"private, max-age={left}" for left in (3, 4, 5)}


def test_a_scope_that_is_missing_is_named(server: Served, picture: bytes) -> None:
    """RFC 6750 section 3.1."""
    answer = server.client.post("/v1/media", content=picture, headers=server.auth("carol", "read"))
    assert answer.headers["www-authenticate"] == 'Bearer error="insufficient_scope"'
    assert "media:write" in answer.json()["detail"]


def test_deleting_honours_if_match(server: Served, picture: bytes) -> None:
    media, admin = server.upload(picture)["id"], server.auth("root", "admin")
    assert server.client.delete(f"/v1/media/{media}", headers={**admin, "If-Match": '"nope"'}).status_code == 412
    etag = server.client.get(f"/v1/media/{media}", headers=admin).headers["etag"]
    assert server.client.delete(f"/v1/media/{media}", headers={**admin, "If-Match": etag}).status_code == 204


def test_content_can_be_released_after_its_media_was_deleted(server: Served, picture: bytes) -> None:
    media, admin = server.upload(picture)["id"], server.auth("root", "admin")
    server.client.post(f"/v1/media/{media}/quarantine", headers=admin).raise_for_status()
    server.client.delete(f"/v1/media/{media}", headers=admin).raise_for_status()
    assert server.client.post("/v1/media", content=picture, headers=server.auth()).json()["code"] == "content_refused"
    assert server.client.delete(f"/v1/media/{media}/quarantine", headers=admin).status_code == 200
    assert server.client.get(f"/v1/media/{media}", headers=admin).status_code == 404
    assert server.upload(picture)["id"] != media


def test_a_filter_that_is_none_is_refused(server: Served) -> None:
    assert "ownr" in server.client.get("/v1/media", params={"ownr": "x"}, headers=server.auth()).json()["detail"]
