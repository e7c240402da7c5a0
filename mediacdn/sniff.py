"""The media type of bytes by the bytes alone: binary formats as formats confirms them, then markup and text by rules of its own. Pure; it never raises. What a
type means for others (kind, extension, contradiction with what a client declared) is in formats.families and offered here too; whether a decoder can open the file is
found out by those who open it."""

import codecs
import re

import msgspec

from mediacdn.formats.confirm import confirmed
from mediacdn.formats.families import contradicts, extension, kind
from mediacdn.formats.verdict import OCTETS

__all__ = ["HEAD", "contradicts", "extension", "kind", "refined", "sniff"]

HEAD = 8192
"""Bytes to give to sniff; fewer means that there are no more."""

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_TABLES = {"csv": "text/csv", "tsv": "text/tab-separated-values"}
_BLANK = " \t\r\n\f"
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")
_PROLOG = re.compile(r"<!--(?:.*?-->|.*\Z)|<\?(?!xml\s).*?\?>|[ \t\r\n\f]+", re.DOTALL | re.IGNORECASE)
_DECLARATION = re.compile(r"<\?xml\s[^>]{0,200}\?>", re.IGNORECASE)
_DOCTYPE = re.compile(r"<!doctype\s+([a-z][\w.:-]*)((?:[^>\[\"']|\"[^\"]*\"|'[^']*'|\[[^\]]*\])*)>?", re.IGNORECASE)
_ROOT = re.compile(r"<(?:[a-z_][\w.-]*:)?([a-z_][\w.-]*)(?=[\s/>])([^>]*)", re.IGNORECASE)
_XHTML = "http://www.w3.org/1999/xhtml"
_HTML = frozenset({
    "a", "abbr", "address", "area", "article", "aside", "audio", "b", "base", "blockquote", "body", "br", "button", "canvas", "center",
    "code", "datalist", "dd", "del", "details", "dialog", "div", "dl", "dt", "em", "embed", "fieldset", "figure", "font", "footer",
    "form", "frame", "frameset", "h1", "h2", "h3", "h4", "h5", "h6", "head", "header", "hr", "html", "i", "iframe", "img", "input", "ins",
    "label", "li", "link", "main", "map", "marquee", "math", "meta", "nav", "noscript", "object", "ol", "optgroup", "option", "p",
    "param", "picture", "pre", "progress", "q", "s", "script", "section", "select", "slot", "small", "source", "span", "strong", "style",
    "sub", "summary", "sup", "table", "tbody", "td", "template", "textarea", "tfoot", "th", "thead", "title", "tr", "track", "u", "ul",
    "var", "video", "wbr",
})  # fmt: skip
"""Elements with which a page may begin and a browser that guesses would take it for one."""
_SUBRIP = re.compile(r"\s*\d{1,9}[ \t]*\r?\n\d{1,3}:\d\d:\d\d[,.]\d{1,3} +--> +\d{1,3}:\d\d:\d\d[,.]\d{1,3}")
_JSON_START = re.compile(r"\s*(?:\[\s*)*\{\s*\"[^\"\\]{0,256}\"\s*:")


def sniff(head: bytes) -> str:
    """Give the media type of a file by its first up to 8192 bytes (a shorter head is the whole file).

    "application/octet-stream" is for what is unknown and for a signature that the bytes behind it do not bear out; "text/plain" for UTF-8 text that is nothing else,
    with a charset ("text/plain;charset=utf-16") where it is UTF-16 or marked UTF-32. A polyglot is what its first bytes are: it is served with nosniff. It never raises, and takes less than a millisecond.
    """
    head = bytes(head[:HEAD])
    whole = len(head) < HEAD
    text, charset = _decoded(head, whole)
    # Markup first: a signature that stands further on (tar, DICOM, PDF) does not make a page harmless.
    markup = _markup(text if text is not None else head.decode("latin-1"))
    if markup is not None:
        return markup
    found = confirmed(head, whole)
    if found is not None:
        return found
    if not text or _CONTROL.search(text):
        return OCTETS
    plain = _plain(text, whole)
    return plain + charset if plain == "text/plain" else plain


def refined(found: str, declared: str | None, filename: str | None) -> str:
    """The type of text as its uploader names it, where that is a table: rows of text tell of themselves only that they are text, and neither type runs anything."""
    essence, charset = found.partition(";")[::2]
    if essence != "text/plain":
        return found
    claim = (declared or "").partition(";")[0].strip().lower()
    _, dot, ending = (filename or "").lower().rpartition(".")
    if claim in _TABLES.values():
        essence = claim
    elif dot and ending in _TABLES and claim in ("", OCTETS, "text/plain"):
        essence = _TABLES[ending]
    return f"{essence};{charset}" if charset else essence


def _decoded(head: bytes, whole: bool) -> tuple[str | None, str]:
    """Read the head as text: by its mark, by the zero bytes of unmarked UTF-16 (XML 1.0 appendix F), else as UTF-8. The last character may be cut off. Tells the
    charset too, as a parameter, where it is another; with a mark, which says the order of bytes, that is left out (RFC 2781 section 3.3)."""
    charset = ""
    for mark, marked in _BOMS:
        if head.startswith(mark):
            head, name = head[len(mark) :], marked
            charset = "" if name == "utf-8" else f";charset={name[:6]}"
            break
    else:
        start = head[:64]
        if len(start) < 4 or start[0] == start[1] == 0:
            name = "utf-8"
        elif not any(start[1::2]):
            name = "utf-16-le"
        else:
            name = "utf-16-be" if not any(start[0::2]) else "utf-8"
        charset = "" if name == "utf-8" else f";charset=utf-16{name[-2:]}"
    try:
        return codecs.getincrementaldecoder(name)().decode(head, whole), charset
    except UnicodeDecodeError:
        return None, ""


def _markup(text: str) -> str | None:
    """Name HTML and the XML family by the root element, behind declaration, comments and doctype; None when the text does not begin as markup."""
    at = len(text) - len(text.lstrip(_BLANK))
    if not text.startswith("<", at):
        return None
    declared = _DECLARATION.match(text, at)
    at = _past_prolog(text, declared.end() if declared else at)
    doctype = _DOCTYPE.match(text, at)
    if doctype:
        at = _past_prolog(text, doctype.end())
    name = doctype[1].lower() if doctype else ""
    root = _ROOT.match(text, at)
    local, attributes = (root[1].lower(), root[2]) if root else ("", "")
    if "svg" in (local, name):
        return "image/svg+xml"
    if local == "html" or name == "html":
        return "application/xhtml+xml" if declared or _XHTML in attributes else "text/html"
    if _XHTML in attributes:
        return "application/xhtml+xml"  # <x:script xmlns:x="…">, active wherever it stands
    if local == "mpd" and (declared or "urn:mpeg:dash" in attributes):
        return "application/dash+xml"
    if declared or doctype or "xmlns" in attributes:
        return "application/xml"
    if local in _HTML or text.startswith("<!--", len(text) - len(text.lstrip(_BLANK))):
        return "text/html"
    return None


def _past_prolog(text: str, at: int) -> int:
    while found := _PROLOG.match(text, at):
        at = found.end()
    return at


def _plain(text: str, whole: bool) -> str:
    if text.startswith("WEBVTT") and text[6:7] in ("", " ", "\t", "\r", "\n"):
        return "text/vtt"
    if text.startswith("#EXTM3U") and text[7:8] in ("", " ", "\r", "\n"):
        return "application/vnd.apple.mpegurl"
    if _SUBRIP.match(text):
        return "application/x-subrip"
    if text.lstrip(_BLANK)[:1] in ("{", "["):
        if not whole:
            return "application/json" if _JSON_START.match(text) else "text/plain"
        try:
            msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError):
            return "text/plain"
        return "application/json"
    return "text/plain"
