"""Records, their rights, and what admins do to media."""

import time
from pathlib import Path
from typing import Any

import pytest

from tests.services.samples import png, text
from tests.services.served import Served, served

UNKNOWN = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


@pytest.fixture
def media(server: Served, picture: bytes) -> str:
    return str(server.upload(picture, filename="a.png")["id"])


def test_reading_a_record(server: Served, media: str) -> None:
    path = f"/v1/media/{media}/record"
    assert server.client.get(path).status_code == 401
    answer = server.client.get(path, headers=server.auth("bob", "read"))
    assert answer.json()["id"] == media
    assert server.client.get(path, headers={**server.auth(), "If-None-Match": answer.headers["etag"]}).status_code == 304
    assert server.client.get(f"/v1/media/{UNKNOWN}/record", headers=server.auth()).status_code == 404
    assert server.client.get(f"/v1/media/{UNKNOWN}/record").status_code == 401


def test_changing_a_record(server: Served, media: str) -> None:
    path = f"/v1/media/{media}/record"
    assert server.client.patch(path, json={"title": "x"}).status_code == 401
    assert server.client.patch(path, json={"title": "x"}, headers=server.auth("bob")).status_code == 403
    assert server.client.patch(path, json={"title": "x"}, headers=server.auth("alice", "read")).status_code == 403
    wish = {"title": "New", "tags": ["b", "a"], "metadata": {"k": 1}, "expires_at": "2999-01-01T00:00:00Z"}
    changed = server.client.patch(path, json=wish, headers=server.auth()).json()
    assert (changed["title"], changed["tags"], changed["metadata"]) == ("New", ["b", "a"], {"k": 1})
    assert changed["expires_at"] == "2999-01-01T00:00:00Z"
    cleared = server.client.patch(path, json={"title": None, "expires_at": None}, headers=server.auth("root", "admin")).json()
    assert (cleared["title"], cleared["expires_at"], cleared["tags"]) == (None, None, ["b", "a"])


def test_if_match_guards(server: Served, media: str) -> None:
    path = f"/v1/media/{media}/record"
    etag = server.client.get(path, headers=server.auth()).headers["etag"]
    assert server.client.patch(path, json={"title": "1"}, headers={**server.auth(), "If-Match": etag}).status_code == 200
    answer = server.client.patch(path, json={"title": "2"}, headers={**server.auth(), "If-Match": etag})
    assert (answer.status_code, answer.json()["code"]) == (412, "precondition_failed")
    assert server.client.patch(path, json={"title": "3"}, headers={**server.auth(), "If-Match": "*"}).status_code == 200


@pytest.mark.parametrize(
    "wish", [{"size": 1}, {"tags": "x"}, {"expires_at": "2001-01-01T00:00:00Z"}, {"metadata": [1]}, {"tags": ["a,b"]}, {"public": None}]
)
def test_wrong_changes(server: Served, media: str, wish: dict[str, Any]) -> None:
    answer = server.client.patch(f"/v1/media/{media}/record", json=wish, headers=server.auth())
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")


def test_publishing_beside_a_public_twin(server: Served, picture: bytes, media: str) -> None:
    server.upload(picture, public="true")
    answer = server.client.patch(f"/v1/media/{media}/record", json={"public": True}, headers=server.auth())
    assert (answer.status_code, answer.json()["code"]) == (409, "duplicate_exists")


def test_listing(server: Served) -> None:
    mine = [server.upload(png(2, 2, f"list{n}".encode()), sub="lister", tags="listed")["id"] for n in range(7)]
    headers, seen, cursor = server.auth("lister", "read"), [], None
    while True:
        page = server.client.get(
            "/v1/media", params={"limit": 3, "tag": "listed", **({"cursor": cursor} if cursor else {})}, headers=headers
        ).json()
        seen += [record["id"] for record in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == sorted(mine, reverse=True)

    def count(**params: str) -> int:
        return len(server.client.get("/v1/media", params={"owner": "lister", "limit": "200", **params}, headers=headers).json()["items"])

    assert [
        count(),
        count(type="image/png"),
        count(type="image/*"),
        count(type="text/*"),
        count(status="READY"),
        count(status="FAILED"),
    ] == [7, 7, 7, 0, 7, 0]
    assert count(created_after="2999-01-01T00:00:00Z") == 0
    assert server.client.get("/v1/media").status_code == 401
    for wrong in ({"limit": "0"}, {"limit": "201"}, {"cursor": "x"}, {"status": "BUSY"}, {"created_after": "soon"}, {"tag": "\x00"}):
        assert server.client.get("/v1/media", params=wrong, headers=headers).status_code == 400, wrong


def test_deleting(server: Served, media: str) -> None:
    path = f"/v1/media/{media}"
    assert server.client.delete(path).status_code == 401
    assert server.client.delete(path, headers=server.auth()).status_code == 403  # the owner only by auth.owner_may_delete
    assert server.client.delete(path, headers=server.auth("root", "admin")).status_code == 204
    assert server.client.get(path, headers=server.auth()).status_code == 404
    assert server.client.get(f"{path}/record", headers=server.auth("root", "admin")).status_code == 404
    assert server.client.delete(path, headers=server.auth("root", "admin")).status_code == 404


def test_quarantine(server: Served, picture: bytes, media: str) -> None:
    admin = server.auth("root", "admin")
    twin = server.upload(picture, public="true")["id"]
    path = f"/v1/media/{media}/quarantine"
    assert server.client.post(path, headers=server.auth()).status_code == 403
    assert server.client.post(path).status_code == 401
    answer = server.client.post(path, json={"reason": "bad"}, headers=admin)
    assert sorted(answer.json()["ids"]) == sorted([media, twin])
    assert server.client.get(f"/v1/media/{media}", headers=server.auth()).json()["code"] == "quarantined"
    assert server.client.get(f"/v1/media/{twin}").status_code == 451
    assert server.client.get(f"/v1/media/{media}").status_code == 401  # to others as if unknown
    assert server.client.get(f"/v1/media/{twin}", headers={"Range": "bytes=0-1"}).status_code == 451
    assert server.client.get(f"/v1/media/{media}/record", headers=admin).json()["quarantined"] is True
    refused = server.client.post("/v1/media", content=picture, headers=server.auth("bob"))
    assert (refused.status_code, refused.json()["code"]) == (403, "content_refused")
    assert sorted(server.client.delete(path, headers=admin).json()["ids"]) == sorted([media, twin])
    assert server.client.get(f"/v1/media/{twin}").content == picture
    assert server.client.post("/v1/media", content=picture, headers=server.auth("bob")).status_code == 200


def test_what_is_withheld_is_listed_to_admins(server: Served, media: str) -> None:
    admin, wanted = server.auth("root", "admin"), {"quarantined": "true"}

    def listed() -> dict[str, Any]:
        return {each["id"]: each for each in server.client.get("/v1/media", params=wanted, headers=admin).json()["items"]}

    assert media not in listed()
    server.client.post(f"/v1/media/{media}/quarantine", json={"reason": "seen on a list"}, headers=admin).raise_for_status()
    assert (listed()[media]["quarantined"], listed()[media]["quarantine_reason"]) == (True, "seen on a list")
    assert all(each["quarantined"] for each in listed().values())
    plain = server.client.get("/v1/media", params={"limit": 200}, headers=admin).json()["items"]
    assert media not in {each["id"] for each in plain}
    assert not any("quarantine_reason" in each for each in plain)
    refused = server.client.get("/v1/media", params=wanted, headers=server.auth())
    assert (refused.status_code, refused.json()["code"]) == (403, "insufficient_scope")
    assert server.client.get("/v1/media", params=wanted).status_code == 401
    assert server.client.get("/v1/media", params={"quarantined": "perhaps"}, headers=admin).status_code == 400
    server.client.delete(f"/v1/media/{media}/quarantine", headers=admin).raise_for_status()
    assert media not in listed()


def test_quarantine_of_one(server: Served, picture: bytes, media: str) -> None:
    admin = server.auth("root", "admin")
    twin = server.upload(picture, public="true")["id"]
    answer = server.client.post(f"/v1/media/{media}/quarantine", json={"scope": "media"}, headers=admin)
    assert answer.json()["ids"] == [media]
    assert server.client.get(f"/v1/media/{twin}").status_code == 200


def test_expiry_is_gone_and_frees_the_digest(server: Served, picture: bytes) -> None:
    media = server.upload(picture, public="true", expires_in="1")["id"]
    fields = server.client.get(f"/v1/media/{media}").headers
    assert fields["cache-control"] in ("public, max-age=1", "public, max-age=0")
    time.sleep(1.2)
    answer = server.client.get(f"/v1/media/{media}")
    assert (answer.status_code, answer.json()["code"]) == (410, "media_expired")
    assert server.client.get(f"/v1/media/{media}/record", headers=server.auth("root", "admin")).status_code == 200
    again = server.upload(picture, public="true")
    assert again["id"] != media
    assert server.client.get(f"/v1/media/{again['id']}").content == picture


def test_what_has_expired_is_prolonged_by_an_admin_alone(server: Served, picture: bytes) -> None:
    media = server.upload(picture, public="true", expires_in="1")["id"]
    path, wish, admin = f"/v1/media/{media}/record", {"expires_at": "2999-01-01T00:00:00Z"}, server.auth("root", "admin")
    time.sleep(1.2)
    assert server.client.get(f"/v1/media/{media}").status_code == 410
    for change in (wish, {"title": "late"}, {}):
        refused = server.client.patch(path, json=change, headers=server.auth())
        assert (refused.status_code, refused.json()["code"]) == (410, "media_expired"), change
    assert server.client.patch(path, json={"title": "late"}, headers=admin).json()["expires_at"] is not None
    assert server.client.get(f"/v1/media/{media}").status_code == 410
    assert server.client.patch(path, json=wish, headers=admin).json()["expires_at"] == wish["expires_at"]
    assert server.client.get(f"/v1/media/{media}").content == picture
    assert server.upload(picture, public="true")["id"] == media, "it is what uploads are duplicates of, as before"
    # Where its bytes have come anew meanwhile, they stay one media.
    brief = server.upload(picture + b" ", public="true", expires_in="1")["id"]
    time.sleep(1.2)
    assert server.upload(picture + b" ", public="true")["id"] != brief
    clash = server.client.patch(f"/v1/media/{brief}/record", json=wish, headers=admin)
    assert (clash.status_code, clash.json()["code"]) == (409, "duplicate_exists")


def test_explaining(server: Served, media: str) -> None:
    assert server.client.get(f"/v1/media/{media}/explain", headers=server.auth()).status_code == 403
    told = server.client.get(f"/v1/media/{media}/explain", headers=server.auth("root", "admin")).json()
    assert told["reads"] == {"anonymous": "401 unauthorized", "any_token": "200", "owner": "200", "admin": "200"}
    assert (told["storage"], told["state"]) == ("default", "live")


def test_owner_only_reading(tmp_path: Path) -> None:
    toml = '[auth]\nprivate_read = "owner"\nowner_may_delete = true\n[lifecycle]\ntombstone = "gone"\nquarantine_answer = "not_found"\n'
    with served(tmp_path, toml) as own:
        body = text(60)
        media = own.upload(body)["id"]
        assert own.client.get(f"/v1/media/{media}", headers=own.auth("bob")).status_code == 404
        assert own.client.get(f"/v1/media/{media}/record", headers=own.auth("bob")).status_code == 404
        assert own.client.patch(f"/v1/media/{media}/record", json={"title": "x"}, headers=own.auth("bob")).status_code == 404
        assert own.client.post(f"/v1/media/{media}/sign", json={}, headers=own.auth("bob")).status_code == 404
        assert own.client.get("/v1/media", headers=own.auth("bob")).json()["items"] == []
        assert own.client.get(f"/v1/media/{media}", headers=own.auth("root", "admin")).content == body
        theirs = own.upload(body, sub="bob")
        assert theirs["id"] != media
        assert own.client.get(f"/v1/media/{theirs['id']}", headers=own.auth("bob")).content == body
        own.client.post(f"/v1/media/{media}/quarantine", json={"scope": "media"}, headers=own.auth("root", "admin")).raise_for_status()
        assert own.client.get(f"/v1/media/{media}", headers=own.auth()).status_code == 404
        assert own.client.delete(f"/v1/media/{theirs['id']}", headers=own.auth("bob")).status_code == 204
        assert own.client.get(f"/v1/media/{theirs['id']}", headers=own.auth("bob")).json()["code"] == "gone"


def nested(levels: int) -> str:
    """Metadata of so many levels, the outermost object counted."""
    return '{"a":' + "[" * (levels - 1) + "]" * (levels - 1) + "}"


@pytest.mark.parametrize(
    "wish",
    [
        '{"expires_at": "9999-12-31T23:59:59-12:00"}',  # no such moment in UTC
        f'{{"metadata": {nested(65)}}}',
        f'{{"metadata": {nested(980)}}}',  # about where the decoder still can and the encoder cannot
        f'{{"metadata": {nested(100_000)}}}',
    ],
    ids=len,
)
def test_what_could_not_be_read_again_is_refused(server: Served, media: str, wish: str) -> None:
    headers = {**server.auth(), "Content-Type": "application/json"}
    assert server.client.patch(f"/v1/media/{media}/record", content=wish, headers=headers).status_code == 400
    assert server.client.get("/v1/media", headers=server.auth()).status_code == 200


def test_metadata_may_nest_64_levels(server: Served, media: str) -> None:
    headers = {**server.auth(), "Content-Type": "application/json"}
    content = f'{{"metadata": {nested(64)}}}'
    assert server.client.patch(f"/v1/media/{media}/record", content=content, headers=headers).status_code == 200


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])
def test_a_time_outside_of_all_years_is_no_filter(server: Served, moment: str) -> None:
    assert server.client.get("/v1/media", params={"created_after": moment}, headers=server.auth()).status_code == 400


def test_a_bottomless_body_is_malformed(server: Served) -> None:
    headers = {**server.auth(), "Content-Type": "application/json"}
    answer = server.client.post(f"/v1/media/{UNKNOWN}/sign", content="[" * 100_000, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
