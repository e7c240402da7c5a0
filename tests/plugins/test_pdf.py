"""The plugin `pdf`: text, pictures and facts of documents, and what comes of those that are meant to do harm."""

import io
import os
import time
import unicodedata
import zlib
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mediacdn import Action, InvalidArgument, Kit, Media, OverLimits, Undecodable
from mediacdn.recipes.patterns import Pattern
from mediacdn_pdf import LANGUAGE, FactsConfig, PageConfig, TextConfig, mediacdn_plan_jobs, open_facts, open_page, open_text
from mediacdn_pdf.text import line, plain
from tests.plugins.documents import document, encrypted, make, pdf, stream

pytestmark = pytest.mark.anyio
KIT: Any = Kit("", None, None, None)  # type: ignore[arg-type]
CATALOG = b"<< /Type /Catalog /Pages 2 0 R >>"
ONE = {
    1: CATALOG,
    2: b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>",
    3: b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 100] /Contents 4 0 R >>",
}


@pytest.fixture(scope="module")
async def text() -> AsyncIterator[Any]:
    async with open_text(TextConfig(), KIT) as action:
        yield action


@pytest.fixture(scope="module")
async def page() -> AsyncIterator[Any]:
    async with open_page(PageConfig(), KIT) as action:
        yield action


@pytest.fixture(scope="module")
async def facts() -> AsyncIterator[Any]:
    async with open_facts(FactsConfig(), KIT) as action:
        yield action


# Text


@pytest.mark.parametrize(
    ("pages", "wanted"),
    [
        (["Hello"], "Hello"),
        (["one\ntwo", "three"], "one\ntwo\fthree"),
        (["", "second", ""], "\fsecond\f"),
        (["Käse, ñandú, Ελλάδα, Привет"], "Käse, ñandú, Ελλάδα, Привет"),
        (["日本語のテキスト", "한국어"], "日本語のテキスト\f한국어"),
        (["beyond 😀𐍈 the plane"], "beyond 😀𐍈 the plane"),
        (["re\u0301sume\u0301"], "r\u00e9sum\u00e9"),
        (["a\x00b\x07c\x0cd\x1be\x7ff\x9fg"], "abcdefg"),
    ],
)
async def test_text_is_what_the_pages_say(text: Action, pages: list[str], wanted: str) -> None:
    content, made = await make(text, document(pages))
    assert content.decode() == wanted
    assert made.media_type == "text/plain"
    assert made.facts == {"pages": len(pages), "pages_read": len(pages), "pages_damaged": 0, "truncated": False}
    assert set(made.tools) == {"pdfium", "pypdfium2"}
    assert (await make(text, document(pages)))[0] == content


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ("a\r\nb\rc\nd", "a\nb\nc\nd"),
        ("exam\ufffe\r\nple and exam\x02\nple", "example and example"),
        ("\ud800x\udfff \U0001ffff\ufdd0\uffff", "x "),
        ("tab\tstays", "tab\tstays"),
        ("e\x00\u0301", "\u00e9"),
    ],
)
def test_what_is_no_text_goes(found: str, wanted: str) -> None:
    assert plain(found) == wanted
    assert unicodedata.is_normalized("NFC", plain(found))


def test_a_title_is_one_bounded_line() -> None:
    assert line(" a\n\tb\x00 \r\n", 10) == "a b"
    assert len(line("x" * 1000, 300)) == 300


async def test_text_is_bounded_by_bytes_and_pages() -> None:
    async with open_text(TextConfig(max_text=10, max_pages=3), KIT) as small:
        content, made = await make(small, document(["abcdé", "fghié", "k"]))
        assert content.decode() == "abcdé\ffgh"
        assert made.facts == {"pages": 3, "pages_read": 1, "pages_damaged": 0, "truncated": True}
        content, made = await make(small, document(["äääää", "x"]))
        assert content.decode() == "äääää"
        assert made.facts["truncated"]
        content, made = await make(small, document(["1", "2", "3", "4", "5"]))
        assert content == b"1\f2\f3"
        assert made.facts == {"pages": 5, "pages_read": 3, "pages_damaged": 0, "truncated": True}


async def test_a_damaged_page_costs_its_own_text_alone(text: Action, page: Action) -> None:
    whole = document(["one", "two", "three"])
    broken = whole.replace(b"12 0 obj\n<<", b"12 0 obj\n<(", 1)
    content, made = await make(text, broken)
    assert content == b"one\f\fthree"
    assert (made.facts["pages_read"], made.facts["pages_damaged"]) == (3, 1)
    with pytest.raises(Undecodable, match="Page 2 is damaged"):
        await make(page, broken, page=2)
    assert (await make(page, broken, page=3))[1].width


# Pages


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
async def test_a_page_is_drawn(page: Action, format: str) -> None:
    content, made = await make(page, document(["", "x"], size=(200, 100)), page=2, w=400, format=format)
    shown = Image.open(io.BytesIO(content))
    assert (shown.format or "").lower() == format
    assert shown.size == (made.width, made.height) == (400, 200)
    red, white = shown.convert("RGB").getpixel((100, 150)), shown.convert("RGB").getpixel((300, 50))
    assert isinstance(red, tuple)
    assert isinstance(white, tuple)
    assert red[0] > 240
    assert max(red[1:]) < 15
    assert min(white) > 250
    assert made.media_type == f"image/{format}"
    assert made.facts == {"page": 2, "pages": 2}
    assert not shown.getexif()


@pytest.mark.parametrize(
    ("size", "asked", "wanted"),
    [
        ((72, 144), {}, (150, 300)),
        ((200, 100), {"w": 50, "h": 50}, (50, 25)),
        ((200, 100), {"h": 50}, (100, 50)),
        ((1, 1), {"w": 500}, (500, 500)),
        ((1, 14400), {"w": 4096}, (1, 4096)),
        ((1e7, 1e7), {}, (4096, 4096)),
        ((1e7, 1), {"h": 4096}, (4096, 1)),
        ((-5, 0), {"w": 612}, (612, 792)),  # no area: PDFium takes US letter
    ],
)
async def test_no_page_is_too_small_or_too_large_to_draw(
    page: Action, size: tuple[float, float], asked: dict[str, int], wanted: tuple[int, int]
) -> None:
    content, made = await make(page, document(size=size), **asked)
    assert Image.open(io.BytesIO(content)).size == (made.width, made.height) == wanted


async def test_a_turned_page_is_drawn_and_measured_upright(page: Action, facts: Action) -> None:
    content = document(size=(200, 100), extra=b"/Rotate 90")
    assert ((await make(page, content, w=100))[1].height) == 200
    seen = (await make(facts, content))[1].facts
    assert (seen["page_width"], seen["page_height"]) == (100, 200)


async def test_a_page_that_is_not_there_is_the_callers_mistake(page: Action) -> None:
    with pytest.raises(InvalidArgument, match="The document has 2 pages"):
        await make(page, document(["1", "2"]), page=3)
    for wrong in ({"page": 0}, {"w": 0}, {"w": 4097}, {"format": "gif"}):
        with pytest.raises(InvalidArgument):
            await make(page, document(), **wrong)


# Facts


async def test_facts(facts: Action) -> None:
    content, made = await make(facts, document(["1", "2", "3"], title="Tïtle 😀\n of\x00 it", size=(595.28, 841.89)))
    assert content == b""
    assert made.media_type == ""
    assert made.facts == {"pages": 3, "page_width": 595.28, "page_height": 841.89, "encrypted": False, "document_title": "Tïtle 😀 of it"}
    assert "document_title" not in (await make(facts, document()))[1].facts
    assert len((await make(facts, document(title="x" * 5000)))[1].facts["document_title"]) == 300


def test_jobs_are_planned_for_documents_alone() -> None:
    from datetime import UTC, datetime

    now = datetime.now(UTC)

    def planned(media_type: str) -> list[str]:
        return [each.recipe for each in mediacdn_plan_jobs(Media(id="x", owner="a", media_type=media_type, created_at=now, updated_at=now))]

    assert planned("application/pdf") == ["pdf-look", "thumb-document", "document-text"]
    assert planned("image/png") == planned("text/plain") == []


@pytest.mark.parametrize("tag", ["de", "pt-br", "zh-hant", "zh-hant-tw", "es-419", "de-1996", "sl-rozaj", "ast", "ca-valencia"])
def test_languages(tag: str) -> None:
    assert Pattern(LANGUAGE).fullmatch(tag)


@pytest.mark.parametrize("tag", ["", "d", "pt-BR", "pt_br", "german", "pt-", "-br", "../x", "de-d", "zh--tw"])
def test_no_languages(tag: str) -> None:
    assert not Pattern(LANGUAGE).fullmatch(tag)


# Hostile


def deep() -> bytes:
    nodes = {number: b"<< /Type /Pages /Count 1 /Kids [%d 0 R] >>" % (number + 1) for number in range(2, 20_000)}
    return pdf({1: CATALOG, **nodes, 20_000: b"<< /Type /Page /MediaBox [0 0 9 9] >>"})


BROKEN = {
    "empty": b"",
    "cut": document()[:300],
    "noise": b"%PDF-1.7\n" + b"x" * 4000,
    "no PDF": b"\x89PNG\r\n\x1a\n" + bytes(500),
    "encrypted": encrypted(),
    "without pages": pdf({1: CATALOG, 2: b"<< /Type /Pages /Count 0 /Kids [] >>"}),
    "without a catalog": pdf({1: b"<< >>", 2: b"<< >>"}),
    "deep pages": deep(),
    "deep arrays": pdf({1: CATALOG, 2: b"[" * 200_000 + b"]" * 200_000}),
    "deep dictionaries": pdf({1: CATALOG, 2: b"<< /Kids " * 100_000 + b">>" * 100_000}),
    "a circle of pages": pdf({1: CATALOG, 2: b"<< /Type /Pages /Count 1 /Kids [2 0 R] >>"}),
    "references to itself": pdf({1: b"1 0 R", 2: b"2 0 R"}),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_what_cannot_be_read_is_said_to_be_so(text: Any, page: Any, facts: Any, name: str) -> None:
    pids = [each._box.pids for each in (text, page, facts)]
    for action in (text, page, facts):
        began = time.monotonic()
        with pytest.raises(Undecodable):
            await make(action, BROKEN[name])
        assert time.monotonic() - began < 5
    assert [each._box.pids for each in (text, page, facts)] == pids, "not even a child was lost"


async def test_an_encrypted_document_is_told_apart(text: Action, facts: Action) -> None:
    with pytest.raises(Undecodable, match="The document is encrypted"):
        await make(text, encrypted())
    assert (await make(facts, encrypted(b"")))[1].facts["encrypted"] is True


async def test_a_lie_about_the_number_of_pages_costs_nothing(text: Action, facts: Action) -> None:
    lie = ONE | {2: b"<< /Type /Pages /Count 2000000000 /Kids [3 0 R] >>", 4: stream(b"")}
    assert (await make(facts, pdf(lie)))[1].facts["pages"] < 100
    assert (await make(text, pdf(lie)))[1].facts["pages"] < 100


async def test_bombs_end_at_the_childs_limits() -> None:
    squeezed = [
        zlib.compress(bytes(600_000_000), 1),
        zlib.compress(b"0 0 1 1 re f " * 12_000_000, 1),
        zlib.compress(b"q " * 60_000_000, 1),
    ]
    config = {"memory": 512 << 20, "processor": 5.0, "deadline": 10.0}
    async with open_text(TextConfig(**config), KIT) as text, open_page(PageConfig(**config), KIT) as page:
        for each in squeezed:
            bomb = pdf(ONE | {4: stream(each, b"/Filter /FlateDecode")})
            for action in (text, page):
                began = time.monotonic()
                try:
                    content, _ = await make(action, bomb)
                    assert len(content) < 1 << 20
                except (OverLimits, Undecodable):
                    pass
                assert time.monotonic() - began < 12
        assert (await make(text, document()))[0] == b"Hello"  # the next one is served


async def test_time_is_bounded(text: Action) -> None:
    form = {
        n: stream(b"/X Do " * 50, b"/Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources << /XObject << /X %d 0 R >> >>" % (n + 1))
        for n in range(5, 12)
    }
    last = {12: stream(b"0 0 1 1 re f", b"/Type /XObject /Subtype /Form /BBox [0 0 9 9]")}
    head = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 100] /Contents 4 0 R /Resources << /XObject << /X 5 0 R >> >> >>"
    bomb = pdf(ONE | {3: head, 4: stream(b"/X Do " * 50)} | form | last)
    async with open_page(PageConfig(processor=1.0, deadline=3.0), KIT) as page:
        began = time.monotonic()
        with pytest.raises((OverLimits, Undecodable)):  # PDFium may run out of memory first, of which it says nothing
            await make(page, bomb)
        assert time.monotonic() - began < 6


async def test_a_size_over_the_limit_is_refused_unread(text: Action) -> None:
    with pytest.raises(OverLimits):
        await make(text, b"", size=1 << 40)


SCRIPT = b"while (true) { app.alert(1); }"


@pytest.mark.parametrize(
    "more",
    [
        b"/OpenAction << /S /JavaScript /JS (" + SCRIPT + b") >>",
        b"/AA << /WC << /S /JavaScript /JS (" + SCRIPT + b") >> >>",
        b"/OpenAction << /S /Launch /F (/bin/sh) >>",
        b"/OpenAction << /S /URI /URI (http://127.0.0.1:9/) >>",
        b"/AcroForm << /Fields [] /XFA [(template) (<template/>)] >>",
    ],
)
async def test_no_script_runs_and_no_action_is_followed(text: Action, page: Action, facts: Action, more: bytes) -> None:
    content = document(["calm"], more=more)
    began = time.monotonic()
    assert (await make(text, content))[0] == b"calm"
    assert (await make(page, content, w=100))[1].width == 100
    assert (await make(facts, content))[1].facts["pages"] == 1
    assert time.monotonic() - began < 3


async def test_files_cut_anywhere_have_an_answer(text: Any, facts: Any) -> None:
    whole = document(["one", "two"], title="x")
    pids = (text._box.pids, facts._box.pids)
    for at in range(0, len(whole), 97):
        mixed = bytearray(whole)
        mixed[at] ^= 0xFF
        for content in (whole[:at], bytes(mixed)):
            for action in (text, facts):
                with suppress(Undecodable, OverLimits):
                    await make(action, content)
    assert (text._box.pids, facts._box.pids) == pids


async def test_a_descriptor_in_use_is_read_from_its_beginning_and_left_alone(text: Action, tmp_path: Path) -> None:
    """Children and the sendfile of readers share offsets."""
    import mediacdn_pdf.child as child

    (tmp_path / "document").write_bytes(document(["still"]))
    source = os.open(tmp_path / "document", os.O_RDONLY)
    output = os.open(tmp_path / "text", os.O_RDWR | os.O_CREAT)
    try:
        os.lseek(source, 123, os.SEEK_SET)
        child.run({"task": {"type": "text", "pages": 9, "text": 999}}, [source, output])
        assert os.lseek(source, 0, os.SEEK_CUR) == 123
    finally:
        os.close(source)
        os.close(output)
    assert (tmp_path / "text").read_bytes() == b"still"


if corpus := os.environ.get("MEDIACDN_CORPUS"):
    FILES = sorted(Path(corpus).rglob("*.pdf"))

    async def test_documents_of_the_corpus_are_read(text: Action, page: Action, facts: Action) -> None:
        assert FILES, "the corpus has documents"
        for file in FILES:
            content = file.read_bytes()
            assert (await make(facts, content))[1].facts["pages"] > 0
            assert "\0" not in (await make(text, content))[0].decode()
            drawn, made = await make(page, content, w=300)
            assert Image.open(io.BytesIO(drawn)).size == (made.width, made.height)
