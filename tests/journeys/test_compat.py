"""The URLs of other media services over real sockets: their words exactly, and behind them the same media, rights, links and errors as under /v1."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import imageio_ffmpeg
import pytest

from tests.services.command import within
from tests.services.films import ffmpeg
from tests.services.samples import png, text
from tests.services.served import Served, served
from tests.services.streams import publish

TOML = """
plugins = ["local", "jwt", "vips", "ffmpeg", "compat"]
[limits]
uploads_per_second = 0
max_upload_size = 100_000
[recipes.hls]
seconds = 1
preset = "ultrafast"
"""
NOBODY = "01BX5ZZKBKACTAV9WEVGEMMVS0"
PAGE = "https://player.example"
_numbers = iter(range(1, 100_000))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("compat"), TOML, arguments=()) as running:
        yield running


def picture() -> bytes:
    return png(8, 8, f"compat {next(_numbers)}".encode())


def stream(server: Served, **params: str) -> str:
    """A media with a stream that no ffmpeg had to make."""
    media = str(server.upload(picture(), **params)["id"])
    publish(server.data, media, {"master.m3u8": b"#EXTM3U\n480p.m3u8\n", "480p.m3u8": b"#EXTM3U\n", "segments/0.m4s": b"segment"})
    return media


def get(server: Served, path: str, who: str | None = "alice", **headers: str) -> httpx.Response:
    return server.client.get(path, headers={**({} if who is None else server.auth(who)), **headers})


# A service of MediaFiles


@pytest.fixture(scope="module")
def film(server: Served, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, bytes]:
    """A private film that came as a form, and streams by now."""
    path = tmp_path_factory.mktemp("films") / "film.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25:duration=2", "-f", "lavfi", "-i", "sine=duration=2",
           "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "25", "-c:a", "aac", str(path))  # fmt: skip
    content = path.read_bytes()
    answer = server.client.post("/media/upload", files={"file": ("film.mp4", content)}, data={"title": "Loop"}, headers=server.auth())
    assert (answer.status_code, answer.json().keys(), answer.json()["status"]) == (200, {"mediaFileId", "status"}, "UPLOADED")
    media = answer.json()["mediaFileId"]
    begun = get(server, f"/media-files/{media}").json()
    assert begun.keys() == {"id", "status", "manifestUrl"}
    assert begun["status"] in ("UPLOADED", "PROCESSING", "READY")
    within(60, lambda: get(server, f"/media-files/{media}").json()["status"] == "READY")
    within(60, lambda: get(server, f"/v1/media/{media}/record").json()["duration"])
    return media, content


def test_a_film_from_a_form_to_a_player(server: Served, film: tuple[str, bytes]) -> None:
    media, content = film
    told = get(server, f"/media-files/{media}").json()
    assert told.keys() == {"id", "status", "manifestUrl"}
    assert re.fullmatch(rf"/s/[^/]+/stream/hls/{media}/master\.m3u8", told["manifestUrl"])
    exp, iat = (int(each) for each in told["manifestUrl"].split("/")[2].split(".")[2:4])
    assert exp - iat == 3600 + 6, "long enough to be played to its end"
    done = subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-xerror", "-nostdin", "-i", server.url + told["manifestUrl"], "-map", "0", "-f", "null", "-"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert get(server, f"/stream/hls/{media}/master.m3u8").status_code == 200, "or with the token itself"
    assert get(server, f"/media/{media}").content == content
    assert get(server, told["manifestUrl"].replace("/stream/", "/nothing/"), None).status_code == 404


def test_it_is_described_and_handed_out_as_processed(server: Served, film: tuple[str, bytes]) -> None:
    media, content = film
    told = get(server, f"/api/media/{media}").json()
    assert told.keys() == {
        "media_id", "user_id", "title", "media_type", "upload_time", "status", "temp_s3_url", "processed_s3_url", "thumbnail_s3_url", "etag",
        "file_size",
    }  # fmt: skip
    record = get(server, f"/v1/media/{media}/record").json()
    assert (told["media_id"], told["user_id"], told["title"], told["media_type"]) == (media, "alice", "Loop", "video")
    assert (told["status"], told["file_size"], told["etag"]) == ("processed", len(content), record["etag"])
    assert told["upload_time"] == record["upload_time"]
    assert get(server, told["temp_s3_url"]).content == content
    assert told["processed_s3_url"] == told["temp_s3_url"], "nothing else was made to be handed out"
    task = server.client.post(f"/media/{media}/tasks/mp4", headers=server.auth())
    assert task.status_code == 202
    path = f"/media/tasks/{task.json()['id']}"
    within(60, lambda: get(server, path).json()["status"] == "Completed")
    assert [each["id"] for each in get(server, f"/media/{media}/tasks").json()["items"]].count(task.json()["id"]) == 1
    told = get(server, f"/api/media/{media}").json()
    made = get(server, told["processed_s3_url"])
    assert (made.status_code, made.headers["content-type"]) == (200, "video/mp4")
    assert made.content != content
    moved = get(server, f"/api/media/download/{media}")
    assert (moved.status_code, moved.headers["cache-control"], moved.content) == (302, "no-store", b"")
    fetched = server.client.get(moved.headers["location"])
    assert fetched.content == made.content
    assert fetched.headers["content-disposition"].startswith("attachment")


def test_what_fails_says_why(server: Served) -> None:
    broken = b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isommp42" + b"\x00\x00\x10\x00mdat" + bytes(range(256)) * 8
    media = server.client.post("/media/upload", files={"file": broken}, headers=server.auth()).json()["mediaFileId"]
    told = within(60, lambda: (now := get(server, f"/media-files/{media}").json())["status"] == "FAILED" and now)
    assert told.keys() == {"id", "status", "manifestUrl", "errorMessage"}
    assert told["manifestUrl"] is None
    assert len(told["errorMessage"]) > 10
    assert get(server, f"/api/media/{media}").json()["status"] == "failed"
    assert get(server, f"/api/media/{media}").json()["processed_s3_url"] is None


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("text.mp4", b"hello, this is no film", "Its name says video/mp4, but its bytes are text/plain: there is nothing to play"),
        ("list.mov", b"#EXTM3U\n#EXTINF:4,\nhttp://127.0.0.1:1/x.ts\n", "but its bytes are application/vnd.apple.mpegurl"),
        ("empty.mp4", b"", "Its name says video/mp4, but it is empty: there is nothing to play"),
        ("notes.txt", b"hello, these are notes", None),
    ],
)
def test_what_is_named_as_a_film_and_is_none(server: Served, name: str, content: bytes, said: str | None) -> None:
    """Nobody waits for a stream that never comes; what was sent is kept all the same."""
    begun = server.client.post("/media/upload", files={"file": (name, content, "application/octet-stream")}, headers=server.auth()).json()
    told = get(server, f"/media-files/{begun['mediaFileId']}").json()
    assert told["status"] == begun["status"] == ("FAILED" if said else "READY")
    assert (said or "") in told.get("errorMessage", "")
    assert ("errorMessage" in told) is (said is not None)
    assert get(server, f"/v1/media/{begun['mediaFileId']}").content == content


def test_public_media_are_open(server: Served) -> None:
    media = stream(server, public="true")
    told = get(server, f"/media-files/{media}", None).json()
    assert told == {"id": media, "status": "READY", "manifestUrl": f"/stream/hls/{media}/master.m3u8"}
    for path, body in (("master.m3u8", b"#EXTM3U\n480p.m3u8\n"), ("480p.m3u8", b"#EXTM3U\n"), ("segments/0.m4s", b"segment")):
        answer = get(server, f"/stream/hls/{media}/{path}", None, Origin=PAGE)
        assert (answer.status_code, answer.content, answer.headers["access-control-allow-origin"]) == (200, body, "*")
        assert "public" in answer.headers["cache-control"]
    again = get(server, f"/v1/media/{media}/hls/segments/0.m4s", None)
    assert again.headers["cache-status"].startswith("mediacdn; hit"), "one copy in the edge for both paths"
    part = get(server, f"/stream/hls/{media}/segments/0.m4s", None, Range="bytes=1-3")
    assert (part.status_code, part.content) == (206, b"egm")
    assert server.client.head(f"/stream/hls/{media}/master.m3u8").headers["content-length"] == "18"


# The same rights


@pytest.mark.parametrize("path", ["/media-files/{id}", "/stream/hls/{id}/master.m3u8", "/media/{id}", "/api/media/{id}", "/api/media/download/{id}", "/media/{id}/variants", "/media/{id}/tasks"])  # fmt: skip
def test_private_media_stay_private(server: Served, path: str) -> None:
    media = stream(server)
    for each in (media, NOBODY, "x"):
        answer = get(server, path.format(id=each), None)
        assert answer.status_code == (404 if each == "x" and path in ("/media/{id}", "/stream/hls/{id}/master.m3u8") else 401), each
    wrong = {"Authorization": "Bearer nonsense"}
    assert server.client.get(path.format(id=media), headers=wrong).json()["code"] == "invalid_token"
    assert get(server, path.format(id=media)).status_code in (200, 302)
    assert get(server, path.format(id=NOBODY)).status_code == 404
    root = server.auth("root", "admin")
    server.client.post(f"/v1/media/{media}/quarantine", json={"scope": "media"}, headers=root).raise_for_status()
    assert get(server, path.format(id=media)).status_code == 451
    server.client.delete(f"/v1/media/{media}/quarantine", headers=root).raise_for_status()
    server.client.delete(f"/media/{media}", headers=root).raise_for_status()
    assert get(server, path.format(id=media)).status_code == 404


def test_a_streams_link_opens_that_stream_for_a_while(server: Served) -> None:
    media, other = stream(server), stream(server)
    link = get(server, f"/media-files/{media}").json()["manifestUrl"]
    assert get(server, link, None).status_code == 200
    assert get(server, link.replace("master.m3u8", "segments/0.m4s"), None).content == b"segment"
    assert get(server, link.replace(media, other).replace(f"p1.{other}", f"p1.{media}"), None).json()["code"] == "invalid_signature"
    assert get(server, link.replace("/s/p1.", "/s/p1.x"), None).status_code == 403
    assert server.client.post(link).status_code == 405
    server.client.post(f"/v1/media/{media}/revoke", headers=server.auth()).raise_for_status()
    assert get(server, link, None).json()["code"] == "link_revoked"
    token = link.split("/")[2]
    within(5, lambda: any(f"stream/hls/{media}/segments" in line for line in server.log))
    assert not [line for line in server.log if token in line]


def test_owner_only_reading_and_a_prefix(tmp_path: Path) -> None:
    toml = 'plugins = ["local", "jwt", "compat"]\n[auth]\nprivate_read = "owner"\n'
    toml += '[server]\nbase_path = "/cdn"\npublic_url = "https://cdn.example"\n'
    with served(tmp_path, toml) as own:
        body = {"file": ("x.png", picture())}
        media = own.client.post("/cdn/media/upload", files=body, headers=own.auth()).json()["mediaFileId"]
        publish(own.data, media, {"master.m3u8": b"#EXTM3U"})
        for path in (f"/cdn/media-files/{media}", f"/cdn/stream/hls/{media}/master.m3u8", f"/cdn/api/media/{media}", f"/cdn/media/{media}"):
            assert [get(own, path, who).status_code for who in ("alice", "bob", None)] == [200, 404, 401], path
        url = get(own, f"/cdn/media-files/{media}").json()["manifestUrl"]
        assert url.startswith("https://cdn.example/cdn/s/p1.")
        assert get(own, url.removeprefix("https://cdn.example"), None).text == "#EXTM3U"
        assert own.client.options(
            f"/cdn/stream/hls/{media}/master.m3u8", headers={"Origin": PAGE, "Access-Control-Request-Method": "GET"}
        ).headers["access-control-allow-origin"] == "*"  # fmt: skip


@pytest.mark.parametrize(
    ("path", "method", "opened"),
    [
        ("/stream/hls/{id}/master.m3u8", "GET", True),
        ("/stream/hls/{id}/segments/0.m4s", "GET", True),
        ("/s/token/stream/hls/{id}/master.m3u8", "GET", True),
        ("/media/{id}", "GET", True),
        ("/media/{id}", "DELETE", False),
        ("/media/{id}/variants", "GET", False),
        ("/media/{id}/tasks", "GET", False),
        ("/media/tasks/{id}", "GET", False),
        ("/media-files/{id}", "GET", False),
        ("/api/media/{id}", "GET", False),
        ("/media/upload", "POST", False),
    ],
)
def test_reads_are_open_to_any_origin_and_acts_are_not(server: Served, path: str, method: str, opened: bool) -> None:
    asked = {"Origin": PAGE, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": "authorization,range"}
    answer = server.client.options(path.format(id=NOBODY), headers=asked)
    assert ("access-control-allow-origin" in answer.headers) is opened


# The same journeys


def form(*parts: tuple[str, bytes], boundary: str = "b") -> dict[str, Any]:
    body = b"".join(
        b'--b\r\nContent-Disposition: form-data; name="' + name.encode() + b'"' + (b'; filename="f"' if name == "file" else b"") + b"\r\n\r\n" + value + b"\r\n"
        for name, value in parts
    )  # fmt: skip
    return {"content": body + b"--b--\r\n", "headers": {"Content-Type": f"multipart/form-data; boundary={boundary}"}}


WRONG: list[tuple[str, dict[str, Any], int, str]] = [
    ("no file", form(("title", b"x")), 400, "broken_multipart"),
    ("two files", form(("file", text(9)), ("file", text(9))), 400, "broken_multipart"),
    ("another boundary", form(("file", text(9)), boundary="c"), 400, "broken_multipart"),
    ("no boundary", form(("file", text(9)), boundary=""), 400, "broken_multipart"),
    ("cut off", {**form(("file", text(9))), "content": form(("file", text(9)))["content"][:-9]}, 400, "broken_multipart"),
    ("an unknown field", form(("file", text(9)), ("colour", b"red")), 400, "invalid_parameter"),
    ("public of another kind", form(("file", text(9)), ("public", b"maybe")), 400, "invalid_parameter"),
    ("another digest", form(("sha256", b"0" * 64), ("file", text(9))), 422, "digest_mismatch"),
    ("too large", form(("file", text(200_000))), 413, "too_large"),
    ("empty", {"content": b"", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}, 400, "broken_multipart"),
]


@pytest.mark.parametrize(("sent", "status", "code"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_a_wrong_form_is_refused_as_under_v1(server: Served, sent: dict[str, Any], status: int, code: str) -> None:
    for path in ("/v1/media", "/media/upload", "/media"):
        answer = server.client.post(path, content=sent["content"], headers={**sent["headers"], **server.auth()})
        assert (answer.status_code, answer.json()["code"]) == (status, code), path
        assert answer.headers["content-type"] == "application/problem+json"
        assert server.client.post(path, content=sent["content"], headers=sent["headers"]).status_code == 401


def test_only_a_form_is_taken(server: Served) -> None:
    for headers in ({}, {"Content-Type": "application/json"}, {"Content-Type": "image/png"}):
        answer = server.client.post("/media/upload", content=picture(), headers={**headers, **server.auth()})
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
        assert server.client.post("/media/upload", content=b"{}", headers=headers).status_code == 401
    reader = server.auth("carol", "read")
    assert server.client.post("/media/upload", files={"file": picture()}, headers=reader).json()["code"] == "insufficient_scope"


def test_bytes_that_are_here_are_told_by_their_id(server: Served) -> None:
    body = picture()
    first = server.client.post("/media/upload", files={"file": body}, headers=server.auth()).json()
    again = server.client.post("/media/upload", files={"file": body}, headers=server.auth())
    assert (again.status_code, again.json()) == (200, first)
    assert server.upload(body)["id"] == first["mediaFileId"]
    keyed = {**server.auth(), "Idempotency-Key": f"compat {next(_numbers)}"}
    assert server.client.post("/media/upload", files={"file": body}, headers=keyed).json() == first
    other = server.client.post("/media/upload", files={"file": picture()}, headers=keyed)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")


def alike(one: httpx.Response, two: httpx.Response) -> bool:
    if (one.status_code, one.headers.get("etag")) != (two.status_code, two.headers.get("etag")):
        return False
    return one.content == two.content if one.is_success else bool(one.json()["code"] == two.json()["code"])


def test_the_models_verbs_answer_as_under_v1(server: Served) -> None:
    made = server.client.post("/media", content=picture(), params={"title": "x"}, headers=server.auth())
    assert made.status_code == 201
    media = made.json()["id"]
    for path in (f"/{media}", f"/{media}/variants", f"/{media}/tasks", f"?cursor={media}", "?limit=0", f"/{NOBODY}", f"/{NOBODY}/tasks"):
        within(10, lambda path=path: alike(get(server, f"/media{path}"), get(server, f"/v1/media{path}")))  # jobs may end between the two
    form = server.client.post(f"/media/{media}/variants", json={"variant": "thumb"}, headers=server.auth())
    assert (form.status_code, form.json()["variant"]) == (200, "thumb")
    task = server.client.post(f"/media/{media}/tasks/nothing", headers=server.auth())
    assert (task.status_code, task.json()["code"]) == (404, "not_found")
    assert get(server, f"/media/tasks/{NOBODY}").status_code == 404
    assert get(server, "/media/upload").status_code == 405
