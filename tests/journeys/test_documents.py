"""A document from its upload to its thumbnail, text, facts and translation, by the real server and worker."""

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from tests.plugins.documents import document, encrypted
from tests.services.inspectors import install
from tests.services.served import Served, served

TOML = 'plugins = ["local", "jwt", "vips", "pdf"{more}]\n'


def until(ask: Callable[[], Any], wanted: Callable[[Any], bool], seconds: float = 20.0) -> Any:
    end = time.monotonic() + seconds
    while not wanted(found := ask()):
        assert time.monotonic() < end, found
        time.sleep(0.1)
    return found


def kin(server: Served, media: str) -> dict[str, dict[str, Any]]:
    items = server.client.get(f"/v1/media/{media}/descendants", headers=server.auth()).json()["items"]
    return {each["relationship"]: each for each in items}


def task(server: Served, media: str, code: str, args: dict[str, Any] | None = None) -> dict[str, Any]:
    asked = server.client.post(f"/v1/media/{media}/tasks/{code}", json={"args": args or {}}, headers=server.auth())
    assert asked.status_code in (200, 202), asked.text
    where = asked.headers["location"]
    return until(lambda: server.client.get(where, headers=server.auth()).json(), lambda found: found["status"] in ("Completed", "Failed"))  # type: ignore[no-any-return]


def test_a_document_gets_its_thumbnail_text_facts_and_translation(tmp_path: Path) -> None:
    toml = TOML.replace("{more}", ', "clerk"')
    with served(tmp_path / "data", toml, environ=install(tmp_path / "plugin"), arguments=()) as server:
        media = server.upload(document(["good day ", "Käse"], title="A title"), title="mine")["id"]
        made = until(lambda: kin(server, media), lambda found: {"thumbnail", "text", "page:1"} <= set(found))
        shown = Image.open(io.BytesIO(server.client.get(made["thumbnail"]["urls"]["original"], headers=server.auth()).content))
        assert (shown.format, shown.size) == ("WEBP", (248, 320))
        assert made["thumbnail"]["source_id"] == made["page:1"]["id"]
        assert made["page:1"]["source_id"] == made["text"]["source_id"] == media
        text = server.client.get(made["text"]["urls"]["original"], headers=server.auth())
        assert text.headers["content-type"] == "text/plain; charset=utf-8"
        assert text.content.decode() == "good day \fKäse"
        assert made["text"]["facts"]["pages"] == 2
        record = until(
            lambda: server.client.get(f"/v1/media/{media}/record", headers=server.auth()).json(), lambda found: "pages" in found["facts"]
        )
        assert (record["facts"]["pages"], record["facts"]["document_title"], record["title"]) == (2, "A title", "mine")

        ran = task(server, media, "document-translation@1", {"lang": "pt-br"})
        assert ran["status"] == "Completed", ran
        found = kin(server, media)
        assert found["text"]["id"] == made["text"]["id"], "the text is not extracted again"
        assert found["translate:pt-br"]["source_id"] == made["text"]["id"]
        assert server.client.get(found["translate:pt-br"]["urls"]["original"], headers=server.auth()).text == "bom dia \fKäse"
        for wrong in ({}, {"lang": "pt_BR"}, {"lang": "german"}, {"lang": ["de"]}):
            asked = server.client.post(f"/v1/media/{media}/tasks/document-translation", json={"args": wrong}, headers=server.auth())
            assert (asked.status_code, asked.json()["code"]) == (422, "invalid_argument")

        locked = server.upload(encrypted())["id"]
        ran = task(server, locked, "document-text")
        assert ran["status"] == "Failed"
        assert "encrypted" in str(ran)
        assert kin(server, locked) == {}


def test_without_the_other_plugins_their_recipes_are_left_out(tmp_path: Path) -> None:
    with served(tmp_path / "data", 'plugins = ["local", "jwt", "pdf"]\n', arguments=()) as server:
        codes = [each["code"] for each in server.client.get("/v1/recipes", headers=server.auth()).json()["items"]]
        assert sorted(codes) == ["document-text", "pdf-look"]
        told = [line for line in server.log if "left out for want of an action" in line]
        assert any("document-translation@1" in line for line in told)
        assert any("thumb-document@1" in line for line in told)
        media = server.upload(document(["good day"]))["id"]
        until(lambda: kin(server, media), lambda found: set(found) == {"text"})
        asked = server.client.post(f"/v1/media/{media}/tasks/thumb-document", json={}, headers=server.auth())
        assert asked.status_code == 404
        assert "image" in asked.json()["detail"]
        assert not [line for line in server.log if "a plan does not fit" in line]
