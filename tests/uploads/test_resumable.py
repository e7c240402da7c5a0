"""The IETF's resumable uploads (draft-ietf-httpbis-resumable-upload-10, interop version 8), clause by clause, on the same sessions as tus."""

import base64
import hashlib
import socket
from typing import Any

import httpx
import pytest

from tests.uploads.conftest import Speaker

PARTIAL = "application/partial-upload"


def begin(speaker: Speaker, body: bytes, complete: str, query: str = "", **fields: str) -> httpx.Response:
    told = {name.replace("_", "-"): value for name, value in fields.items()}
    return speaker.server.client.post(
        f"/v1/uploads{query}", content=body, headers={**speaker.server.auth(), "Upload-Complete": complete, **told}
    )


def append(speaker: Speaker, url: str, offset: int, body: Any, complete: str = "?0", **fields: str) -> httpx.Response:
    told = {name.replace("_", "-"): value for name, value in fields.items()}
    headers = {"Content-Type": PARTIAL, "Upload-Offset": str(offset), "Upload-Complete": complete, **told}
    return speaker.server.client.patch(url, content=body, headers=headers)


def test_the_whole_in_one_request(speaker: Speaker, content: bytes) -> None:
    """Section 4.2: the answer is that of the resource, with Upload-Complete: ?1."""
    answer = begin(speaker, content, "?1", "?title=Whole&tags=a,b", X_Media_Filename="a.bin")
    assert (answer.status_code, answer.headers["upload-complete"]) == (201, "?1")
    record = answer.json()
    assert (record["title"], record["filename"], record["digest"]) == ("Whole", "a.bin", hashlib.sha256(content).hexdigest())
    assert answer.headers["location"] == f"/v1/media/{record['id']}"
    assert begin(speaker, content, "?1").status_code == 200


def test_in_parts(speaker: Speaker, content: bytes) -> None:
    """Sections 4.2 to 4.4; completion is told, and not guessed from the length."""
    first = begin(speaker, content[:1000], "?0", Upload_Length=str(len(content)))
    url = first.headers["location"]
    assert (first.status_code, first.headers["upload-complete"], first.headers["upload-offset"]) == (201, "?0", "1000")
    assert "max-size=" in first.headers["upload-limit"]
    head = speaker.server.client.head(url)
    assert head.status_code in (200, 204)
    expected = {"upload-offset": "1000", "upload-complete": "?0", "upload-length": str(len(content)), "cache-control": "no-store"}
    assert expected.items() <= dict(head.headers).items()
    assert "max-age=" in head.headers["upload-limit"]
    middle = append(speaker, url, 1000, content[1000:])
    assert (middle.status_code, middle.headers["upload-complete"]) == (204, "?0")
    last = append(speaker, url, len(content), b"", "?1")
    assert (last.status_code, last.headers["upload-complete"]) == (201, "?1")
    assert speaker.media(last.json()["id"]) == content
    head = speaker.server.client.head(url)
    assert (head.headers["upload-complete"], head.headers["upload-media-id"]) == ("?1", last.json()["id"])
    assert append(speaker, url, len(content), b"", "?1").json()["id"] == last.json()["id"], "an answer that was lost is given again"
    assert append(speaker, url, len(content), b"more", "?1").status_code == 400


def test_without_a_length(speaker: Speaker, content: bytes) -> None:
    url = begin(speaker, b"", "?0").headers["location"]
    assert append(speaker, url, 0, iter([content[:500]])).status_code == 204
    assert "upload-length" not in speaker.server.client.head(url).headers
    assert speaker.media(append(speaker, url, 500, content[500:], "?1").json()["id"]) == content


def test_a_wrong_offset(speaker: Speaker, content: bytes) -> None:
    """Section 4.4: 409 with the right offset; section 7.1: the problem's type and members."""
    url = begin(speaker, content[:1000], "?0").headers["location"]
    for offset in (0, 999, 5000):
        answer = append(speaker, url, offset, b"xyz")
        assert (answer.status_code, answer.headers["upload-offset"]) == (409, "1000")
        told = answer.json()
        assert told["type"].endswith("#mismatching-upload-offset")
        assert (told["expected-offset"], told["provided-offset"]) == (1000, offset)


LENGTHS: list[tuple[str, str, bytes, str, dict[str, str]]] = [
    ("two of them in one request", "?1", b"abc", "?1", {"Upload_Length": "5"}),
    ("another than before", "?0", b"abc", "?0", {"Upload_Length": "9"}),
    ("less than was sent", "?0", b"abcdefghijkl", "?0", {}),
    ("completed short", "?0", b"abc", "?1", {}),
]


@pytest.mark.parametrize(("body", "complete", "fields"), [row[2:] for row in LENGTHS], ids=[row[0] for row in LENGTHS])
def test_lengths_that_contradict(speaker: Speaker, body: bytes, complete: str, fields: dict[str, str]) -> None:
    """Section 4.1.3 and section 7.3."""
    url = begin(speaker, b"", "?0", Upload_Length="10").headers["location"]
    answer = append(speaker, url, 0, body, complete, **fields)
    assert answer.status_code == 400, answer.text
    assert answer.json()["type"].endswith("#inconsistent-upload-length")


@pytest.mark.parametrize(
    "fields", [{"Upload-Complete": "1"}, {"Upload-Offset": "?1"}, {"Upload-Offset": "-1"}, {"Content-Type": "text/plain"}]
)
def test_fields_of_another_type_are_none(speaker: Speaker, fields: dict[str, str]) -> None:
    url = begin(speaker, b"", "?0").headers["location"]
    headers = {"Content-Type": PARTIAL, "Upload-Offset": "0", "Upload-Complete": "?0", **fields}
    answer = speaker.server.client.patch(url, content=b"x", headers=headers)
    assert answer.status_code == (415 if "Content-Type" in fields else 400)


def test_digests(speaker: Speaker, content: bytes) -> None:
    """RFC 9530: Repr-Digest is of the whole, Content-Digest of one request, of which nothing is kept when it is not so."""

    def digest(body: bytes) -> str:
        return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"

    url = begin(speaker, b"", "?0", Repr_Digest=digest(content)).headers["location"]
    answer = append(speaker, url, 0, content[:1000], Content_Digest=digest(content))
    assert (answer.status_code, answer.json()["code"]) == (422, "digest_mismatch")
    assert speaker.server.client.head(url).headers["upload-offset"] == "0"
    assert append(speaker, url, 0, content[:1000], Content_Digest=digest(content[:1000])).status_code == 204
    answer = append(speaker, url, 1000, content[1001:], "?1")
    assert (answer.status_code, answer.json()["code"], answer.headers["upload-complete"]) == (422, "digest_mismatch", "?1")


def test_cancellation(speaker: Speaker) -> None:
    url = begin(speaker, b"abc", "?0").headers["location"]
    assert speaker.server.client.delete(url).status_code == 204
    assert speaker.server.client.head(url).status_code == 410


@pytest.mark.parametrize(("version", "announced"), [("8", True), ("3", False), (None, False)])
def test_the_announcement(speaker: Speaker, content: bytes, version: str | None, announced: bool) -> None:
    """Section 5: 104 with the Location before anything else, for who understands this version of it, and for nobody else."""
    fields = f"Upload-Draft-Interop-Version: {version}\r\n" if version else ""
    head = (
        f"POST /v1/uploads HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {speaker.server.token()}\r\nUpload-Complete: ?1\r\n{fields}"
        f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    )
    heard = b""
    with socket.create_connection(("127.0.0.1", int(speaker.server.url.rpartition(":")[2])), timeout=10) as raw:
        raw.sendall(head.encode())
        if announced:
            while b"\r\n\r\n" not in heard:
                heard += raw.recv(65536)
            assert heard.startswith(b"HTTP/1.1 104 ")
            assert b"\r\nlocation: /v1/uploads/" in heard
            assert b"\r\nupload-draft-interop-version: 8\r\n" in heard
        raw.sendall(content)
        while piece := raw.recv(65536):
            heard += piece
    assert b"HTTP/1.1 201 " in heard
    assert (b"HTTP/1.1 104 " in heard) is announced


def test_both_languages_for_one_upload(speaker: Speaker, content: bytes) -> None:
    url = begin(speaker, content[:1000], "?0", Upload_Length=str(len(content))).headers["location"]
    assert speaker.head(url).headers["upload-offset"] == "1000"
    answer = speaker.patch(url, 1000, content[1000:])
    assert speaker.media(answer.headers["upload-media-id"]) == content


def test_neither_language(speaker: Speaker) -> None:
    answer = speaker.server.client.post("/v1/uploads", content=b"x", headers=speaker.server.auth())
    assert (answer.status_code, answer.json()["code"]) == (412, "protocol_unknown")
