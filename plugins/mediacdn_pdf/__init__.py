"""Actions `pdf-text`, `pdf-page` and `pdf-facts`: documents read, drawn and looked at by PDFium, in child processes; and recipes of them."""

from mediacdn import Argument, Driver, Media, Plan, Recipe, Step, hookimpl
from mediacdn_pdf.actions import open_facts, open_page, open_text
from mediacdn_pdf.config import FactsConfig, PageConfig, TextConfig

__all__ = [
    "FactsConfig",
    "PageConfig",
    "TextConfig",
    "mediacdn_drivers",
    "mediacdn_plan_jobs",
    "mediacdn_recipes",
    "open_facts",
    "open_page",
    "open_text",
]

LANGUAGE = "[a-z]{2,3}(-[a-z]{4})?(-([a-z]{2}|[0-9]{3}))?(-([a-z0-9]{5,8}|[0-9][a-z0-9]{3}))*"
"""A language tag of BCP 47 (RFC 5646 section 2.1), in lower case: tags of one meaning are to be one text, for what is made is known by it."""

_PDF = ("application/pdf",)
_TEXT = Step(name="text", action="pdf-text", relationship="text")


@hookimpl
def mediacdn_drivers() -> list[Driver]:
    return [
        Driver(seam="action", name="pdf-text", config=TextConfig, open=open_text),
        Driver(seam="action", name="pdf-page", config=PageConfig, open=open_page),
        Driver(seam="action", name="pdf-facts", config=FactsConfig, open=open_facts),
    ]


@hookimpl
def mediacdn_plan_jobs(media: Media) -> list[Plan]:
    """A document's facts, its first page as a thumbnail, and its text."""
    if media.media_type not in _PDF:
        return []
    return [Plan(recipe="pdf-look"), Plan(recipe="thumb-document"), Plan(recipe="document-text")]


@hookimpl
def mediacdn_recipes() -> list[Recipe]:
    """Those whose later steps need an action of another plugin, `image` or `translate`, are there where it is."""
    small = {"w": 320, "h": 320, "fit": "inside", "format": "webp"}
    return [
        Recipe(
            code="document-text",
            title="Text of a document",
            summary="Plain text in UTF-8, pages separated by form feeds",
            steps=(_TEXT,),
            accepts=_PDF,
        ),
        Recipe(
            code="pdf-look",
            title="Facts of a document",
            summary="Number of pages, size of the first one, title; makes no bytes",
            steps=(Step(name="look", action="pdf-facts"),),
            accepts=_PDF,
        ),
        Recipe(
            code="thumb-document",
            title="Thumbnail of a document",
            summary="The first page as a still of at most 320 by 320 pixels",
            steps=(
                Step(name="page", action="pdf-page", spec={"page": 1, "w": 640, "h": 640}, relationship="page:1"),
                Step(name="thumb", action="image", spec=small, relationship="thumbnail"),
            ),
            accepts=_PDF,
        ),
        Recipe(
            code="document-translation",
            title="Translation of a document",
            summary="The text, put into another language",
            arguments=(
                Argument(name="lang", required=True, max=35, pattern=LANGUAGE, summary="BCP 47, in lower case: de, pt-br, zh-hant"),
            ),
            steps=(_TEXT, Step(name="translate", action="translate", spec={"lang": "${lang}"}, relationship="translate:${lang}")),
            accepts=_PDF,
        ),
    ]
