"""What a media type means for others: its kind, its file extension, its other names, and whether what a client declared contradicts what the bytes are."""

from mediacdn.formats.verdict import OCTETS

_ALIASES = {
    "image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "image/jfif": "image/jpeg", "image/mpo": "image/jpeg", "image/x-png": "image/png",
    "image/apng": "image/png", "image/vnd.mozilla.apng": "image/png", "image/x-ms-bmp": "image/bmp", "image/x-bmp": "image/bmp", "image/x-windows-bmp": "image/bmp",
    "image/vnd.microsoft.icon": "image/x-icon", "image/ico": "image/x-icon", "image/icon": "image/x-icon", "image/svg": "image/svg+xml",
    "image/tif": "image/tiff", "image/x-tiff": "image/tiff", "image/dng": "image/tiff", "image/x-adobe-dng": "image/tiff", "image/x-nikon-nef": "image/tiff",
    "image/x-sony-arw": "image/tiff", "image/x-pentax-pef": "image/tiff", "image/x-dcraw": "image/tiff", "image/x-canon-cr2": "image/tiff",
    "image/jpeg2000": "image/jp2", "image/jpx": "image/jp2", "image/jpm": "image/jp2", "image/j2c": "image/jp2", "image/x-jp2-codestream": "image/jp2", "image/j2k": "image/jp2",
    "image/psd": "image/vnd.adobe.photoshop", "image/x-psd": "image/vnd.adobe.photoshop", "image/x-photoshop": "image/vnd.adobe.photoshop",
    "application/x-photoshop": "image/vnd.adobe.photoshop", "application/photoshop": "image/vnd.adobe.photoshop",
    "image/heif": "image/heic", "image/heic-sequence": "image/heic", "image/heif-sequence": "image/heic", "image/avif-sequence": "image/avif",
    "image/x-portable-anymap": "image/x-portable-pixmap", "image/x-portable-bitmap": "image/x-portable-pixmap", "image/x-portable-graymap": "image/x-portable-pixmap",
    "audio/mp3": "audio/mpeg", "audio/x-mp3": "audio/mpeg", "audio/mpeg3": "audio/mpeg", "audio/x-mpeg": "audio/mpeg", "audio/x-mpeg-3": "audio/mpeg", "audio/mpg": "audio/mpeg",
    "audio/x-wav": "audio/wav", "audio/wave": "audio/wav", "audio/vnd.wave": "audio/wav", "audio/x-pn-wav": "audio/wav",
    "audio/x-flac": "audio/flac", "audio/x-aiff": "audio/aiff", "audio/x-midi": "audio/midi", "audio/mid": "audio/midi", "audio/sp-midi": "audio/midi",
    "audio/x-aac": "audio/aac", "audio/aacp": "audio/aac", "audio/x-hx-aac-adts": "audio/aac", "audio/vnd.dlna.adts": "audio/aac",
    "video/avi": "video/x-msvideo", "video/msvideo": "video/x-msvideo", "video/vnd.avi": "video/x-msvideo", "video/flv": "video/x-flv",
    "video/ts": "video/mp2t", "video/mpegts": "video/mp2t", "video/vnd.dlna.mpeg-tts": "video/mp2t", "video/mpg": "video/mpeg", "video/x-mpeg": "video/mpeg", "video/mp2p": "video/mpeg",
    "application/x-pdf": "application/pdf", "text/pdf": "application/pdf", "text/rtf": "application/rtf", "application/x-rtf": "application/rtf",
    "application/x-rar-compressed": "application/vnd.rar", "application/x-rar": "application/vnd.rar", "application/x-bzip": "application/x-bzip2", "application/bzip2": "application/x-bzip2",
    "application/x-zip-compressed": "application/zip", "application/x-zip": "application/zip",
    "application/exe": "application/x-msdownload", "application/x-exe": "application/x-msdownload", "application/x-dosexec": "application/x-msdownload",
    "application/vnd.microsoft.portable-executable": "application/x-msdownload", "application/x-ms-dos-executable": "application/x-msdownload",
    "application/x-elf": "application/x-executable", "application/x-sharedlib": "application/x-executable", "application/x-pie-executable": "application/x-executable",
    "application/font-woff": "font/woff", "application/font-woff2": "font/woff2", "application/x-font-ttf": "font/ttf", "application/x-font-otf": "font/otf",
    "application/font-sfnt": "font/ttf", "font/sfnt": "font/ttf", "font/otf": "font/ttf",
    "text/xml": "application/xml", "application/xhtml+xml": "text/html",
}  # fmt: skip
"""Other names of one thing, and things that the first bytes cannot tell apart from it."""

_FAMILIES = (
    frozenset({
        "video/mp4", "audio/mp4", "video/quicktime", "application/mp4", "video/x-m4v", "audio/x-m4a", "audio/m4a", "audio/x-m4b", "audio/x-m4r",
        "video/3gpp", "video/3gpp2", "audio/3gpp", "audio/3gpp2", "video/iso.segment",
    }),
    frozenset({"video/webm", "audio/webm", "video/x-matroska", "audio/x-matroska", "video/matroska", "audio/matroska", "video/matroska-3d"}),
    frozenset({"audio/ogg", "video/ogg", "application/ogg", "audio/opus", "audio/vorbis", "audio/x-vorbis+ogg", "audio/x-opus+ogg", "audio/speex"}),
    frozenset({"video/x-ms-asf", "video/x-ms-wmv", "audio/x-ms-wma", "video/x-ms-wm", "application/vnd.ms-asf"}),
    frozenset({"audio/mpeg", "audio/aac"}),
    # Phones and browsers send bare AAC and AAC in MP4 under the same name.
    frozenset({"audio/aac", "audio/mp4"}),
    frozenset({
        "application/gzip", "application/x-gzip", "application/x-tgz", "application/x-gtar", "application/x-tar", "application/x-compressed-tar",
        "application/x-compressed",
    }),
)  # fmt: skip
"""Containers of one family: what is in them is found out later, by those who open them."""

_UNDECLARED = frozenset(
    ["", OCTETS, "binary/octet-stream", "application/x-www-form-urlencoded", "application/unknown", "application/download", "*/*"]
)
"""What says nothing about the bytes; clients that know no better send these, and curl --data-binary a form's type."""

_TEXTUAL = frozenset({
    "application/json", "application/ld+json", "application/xml", "application/javascript", "application/x-javascript",
    "application/ecmascript", "application/typescript", "application/yaml", "application/x-yaml", "application/toml", "application/sql",
    "application/x-sh", "application/x-httpd-php", "application/x-subrip", "application/vnd.apple.mpegurl", "application/x-mpegurl",
    "audio/mpegurl", "audio/x-mpegurl", "application/dash+xml", "application/xhtml+xml", "application/x-ndjson", "application/jsonl",
    "application/geo+json", "application/x-tex", "application/x-latex", "application/graphql", "application/srt",
})  # fmt: skip
_DOCUMENTS = frozenset({
    "application/pdf", "application/rtf", "application/postscript", "application/msword", "application/epub+zip",
    "application/x-ole-storage",
})  # fmt: skip
_DOCUMENT_TREES = (
    "application/vnd.openxmlformats-officedocument.",
    "application/vnd.oasis.opendocument.",
    "application/vnd.ms-excel",
    "application/vnd.ms-powerpoint",
    "application/vnd.ms-word",
)
_ARCHIVES = frozenset({
    "application/zip", "application/gzip", "application/x-tar", "application/vnd.rar", "application/x-7z-compressed",
    "application/x-bzip2", "application/x-xz", "application/zstd", "application/x-lz4", "application/x-lzip", "application/x-lzop",
    "application/x-compress", "application/x-brotli", "application/vnd.ms-cab-compressed", "application/x-unix-archive",
    "application/vnd.debian.binary-package", "application/x-rpm",
})  # fmt: skip
_ZIPPED = (
    "application/vnd.openxmlformats-officedocument.",
    "application/vnd.oasis.opendocument.",
    "application/vnd.ms-",
    "application/java-archive",
    "application/x-java-archive",
    "application/vnd.android.package-archive",
    "application/x-cbz",
    "application/vnd.google-earth.kmz",
    "application/x-xpinstall",
)

_EXTENSIONS = {
    "image/jpeg": "jpg", "image/png": "png", "image/gif": "gif", "image/webp": "webp", "image/avif": "avif", "image/heic": "heic", "image/heic-sequence": "heics",
    "image/heif": "heif", "image/heif-sequence": "heifs", "image/tiff": "tif", "image/x-canon-cr2": "cr2", "image/x-canon-cr3": "cr3", "image/bmp": "bmp", "image/x-icon": "ico",
    "image/vnd.adobe.photoshop": "psd", "image/jp2": "jp2", "image/jpx": "jpx", "image/j2c": "j2c", "image/jxl": "jxl", "image/svg+xml": "svg",
    "image/x-portable-bitmap": "pbm", "image/x-portable-graymap": "pgm", "image/x-portable-pixmap": "ppm", "image/vnd.ms-photo": "jxr", "image/vnd.dwg": "dwg", "image/x-xcf": "xcf",
    "video/mp4": "mp4", "video/quicktime": "mov", "video/webm": "webm", "video/x-matroska": "mkv", "video/ogg": "ogv", "video/x-msvideo": "avi", "video/x-ms-asf": "wmv",
    "video/mpeg": "mpg", "video/mp2t": "ts", "video/x-flv": "flv", "video/3gpp": "3gp", "video/3gpp2": "3g2",
    "audio/mpeg": "mp3", "audio/mp4": "m4a", "audio/aac": "aac", "audio/ogg": "ogg", "audio/flac": "flac", "audio/wav": "wav", "audio/webm": "weba", "audio/x-matroska": "mka",
    "audio/amr": "amr", "audio/aiff": "aiff", "audio/midi": "mid",
    "text/plain": "txt", "text/csv": "csv", "text/tab-separated-values": "tsv", "text/html": "html", "text/vtt": "vtt", "application/xhtml+xml": "xhtml", "application/xml": "xml", "application/json": "json",
    "application/x-subrip": "srt", "application/vnd.apple.mpegurl": "m3u8", "application/dash+xml": "mpd",
    "application/pdf": "pdf", "application/rtf": "rtf", "application/postscript": "ps", "application/epub+zip": "epub", "application/msword": "doc",
    "application/vnd.ms-excel": "xls", "application/vnd.ms-powerpoint": "ppt",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx", "application/vnd.oasis.opendocument.text": "odt",
    "application/vnd.oasis.opendocument.spreadsheet": "ods", "application/vnd.oasis.opendocument.presentation": "odp",
    "application/zip": "zip", "application/gzip": "gz", "application/x-tar": "tar", "application/vnd.rar": "rar", "application/x-7z-compressed": "7z",
    "application/x-bzip2": "bz2", "application/x-xz": "xz", "application/zstd": "zst", "application/vnd.sqlite3": "sqlite", "application/wasm": "wasm",
    "font/woff": "woff", "font/woff2": "woff2", "font/ttf": "ttf", "font/otf": "otf",
}  # fmt: skip

_KNOWN = frozenset(_ALIASES.get(name, name) for name in _EXTENSIONS) | _ARCHIVES | {"application/x-msdownload", "application/x-executable"}
"""Types that sniff can find, and whose absence it can therefore tell."""


def kind(media_type: str) -> str:
    """Sort a media type into image, video, audio, document, text, archive or file."""
    name = _essence(media_type)
    if name in _TEXTUAL or name.startswith("text/"):
        return "text"
    top = name.partition("/")[0]
    if top in ("image", "video", "audio"):
        return top
    if name in _DOCUMENTS or name.startswith(_DOCUMENT_TREES):
        return "document"
    return "archive" if name in _ARCHIVES else "file"


def extension(media_type: str) -> str:
    """Give the ending of a storage key, without a dot, from a fixed table: never anything of a user's; "bin" for the rest."""
    return _EXTENSIONS.get(_essence(media_type), "bin")


def contradicts(declared: str, found: str) -> bool:
    """Tell whether a declared Content-Type cannot be true of bytes that sniff calls `found` (415).

    Other names of the same type, containers of one family, kinds of text, and types that sniff does not know, contradict nothing; neither does saying nothing.
    """
    claim, found = _essence(declared), _essence(found)
    told, seen = _ALIASES.get(claim, claim), _ALIASES.get(found, found)
    if claim in _UNDECLARED or "/" not in claim or told == seen:
        return False
    if any(told in family and seen in family for family in _FAMILIES):
        return False
    if seen == OCTETS:
        # Text in an old encoding is octets to us, and so is every format that we do not know.
        return told in _KNOWN and not claim.startswith("text/")
    if _textual(claim) and (_textual(found) or seen == "image/svg+xml"):
        return False
    if told.endswith("+xml") and seen == "application/xml" and told != "image/svg+xml":
        return False
    if _zipped(told) and _zipped(seen) and "application/zip" in (told, seen):
        return False
    if seen in ("application/x-ole-storage", "application/msword", "application/vnd.ms-excel", "application/vnd.ms-powerpoint"):
        return not told.startswith(("application/msword", "application/vnd.ms-", "application/x-ole-storage", "application/vnd.visio"))
    if told in _KNOWN or kind(told) in ("image", "video", "audio", "text"):
        return True
    # A type of somebody's own, application/x-…: it says nothing that the bytes could belie, unless they are active.
    return seen in ("text/html", "image/svg+xml", "application/x-msdownload", "application/x-executable")


def _essence(media_type: str) -> str:
    return media_type.partition(";")[0].strip().lower()


def _textual(name: str) -> bool:
    return (
        name.startswith("text/")
        or name in _TEXTUAL
        or name.endswith(("+json", "+yaml"))
        or (name.endswith("+xml") and name != "image/svg+xml")
    )


def _zipped(name: str) -> bool:
    return name == "application/zip" or name.endswith("+zip") or name.startswith(_ZIPPED)
