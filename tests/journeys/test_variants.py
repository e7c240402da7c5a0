"""Thumbnails, presets and ad-hoc variants over a real socket, with the worker beside the server: who may have them, what they are, and what they follow."""

import asyncio
import hashlib
import io
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.services.samples import text
from tests.services.served import Served, served

WEBP = {"Accept": "image/avif,image/webp,*/*;q=0.8"}
TOML = """
[variants.presets]
thumb = {w = 320, h = 320, fit = "inside", frame = 0}
small = {w = 64, h = 64, fit = "cover", format = "png"}
[variants]
max_per_media = 3
[jobs]
poll_every = 0.02
[limits]
uploads_per_second = 1000
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("served"), TOML, arguments=()) as running:
        yield running


def photo(width: int, height: int, colour: tuple[int, int, int], kind: str = "JPEG", orientation: int = 1) -> bytes:
    """A picture of one colour but for its top left quarter, which is white."""
    image = Image.new("RGB", (width, height), colour)
    image.paste((255, 255, 255), (0, 0, width // 2, height // 2))
    exif = image.getexif()
    exif[0x0112] = orientation
    kept = io.BytesIO()
    image.save(kept, kind, exif=exif)
    return kept.getvalue()


def shown(answer: httpx.Response) -> Image.Image:
    assert answer.status_code == 200, answer.text
    digest = hashlib.sha256(answer.content).hexdigest()
    assert answer.headers["etag"] == f'"sha256:{digest}"'
    assert int(answer.headers["content-length"]) == len(answer.content)
    return Image.open(io.BytesIO(answer.content))


def until(holds: Callable[[], Any], seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def signed(server: Served, media: str, variant: str, **wish: Any) -> str:
    answer = server.client.post(f"/v1/media/{media}/sign", json={"variant": variant, **wish}, headers=server.auth())
    assert answer.status_code == 200, answer.text
    url: str = answer.json()["url"]
    return url


def test_a_picture_is_looked_at_after_its_upload(server: Served) -> None:
    record = server.upload(photo(800, 400, (200, 30, 40), orientation=6))
    assert record["urls"]["thumb"] == f"/v1/media/{record['id']}/thumb"
    path = f"/v1/media/{record['id']}/record"
    now = until(lambda: (found := server.client.get(path, headers=server.auth()).json())["width"] and found)
    assert (now["width"], now["height"], now["status"]) == (400, 800, "READY")
    assert now["placeholder"]
    assert now["facts"]["frames"] == 1
    assert now["facts"]["has_alpha"] is False
    tasks = until(lambda: [each for each in _tasks(server, record["id"]) if each["code"] == "thumb@1" and each["status"] == "Completed"])
    made = tasks[0]["steps"][0]["output"]
    derived = server.client.get(f"/v1/media/{made}/record", headers=server.auth()).json()
    assert (derived["source_id"], derived["relationship"], derived["media_type"]) == (record["id"], "thumbnail", "image/webp")
    assert (derived["width"], derived["height"]) == (160, 320)
    listed = server.client.get("/v1/media", params={"limit": 100}, headers=server.auth()).json()["items"]
    assert made not in [each["id"] for each in listed], "a list is of what was uploaded"
    thumb = server.client.get(f"/v1/media/{record['id']}/thumb", headers={**server.auth(), **WEBP})
    assert thumb.headers["etag"] == f'"{derived["etag"]}"', "what the worker made is what is served"


def _tasks(server: Served, media: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = server.client.get(f"/v1/media/{media}/tasks", headers=server.auth()).json()["items"]
    return items


def test_before_anybody_looked_the_header_says_whether_it_is_transparent(tmp_path: Path) -> None:
    """There is no worker: a reader who takes neither WebP nor AVIF gets a photo as JPEG, and as PNG only what has transparent parts."""
    with served(tmp_path, TOML, arguments=("--no-worker",)) as own:
        for kind, mode, wanted in (
            ("WEBP", "RGB", "JPEG"),
            ("AVIF", "RGB", "JPEG"),
            ("PNG", "RGB", "JPEG"),
            ("WEBP", "RGBA", "PNG"),
            ("AVIF", "RGBA", "PNG"),
        ):
            kept = io.BytesIO()
            Image.new(mode, (320, 200), (20, 90, 160, 100)[: len(mode)]).save(kept, kind)
            media = own.upload(kept.getvalue(), public="true")
            assert media["facts"] == {}
            assert shown(own.client.get(f"/v1/media/{media['id']}/thumb")).format == wanted, (kind, mode)


def test_a_thumbnail_in_the_format_that_the_reader_takes(server: Served) -> None:
    media = server.upload(photo(640, 320, (20, 90, 160)), public="true", filename="sea.side.jpg")["id"]
    for accept, kind in ((WEBP["Accept"], "WEBP"), ("*/*", "JPEG"), ("image/png;q=0.1", "JPEG")):
        answer = server.client.get(f"/v1/media/{media}/thumb", headers={"Accept": accept})
        image = shown(answer)
        assert (image.format, image.size) == (kind, (320, 160))
        assert answer.headers["content-type"] == f"image/{kind.lower()}"
        assert answer.headers["x-media-width"] == "320"
        assert "Accept" in answer.headers.get_list("vary")
        assert f"sea.side.{'webp' if kind == 'WEBP' else 'jpg'}" in answer.headers["content-disposition"]
        pixel = image.convert("RGB").getpixel((300, 140))
        assert isinstance(pixel, tuple)
        assert all(abs(one - other) < 12 for one, other in zip(pixel, (20, 90, 160), strict=True))
    again = server.client.get(f"/v1/media/{media}/thumb", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    part = server.client.get(f"/v1/media/{media}/thumb", headers={"Range": "bytes=0-9"})
    assert (part.status_code, part.content) == (206, answer.content[:10])
    head = server.client.head(f"/v1/media/{media}/thumb")
    assert head.headers["etag"] == answer.headers["etag"]
    assert "Accept" not in server.client.get(f"/v1/media/{media}/v/small").headers.get_list("vary")


def test_presets_need_the_right_to_read_and_no_link(server: Served) -> None:
    media = server.upload(photo(300, 200, (9, 9, 9)))["id"]
    for path in (f"/v1/media/{media}/thumb", f"/v1/media/{media}/v/small", f"/v1/media/{media}/v/nothing", f"/v1/media/{media}/v/w=1"):
        assert server.client.get(path).status_code == 401, "before anything of it is told"
    image = shown(server.client.get(f"/v1/media/{media}/v/small", headers=server.auth("bob", "read")))
    assert (image.format, image.size) == ("PNG", (64, 64))
    unknown = server.client.get(f"/v1/media/{media}/v/smal", headers=server.auth())
    assert (unknown.status_code, "small" in unknown.json()["detail"]) == (404, True)


def test_ad_hoc_variants_need_a_signed_link(server: Served) -> None:
    media = server.upload(photo(300, 200, (1, 200, 3)))["id"]
    wanted = "fit=cover,h=50,w=80,format=png"
    answer = server.client.get(f"/v1/media/{media}/v/{wanted}", headers=server.auth())
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    link = signed(server, media, wanted)
    assert "/v/w=80,h=50,fit=cover,format=png?" in link
    assert shown(server.client.get(link)).size == (80, 50)
    assert server.client.get(link.replace("w=80", "w=81")).status_code == 403
    assert server.client.get(link.replace("/v/w=80,h=50,fit=cover,format=png", "/thumb")).status_code == 403
    prefix = signed(server, media, wanted, prefix=True)
    assert shown(server.client.get(prefix)).size == (80, 50)
    root = prefix.partition("/v/")[0]
    assert shown(server.client.get(f"{root}/thumb")).size == (300, 200), "never enlarged"
    assert shown(server.client.get(f"{root}/v/small")).size == (64, 64)
    assert server.client.get(f"{root}/v/w=81,h=50").status_code == 403
    for variant, code in (("w=99999", "invalid_argument"), ("w=ten", "invalid_argument"), ("width=3", "invalid_argument")):
        refused = server.client.post(f"/v1/media/{media}/sign", json={"variant": variant}, headers=server.auth())
        assert (refused.status_code, refused.json()["code"]) == (422, code)


def test_what_cannot_be_shown_as_a_picture(server: Served) -> None:
    whole = photo(900, 900, (5, 5, 5))
    for body, status, code in (
        (text(500, b"no picture"), 404, "not_found"),
        (whole[: len(whole) // 2], 422, "undecodable"),
    ):
        media = server.upload(body, public="true")["id"]
        for _ in range(2):
            answer = server.client.get(f"/v1/media/{media}/thumb")
            assert (answer.status_code, answer.json()["code"], answer.headers["cache-control"]) == (status, code, "no-store")
        assert server.client.get(f"/v1/media/{media}").content == body, "the original is served as it is"


def test_a_hundred_that_ask_at_once_are_one_run(server: Served) -> None:
    media = server.upload(photo(1500, 1000, (70, 60, 50)))["id"]
    link = signed(server, media, "w=500,format=png")
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: httpx.get(server.url + link, timeout=60, trust_env=False), range(100)))
    assert {each.status_code for each in answers} == {200}
    assert len({each.headers["last-modified"] + each.headers["etag"] for each in answers}) == 1


def test_variants_go_where_their_media_goes(server: Served) -> None:
    media = server.upload(photo(400, 300, (250, 5, 5)), public="true")["id"]
    thumb, link = f"/v1/media/{media}/thumb", signed(server, media, "w=32,format=png")
    assert [server.client.get(each).status_code for each in (thumb, link)] == [200, 200]
    admin = server.auth("root", "admin")
    server.client.post(f"/v1/media/{media}/quarantine", json={"scope": "media"}, headers=admin)
    assert [server.client.get(each).status_code for each in (thumb, link)] == [451, 451]
    server.client.delete(f"/v1/media/{media}/quarantine", headers=admin)
    assert [server.client.get(each).status_code for each in (thumb, link)] == [200, 200]
    server.client.patch(f"/v1/media/{media}/record", json={"public": False}, headers=server.auth())
    assert [server.client.get(each).status_code for each in (thumb, link)] == [401, 403]
    derived = [each["id"] for each in server.client.get(f"/v1/media/{media}/derivatives", headers=server.auth()).json()["items"]]
    assert derived
    assert {server.client.get(f"/v1/media/{each}").status_code for each in derived} == {401}, "no more visible than their source"
    assert server.client.delete(f"/v1/media/{media}", headers=admin).status_code == 204
    gone = [server.client.get(path, headers=server.auth()).status_code for path in (thumb, *(f"/v1/media/{each}" for each in derived))]
    assert set(gone) == {404}


def test_nothing_is_left_of_what_was_deleted(tmp_path: Path) -> None:
    with served(tmp_path, TOML, arguments=()) as own:
        media = own.upload(photo(400, 300, (0, 80, 250)))["id"]
        for width in range(10, 15):
            assert own.client.get(signed(own, media, f"w={width},format=png")).status_code == 200
        assert own.client.get(f"/v1/media/{media}/thumb", headers=own.auth()).status_code == 200
        until(lambda: all(each["ended_at"] for each in _tasks(own, media)))
        own.client.delete(f"/v1/media/{media}", headers=own.auth("root", "admin"))
        until(lambda: not [each for each in (tmp_path / "objects").rglob("*") if each.is_file()])


def test_forms_are_told_of_and_made_ahead(server: Served) -> None:
    media = server.upload(photo(400, 200, (8, 120, 8)))["id"]
    path = f"/v1/media/{media}/variants"
    assert server.client.get(path).status_code == 401
    told = server.client.get(path, headers=server.auth()).json()
    assert [each["variant"] for each in told["presets"]] == ["small", "thumb"]
    assert told["presets"][1]["url"] == f"/v1/media/{media}/thumb"
    assert told["kept"] == []
    made = server.client.post(path, json={"variant": "format=png,w=40"}, headers=server.auth())
    assert made.status_code == 200, made.text
    view = made.json()
    assert (view["variant"], view["width"], view["height"], view["media_type"]) == ("w=40,format=png", 40, 20, "image/png")
    assert hashlib.sha256(server.client.get(view["url"]).content).hexdigest() == view["digest"]
    [kept] = server.client.get(path, headers=server.auth()).json()["kept"]
    assert (kept["variant"], kept["url"], kept["digest"]) == (view["variant"], f"/v1/media/{media}/v/w=40,format=png", view["digest"])
    assert server.client.post(path, json={"variant": "w=0"}, headers=server.auth()).status_code == 422
    assert server.client.get(f"/v1/media/{server.upload(text(99, b'forms'))['id']}/variants", headers=server.auth()).json()["presets"] == []


def test_what_one_caller_has_made_ahead_leaves_room_for_others(server: Served) -> None:
    media = server.upload(photo(64, 64, (8, 120, 9)))["id"]
    path = f"/v1/media/{media}/variants"

    async def asked() -> list[int]:
        async with httpx.AsyncClient(base_url=server.url, timeout=60, trust_env=False) as client:
            slow = [f"w={1500 + number},h=1500,fit=fill,blur=20,format=png" for number in range(20)]
            answers = [asyncio.ensure_future(client.post(path, json={"variant": each}, headers=server.auth())) for each in slow]
            refused = [await each for _, each in zip(range(4), asyncio.as_completed(answers), strict=False)]
            assert [each.status_code for each in refused] == [429] * 4
            begun = [each for each in answers if not each.done()]
            preset = await client.get(f"/v1/media/{media}/v/small", headers=server.auth())
            assert preset.status_code == 200
            assert sum(not each.done() for each in begun) >= 8, "the preset waits for one of them at the most"
            return [each.status_code for each in await asyncio.gather(*answers)]

    answers = asyncio.run(asked())
    assert (answers.count(200), answers.count(429)) == (16, 4)


def test_a_form_whose_own_media_goes(server: Served) -> None:
    """Withheld, it is withheld wherever it is asked for; deleted, it is made again."""
    media = server.upload(photo(700, 350, (90, 9, 90)), public="true")["id"]
    path, admin = f"/v1/media/{media}/v/small", server.auth("root", "admin")
    first = server.client.get(path)
    [derived] = [
        each["id"]
        for each in server.client.get(f"/v1/media/{media}/derivatives", params={"relationship": "small"}, headers=admin).json()["items"]
    ]
    server.client.get(path)
    server.client.post(f"/v1/media/{derived}/quarantine", json={"scope": "media"}, headers=admin)
    assert [server.client.get(each).status_code for each in (path, f"/v1/media/{media}")] == [451, 200]
    changed = server.client.patch(f"/v1/media/{media}/record", json={"tags": ["seen"]}, headers=admin)
    assert changed.status_code == 200, changed.text  # and the form is looked for anew
    assert server.client.get(path).status_code == 451
    server.client.delete(f"/v1/media/{derived}/quarantine", headers=admin)
    assert server.client.get(path).status_code == 200
    assert server.client.delete(f"/v1/media/{derived}", headers=admin).status_code == 204
    for _ in range(2):
        again = server.client.get(path)
        assert (again.status_code, again.content) == (200, first.content)


def _own(server: Served, media: str, relationship: str) -> str:
    items = server.client.get(f"/v1/media/{media}/derivatives", params={"relationship": relationship}, headers=server.auth()).json()[
        "items"
    ]
    [derived] = [each["id"] for each in items]
    return str(derived)


def _settled(server: Served, media: str) -> None:
    """Wait until nobody changes the media any more."""
    path = f"/v1/media/{media}/record"
    until(lambda: server.client.get(path, headers=server.auth()).json()["facts"])
    until(lambda: {each["status"] for each in _tasks(server, media)} == {"Completed"})


def test_a_form_whose_own_media_has_expired(tmp_path: Path) -> None:
    """By the lane, which a connection that stays open comes to, as by the route. Nobody has swept it yet."""
    with served(tmp_path, TOML) as own:
        media = own.upload(photo(710, 350, (90, 9, 91)), public="true")["id"]
        path = f"/v1/media/{media}/v/small"
        assert [own.client.get(path).status_code for _ in range(3)] == [200] * 3
        soon = {"expires_at": (datetime.now(UTC) + timedelta(seconds=1.5)).isoformat()}
        assert own.client.patch(f"/v1/media/{_own(own, media, 'small')}/record", json=soon, headers=own.auth()).status_code == 200
        assert [own.client.get(path).status_code for _ in range(3)] == [200] * 3
        time.sleep(1.6)
        answers = [own.client.get(path, headers=headers) for headers in ({}, {}, {"Connection": "close"})]
        assert [answer.status_code for answer in answers] == [410] * 3


def test_a_form_whose_record_was_changed_is_still_that_form(server: Served) -> None:
    """Not made again beside itself, which would be a way around its being withheld; and nobody's upload of its bytes becomes it, which would go with its source."""
    media = server.upload(photo(720, 350, (90, 9, 92)), public="true")["id"]
    path, admin = f"/v1/media/{media}/v/small", server.auth("root", "admin")
    _settled(server, media)
    small = server.client.get(path).content
    derived = _own(server, media, "small")
    assert server.client.patch(f"/v1/media/{derived}/record", json={"title": "Mine"}, headers=server.auth()).status_code == 200
    twin = server.upload(small, sub="bob", public="true")
    assert twin["id"] != derived
    server.client.post(f"/v1/media/{derived}/quarantine", json={"scope": "media"}, headers=admin)
    assert (
        server.client.patch(f"/v1/media/{media}/record", json={"title": "Whose card is another"}, headers=server.auth()).status_code == 200
    )
    assert [server.client.get(path).status_code for _ in range(2)] == [451] * 2
    assert server.client.delete(f"/v1/media/{media}", headers=admin).status_code == 204
    assert server.client.get(f"/v1/media/{twin['id']}").content == small


def test_a_variant_that_made_room_is_made_again(server: Served) -> None:
    media = server.upload(photo(500, 250, (33, 44, 55)))["id"]
    links = [signed(server, media, f"w={width},format=png") for width in range(20, 26)]
    for _ in range(2):
        for link in links:
            assert server.client.get(link).status_code == 200, "three are kept; the others' objects are removed at once by a deletion"
        server.client.delete(f"/v1/media/{server.upload(text(10, link.encode()))['id']}", headers=server.auth("root", "admin"))
