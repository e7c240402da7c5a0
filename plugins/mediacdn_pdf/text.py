"""From what PDFium calls text to plain text: NFC, lines that end in LF, and nothing in it that is no text."""

import re
from unicodedata import normalize

_HYPHEN = re.compile("[\x02\ufffe]\n?")
"""PDFium's marks of a word that was broken at the end of a line; the hyphen itself it has taken away."""
_NO_TEXT = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\uffff"
    + "".join(chr(plane << 16 | 0xFFFE) + chr(plane << 16 | 0xFFFF) for plane in range(1, 17))
    + "]"
)


def plain(found: str) -> str:
    """Clean a page's text; a form feed in it would be a page of its own."""
    return normalize("NFC", _NO_TEXT.sub("", _HYPHEN.sub("", found.replace("\r\n", "\n").replace("\r", "\n"))))


def line(found: str, most: int) -> str:
    """The same on one line of at most so many characters."""
    return " ".join(plain(found).split())[:most]
