"""What the actions ask of their child and what it answers: the one shape that both sides know."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

Format = Literal["jpeg", "png", "webp"]
Count = Annotated[int, Meta(ge=0, le=1 << 40)]
Points = Annotated[float, Meta(ge=0, le=1e9)]


class Read(Struct, frozen=True, kw_only=True, tag="text"):
    """The document's text, as far as the bounds go; `text` is in bytes of UTF-8."""

    pages: int
    text: int


class Draw(Struct, frozen=True, kw_only=True, tag="page"):
    """A page, counted from 1, as a picture that fits into w by h and into `edge` by `edge`."""

    edge: int
    page: int = 1
    w: int | None = None
    h: int | None = None
    format: Format = "png"


class Look(Struct, frozen=True, kw_only=True, tag="facts"):
    """What is to be known of the document."""


class Work(Struct, frozen=True):
    """One request."""

    task: Read | Draw | Look


class Seen(Struct, frozen=True, kw_only=True):
    """What the child answers. `pages` are those of the document, `read` those whose text was written whole, `damaged` those of them that have none because they are broken; page sizes are points, as shown."""

    pages: Count
    read: Count = 0
    damaged: Count = 0
    width: Count = 0
    height: Count = 0
    page_width: Points = 0.0
    page_height: Points = 0.0
    title: Annotated[str, Meta(max_length=500)] = ""
    encrypted: bool = False
    tools: dict[str, str] = {}
