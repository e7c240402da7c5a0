"""REDbot, which holds a resource against the HTTP specifications, finds nothing BAD in what mediacdn answers."""

from typing import Any

import pytest

from tests.services.droid import examine
from tests.services.samples import html, png, text
from tests.services.served import Served

ACCEPTED = {
    # Without it a shared cache would not keep the answer to a request that carried a token (RFC 9111 section 3.5).
    "Cache-Control: public is probably not necessary.",
    # It takes any 'unsafe-inline' for scripts'; ours stands under style-src, and scripts fall to default-src 'none' and to sandbox.
    "Inline scripts are allowed.",
}


def found(server: Served, path: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """What REDbot says, after it was held against what nobody should have to read."""
    report = examine(server.url + path, headers)
    poor = [note for note in report["notes"] if note["level"] in ("BAD", "WARN") and note["summary"] not in ACCEPTED]
    assert not poor, "\n".join(f"{note['level']} {note['request']}: {note['summary']}" for note in poor)
    return report


@pytest.mark.parametrize(
    "body",
    [text(30_000, b"redbot"), png(64, 64, b"redbot"), html(b"redbot")],
    ids=["text", "image", "active"],
)
def test_a_public_original(server: Served, body: bytes) -> None:
    media = server.upload(body, public="true", filename="näme.txt")["id"]
    report = found(server, f"/v1/media/{media}")
    assert report["status"] == 200
    assert report["supports"] == {"ranges": True, "etag": True, "date": True}


def test_a_private_original(server: Served) -> None:
    media = server.upload(text(30_000, b"redbot private"))["id"]
    report = found(server, f"/v1/media/{media}", server.auth("reader", "read"))
    assert report["status"] == 200
    assert report["supports"] == {"ranges": True, "etag": True, "date": True}


@pytest.mark.parametrize("prefix", [False, True], ids=["query", "prefix"])
def test_a_signed_link(server: Served, prefix: bool) -> None:
    media = server.upload(text(30_000, b"redbot signed"))["id"]
    link = server.client.post(f"/v1/media/{media}/sign", json={"prefix": prefix}, headers=server.auth()).json()["url"]
    report = found(server, link)
    assert report["status"] == 200
    assert report["supports"] == {"ranges": True, "etag": True, "date": True}


def test_a_refusal(server: Served) -> None:
    assert found(server, "/v1/media/01ARZ3NDEKTSV4RRFFQ69G5FAV")["status"] == 401


def test_a_record(server: Served) -> None:
    media = server.upload(text(3000, b"redbot record"))["id"]
    assert found(server, f"/v1/media/{media}/record", server.auth())["status"] == 200


def test_the_description(server: Served) -> None:
    assert found(server, "/schema/openapi.json")["status"] == 200
