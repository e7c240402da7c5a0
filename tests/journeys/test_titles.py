"""Titles over real sockets: who sees and changes them, what is refused and how, what a deletion takes along, and two who want the same at once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import pytest

from mediacdn.client import Client
from mediacdn.errors import MediaHeld, NotEmpty, NotFound
from tests.services import distribution
from tests.services.command import within
from tests.services.samples import png
from tests.services.served import Served, served
from tests.services.streams import publish

TOML = """
plugins = ["local", "jwt", "titles"{more}]
[limits]
uploads_per_second = 0
[lifecycle]
sweep_every = 0.3
[auth]
private_read = "{reads}"
{authorizer}
"""
PLUGIN = """
from contextlib import asynccontextmanager
from msgspec import Struct
from mediacdn import Driver, hookimpl


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Friends:
    async def allows(self, principal, action, card):
        return (action == "read" and principal.id == "friend") or (None if principal.id == card.owner else False)


@asynccontextmanager
async def friends(config, kit):
    yield Friends()


@hookimpl
def mediacdn_drivers():
    return [Driver("authorizer", "friends", Settings, friends)]
"""
NOBODY = "01BX5ZZKBKACTAV9WEVGEMMVS0"
_numbers = iter(range(1, 100_000))


def install(folder: Path) -> dict[str, str]:
    """The environment in which a server finds the plugin `friends`."""
    return distribution.install(folder, "friends", PLUGIN)


@pytest.fixture(scope="module")
def any_reads(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("titles"), TOML.format(reads="any", more="", authorizer=""), arguments=()) as running:
        yield running


@pytest.fixture(scope="module")
def owner_reads(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("titles"), TOML.format(reads="owner", more="", authorizer="")) as running:
        yield running


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("titles")
    toml = TOML.format(reads="owner", more=', "friends"', authorizer='authorizer = "friends"')
    with served(folder / "data", toml, environ=install(folder / "site")) as running:
        yield running


def film(server: Served, sub: str = "alice", **params: str) -> str:
    return str(server.upload(png(8, 8, f"title {next(_numbers)}".encode()), sub=sub, **params)["id"])


def made(server: Served, path: str, sub: str = "alice", **body: Any) -> dict[str, Any]:
    answer = server.client.post(path, json=body, headers=server.auth(sub))
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    assert answer.headers["location"].endswith("/" + found["id"])
    return found


def movie(server: Served, media: str | None = None, **body: Any) -> dict[str, Any]:
    return made(server, "/v1/movies", **{"title": "Up", "media_id": media or film(server), **body})


def season(server: Served, number: int = 1, **body: Any) -> dict[str, Any]:
    return made(server, f"/v1/series/{made(server, '/v1/series', title='Loops', **body)['id']}/seasons", number=number)


def get(server: Served, path: str, who: str | None = "alice", scope: str = "write") -> httpx.Response:
    return server.client.get(path, headers={} if who is None else server.auth(who, scope))


def ids(server: Served, path: str, who: str | None = "alice", scope: str = "write") -> list[str]:
    """The ids of a listing, page for page."""
    seen: list[str] = []
    cursor = ""
    while True:
        answer = get(server, f"{path}?limit=2{cursor}", who, scope)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert len(page["items"]) <= 2
        seen += [each["id"] for each in page["items"]]
        if page["next"] is None:
            return seen
        cursor = f"&cursor={page['next']}"


def test_a_movie_from_its_media_to_its_stream(any_reads: Served) -> None:
    media = film(any_reads)
    first = movie(any_reads, media, title="Growth", description="A plot\nthickens", release_date="2026-11-21")
    assert first.keys() == {
        "id", "owner", "title", "description", "release_date", "media_id", "status", "manifest_url", "created_at", "updated_at",
    }  # fmt: skip
    assert (first["owner"], first["release_date"], first["status"], first["manifest_url"]) == ("alice", "2026-11-21", "READY", None)
    publish(any_reads.data, media, {"master.m3u8": b"#EXTM3U"}, "hls")
    now = get(any_reads, f"/v1/movies/{first['id']}").json()
    assert now == {**first, "manifest_url": f"/v1/media/{media}/hls/master.m3u8"}
    assert get(any_reads, now["manifest_url"]).text == "#EXTM3U"
    changed = any_reads.client.patch(
        f"/v1/movies/{first['id']}", json={"title": "Decay", "description": None}, headers=any_reads.auth()
    ).json()
    assert (changed["title"], changed["description"], changed["release_date"]) == ("Decay", None, "2026-11-21")
    assert changed["updated_at"] > first["updated_at"]
    assert any_reads.client.delete(f"/v1/movies/{first['id']}", headers=any_reads.auth()).status_code == 204
    assert get(any_reads, f"/v1/movies/{first['id']}").status_code == 404
    assert get(any_reads, f"/v1/media/{media}").status_code == 200, "the media stays"
    movie(any_reads, media)


def test_a_series_in_its_order(any_reads: Served) -> None:
    above = made(any_reads, "/v1/series", title="Loops", description="Again", public=True)
    assert above.keys() == {"id", "owner", "public", "title", "description", "created_at", "updated_at"}
    path = f"/v1/series/{above['id']}/seasons"
    seasons = {number: made(any_reads, path, number=number) for number in (10, 2, 0)}
    assert seasons[2].keys() == {"id", "series_id", "number", "created_at", "updated_at"}
    assert ids(any_reads, path, None) == [seasons[number]["id"] for number in (0, 2, 10)]
    path = f"/v1/seasons/{seasons[2]['id']}/episodes"
    episodes = {
        number: made(
            any_reads, path, number=number, title=f"No. {number}", media_id=film(any_reads, public="true" if number % 2 else "false")
        )
        for number in (7, 30, 1, 4)
    }
    assert episodes[7].keys() == {
        "id", "season_id", "number", "title", "media_id", "status", "manifest_url", "created_at", "updated_at",
    }  # fmt: skip
    assert ids(any_reads, path) == [episodes[number]["id"] for number in (1, 4, 7, 30)]
    assert ids(any_reads, path, None) == [episodes[number]["id"] for number in (1, 7)], "those of public media"
    changes = {"number": 3, "title": None}
    changed = any_reads.client.patch(f"/v1/episodes/{episodes[30]['id']}", json=changes, headers=any_reads.auth()).json()
    assert (changed["number"], changed["title"], changed["media_id"]) == (3, None, episodes[30]["media_id"])
    moved = any_reads.client.patch(f"/v1/seasons/{seasons[10]['id']}", json={"number": 1}, headers=any_reads.auth()).json()
    assert (moved["number"], moved["series_id"]) == (1, above["id"])
    assert get(any_reads, f"/v1/seasons/{seasons[0]['id']}", None).json() == seasons[0]


def test_movies_are_listed_newest_first(any_reads: Served) -> None:
    made = [movie(any_reads)["id"] for _ in range(5)]
    assert ids(any_reads, "/v1/movies")[:5] == made[::-1]


# Who may


@pytest.mark.parametrize(
    ("which", "who", "scope", "private", "public"),
    [
        ("any_reads", None, "", 401, 200),
        ("any_reads", "alice", "write", 200, 200),
        ("any_reads", "bob", "write", 200, 200),
        ("owner_reads", None, "", 401, 200),
        ("owner_reads", "alice", "write", 200, 200),
        ("owner_reads", "bob", "write", 404, 200),
        ("owner_reads", "root", "admin", 200, 200),
        ("asking", None, "", 401, 200),
        ("asking", "alice", "write", 200, 200),
        ("asking", "friend", "read", 200, 200),
        ("asking", "bob", "write", 404, 200),
    ],
)
def test_who_sees(request: pytest.FixtureRequest, which: str, who: str | None, scope: str, private: int, public: int) -> None:
    server = request.getfixturevalue(which)
    inside = season(server, public=True)
    for number, (visible, expected) in enumerate((("false", private), ("true", public))):
        one = movie(server, film(server, public=visible))
        part = made(server, f"/v1/seasons/{inside['id']}/episodes", number=number, media_id=film(server, public=visible))
        for title in (f"/v1/movies/{one['id']}", f"/v1/episodes/{part['id']}"):
            assert get(server, title, who, scope).status_code == expected, title
        if who != "friend":  # of whom only the authorizer knows; what others may not read is not even asked for
            assert (one["id"] in ids(server, "/v1/movies", who, scope)) is (expected == 200)
            assert (part["id"] in ids(server, f"/v1/seasons/{inside['id']}/episodes", who, scope)) is (expected == 200)


@pytest.mark.parametrize(
    ("which", "who", "scope", "private"),
    [
        ("any_reads", None, "", 401),
        ("any_reads", "bob", "write", 200),
        ("owner_reads", None, "", 401),
        ("owner_reads", "bob", "write", 404),
        ("owner_reads", "alice", "write", 200),
        ("owner_reads", "root", "admin", 200),
    ],
)
def test_who_sees_a_series(request: pytest.FixtureRequest, which: str, who: str | None, scope: str, private: int) -> None:
    server = request.getfixturevalue(which)
    for public, expected in ((False, private), (True, 200)):
        inside = season(server, public=public)
        above = inside["series_id"]
        paths = [
            f"/v1/series/{above}",
            f"/v1/series/{above}/seasons",
            f"/v1/seasons/{inside['id']}",
            f"/v1/seasons/{inside['id']}/episodes",
        ]
        assert [get(server, path, who, scope).status_code for path in paths] == [expected] * 4
        assert (above in ids(server, "/v1/series", who, scope)) is (expected == 200)


@pytest.mark.parametrize(
    ("which", "who", "scope", "expected"),
    [
        ("any_reads", None, "", 401),
        ("any_reads", "alice", "read", 403),
        ("any_reads", "bob", "write", 403),
        ("any_reads", "root", "admin", 200),
        ("any_reads", "alice", "write", 200),
        ("owner_reads", "bob", "write", 404),
        ("owner_reads", "alice", "write", 200),
    ],
)
def test_who_changes(request: pytest.FixtureRequest, which: str, who: str | None, scope: str, expected: int) -> None:
    server = request.getfixturevalue(which)
    inside = season(server)
    one, part = movie(server), made(server, f"/v1/seasons/{inside['id']}/episodes", number=1, media_id=film(server))
    headers = {} if who is None else server.auth(who, scope)
    paths = [f"/v1/movies/{one['id']}", f"/v1/episodes/{part['id']}", f"/v1/seasons/{inside['id']}", f"/v1/series/{inside['series_id']}"]
    for path in paths:
        assert server.client.patch(path, json={}, headers=headers).status_code == expected, path
    for path in (f"/v1/series/{inside['series_id']}/seasons", f"/v1/seasons/{inside['id']}/episodes"):
        body = {"number": 2, **({"media_id": film(server)} if path.endswith("episodes") else {})}
        assert server.client.post(path, json=body, headers=headers).status_code == (201 if expected == 200 else expected), path
    for path in paths:
        answer = server.client.delete(path, params={"recursive": "true"}, headers=headers)
        assert answer.status_code == (204 if expected == 200 else expected), path


def test_nobody_takes_another_ones_media(any_reads: Served, owner_reads: Served) -> None:
    for server, expected in ((any_reads, 403), (owner_reads, 404)):
        theirs, inside, own = film(server, "bob"), season(server), movie(server)
        auth = server.auth()
        assert server.client.post("/v1/movies", json={"title": "x", "media_id": theirs}, headers=auth).status_code == expected
        body = {"number": 1, "media_id": theirs}
        assert server.client.post(f"/v1/seasons/{inside['id']}/episodes", json=body, headers=auth).status_code == expected
        assert server.client.patch(f"/v1/movies/{own['id']}", json={"media_id": theirs}, headers=auth).status_code == expected
        movie(server, theirs, sub="bob")  # it is still free


# What is refused

WRONG: list[tuple[str, str, dict[str, Any], int, str]] = [
    ("POST", "/v1/movies", {"media_id": "MEDIA"}, 400, "invalid_parameter"),
    ("POST", "/v1/movies", {"title": "x"}, 400, "invalid_parameter"),
    ("POST", "/v1/movies", {"title": "", "media_id": "MEDIA"}, 400, "invalid_parameter"),
    ("POST", "/v1/movies", {"title": "  ", "media_id": "MEDIA"}, 400, "invalid_parameter"),
    ("POST", "/v1/movies", {"title": "a\u0000b", "media_id": "MEDIA"}, 400, "invalid_parameter"),
    ("POST", "/v1/movies", {"title": "x" * 501, "media_id": "MEDIA"}, 400, "invalid_parameter"),
    ("POST", "/v1/movies", {"title": "x", "media_id": "MEDIA", "description": "a\u0000b"}, 400, "invalid_parameter"),
    ("POST", "/v1/movies", {"title": "x", "media_id": "MEDIA", "release_date": "yesterday"}, 400, "invalid_parameter"),
    ("POST", "/v1/movies", {"title": "x", "media_id": "MEDIA", "release_date": "2026-02-30"}, 400, "invalid_parameter"),
    ("POST", "/v1/movies", {"title": "x", "media_id": "MEDIA", "owner": "bob"}, 400, "invalid_parameter"),
    ("POST", "/v1/movies", {"title": "x", "media_id": NOBODY}, 404, "not_found"),
    ("POST", "/v1/movies", {"title": "x", "media_id": "../etc"}, 404, "not_found"),
    ("POST", "/v1/movies", {"title": "x", "media_id": "HELD"}, 409, "media_held"),
    ("PATCH", "/v1/movies/MOVIE", {"title": None}, 400, "invalid_parameter"),
    ("PATCH", "/v1/movies/MOVIE", {"media_id": "HELD"}, 409, "media_held"),
    ("PATCH", f"/v1/movies/{NOBODY}", {}, 404, "not_found"),
    ("PATCH", "/v1/movies/a%00b", {}, 404, "not_found"),
    ("DELETE", f"/v1/movies/{NOBODY}", {}, 404, "not_found"),
    ("GET", "/v1/movies?limit=0", {}, 400, "invalid_parameter"),
    ("GET", "/v1/movies?cursor=%00", {}, 400, "invalid_parameter"),
    ("POST", "/v1/series", {}, 400, "invalid_parameter"),
    ("POST", f"/v1/series/{NOBODY}/seasons", {"number": 1}, 404, "not_found"),
    ("POST", "/v1/series/SERIES/seasons", {"number": -1}, 400, "invalid_parameter"),
    ("POST", "/v1/series/SERIES/seasons", {"number": 1.5}, 400, "invalid_parameter"),
    ("POST", "/v1/series/SERIES/seasons", {"number": 1}, 409, "number_taken"),
    ("GET", "/v1/series/SERIES/seasons?cursor=last", {}, 400, "invalid_parameter"),
    ("PATCH", "/v1/seasons/SECOND", {"number": 1}, 409, "number_taken"),
    ("POST", "/v1/seasons/SEASON/episodes", {"number": 2, "media_id": NOBODY}, 404, "not_found"),
    ("POST", "/v1/seasons/SEASON/episodes", {"number": 2, "media_id": "HELD"}, 409, "media_held"),
    ("POST", "/v1/seasons/SEASON/episodes", {"number": 1, "media_id": "MEDIA"}, 409, "number_taken"),
    ("POST", f"/v1/seasons/{NOBODY}/episodes", {"number": 1, "media_id": "MEDIA"}, 404, "not_found"),
    ("DELETE", "/v1/series/SERIES", {}, 409, "not_empty"),
    ("DELETE", "/v1/seasons/SEASON", {}, 409, "not_empty"),
    ("DELETE", "/v1/media/HELD", {}, 409, "media_held"),
    ("PUT", "/v1/movies", {}, 405, "method_not_allowed"),
]


@pytest.fixture(scope="module")
def named(any_reads: Served) -> dict[str, str]:
    first = season(any_reads)
    second = made(any_reads, f"/v1/series/{first['series_id']}/seasons", number=2)
    held = film(any_reads)
    made(any_reads, f"/v1/seasons/{first['id']}/episodes", number=1, media_id=held)
    one = movie(any_reads)["id"]
    return {
        "MEDIA": film(any_reads),
        "HELD": held,
        "MOVIE": one,
        "SERIES": first["series_id"],
        "SEASON": first["id"],
        "SECOND": second["id"],
    }


@pytest.mark.parametrize(("method", "path", "body", "status", "code"), WRONG)
def test_what_is_refused(
    any_reads: Served, named: dict[str, str], method: str, path: str, body: dict[str, Any], status: int, code: str
) -> None:
    for name, value in named.items():
        path = path.replace(name, value)
    body = {key: named.get(value, value) if isinstance(value, str) else value for key, value in body.items()}
    given = {"json": body} if method in ("POST", "PATCH", "PUT") else {}
    answer = any_reads.client.request(method, path, headers=any_reads.auth("root", "admin"), **given)  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert "regex" not in answer.text


def test_without_a_token_all_is_alike(any_reads: Served) -> None:
    """Private and unknown ones are 401 alike, and a body is not looked at before its sender is known."""
    paths = [
        f"/v1/movies/{movie(any_reads)['id']}",
        f"/v1/movies/{NOBODY}",
        "/v1/movies/x",
        f"/v1/series/{NOBODY}",
        f"/v1/episodes/{NOBODY}",
    ]
    assert {get(any_reads, path, None).status_code for path in paths} == {401}
    answer = any_reads.client.post("/v1/movies", content=b"{", headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


# What deletions mean


def test_a_media_that_a_title_holds_is_not_deleted_alone(any_reads: Served) -> None:
    root = any_reads.auth("root", "admin")
    media = film(any_reads)
    one = movie(any_reads, media)
    publish(any_reads.data, media, {"master.m3u8": b"#EXTM3U"}, "hls")  # what was made of it must survive the refusal
    refused = any_reads.client.delete(f"/v1/media/{media}", headers=root)
    assert (refused.status_code, refused.json()["held_by"]) == (409, f"/v1/movies/{one['id']}")
    assert get(any_reads, f"/v1/media/{media}/hls/master.m3u8").status_code == 200
    assert any_reads.client.delete(f"/v1/media/{media}", params={"with_title": "true"}, headers=root).status_code == 204
    assert [get(any_reads, path).status_code for path in (f"/v1/media/{media}", f"/v1/movies/{one['id']}")] == [404, 404]
    media = film(any_reads)
    one = movie(any_reads, media)
    assert any_reads.client.delete(f"/v1/movies/{one['id']}", headers=root).status_code == 204
    assert any_reads.client.delete(f"/v1/media/{media}", headers=root).status_code == 204


def test_a_series_with_seasons_goes_with_all_or_not_at_all(any_reads: Served) -> None:
    first = season(any_reads)
    media = [film(any_reads) for _ in range(3)]
    parts = [
        made(any_reads, f"/v1/seasons/{first['id']}/episodes", number=number, media_id=each)["id"] for number, each in enumerate(media)
    ]
    path = f"/v1/series/{first['series_id']}"
    assert any_reads.client.delete(path, headers=any_reads.auth()).json()["code"] == "not_empty"
    assert any_reads.client.delete(path, params={"recursive": "true"}, headers=any_reads.auth()).status_code == 204
    gone = [path, f"/v1/seasons/{first['id']}", *(f"/v1/episodes/{each}" for each in parts)]
    assert {get(any_reads, each).status_code for each in gone} == {404}
    for each in media:
        assert get(any_reads, f"/v1/media/{each}").status_code == 200
        movie(any_reads, each)


def test_a_title_answers_as_its_media_does(any_reads: Served) -> None:
    root, media = any_reads.auth("root", "admin"), film(any_reads)
    one = f"/v1/movies/{movie(any_reads, media)['id']}"
    any_reads.client.post(f"/v1/media/{media}/quarantine", json={"scope": "media"}, headers=root)
    assert (get(any_reads, one).status_code, get(any_reads, one, None).status_code) == (451, 401)
    assert one.rpartition("/")[2] not in ids(any_reads, "/v1/movies")
    any_reads.client.delete(f"/v1/media/{media}/quarantine", headers=root)
    assert get(any_reads, one).status_code == 200


def test_what_expires_leaves_its_title_to_its_owner(any_reads: Served) -> None:
    media = film(any_reads, expires_in="1")
    one = movie(any_reads, media)["id"]
    within(15, lambda: get(any_reads, f"/v1/movies/{one}").status_code == 410)
    assert one not in ids(any_reads, "/v1/movies")
    fresh = film(any_reads)
    changed = any_reads.client.patch(f"/v1/movies/{one}", json={"media_id": fresh}, headers=any_reads.auth())
    assert (changed.status_code, changed.json()["media_id"]) == (200, fresh)
    assert one in ids(any_reads, "/v1/movies")


@pytest.mark.anyio
async def test_the_client_has_verbs(any_reads: Served) -> None:
    async with Client(any_reads.url, any_reads.token("root", "admin")) as client:
        media = (await client.upload(png(8, 8, f"client {next(_numbers)}".encode()))).id
        above = await client.add_title("series", title="Loops")
        seasons = [await client.add_title("seasons", above["id"], number=number) for number in (2, 1)]
        part = await client.add_title("episodes", seasons[0]["id"], number=1, media_id=media)
        with pytest.raises(MediaHeld) as told:
            await client.add_title("movies", title="x", media_id=media, release_date=date(2026, 11, 21))
        assert told.value.extra["held_by"] == f"/v1/episodes/{part['id']}"
        with pytest.raises(MediaHeld):
            await client.delete(media)
        assert [each["number"] async for each in client.titles("seasons", above["id"])] == [1, 2]
        assert (await client.change_title("episodes", part["id"], title="Pilot"))["title"] == "Pilot"
        assert (await client.title("episodes", part["id"]))["media_id"] == media
        with pytest.raises(NotEmpty):
            await client.delete_title("series", above["id"])
        await client.delete(media, with_title=True)
        assert [each async for each in client.titles("episodes", seasons[0]["id"])] == []
        await client.delete_title("series", above["id"], recursive=True)
        with pytest.raises(NotFound):
            await client.title("series", above["id"])


# At the same time


def at_once(server: Served, asked: list[tuple[str, dict[str, Any]]]) -> list[tuple[int, str]]:
    """POST all of them on connections of their own; the statuses and codes."""

    def post(path: str, body: dict[str, Any]) -> tuple[int, str]:
        answer = httpx.post(server.url + path, json=body, headers=server.auth(), timeout=30, trust_env=False)
        return answer.status_code, answer.json().get("code", "")

    with ThreadPoolExecutor(len(asked)) as pool:
        return list(pool.map(lambda each: post(*each), asked))


def test_one_media_for_two_titles_at_once(any_reads: Served) -> None:
    inside = season(any_reads)
    for number in range(5):
        media = film(any_reads)
        asked: list[tuple[str, dict[str, Any]]] = [("/v1/movies", {"title": f"x{each}", "media_id": media}) for each in range(3)]
        asked += [(f"/v1/seasons/{inside['id']}/episodes", {"number": number * 10 + each, "media_id": media}) for each in range(3)]
        assert sorted(at_once(any_reads, asked)) == [(201, ""), *[(409, "media_held")] * 5]


def test_one_number_twice_at_once(any_reads: Served) -> None:
    inside = season(any_reads)
    for number in range(2, 6):
        asked: list[tuple[str, dict[str, Any]]] = [(f"/v1/series/{inside['series_id']}/seasons", {"number": number})] * 4
        assert sorted(at_once(any_reads, asked)) == [(201, ""), *[(409, "number_taken")] * 3]
        asked = [(f"/v1/seasons/{inside['id']}/episodes", {"number": number, "media_id": film(any_reads)}) for _ in range(4)]
        assert sorted(at_once(any_reads, asked)) == [(201, ""), *[(409, "number_taken")] * 3]
