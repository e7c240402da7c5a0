"""Purging over HTTP, what the cache tells of itself, and which rule of the cache decides."""

from pathlib import Path
from typing import Any

import pytest

from tests.services.samples import text
from tests.services.served import Served, served

RULES = """
[edge]
cdn_max_age = 600
grace = 60
[[edge.rules]]
type = "video/*"
[[edge.rules]]
name = "tagged"
tag = "hot"
tiers = ["memory"]
ttl = 30
pin = true
[[edge.rules]]
name = "late"
public = false
admit = "second-hit"
"""


def generation(server: Served, media: str) -> int:
    told = server.client.get(f"/v1/media/{media}/explain", headers=server.auth("root", "admin")).json()
    return int(told["generation"])


def purge(server: Served, wish: dict[str, Any], code: int = 200) -> Any:
    answer = server.client.post("/v1/admin/purge", json=wish, headers=server.auth("root", "admin"))
    assert answer.status_code == code, answer.text
    return answer.json()


def test_one_media_some_and_those_of_a_tag(server: Served) -> None:
    one, two, three = (server.upload(text(100 + number), tags="purge-me" if number else "")["id"] for number in range(3))
    before = {media: generation(server, media) for media in (one, two, three)}
    moved = lambda: {media: generation(server, media) - before[media] for media in before}  # noqa: E731
    assert purge(server, {"media": one}) == {"purged": 1}
    assert moved() == {one: 1, two: 0, three: 0}
    assert purge(server, {"media": [one, two, one, "01ARZ3NDEKTSV4RRFFQ69G5FAV", "no id"]}) == {"purged": 2}
    assert moved() == {one: 2, two: 1, three: 0}
    assert purge(server, {"tags": ["purge-me", "nobody-has-this"]}) == {"purged": 2}
    assert moved() == {one: 2, two: 2, three: 1}
    assert purge(server, {"media": "01ARZ3NDEKTSV4RRFFQ69G5FAV"}) == {"purged": 0}
    assert server.client.get(f"/v1/media/{one}", headers=server.auth()).content == text(100)


def test_everything(server: Served) -> None:
    media = server.upload(text(400), public="true")["id"]

    def status() -> str:
        return str(server.client.get(f"/v1/media/{media}").headers["cache-status"])

    assert "fwd=" in status()
    assert "; hit" in status()
    assert purge(server, {"all": True}) == {"purged": None}
    assert "fwd=" in status()
    assert "; hit" in status()


@pytest.mark.parametrize(
    "wish",
    [
        {},
        {"all": False},
        {"media": []},
        {"media": ""},
        {"tags": []},
        {"tags": "cats"},
        {"media": "x", "tags": ["y"]},
        {"media": "x", "all": True},
        {"media": "x", "all": False},
        {"everything": True},
        {"media": 1},
        {"media": None},
    ],
)
def test_exactly_one_of_three(server: Served, wish: dict[str, Any]) -> None:
    assert purge(server, wish, 400)["code"] in ("invalid_parameter", "bad_request")


def test_purging_and_looking_in_is_for_administrators(server: Served) -> None:
    media = server.upload(text(300))["id"]
    before = generation(server, media)
    for headers, code in (({}, 401), (server.auth(), 403)):
        assert server.client.post("/v1/admin/purge", json={"media": media}, headers=headers).status_code == code
        assert server.client.get("/v1/admin/cache", headers=headers).status_code == code
    assert generation(server, media) == before


def test_what_the_tiers_hold(server: Served) -> None:
    answer = server.client.get("/v1/admin/cache", headers=server.auth("root", "admin"))
    assert answer.headers["cache-control"] == "no-store"
    assert {"entries", "bytes", "limit", "eviction", "hits", "misses", "evictions"} == answer.json()["memory"].keys()


@pytest.mark.parametrize(
    ("upload", "decided", "freshness"),
    [
        (
            {"tags": "hot"},
            {"rule": "tagged", "because": "tag hot", "tiers": ["memory"], "ttl": 30.0, "grace": 60.0, "pinned": True},
            {"cache_control": "private, max-age=60"},
        ),
        (
            {},
            {"rule": "late", "because": "private; kept from the second request on", "tiers": [], "ttl": 86400.0, "pinned": False},
            {"cache_control": "private, max-age=60"},
        ),
        (
            {"public": "true"},
            {"rule": "default", "because": "no rule holds", "tiers": ["memory"]},
            {
                "cache_control": "public, max-age=86400, immutable",
                "cdn_cache_control": "public, max-age=600, stale-while-revalidate=60, stale-if-error=60",
            },
        ),
    ],
)
def test_explaining_names_the_rule(tmp_path: Path, upload: dict[str, str], decided: dict[str, Any], freshness: dict[str, str]) -> None:
    with served(tmp_path / "data", RULES) as server:
        media = server.upload(text(7), **upload)["id"]
        told = server.client.get(f"/v1/media/{media}/explain", headers=server.auth("root", "admin")).json()
    assert {key: told["cache"][key] for key in decided} == decided
    assert told["freshness"] == freshness
    over = [{"rule": "1", "because": "type video/*"}, {"rule": "tagged", "because": "tag hot"}, {"rule": "late", "because": "private"}]
    assert (
        told["cache"]["passed_over"]
        == over[: [each["rule"] for each in over].index(decided["rule"]) if decided["rule"] != "default" else 3]
    )
