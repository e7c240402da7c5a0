"""Uploads past us: presigned to a storage with its own door, completed, verified and promoted by a worker; and what must not happen on the way."""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mediacdn.testing import FolderDoor
from tests.services import bucket
from tests.services.command import within
from tests.services.samples import png
from tests.services.served import Served, served

MIB = 1024 * 1024
TOML = """
[limits]
max_upload_size = 200_000_000
uploads_per_second = 0
[uploads]
direct = "incoming"
part_size = 5_242_880
[jobs]
attempts = 1
poll_every = 0.05
[lifecycle]
sweep_every = 0.2
"""


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FolderDoor]:
    running = FolderDoor(tmp_path_factory.mktemp("incoming"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def server(door: FolderDoor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    data = tmp_path_factory.mktemp("direct")
    toml = bucket.PLUGINS + TOML + '[storage.default]\ndriver = "local"\n' + bucket.storage("incoming", door._root, door.url)
    with served(data, toml, environ=bucket.install(data / "plugin"), arguments=()) as running:
        yield running


def ask(server: Served, size: int, **wish: Any) -> httpx.Response:
    return server.client.post("/v1/uploads/presigned", json={"size": size, **wish}, headers=server.auth())


def send(offer: Any, body: bytes) -> list[dict[str, Any]]:
    sent, at = [], 0
    for part in offer["parts"]:
        answer = httpx.put(part["url"], content=body[at : at + part["size"]], headers=offer["headers"])
        assert answer.status_code == 200
        sent.append({"number": part["number"], "etag": answer.headers["etag"]})
        at += part["size"]
    return sent


def complete(server: Served, offer: Any, parts: list[Any] | None = None) -> httpx.Response:
    return server.client.post(f"/v1/uploads/{offer['upload_id']}/complete", json={"parts": parts or []}, headers=server.auth())


def record(server: Served, media: str, until: Callable[[Any], bool]) -> Any:
    for _ in range(200):
        found = server.client.get(f"/v1/media/{media}/record", headers=server.auth()).json()
        if until(found):
            return found
        time.sleep(0.05)
    raise AssertionError(f"the record is still {found}")


def got(server: Served, media: str) -> bytes:
    """The bytes; the process that is asked may hear of the promotion a moment after the record says so."""
    for _ in range(100):
        answer = server.client.get(f"/v1/media/{media}", headers=server.auth())
        if answer.status_code == 200:
            return answer.content
        time.sleep(0.02)
    raise AssertionError(answer.text)


def over(found: Any) -> bool:
    return found["status"] in ("READY", "FAILED")


@pytest.mark.parametrize(("size", "method"), [(1000, "put"), (0, "put"), (24 * MIB, "multipart")])
def test_there_and_promoted(server: Served, door: FolderDoor, size: int, method: str) -> None:
    body = os.urandom(size)
    offer = ask(server, size, filename="a.bin", title="Direct", tags=["d"], digest=hashlib.sha256(body).hexdigest()).json()
    assert (offer["method"], len(offer["parts"])) == (method, 5 if method == "multipart" else 1)
    sent = send(offer, body)
    answer = complete(server, offer, sent)
    assert answer.status_code in (200, 202), answer.text
    media = answer.json()["id"]
    assert answer.headers["location"] == f"/v1/media/{media}"
    found = record(server, media, over)
    assert (found["status"], found["size"], found["title"], found["storage"]) == ("READY", size, "Direct", "default")
    assert got(server, media) == body
    assert complete(server, offer, sent).json()["id"] == media, "told twice, done once"
    # The upload is put away after its media is there.
    state = within(10, lambda: (now := server.client.get(f"/v1/uploads/{offer['upload_id']}").json())["state"] != "complete" and now)
    assert (state["state"], state["media_id"]) == ("done", media)
    within(10, lambda: not [each for each in (door._root / "objects").iterdir() if media in each.name])


def test_without_a_worker_and_after(tmp_path: Path, door: FolderDoor) -> None:
    """Until the job has run the media is there, and has no bytes for anybody. What was written after the completion is refused: by the digest where one was
    told, and always by the storage's own mark."""
    toml = bucket.PLUGINS + TOML + '[storage.default]\ndriver = "local"\n' + bucket.storage("incoming", door._root, door.url)
    environ = bucket.install(tmp_path / "plugin")
    body, other = os.urandom(5000), os.urandom(5000)
    swapped = []
    with served(tmp_path, toml, environ=environ) as own:
        picture = png(9, 9)
        offer = ask(own, len(picture), public=True, media_type="image/png").json()
        assert complete(own, offer).json()["code"] == "parts_missing"
        send(offer, picture)
        media = complete(own, offer).json()
        assert (media["status"], media["size"], media["digest"]) == ("REGISTERED", 0, "")
        assert own.client.get(f"/v1/media/{media['id']}").status_code == 404
        assert own.client.get(f"/v1/media/{media['id']}/thumb").status_code == 404
        twin = ask(own, len(picture), public=True).json()
        send(twin, picture)
        assert complete(own, twin).status_code == 202, "two without bytes are no duplicates"
        for wish in ({"digest": hashlib.sha256(body).hexdigest()}, {}):
            offer = ask(own, 5000, **wish).json()
            send(offer, body)
            swapped.append(complete(own, offer).json()["id"])
            send(offer, other)
    with served(tmp_path, toml, environ=environ, arguments=()) as own:
        for each in swapped:
            found = record(own, each, over)
            assert (found["status"], found["digest"]) == ("FAILED", "")
            assert own.client.get(f"/v1/media/{each}", headers=own.auth()).status_code == 404
        for each in (media["id"], twin["upload_id"].partition(".")[0]):
            assert record(own, each, over)["status"] == "READY", "an id that was told stays good, although the bytes are there twice"
            assert got(own, each) == picture


def test_missing_parts_are_named(server: Served) -> None:
    body = os.urandom(23 * MIB)
    offer = ask(server, len(body)).json()
    kept = [part for part in offer["parts"] if part["number"] not in (2, 5)]
    at = {part["number"]: sum(each["size"] for each in offer["parts"][: part["number"] - 1]) for part in offer["parts"]}
    for part in kept:
        httpx.put(part["url"], content=body[at[part["number"]] : at[part["number"]] + part["size"]])
    answer = complete(server, offer)
    assert (answer.status_code, answer.json()["code"], answer.json()["parts"]) == (409, "parts_missing", [2, 5])
    answer = complete(server, offer, [{"number": 99}])
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")
    answer = server.client.delete(f"/v1/uploads/{offer['upload_id']}", headers=server.auth())
    assert answer.status_code == 204
    assert complete(server, offer).status_code == 410
    assert httpx.put(offer["parts"][0]["url"], content=body[: offer["parts"][0]["size"]]).status_code == 404, "aborted with its parts"


REFUSED: list[tuple[str, bytes, dict[str, Any], str]] = [
    ("another digest", b"\x00" * 50, {"digest": "0" * 64}, "SHA-256"),
    ("another type", b"\x00" * 50, {"media_type": "image/png"}, "image/png"),
]


@pytest.mark.parametrize(("body", "wish", "said"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_the_job_refuses(server: Served, body: bytes, wish: dict[str, Any], said: str) -> None:
    offer = ask(server, len(body), **wish).json()
    send(offer, body)
    media = complete(server, offer).json()["id"]
    found = record(server, media, over)
    assert found["status"] == "FAILED"
    assert said in found["error_message"]
    assert server.client.get(f"/v1/media/{media}", headers=server.auth()).status_code == 404
    for _ in range(100):
        state = server.client.get(f"/v1/uploads/{offer['upload_id']}").json()["state"]
        if state != "complete":
            break
        time.sleep(0.02)
    assert state == "failed"


def test_urls_are_good_for_what_they_were_made_for(server: Served) -> None:
    offer = ask(server, 100, media_type="text/plain").json()
    url = offer["parts"][0]["url"]
    assert httpx.put(url, content=b"x" * 101, headers=offer["headers"]).status_code == 403
    assert httpx.put(url, content=b"x" * 100, headers={"Content-Type": "text/html"}).status_code == 403
    assert httpx.put(url.replace("exp=", "exp=9"), content=b"x" * 100, headers=offer["headers"]).status_code == 403


WISHES: list[tuple[dict[str, Any], int, str]] = [
    ({"size": -1}, 400, "invalid_parameter"),
    ({"size": 99_000_000_000}, 413, "too_large"),
    ({"size": 300_000_000, "media_type": "image/png"}, 413, "too_large"),
    ({"size": 1, "media_type": "nonsense"}, 400, "invalid_parameter"),
    ({"size": 1, "digest": "x"}, 400, "invalid_parameter"),
    ({"size": 1, "colour": "red"}, 400, "invalid_parameter"),
    ({"media_type": "image/png"}, 400, "invalid_parameter"),
]


@pytest.mark.parametrize(("wish", "status", "code"), WISHES)
def test_wishes_that_are_refused(server: Served, wish: dict[str, Any], status: int, code: str) -> None:
    answer = server.client.post("/v1/uploads/presigned", json=wish, headers=server.auth())
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_who_may(server: Served) -> None:
    assert server.client.post("/v1/uploads/presigned", json={"size": 1}).status_code == 401
    offer = ask(server, 1).json()
    answer = server.client.post(f"/v1/uploads/{offer['upload_id']}/complete", json={}, headers=server.auth("bob"))
    assert answer.status_code == 404
    assert server.client.post(f"/v1/uploads/{offer['upload_id'][:-1]}/complete", json={}).status_code == 404


def test_what_never_completes_is_reaped(tmp_path: Path, door: FolderDoor) -> None:
    toml = bucket.PLUGINS + TOML.replace('direct = "incoming"', 'direct = "incoming"\ndirect_expires_in = 2\nexpires_in = 2')
    toml += '[storage.default]\ndriver = "local"\n' + bucket.storage("incoming", door._root, door.url)
    with served(tmp_path, toml, environ=bucket.install(tmp_path / "plugin"), arguments=()) as own:
        offer = ask(own, 23 * MIB).json()
        assert httpx.put(offer["parts"][0]["url"], content=bytes(offer["parts"][0]["size"])).status_code == 200
        tus = own.client.post("/v1/uploads", headers={**own.auth(), "Tus-Resumable": "1.0.0", "Upload-Length": "9"}).headers["location"]
        headers = {"Tus-Resumable": "1.0.0", "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
        assert own.client.patch(tus, content=b"abc", headers=headers).status_code == 204
        assert list((tmp_path / "uploads").iterdir())
        time.sleep(2.2)
        for url in (f"/v1/uploads/{offer['upload_id']}", tus):
            answer = own.client.get(url)
            assert answer.status_code in (410, 404), answer.text
        late = httpx.put(offer["parts"][0]["url"], content=bytes(offer["parts"][0]["size"]))
        assert late.status_code in (403, 404), "a URL past its time is refused by the storage"
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and ([*(door._root / "parts").iterdir()] or [*(tmp_path / "uploads").iterdir()]):
            time.sleep(0.1)
        assert not [*(tmp_path / "uploads").iterdir()]
        assert not [*(door._root / "parts").iterdir()]


def test_what_is_sent_after_the_promotion_is_removed(tmp_path: Path, door: FolderDoor) -> None:
    """A presigned URL stays good when its upload has ended: nobody would ever ask for what is sent to it then."""
    toml = bucket.PLUGINS + TOML.replace('direct = "incoming"', 'direct = "incoming"\ndirect_expires_in = 3')
    toml += '[storage.default]\ndriver = "local"\n' + bucket.storage("incoming", door._root, door.url)
    with served(tmp_path, toml, environ=bucket.install(tmp_path / "plugin"), arguments=()) as own:
        body = os.urandom(5000)
        offer = ask(own, len(body)).json()
        send(offer, body)
        media = complete(own, offer).json()["id"]
        assert record(own, media, over)["status"] == "READY"
        send(offer, os.urandom(5000))

        def left() -> list[str]:
            return [each.name for each in (door._root / "objects").iterdir() if media in each.name]

        assert left()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and left():
            time.sleep(0.1)
        assert not left()
        assert got(own, media) == body
