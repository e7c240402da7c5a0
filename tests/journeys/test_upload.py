"""Uploading: what is stored, what is refused and how, and that a refusal keeps nothing."""

import base64
import hashlib
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.services.samples import binary, gif, html, png, text
from tests.services.served import Served, served


def stored_files(server: Served) -> set[Path]:
    return {each for each in (server.data / "objects").rglob("*") if each.is_file()}


def post(server: Served, body: bytes, headers: dict[str, str] | None = None, sub: str = "alice", **params: str) -> httpx.Response:
    return server.client.post("/v1/media", content=body, params=params, headers={**server.auth(sub), **(headers or {})})


def test_a_raw_upload_tells_all(server: Served, picture: bytes) -> None:
    answer = post(server, picture, {"Content-Type": "image/png"}, filename="a.png", title="A picture", tags="one,two", metadata='{"k":[1]}')
    assert answer.status_code == 201
    record = answer.json()
    assert answer.headers["location"] == f"/v1/media/{record['id']}" == record["urls"]["original"]
    expected = {
        "owner": "alice", "title": "A picture", "filename": "a.png", "public": False, "status": "READY", "error_message": None, "kind": "image",
        "media_type": "image/png", "size": len(picture), "digest": hashlib.sha256(picture).hexdigest(), "tags": ["one", "two"],
        "metadata": {"k": [1]}, "storage": "default", "source_id": None, "expires_at": None, "quarantined": False,
    }  # fmt: skip
    assert expected.items() <= record.items()
    assert record["etag"] == f"sha256:{record['digest']}"
    assert record["upload_time"] == record["created_at"]
    assert record["storage_key"] == f"originals/{record['id']}.png"
    names = """id owner title filename public status error_message kind media_type size digest etag width height duration frame_rate codecs placeholder facts
    tags metadata storage storage_key storage_etag source_id derivation_key relationship created_at updated_at expires_at quarantined upload_time urls"""
    assert set(record) == set(names.split())
    assert set(record["urls"]) == {"original", "thumb", "variants", "manifest", "download"}


@pytest.mark.parametrize("fields_last", [False, True])
def test_a_form_upload(server: Served, picture: bytes, fields_last: bool) -> None:
    """RFC 7578: the fields may stand before or after the file."""
    fields = [("public", (None, "true")), ("title", (None, "Tïtle")), ("sha256", (None, hashlib.sha256(picture).hexdigest()))]
    file: list[tuple[str, Any]] = [("file", ("pic.png", picture, "image/png"))]
    answer = server.client.post("/v1/media", files=file + fields if fields_last else fields + file, headers=server.auth())
    assert answer.status_code == 201, answer.text
    record = answer.json()
    assert (record["public"], record["title"], record["filename"]) == (True, "Tïtle", "pic.png")
    assert server.client.get(record["urls"]["original"]).content == picture


def test_parameters_as_headers(server: Served, picture: bytes) -> None:
    """RFC 8187 for text outside ASCII."""
    headers = {"X-Media-Title": "UTF-8''" + quote("Grüße"), "X-Media-Public": "true", "X-Media-Expires-In": "3600"}
    record = post(server, picture, headers).json()
    assert (record["title"], record["public"]) == ("Grüße", True)
    assert record["expires_at"] is not None


def test_duplicates(server: Served, picture: bytes) -> None:
    first = post(server, picture, title="first")
    again = post(server, picture, title="second", tags="x", sub="bob")
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["id"] == first.json()["id"]
    assert again.json()["title"] == "first"
    assert sorted(again.json()["ignored"]) == ["tags", "title"]
    assert again.json()["owner"] == "alice"


def test_a_public_and_a_private_twin_share_bytes_but_no_id(server: Served, picture: bytes) -> None:
    private = post(server, picture).json()
    before = stored_files(server)
    public = post(server, picture, public="true").json()
    assert private["id"] != public["id"]
    assert private["storage_key"] == public["storage_key"]
    assert stored_files(server) == before
    admin = server.auth("root", "admin")
    assert server.client.delete(f"/v1/media/{private['id']}", headers=admin).status_code == 204
    assert server.client.get(f"/v1/media/{public['id']}").content == picture
    assert server.client.delete(f"/v1/media/{public['id']}", headers=admin).status_code == 204
    assert len(stored_files(server)) == len(before) - 1


def test_many_at_once_are_one(server: Served, picture: bytes) -> None:
    """dangers.md 1.4: simultaneous uploads of the same bytes give one media and one object."""
    before = len(stored_files(server))
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: post(server, picture), range(48)))
    assert {answer.status_code for answer in answers} == {200, 201}
    assert sum(answer.status_code == 201 for answer in answers) == 1
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(stored_files(server)) == before + 1


def sha(body: bytes) -> str:
    return base64.b64encode(hashlib.sha256(body).digest()).decode()


DIGESTS = [
    ("Repr-Digest", lambda body: f"sha-256=:{sha(body)}:", 201),  # RFC 9530 section 3
    ("Content-Digest", lambda body: f"sha-256=:{sha(body)}:", 201),  # section 2
    ("X-Content-SHA256", lambda body: hashlib.sha256(body).hexdigest(), 201),
    ("Repr-Digest", lambda body: f"sha-256=:{sha(body + b'x')}:", 422),
    ("Content-Digest", lambda body: f"sha-256=:{sha(body + b'x')}:", 422),
    ("X-Content-SHA256", lambda body: "0" * 64, 422),
    ("X-Content-SHA256", lambda body: "rubbish", 400),
    ("Repr-Digest", lambda body: "sha-256=rubbish", 400),
    ("Repr-Digest", lambda body: "md5=:AAAA:", 201),  # another algorithm says nothing to us
]


@pytest.mark.parametrize(("name", "value", "status"), DIGESTS)
def test_declared_digests(server: Served, picture: bytes, name: str, value: Any, status: int) -> None:
    before = stored_files(server)
    answer = post(server, picture, {name: value(picture)})
    assert answer.status_code == status, answer.text
    if status != 201:
        assert answer.json()["code"] == {422: "digest_mismatch", 400: "invalid_parameter"}[status]
        assert stored_files(server) == before


def test_a_wrong_digest_in_a_form(server: Served, picture: bytes) -> None:
    before = stored_files(server)
    answer = server.client.post("/v1/media", files={"file": ("a", picture)}, data={"sha256": "0" * 64}, headers=server.auth())
    assert (answer.status_code, answer.json()["code"]) == (422, "digest_mismatch")
    assert stored_files(server) == before


TYPES = [
    (png(3, 3, b"t1"), "image/png", 201),
    (png(3, 3, b"t2"), "application/octet-stream", 201),
    (png(3, 3, b"t3"), "application/x-www-form-urlencoded", 201),
    (png(3, 3, b"t4"), "image/jpeg", 415),
    (png(3, 3, b"t5"), "text/html", 415),
    (html(b"t6"), "image/png", 415),
    (text(100, b"t7"), "text/csv", 201),
    (gif(b"t8"), "image/gif; charset=x", 201),
    (gif(b"t9"), "not a type", 400),
]


@pytest.mark.parametrize(("body", "declared", "status"), TYPES)
def test_the_type_comes_from_the_bytes(server: Served, body: bytes, declared: str, status: int) -> None:
    answer = post(server, body, {"Content-Type": declared})
    assert answer.status_code == status, answer.text
    if status == 415:
        assert answer.json()["code"] == "type_mismatch"


@pytest.mark.parametrize(
    ("body", "filename", "told"),
    [
        (b"name,price\ntea,3\n", "prices.csv", "text/csv; charset=utf-8"),
        ("name,price\nth\u00e9,3\n".encode("utf-16"), "prices.csv", "text/csv;charset=utf-16"),
        ("th\u00e9 vert".encode("utf-16"), "notes.txt", "text/plain;charset=utf-16"),
        ("th\u00e9 noir".encode(), "notes.txt", "text/plain; charset=utf-8"),
    ],
)
def test_text_says_its_charset_and_tables_that_they_are(server: Served, body: bytes, filename: str, told: str) -> None:
    media = server.upload(body, public="true", filename=filename)
    assert media["kind"] == "text"
    answer = server.client.get(f"/v1/media/{media['id']}")
    assert (answer.content, answer.headers["content-type"]) == (body, told)
    assert answer.headers["x-content-type-options"] == "nosniff"


PARAMETERS = [
    ({"publik": "true"}, "did you mean 'public'"),
    ({"public": "maybe"}, "true or false"),
    ({"expires_in": "-5"}, "positive"),
    ({"expires_in": "0"}, "positive"),
    ({"expires_at": "2001-01-01T00:00:00Z"}, "future"),
    ({"expires_at": "soon"}, "RFC 3339"),
    ({"expires_at": "2999-01-01T00:00:00"}, "zone"),
    ({"expires_at": "9999-12-31T23:59:59-12:00"}, "9999"),
    ({"metadata": '{"a":' + "[" * 64 + "]" * 64 + "}"}, "64 levels"),
    ({"metadata": "[1]"}, "JSON object"),
    ({"metadata": "{"}, "JSON object"),
    ({"tags": ",".join(map(str, range(100)))}, "tags"),
    ({"title": "x" * 501}, "500"),
]


@pytest.mark.parametrize(("params", "said"), PARAMETERS)
def test_wrong_parameters_say_what(server: Served, picture: bytes, params: dict[str, str], said: str) -> None:
    answer = post(server, picture, **params)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")
    assert said in answer.json()["detail"]


NAMES = ["../../etc/passwd", "a\x00b.png", "a\r\nSet-Cookie: x=1.png", "..", "\u202egnp.exe", "C:\\x\\y.png", "." * 300, "🙂" * 200]


@pytest.mark.parametrize("name", NAMES)
def test_hostile_names_are_harmless(server: Served, name: str) -> None:
    body = png(4, 4, name.encode())
    record = post(server, body, public="true", filename=name).json()
    assert ".." not in record["storage_key"]
    answer = server.client.get(f"/v1/media/{record['id']}")
    assert answer.content == body
    assert "set-cookie" not in answer.headers
    assert not any(ord(each) < 32 for each in answer.headers["content-disposition"])
    assert "/" not in (record["filename"] or "")


def test_too_large_is_said_before_the_body(server: Served) -> None:
    """413 at once: the body is announced and never sent."""
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=5) as raw:
        head = f"POST /v1/media HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token()}\r\nContent-Length: 99000000000\r\n\r\n"
        raw.sendall(head.encode())
        answer = raw.recv(65536)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"too_large"' in answer


@pytest.mark.parametrize("chunked", [False, True])
def test_the_limit_of_the_type_holds(server: Served, chunked: bool) -> None:
    """10 MB by default, although video may have 32 GB: known only after the sniff, or when the stream passes it."""
    before = stored_files(server)
    body = text(10_000_001, b"limit")
    content: Any = iter([body[at : at + 65536] for at in range(0, len(body), 65536)]) if chunked else body
    answer = server.client.post("/v1/media", content=content, headers=server.auth())
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert answer.json()["max_upload_size"] == 10_000_000
    assert stored_files(server) == before


def test_encoded_bodies_are_refused(server: Served, picture: bytes) -> None:
    answer = post(server, picture, {"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["code"]) == (415, "content_encoding_refused")


BOUNDARY = "b0und"


def form(*parts: bytes, end: bytes = b"--b0und--\r\n") -> bytes:
    return b"".join(b"--b0und\r\n" + part + b"\r\n" for part in parts) + end


FILE = b'Content-Disposition: form-data; name="file"; filename="a"\r\n\r\nhello multipart'
DIGEST = hashlib.sha256(b"hello multipart").hexdigest().encode()
FORMS = [
    ("no file", form(b'Content-Disposition: form-data; name="title"\r\n\r\nx'), 400),
    ("two files", form(FILE, FILE), 400),
    ("not ended", form(FILE, end=b""), 400),
    ("no boundary in the body", b"x" * 5000, 400),
    ("a part without a name", form(b"Content-Disposition: form-data\r\n\r\nx"), 400),
    ("50,000 parts", form(*[b'Content-Disposition: form-data; name="t"\r\n\r\nx'] * 50_000), 400),
    ("100 headers in a part", form(b"".join(b"X-%d: y\r\n" % n for n in range(100)) + FILE), 400),
    ("1 MB header in a part", form(b"X-A: " + b"y" * 1_000_000 + b"\r\n" + FILE), 400),
    ("5 MB preamble", b"z" * 5_000_000 + b"\r\n" + form(FILE), 400),
    ("unknown field", form(b'Content-Disposition: form-data; name="publik"\r\n\r\ntrue', FILE), 400),
    ("large field", form(b'Content-Disposition: form-data; name="title"\r\n\r\n' + b"x" * 100_000, FILE), 413),
    ("field not UTF-8", form(b'Content-Disposition: form-data; name="title"\r\n\r\n\xff\xfe', FILE), 400),
    ("two digests", form(*[b'Content-Disposition: form-data; name="sha256"\r\n\r\n' + DIGEST] * 2, FILE), 400),
    ("two names", form(*[b'Content-Disposition: form-data; name="filename"\r\n\r\nx'] * 2, FILE), 400),
    ("empty body", b"", 400),
]


@pytest.mark.parametrize(("body", "status"), [row[1:] for row in FORMS], ids=[row[0] for row in FORMS])
def test_broken_forms(server: Served, body: bytes, status: int) -> None:
    before = stored_files(server)
    answer = server.client.post(
        "/v1/media", content=body, headers={**server.auth(), "Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    )
    assert answer.status_code == status, answer.text
    assert answer.json()["code"] in ("broken_multipart", "invalid_parameter", "too_large")
    assert stored_files(server) == before


def test_a_form_that_ends_in_its_own_packet(server: Served) -> None:
    """A client may send the last line end alone; that is no fault."""
    body = form(b'Content-Disposition: form-data; name="file"; filename="a"\r\n\r\nalone at the end')
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=5) as raw:
        head = f"POST /v1/media HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token()}\r\nContent-Length: {len(body)}\r\n"
        raw.sendall((head + f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n").encode() + body[:-2])
        threading.Event().wait(0.3)
        raw.sendall(body[-2:])
        assert raw.recv(65536).startswith(b"HTTP/1.1 201 ")


class TestIdempotency:
    def test_a_retry_answers_the_same(self, server: Served, picture: bytes) -> None:
        key = {"Idempotency-Key": "retry-" + hashlib.sha256(picture).hexdigest()}
        first, again = post(server, picture, key), post(server, picture, key)
        assert (first.status_code, again.status_code) == (201, 201)
        assert first.json() == again.json()

    def test_another_body_is_refused(self, server: Served, picture: bytes) -> None:
        key = {"Idempotency-Key": "other-" + hashlib.sha256(picture).hexdigest()}
        assert post(server, picture, key).status_code == 201
        answer = post(server, picture + b"\x00", key)
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_mismatch")

    def test_a_key_is_the_principals_own(self, server: Served, picture: bytes) -> None:
        key = {"Idempotency-Key": "mine-" + hashlib.sha256(picture).hexdigest()}
        assert post(server, picture, key).status_code == 201
        assert post(server, png(2, 2, picture), key, sub="bob").status_code == 201

    def test_a_failed_request_frees_its_key(self, server: Served, picture: bytes) -> None:
        key = {"Idempotency-Key": "free-" + hashlib.sha256(picture).hexdigest()}
        assert post(server, picture, {**key, "X-Content-SHA256": "0" * 64}).status_code == 422
        assert post(server, picture, key).status_code == 201

    def test_in_flight(self, server: Served, picture: bytes) -> None:
        key = "flight-" + hashlib.sha256(picture).hexdigest()
        with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=5) as raw:
            head = f"POST /v1/media HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token()}\r\nContent-Length: {len(picture)}\r\n"
            raw.sendall((head + f"Idempotency-Key: {key}\r\n\r\n").encode() + picture[:10])
            threading.Event().wait(0.3)
            answer = post(server, picture, {"Idempotency-Key": key})
            assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_in_flight")
            raw.sendall(picture[10:])
            assert raw.recv(65536).startswith(b"HTTP/1.1 201 ")


def test_who_may_upload(server: Served, picture: bytes) -> None:
    assert server.client.post("/v1/media", content=picture).status_code == 401
    answer = post(server, picture, server.auth("carol", "read"))
    assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_scope")
    answer = server.client.post("/v1/media", content=picture, headers={"Authorization": "Bearer nonsense"})
    assert answer.status_code == 401
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


def test_a_client_that_leaves_keeps_nothing(server: Served) -> None:
    before = stored_files(server)
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=5) as raw:
        head = f"POST /v1/media HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token()}\r\nContent-Length: 5000000\r\n\r\n"
        raw.sendall(head.encode() + binary(2_500_000))
    for _ in range(50):
        threading.Event().wait(0.05)
        if stored_files(server) == before:
            break
    assert stored_files(server) == before


def test_limits_by_configuration(tmp_path: Path) -> None:
    toml = """
[limits]
max_upload_size = 1000
by_type = {"image/*" = 5000}
deny_types = ["text/html"]
allow_types = ["image/*", "text/*"]
quota_per_owner = 6000
uploads_per_second = 0.5
uploads_burst = 8
"""
    with served(tmp_path, toml) as own:
        assert post(own, text(1001)).status_code == 413
        assert post(own, text(999)).status_code == 201
        assert post(own, html()).json()["code"] == "type_not_allowed"
        assert post(own, binary(100)).json()["code"] == "type_not_allowed"
        assert post(own, png(35, 35)).status_code == 201
        answer = post(own, png(35, 36))
        assert (answer.status_code, answer.json()["code"]) == (403, "quota_exceeded")
        assert post(own, png(10, 10), sub="bob").status_code == 201
        codes = [post(own, png(2, 2, bytes([n]))).status_code for n in range(10)]
        assert 429 in codes
        refused = post(own, png(3, 3))
        assert refused.json()["code"] == "too_many_requests"
        assert int(refused.headers["retry-after"]) >= 1
        known = own.client.get("/.well-known").json()
        assert (known["max_upload_size"], known["storage_mode"]) == (1000, "local")


def test_metadata_round_trips(server: Served, picture: bytes) -> None:
    given = {"nested": {"list": [1, 2.5, None, True], "text": "ü\u0000\u2028"}, "big": 2**53}
    record = post(server, picture, metadata=json.dumps(given)).json()
    assert record["metadata"] == given


def test_a_client_that_leaves_is_no_failure(server: Served) -> None:
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=5) as raw:
        head = f"POST /v1/media?title=left HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token()}\r\nContent-Length: 99\r\n\r\nhalf"
        raw.sendall(head.encode())
    deadline = time.monotonic() + 5
    while not (told := [line for line in server.log if "title=left" in line]) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert json.loads(told[0])["status"] == 499
    assert not any("unexpected failure" in line and "ClientGone" in line for line in server.log)
