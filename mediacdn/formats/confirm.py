"""Whether bytes that begin like a binary format go on like one: cheap checks of headers, sizes and checksums behind the signatures of the library `filetype`.
It answers with a media type, with application/octet-stream for a signature that nothing confirms, or with None for bytes that are no binary format it knows;
text and markup are left to sniff, and whether a decoder can open the file to those who open it."""

import filetype  # type: ignore[import-untyped]

from mediacdn.formats import containers, files, images, streams
from mediacdn.formats.verdict import BINARY, OCTETS, Check

_RENAMED = {
    "application/x-rar-compressed": "application/vnd.rar",
    "application/x-sqlite3": "application/vnd.sqlite3",
    "application/x-deb": "application/vnd.debian.binary-package",
}


def confirmed(head: bytes, whole: bool) -> str | None:
    """Name the binary format of `head`, confirmed; `whole` says that there is no more of the file."""
    guess = filetype.guess(head)
    claimed = guess.mime if guess is not None else ""
    check = _CHECKS.get(claimed)
    if check is not None:
        found = check(head, whole, claimed)
        if found is not None:
            return found
    elif claimed not in ("", OCTETS) and BINARY.search(head):
        # A signature of several bytes without a cheap check behind it; its letters alone, in a text, are not believed.
        return _RENAMED.get(claimed, claimed)
    for own in _OWN:
        found = own(head, whole, claimed)
        if found is not None:
            return found
    return None


_CHECKS: dict[str, Check] = {
    "image/png": images.png, "image/apng": images.png, "image/gif": images.gif, "image/jpeg": images.jpeg, "image/tiff": images.tiff, "image/x-canon-cr2": images.tiff,
    "image/bmp": images.bmp, "image/x-icon": images.ico, "image/vnd.adobe.photoshop": images.psd, "image/webp": containers.riff,
    "image/jpx": containers.isobmff, "image/heic": containers.isobmff, "image/avif": containers.isobmff, "audio/mp4": containers.isobmff, "video/mp4": containers.isobmff,
    "video/x-m4v": containers.isobmff, "video/quicktime": containers.isobmff, "video/3gpp": containers.isobmff,
    "video/x-matroska": containers.ebml, "video/webm": containers.ebml, "video/x-msvideo": containers.riff, "audio/x-wav": containers.riff, "video/x-ms-wmv": streams.asf, "video/mpeg": streams.mpeg,
    "video/x-flv": streams.flv, "audio/mpeg": streams.id3, "audio/aac": streams.mpeg_audio, "audio/ogg": containers.ogg, "audio/x-flac": streams.flac, "audio/midi": streams.midi, "audio/x-aiff": streams.aiff,
    "application/pdf": files.pdf, "application/zip": files.zipped, "application/epub+zip": files.zipped, "application/gzip": files.gzip, "application/x-bzip2": files.bzip2,
    "application/x-xz": files.xz, "application/x-7z-compressed": files.seven_zip, "application/x-tar": files.tar, "application/x-msdownload": files.program,
    "application/x-executable": files.elf, "application/x-shockwave-flash": files.flash, "application/font-woff": files.font, "application/font-sfnt": files.font,
    "application/rtf": files.rtf, "application/postscript": files.postscript,
    "application/msword": files.ole, "application/vnd.ms-excel": files.ole, "application/vnd.ms-powerpoint": files.ole,
    **{
        f"application/vnd.{kind}": files.zipped
        for kind in (
            "openxmlformats-officedocument.wordprocessingml.document",
            "openxmlformats-officedocument.spreadsheetml.sheet",
            "openxmlformats-officedocument.presentationml.presentation",
            "oasis.opendocument.text",
            "oasis.opendocument.spreadsheet",
            "oasis.opendocument.presentation",
        )
    },
}  # fmt: skip
_OWN: tuple[Check, ...] = (
    containers.isobmff,
    containers.ebml,
    containers.riff,
    streams.aiff,
    images.codestreams,
    images.netpbm,
    streams.mpeg_audio,
    streams.mpeg_ts,
    files.ole,
    files.pdf,
)
