"""Content-Disposition (RFC 6266), names in it (RFC 8187), and which types a browser may show in place.

Reading the Content-Disposition of a form's parts is left to `multipart`, whose segments give `name` and `filename` as browsers
write them and rightly know no `filename*` there (RFC 7578 section 4.2); `clean_filename` takes it from that point.
"""

import re
from unicodedata import normalize
from urllib.parse import quote, unquote_to_bytes

from mediacdn.errors import InvalidParameter
from mediacdn.formats.families import extension
from mediacdn.model import Card

SANDBOX_CSP = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"
"""Sent with active types: even opened directly they run nothing, load nothing and have no origin."""

MAX_NAME = 200
"""Bytes of UTF-8 that a file name may have: short of every file system's 255, with room for a browser's " (1)"."""

_MAX_EXTENSION = 16

_INLINE = frozenset(
    {
        "image/jpeg", "image/png", "image/gif", "image/webp", "image/avif",
        "audio/mpeg", "audio/mp4", "audio/aac", "audio/ogg", "audio/opus", "audio/flac", "audio/wav", "audio/webm",
        "audio/x-m4a", "audio/x-wav", "audio/x-flac", "audio/x-aac", "audio/vnd.wave",
        "video/mp4", "video/webm", "video/ogg", "video/quicktime", "video/x-m4v", "video/x-matroska", "video/matroska", "video/mp2t", "video/mpeg",
        "text/plain", "application/vnd.apple.mpegurl",
    }
)  # fmt: skip

_ACTIVE = frozenset(
    {
        "text/html", "text/xml", "application/xml", "text/xsl", "application/pdf", "text/pdf",
        "application/javascript", "application/x-javascript", "application/ecmascript", "application/x-ecmascript",
        "application/x-shockwave-flash", "application/wasm", "application/xml-dtd", "application/xml-external-parsed-entity",
        "message/rfc822", "multipart/related", "multipart/x-mixed-replace", "application/x-mimearchive",
    }
)  # fmt: skip
_SCRIPT = re.compile(r"text/(?:x-)?(?:java|j|live|ecma)script[0-9.]*")

_EDGES = " .\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"

_PLAIN = re.compile(r"[A-Za-z0-9_-](?:[A-Za-z0-9 ._-]{0,126}[A-Za-z0-9_-])?")
# controls, line separators, lone surrogates, non-characters, and what turns the direction of text or cannot be seen:
# "exe.gnp" must not show as "png.exe" reversed. U+200C and U+200D stay, Persian and emoji need them.
_DROPPED = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff\ud800-\udfff]"
)
_COMBINING = re.compile("[\u0300-\u036f]+")
# % is left out because some browsers decode it, the rest because some cannot unquote it (RFC 6266 appendix D)
_NOT_FALLBACK = re.compile(r"[^A-Za-z0-9 !#$&'()+,.=@\[\]^_`{}~-]")
_ATTR_CHARS = "!#$&+-.^_`|~"

_EXT_VALUE = re.compile(r"(utf-8|iso-8859-1)'[A-Za-z0-9-]*'(.*)", re.IGNORECASE | re.DOTALL)
_VALUE_CHARS = re.compile(r"(?:%[0-9A-Fa-f]{2}|[A-Za-z0-9!#$&+.^_`|~-])*+")


def content_disposition(disposition: str, filename: str | None) -> str:
    """Write one Content-Disposition value: ASCII, one line, with a name where `filename` leaves one (see `clean_filename`).

    `disposition` is "inline" or "attachment", anything else counts as attachment (RFC 6266 section 4.2). A name that plain ASCII
    cannot carry goes into `filename*` (RFC 8187), after an ASCII fallback in `filename` (RFC 6266 section 4.3).
    """
    kind = "inline" if disposition.lower() == "inline" else "attachment"
    name = None if filename is None else clean_filename(filename)
    if name is None:
        return kind
    if _PLAIN.fullmatch(name):
        return f'{kind}; filename="{name}"'
    # folding may bring back dots and blanks at the ends ("\u2025" is ".." again) and may lengthen, so the fallback is cleaned as well
    fallback = clean_filename(_NOT_FALLBACK.sub("_", _COMBINING.sub("", normalize("NFKD", name)))) or "_"
    if fallback == name:
        return f'{kind}; filename="{name}"'
    return f"{kind}; filename=\"{fallback}\"; filename*=UTF-8''{quote(name, safe=_ATTR_CHARS)}"


def saved_as(card: Card) -> str:
    """The name that a media is saved under. Without one of its own it would be the bare id; opened in the page the name matters to nobody."""
    return card.filename or f"{card.id}.{extension(card.media_type)}"


def clean_filename(text: str) -> str | None:
    """Give a name that is safe to show and to save: at most MAX_NAME bytes, extension kept; None when nothing is left.

    Taken away are folders of either style of slash, control and direction characters, lone surrogates, and blanks and dots at both ends
    (RFC 6266 section 4.3).
    """
    if _PLAIN.fullmatch(text):
        return text
    name = _DROPPED.sub("", text.replace("\\", "/").rpartition("/")[2]).strip(_EDGES)
    if not name:
        return None
    if len(name) * 4 <= MAX_NAME or len(name.encode()) <= MAX_NAME:
        return name
    stem, dot, extension = name.rpartition(".")
    end = f"{dot}{extension}".encode()
    if not stem or len(end) > _MAX_EXTENSION:
        stem, end = name, b""
    return stem.encode()[: MAX_NAME - len(end)].decode(errors="ignore").rstrip(_EDGES) + end.decode()


def inline_safe(media_type: str) -> bool:
    """Say whether a browser may show this type in place: raster images, sound, video and plain text, which run nothing.

    PDF is not among them: a viewer runs its scripts and forms in the name of the page's address, and viewers have had holes; a page
    that wants to show one fetches it and hands it to a viewer of its own choice.
    """
    return _essence(media_type) in _INLINE


def is_active(media_type: str) -> bool:
    """Say whether this type can run or load something when it is opened; then SANDBOX_CSP goes with it.

    Such are HTML, SVG, any XML, scripts, PDF and web archives. What is not a media type at all counts as active.
    """
    essence = _essence(media_type)
    if essence in _INLINE:
        return False
    return (
        essence in _ACTIVE or essence.endswith("+xml") or "html" in essence or "/" not in essence or _SCRIPT.fullmatch(essence) is not None
    )


def decode_ext_value(text: str) -> str:
    """Decode an RFC 8187 ext-value (`UTF-8''%e2%82%ac`, the language is dropped); text that does not start like one is given back as it is.

    Raises InvalidParameter for an ext-value with characters out of its grammar or bytes that are not of its charset.
    """
    found = _EXT_VALUE.match(text)
    if found is None:
        return text
    charset, value = found.groups()
    if _VALUE_CHARS.fullmatch(value) is None:
        raise InvalidParameter("An extended value holds only letters, digits, !#$&+-.^_`|~ and percent-encoded bytes")
    try:
        return unquote_to_bytes(value).decode(charset)
    except UnicodeDecodeError:
        raise InvalidParameter(f"An extended value is not {charset}") from None


def _essence(media_type: str) -> str:
    return media_type.partition(";")[0].strip(" \t").lower()
