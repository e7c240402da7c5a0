"""tus 1.0: what each clause of the protocol asks of the server, said over real sockets, to files and to a storage of parts."""

import base64
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.services.samples import png
from tests.services.served import served
from tests.uploads.conftest import OFFSET, Speaker, metadata

MIB = 1024 * 1024


def test_an_upload_in_three_requests(speaker: Speaker, content: bytes) -> None:
    """Core protocol; creation. Location, offsets, 204, and the media at the end."""
    url = speaker.url(speaker.begin(len(content), Upload_Metadata=metadata(filename="a.bin", title="A", filetype="", tags="x,y")))
    for start, stop in ((0, 1000), (1000, 200_000), (200_000, len(content))):
        assert speaker.head(url).headers["upload-offset"] == str(start)
        answer = speaker.patch(url, start, content[start:stop])
        assert (answer.status_code, answer.headers["upload-offset"], answer.content) == (204, str(stop), b"")
        assert answer.headers["tus-resumable"] == "1.0.0"
        assert "upload-expires" in answer.headers
    media = answer.headers["upload-media-id"]
    assert speaker.media(media) == content
    record = speaker.server.client.get(f"/v1/media/{media}/record", headers=speaker.server.auth()).json()
    assert (record["filename"], record["title"], record["tags"], record["owner"]) == ("a.bin", "A", ["x", "y"], "alice")
    assert record["digest"] == hashlib.sha256(content).hexdigest()
    told = speaker.server.client.get(url).json()
    assert (told["state"], told["media_id"], told["location"]) == ("done", media, f"/v1/media/{media}")
    assert not speaker.left(url)


def test_large_enough_for_parts(speaker: Speaker) -> None:
    """Several parts, requests that end within them, and a tail."""
    body = os.urandom(17 * MIB + 123)
    url = speaker.url(speaker.begin(len(body)))
    at = 0
    for size in (MIB, 7 * MIB, 3 * MIB, len(body)):
        answer = speaker.patch(url, at, body[at : at + size])
        assert answer.status_code == 204, answer.text
        at = min(at + size, len(body))
        assert speaker.head(url).headers["upload-offset"] == str(at)
    assert speaker.media(answer.headers["upload-media-id"]) == body
    assert not speaker.left(url)


def test_one_request_is_enough(speaker: Speaker, content: bytes) -> None:
    """Extension creation-with-upload."""
    answer = speaker.begin(len(content), body=content)
    assert (answer.status_code, answer.headers["upload-offset"]) == (201, str(len(content)))
    assert speaker.media(answer.headers["upload-media-id"]) == content
    half = speaker.begin(len(content) + 5, body=content)
    assert "upload-media-id" not in half.headers
    answer = speaker.patch(speaker.url(half), len(content), b"later")
    assert speaker.media(answer.headers["upload-media-id"]) == content + b"later"


def test_nothing_at_all(speaker: Speaker) -> None:
    answer = speaker.begin(0)
    assert answer.status_code == 201
    assert speaker.media(answer.headers["upload-media-id"]) == b""


def test_a_length_that_is_told_later(speaker: Speaker, content: bytes) -> None:
    """Extension creation-defer-length: HEAD says so until it is set, and then it may not be changed."""
    url = speaker.url(speaker.begin(None))
    assert speaker.head(url).headers["upload-defer-length"] == "1"
    assert speaker.patch(url, 0, content[:100]).status_code == 204
    assert "upload-length" not in speaker.head(url).headers
    assert speaker.patch(url, 100, content[100:200], Upload_Length=str(len(content))).status_code == 204
    head = speaker.head(url).headers
    assert (head["upload-length"], "upload-defer-length" in head) == (str(len(content)), False)
    assert speaker.patch(url, 200, content[200:], Upload_Length=str(len(content) + 1)).status_code == 400
    answer = speaker.patch(url, 200, content[200:])
    assert speaker.media(answer.headers["upload-media-id"]) == content


def checksum(body: bytes, name: str = "sha1") -> str:
    return f"{name} {base64.b64encode(hashlib.new(name, body).digest()).decode()}"


@pytest.mark.parametrize("name", ["sha1", "sha256", "md5"])
def test_checksums(speaker: Speaker, content: bytes, name: str) -> None:
    """Extension checksum: on a mismatch 460, and nothing of that request is kept."""
    body = content + os.urandom(6 * MIB)
    url = speaker.url(speaker.begin(len(body)))
    assert speaker.patch(url, 0, body[:1000], Upload_Checksum=checksum(body[:1000], name)).status_code == 204
    answer = speaker.patch(url, 1000, body[1000:], Upload_Checksum=checksum(body[1001:], name))
    assert (answer.status_code, answer.json()["code"]) == (460, "checksum_mismatch")
    assert speaker.head(url).headers["upload-offset"] == "1000"
    answer = speaker.patch(url, 1000, body[1000:], Upload_Checksum=checksum(body[1000:], name))
    assert speaker.media(answer.headers["upload-media-id"]) == body


@pytest.mark.parametrize("value", ["sha512 AAAA", "sha1 AAAA", "sha1", "sha1 !!!!", ""])
def test_checksums_that_are_none(speaker: Speaker, value: str) -> None:
    url = speaker.url(speaker.begin(10))
    assert speaker.patch(url, 0, b"0123456789", Upload_Checksum=value).status_code == 400
    assert speaker.head(url).headers["upload-offset"] == "0"


def test_termination(speaker: Speaker, content: bytes) -> None:
    """Extension termination: 204, and then the upload is gone with its bytes."""
    url = speaker.url(speaker.begin(len(content), body=content[:1000]))
    assert speaker.staged(url)
    answer = speaker.server.client.delete(url, headers=speaker.tus)
    assert (answer.status_code, answer.headers["tus-resumable"]) == (204, "1.0.0")
    assert speaker.head(url).status_code == 410
    assert speaker.patch(url, 1000, b"x").json()["code"] == "upload_gone"
    assert not speaker.left(url)


def test_concatenation(speaker: Speaker, content: bytes) -> None:
    """Extension concatenation: partial uploads become one, in the order of the list, and are nothing by themselves."""
    body = content + os.urandom(6 * MIB)
    pieces = [body[:1000], body[1000 : 2 * MIB], body[2 * MIB :]]
    urls = []
    for piece in pieces:
        answer = speaker.begin(len(piece), body=piece, Upload_Concat="partial")
        assert "upload-media-id" not in answer.headers
        urls.append(speaker.url(answer))
        assert speaker.head(urls[-1]).headers["upload-concat"] == "partial"
    final = speaker.begin(
        None, Upload_Concat=f"final;{urls[0]} {speaker.server.url}{urls[1]} {urls[2]}", Upload_Metadata=metadata(title="joined")
    )
    head = speaker.head(speaker.url(final)).headers
    assert head["upload-concat"].startswith("final;")
    assert head["upload-length"] == str(len(body))
    assert speaker.media(final.headers["upload-media-id"]) == body
    assert speaker.patch(speaker.url(final), len(body), b"x").status_code in (403, 409)
    assert not [each for url in [*urls, speaker.url(final)] for each in speaker.left(url)]


def test_what_cannot_be_joined(speaker: Speaker) -> None:
    whole, open_ = speaker.url(speaker.begin(3, body=b"abc")), speaker.url(speaker.begin(3, Upload_Concat="partial"))
    foreign = speaker.url(speaker.begin(3, body=b"abc", Upload_Concat="partial", sub="bob"))
    for url, status in ((whole, 400), (open_, 400), (foreign, 404), ("/v1/uploads/x", 404)):
        assert speaker.begin(None, Upload_Concat=f"final;{url}").status_code == status
    part = speaker.url(speaker.begin(3, body=b"abc", Upload_Concat="partial"))
    assert speaker.begin(None, Upload_Concat=f"final;{part} {speaker.server.url}{part}").status_code == 400, "once is enough"


def test_bytes_that_nobody_announced_count_for_the_rate(tmp_path: Path) -> None:
    """Neither of the upload's length nor of the request's there is a word; what came within the rate is kept."""

    def some(count: int) -> Iterator[bytes]:
        for _ in range(count):
            yield os.urandom(MIB)

    with served(tmp_path, "[limits]\nupload_bytes_per_second = 1000.0\nupload_bytes_burst = 6_000_000.0\n") as own:
        tus = {"Tus-Resumable": "1.0.0"}
        url = own.client.post("/v1/uploads", headers={**own.auth(), **tus, "Upload-Defer-Length": "1"}).headers["location"]
        answers = []
        for _ in range(4):
            offset = own.client.head(url, headers=tus).headers["upload-offset"]
            answers.append(own.client.patch(url, content=some(2), headers={**tus, "Upload-Offset": offset, "Content-Type": OFFSET}))
        assert [answer.status_code for answer in answers] == [204, 204, 429, 429]
        assert int(answers[-1].headers["retry-after"]) > 0
        assert 4 * MIB <= int(own.client.head(url, headers=tus).headers["upload-offset"]) <= 6_000_000


def test_what_is_under_way_counts_for_the_quota(tmp_path: Path) -> None:
    with served(tmp_path, "[limits]\nquota_per_owner = 3_000_000\n") as own:
        speaker = Speaker(own)
        first = speaker.url(speaker.begin(2 * MIB))
        for more in ({}, {"Upload_Concat": "partial"}):
            refused = speaker.begin(MIB, **more)
            assert (refused.status_code, refused.json()["code"]) == (403, "quota_exceeded")
        speaker.url(speaker.begin(MIB, sub="bob"))
        unknown = speaker.url(speaker.begin(None))
        assert speaker.patch(unknown, 0, bytes(MIB // 2)).status_code == 204
        refused = speaker.patch(unknown, MIB // 2, bytes(MIB))
        assert (refused.status_code, refused.json()["code"]) == (403, "quota_exceeded")
        assert speaker.head(unknown).headers["upload-offset"] == str(MIB // 2), "what had room is kept"
        assert own.client.delete(first, headers=speaker.tus).status_code == 204
        assert speaker.patch(unknown, MIB // 2, os.urandom(MIB)).status_code == 204
        parts = [speaker.url(speaker.begin(700_000, body=os.urandom(700_000), Upload_Concat="partial")) for _ in range(2)]
        assert speaker.begin(None, Upload_Concat=f"final;{' '.join(parts)}").status_code == 201, "they have their room"
        assert speaker.begin(500_000).status_code == 403


CREATIONS: list[tuple[str, dict[str, str], int, str]] = [
    ("the version: core", {"Tus-Resumable": "0.2.2"}, 412, "protocol_unknown"),
    ("no length: creation", {"Upload-Length": ""}, 400, "invalid_parameter"),
    ("a negative length: creation", {"Upload-Length": "-1"}, 400, "invalid_parameter"),
    ("no number: creation", {"Upload-Length": "1e3"}, 400, "invalid_parameter"),
    ("too large: creation, Tus-Max-Size", {"Upload-Length": "99000000000"}, 413, "too_large"),
    ("both lengths: creation-defer-length", {"Upload-Defer-Length": "1"}, 400, "invalid_parameter"),
    ("metadata: creation", {"Upload-Metadata": "title not/base64!"}, 400, "invalid_parameter"),
    ("metadata twice: creation", {"Upload-Metadata": "title YQ==,title YQ=="}, 400, "invalid_parameter"),
    ("a parameter that there is not", {"Upload-Metadata": "titel YQ=="}, 400, "invalid_parameter"),
    ("a digest that is none", {"Upload-Metadata": "sha256 YQ=="}, 400, "invalid_parameter"),
    ("concat: concatenation", {"Upload-Concat": "partially"}, 400, "invalid_parameter"),
    ("a body of another type", {"Content-Type": "image/png"}, 415, "unsupported_media_type"),
    ("an encoding", {"Content-Encoding": "gzip"}, 415, "content_encoding_refused"),
    ("no credentials", {"Authorization": ""}, 401, "unauthorized"),
]


@pytest.mark.parametrize(("fields", "status", "code"), [row[1:] for row in CREATIONS], ids=[row[0] for row in CREATIONS])
def test_creations_that_are_refused(speaker: Speaker, fields: dict[str, str], status: int, code: str) -> None:
    headers = {**speaker.server.auth(), **speaker.tus, "Upload-Length": "3", **fields}
    headers = {name: value for name, value in headers.items() if value}
    answer = speaker.server.client.post("/v1/uploads", content=b"abc" if "Content-Type" in fields else b"", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    if status == 412:
        assert answer.headers["tus-version"] == "1.0.0"


PATCHES: list[tuple[str, dict[str, str], int, str]] = [
    ("an offset behind: core", {"Upload-Offset": "3"}, 409, "offset_mismatch"),
    ("an offset ahead: core", {"Upload-Offset": "7"}, 409, "offset_mismatch"),
    ("no offset: core", {"Upload-Offset": ""}, 400, "invalid_parameter"),
    ("another type: core", {"Content-Type": "application/octet-stream"}, 415, "unsupported_media_type"),
    ("the version: core", {"Tus-Resumable": "2.0.0"}, 412, "protocol_unknown"),
    ("a token that is somebody else's", {"Authorization": "bob"}, 404, "not_found"),
]


@pytest.mark.parametrize(("fields", "status", "code"), [row[1:] for row in PATCHES], ids=[row[0] for row in PATCHES])
def test_patches_that_are_refused(speaker: Speaker, fields: dict[str, str], status: int, code: str) -> None:
    url = speaker.url(speaker.begin(100, body=b"abcde"))
    headers = {**speaker.tus, "Upload-Offset": "5", "Content-Type": OFFSET, **fields}
    if "Authorization" in fields:
        headers.update(speaker.server.auth("bob"))
    answer = speaker.server.client.patch(url, content=b"x", headers={name: value for name, value in headers.items() if value})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    if status == 409:
        assert answer.headers["upload-offset"] == "5"
    assert speaker.head(url).headers["upload-offset"] == "5"


def test_more_than_was_announced(speaker: Speaker) -> None:
    """A part out of range: 400 at once where it is told, and where it is not when it comes; what was promised can still be sent."""
    url = speaker.url(speaker.begin(10))
    assert speaker.patch(url, 0, b"x" * 11).status_code == 400
    assert speaker.head(url).headers["upload-offset"] == "0"
    assert speaker.patch(url, 0, iter([b"x" * 11])).status_code == 400
    assert speaker.patch(url, int(speaker.head(url).headers["upload-offset"]), b"0123456789").status_code == 204


def test_the_url_is_the_key(speaker: Speaker) -> None:
    """A foreign session is 404, as is one that never was; nothing of the secret is in the log."""
    url = speaker.url(speaker.begin(10))
    name, _, secret = url.rpartition("/")[2].partition(".")
    assert len(secret) == 43
    for wrong in (
        f"{name}.{secret[:-1]}{'A' if secret[-1] != 'A' else 'B'}",
        name,
        f"{name}.",
        f"{'0' * 26}.{secret}",
        f"{name}%2E{secret}",
    ):
        assert speaker.head(f"/v1/uploads/{wrong}").status_code == 404, wrong
    assert speaker.patch(url, 0, b"0123456789").status_code == 204, "no token is needed any more"
    time.sleep(0.1)
    assert not [line for line in speaker.server.log if secret in line]


def test_a_token_that_ran_out_stops_nothing(speaker: Speaker) -> None:
    token = speaker.server.token("alice", "write", "1s")
    begun = speaker.server.client.post("/v1/uploads", headers={"Authorization": f"Bearer {token}", **speaker.tus, "Upload-Length": "5"})
    if begun.status_code == 401:  # a slow machine
        begun = speaker.begin(5)
    time.sleep(1.1)
    answer = speaker.patch(speaker.url(begun), 0, b"later", Authorization=f"Bearer {token}x")
    assert answer.status_code == 204


def test_the_method_by_another_name(speaker: Speaker) -> None:
    """X-HTTP-Method-Override (core protocol)."""
    url = speaker.url(speaker.begin(5))
    headers = {**speaker.tus, "Upload-Offset": "0", "Content-Type": OFFSET, "X-HTTP-Method-Override": "PATCH"}
    assert speaker.server.client.post(url, content=b"abc", headers=headers).headers["upload-offset"] == "3"
    assert speaker.server.client.post(url, headers={**speaker.tus, "X-HTTP-Method-Override": "DELETE"}).status_code == 204
    assert speaker.server.client.post(url, headers=speaker.tus).status_code in (405, 410)


def test_options(speaker: Speaker) -> None:
    """Core protocol, OPTIONS; and a preflight (the Fetch standard)."""
    answer = speaker.server.client.options("/v1/uploads")
    assert answer.status_code == 204
    assert {"creation", "checksum", "termination", "expiration", "concatenation", "creation-with-upload", "creation-defer-length"} == set(
        answer.headers["tus-extension"].split(",")
    )
    assert (answer.headers["tus-version"], answer.headers["tus-max-size"]) == ("1.0.0", "32000000000")
    assert "sha1" in answer.headers["tus-checksum-algorithm"].split(",")
    assert "application/partial-upload" in answer.headers["accept-patch"]


def test_what_is_refused_at_the_end(speaker: Speaker, content: bytes) -> None:
    """The same verification as of any upload; the answer is given again to who asks again, and nothing is left."""
    url = speaker.url(speaker.begin(len(content), Upload_Metadata=metadata(sha256="0" * 64)))
    answers: list[httpx.Response] = [speaker.patch(url, 0, content), speaker.patch(url, len(content), b"")]
    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (422, "digest_mismatch")
    assert speaker.head(url).status_code == 422
    told: Any = speaker.server.client.get(url).json()
    assert (told["state"], told["code"]) == ("failed", "digest_mismatch")
    assert not speaker.left(url)


def test_types_are_judged_by_the_first_bytes(speaker: Speaker) -> None:
    url = speaker.url(speaker.begin(300_000, Upload_Metadata=metadata(filetype="video/mp4")))
    answer = speaker.patch(url, 0, png(100, 100) + os.urandom(20_000))
    assert (answer.status_code, answer.json()["code"]) == (415, "type_mismatch")
    assert speaker.patch(url, 0, b"x").status_code == 415


def test_a_twin_is_the_media_that_is_there(speaker: Speaker, content: bytes) -> None:
    first = speaker.server.upload(content)
    answer = speaker.begin(len(content), body=content)
    assert answer.headers["upload-media-id"] == first["id"]
    again = speaker.begin(len(content), body=content, Upload_Metadata=metadata(public="true"))
    assert again.headers["upload-media-id"] != first["id"]
    assert not speaker.left(speaker.url(answer)) + speaker.left(speaker.url(again))


def test_a_server_that_takes_no_direct_uploads(speaker: Speaker) -> None:
    answer = speaker.server.client.post("/v1/uploads/presigned", json={"size": 1}, headers=speaker.server.auth())
    assert (answer.status_code, answer.json()["code"]) == (409, "direct_uploads_off")
