"""The drivers' tables in the configuration."""

from msgspec import Struct


class FactsConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much a document may cost, and where PDFium runs. Sizes are bytes, times are seconds."""

    max_bytes: int = 256 << 20
    """Of the document, which is mapped into the child's memory."""
    children: int = 1
    queue: int = 64
    """Callers that may wait for a child; the next one is told to come again."""
    jobs: int = 100
    """Documents after which a child is replaced."""
    deadline: float = 30.0
    processor: float = 20.0
    memory: int = 1 << 30
    """Of a child's address space."""
    user: str = ""
    """Whom children become, where the server runs as root; that user must be able to read its installation."""
    resident: int = 300_000_000
    """Of a child's real memory, the document itself not counted."""


class TextConfig(FactsConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same for text. What is beyond a bound is left out, and the text's facts say so."""

    max_pages: int = 5000
    max_text: int = 16 << 20


class PageConfig(FactsConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same for pictures of pages."""

    max_edge: int = 4096
    """Pixels that may be asked for as a width or height; no picture is larger."""
    output: int = 64 << 20
    """Bytes of the largest file that may be made."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_edge <= 8192:
            raise ValueError("max_edge must be from 1 to 8192")
