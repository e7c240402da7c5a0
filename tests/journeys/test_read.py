"""Reading: who may, which bytes, and every header of the answer, over a real socket."""

import base64
import hashlib
import re
from pathlib import Path

import pytest

from tests.services.samples import binary, html, png, svg, text
from tests.services.served import Served, served

UNKNOWN = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


@pytest.fixture(scope="module")
def body() -> bytes:
    return text(1000, b"reading")


@pytest.fixture(scope="module")
def public(server: Served, body: bytes) -> str:
    return server.upload(body, public="true", filename='näme "x".txt')["id"]


@pytest.fixture(scope="module")
def private(server: Served, body: bytes) -> str:
    return server.upload(body)["id"]


def test_a_public_media_carries_every_field(server: Served, public: str, body: bytes) -> None:
    answer = server.client.get(f"/v1/media/{public}")
    digest = hashlib.sha256(body)
    assert answer.status_code == 200
    assert answer.content == body
    fields = answer.headers
    assert fields["etag"] == f'"sha256:{digest.hexdigest()}"'
    assert fields["repr-digest"] == f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
    assert fields["content-type"] == "text/plain; charset=utf-8"
    assert fields["content-length"] == "1000"
    assert fields["accept-ranges"] == "bytes"
    assert fields["cache-control"] == "public, max-age=86400, immutable"
    assert fields["cache-status"].startswith("mediacdn; fwd=")
    assert fields["x-content-type-options"] == "nosniff"
    assert fields["cross-origin-resource-policy"] == "cross-origin"
    assert fields["access-control-allow-origin"] == "*"
    assert "Content-Range" in fields["access-control-expose-headers"]
    assert "last-modified" in fields
    assert fields["content-disposition"].startswith("inline")
    assert "filename*=UTF-8''n%C3%A4me" in fields["content-disposition"]


def test_a_private_media_is_never_for_shared_caches(server: Served, private: str, body: bytes) -> None:
    answer = server.client.get(f"/v1/media/{private}", headers=server.auth("bob", "read"))
    assert (answer.status_code, answer.content) == (200, body)
    assert answer.headers["cache-control"] == "private, max-age=60"


def test_private_and_unknown_answer_alike_without_credentials(server: Served, private: str) -> None:
    """api.md "Who": 401 with WWW-Authenticate for both, with the same body but for the request id."""
    answers = [server.client.get(f"/v1/media/{each}") for each in (private, UNKNOWN)]
    for answer in answers:
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.headers["content-type"] == "application/problem+json"
    stripped = [{name: value for name, value in each.json().items() if name != "request_id"} for each in answers]
    assert stripped[0] == stripped[1]


def test_an_unknown_id_is_404_to_a_token(server: Served) -> None:
    assert server.client.get(f"/v1/media/{UNKNOWN}", headers=server.auth()).status_code == 404


@pytest.mark.parametrize(
    "wrong", [UNKNOWN.lower(), UNKNOWN[:-1], UNKNOWN + "0", "8" + UNKNOWN[1:], "I" + UNKNOWN[1:], "..%2f..%2fetc%2fpasswd", "%00"]
)
def test_only_the_canonical_id_matches(server: Served, wrong: str) -> None:
    assert server.client.get(f"/v1/media/{wrong}", headers=server.auth()).status_code == 404


def test_head_equals_get_without_the_body(server: Served, public: str) -> None:
    server.client.get(f"/v1/media/{public}")  # from the edge from now on
    got, head = server.client.get(f"/v1/media/{public}"), server.client.head(f"/v1/media/{public}")
    assert head.content == b""
    changing = ("date", "x-request-id")
    assert {n: v for n, v in head.headers.items() if n not in changing} == {n: v for n, v in got.headers.items() if n not in changing}


RANGES = [
    # Range, status, Content-Range, slice; RFC 9110 section 14
    ("bytes=0-0", 206, "bytes 0-0/1000", slice(0, 1)),
    ("bytes=0-499", 206, "bytes 0-499/1000", slice(0, 500)),
    ("bytes=500-", 206, "bytes 500-999/1000", slice(500, 1000)),
    ("bytes=-1", 206, "bytes 999-999/1000", slice(999, 1000)),
    ("bytes=-5000", 206, "bytes 0-999/1000", slice(0, 1000)),
    ("bytes=990-99999", 206, "bytes 990-999/1000", slice(990, 1000)),
    ("bytes=0-99999999999999999999999999", 206, "bytes 0-999/1000", slice(0, 1000)),
    ("bytes=1000-", 416, "bytes */1000", None),
    ("bytes=-0", 416, "bytes */1000", None),
    ("bytes=5-4", 200, None, slice(0, 1000)),
    ("bytes=a-b", 200, None, slice(0, 1000)),
    ("bytes", 200, None, slice(0, 1000)),
    ("lines=0-5", 200, None, slice(0, 1000)),
]


@pytest.mark.parametrize(("value", "status", "content_range", "part"), RANGES)
def test_ranges(server: Served, public: str, body: bytes, value: str, status: int, content_range: str | None, part: slice | None) -> None:
    answer = server.client.get(f"/v1/media/{public}", headers={"Range": value})
    assert answer.status_code == status
    assert answer.headers.get("content-range") == content_range
    if part is not None:
        assert answer.content == body[part]
    else:
        assert answer.json()["code"] == "range_not_satisfiable"


def test_several_ranges_come_as_byteranges(server: Served, public: str, body: bytes) -> None:
    answer = server.client.get(f"/v1/media/{public}", headers={"Range": "bytes=0-1,300-301,-2"})
    assert answer.status_code == 206
    kind, _, boundary = answer.headers["content-type"].partition("; boundary=")
    assert kind == "multipart/byteranges"
    parts = re.findall(
        rb"Content-Range: bytes (\d+)-(\d+)/1000\r\n(?:[^\r\n]+\r\n)*\r\n(..)\r\n--" + boundary.encode(), answer.content, re.I | re.S
    )
    assert [(int(a), int(b), c) for a, b, c in parts] == [(0, 1, body[:2]), (300, 301, body[300:302]), (998, 999, body[-2:])]
    assert int(answer.headers["content-length"]) == len(answer.content)


def test_many_ranges_are_bounded(server: Served, public: str) -> None:
    """CVE-2011-3192: the answer is never much larger than the media."""
    answer = server.client.get(f"/v1/media/{public}", headers={"Range": "bytes=" + ",".join("0-" for _ in range(1300))})
    assert answer.status_code in (200, 206)
    assert len(answer.content) <= 1000 + 65536


def conditionals(etag: str, modified: str) -> list[tuple[dict[str, str], int]]:
    old, future = "Thu, 01 Jan 2015 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT"
    return [
        ({"If-None-Match": etag}, 304),
        ({"If-None-Match": f"W/{etag}"}, 304),
        ({"If-None-Match": f'"other", {etag}'}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": '"other"'}, 200),
        ({"If-None-Match": '"other"', "If-Modified-Since": modified}, 200),  # RFC 9110 section 13.1.3: ignored beside If-None-Match
        ({"If-Modified-Since": modified}, 304),
        ({"If-Modified-Since": old}, 200),
        ({"If-Modified-Since": "rubbish"}, 200),
        ({"If-Match": etag}, 200),
        ({"If-Match": "*"}, 200),
        ({"If-Match": f"W/{etag}"}, 412),  # strong comparison
        ({"If-Match": '"other"'}, 412),
        ({"If-Unmodified-Since": old}, 412),
        ({"If-Unmodified-Since": future}, 200),
        ({"If-Match": etag, "If-Unmodified-Since": old}, 200),  # section 13.2.2 step 1 wins over 2
        ({"If-Match": etag, "If-None-Match": etag}, 304),
        ({"Range": "bytes=0-1", "If-Range": etag}, 206),
        ({"Range": "bytes=0-1", "If-Range": '"other"'}, 200),
        ({"Range": "bytes=0-1", "If-Range": f"W/{etag}"}, 200),
        ({"Range": "bytes=0-1", "If-Range": old}, 200),
        ({"Range": "bytes=5000-", "If-Range": '"other"'}, 200),
        ({"Range": "bytes=5000-", "If-None-Match": etag}, 304),
    ]


def test_conditionals(server: Served, public: str) -> None:
    first = server.client.get(f"/v1/media/{public}")
    for headers, status in conditionals(first.headers["etag"], first.headers["last-modified"]):
        answer = server.client.get(f"/v1/media/{public}", headers=headers)
        assert answer.status_code == status, headers
        if status == 304:
            assert answer.content == b""
            assert answer.headers["etag"] == first.headers["etag"]
            assert answer.headers["cache-control"] == first.headers["cache-control"]


@pytest.mark.parametrize(("name", "make", "media_type"), [("page.html", html, "text/html"), ("art.svg", svg, "image/svg+xml")])
def test_active_types_never_run_here(server: Served, name: str, make: object, media_type: str) -> None:
    record = server.upload(make(b"active"), public="true", filename=name)  # type: ignore[operator]
    assert record["media_type"] == media_type
    answer = server.client.get(f"/v1/media/{record['id']}")
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_an_empty_media_is_a_media(server: Served) -> None:
    record = server.upload(b"", public="true")
    assert record["size"] == 0
    answer = server.client.get(f"/v1/media/{record['id']}")
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "0")
    assert server.client.get(f"/v1/media/{record['id']}", headers={"Range": "bytes=0-"}).status_code in (200, 416)


def test_unknown_methods_name_the_known(server: Served, public: str) -> None:
    answer = server.client.put(f"/v1/media/{public}")
    assert answer.status_code == 405
    assert {"GET", "HEAD", "DELETE"} <= set(re.split(", *", answer.headers["allow"]))
    assert answer.json()["code"] == "method_not_allowed"


def test_a_large_media_arrives_whole(server: Served) -> None:
    body = png(1500, 1500, b"large")
    record = server.upload(body, public="true")
    assert server.client.get(f"/v1/media/{record['id']}").content == body
    part = server.client.get(f"/v1/media/{record['id']}", headers={"Range": f"bytes=1000000-{len(body) - 7}"})
    assert part.content == body[1000000 : len(body) - 6]


def test_ranges_that_would_read_far_more_than_they_send_give_the_whole(tmp_path: Path) -> None:
    body = binary(40 * 65_536)
    with served(tmp_path, "[edge]\nslice_size = 65536\n") as own:
        path = f"/v1/media/{own.upload(body, public='true')['id']}"

        def asked(starts: range, length: int) -> int:
            ranges = ",".join(f"{start}-{start + length - 1}" for start in starts)
            return own.client.get(path, headers={"Range": f"bytes={ranges}"}).status_code

        assert asked(range(0, 40 * 65_536, 65_536), 1) == 200
        assert asked(range(0, 17 * 65_536, 65_536), 10) == 200
        assert asked(range(0, 16 * 65_536, 65_536), 1) == 206
        assert asked(range(0, 65_536, 1000), 1) == 206, "one slice"
        assert asked(range(0, 40 * 65_536, 65_536), 50_000) == 206, "most of what is read is sent"
