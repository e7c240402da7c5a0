"""Which demuxer reads a media type. There are no others: none that follows references, and none that guesses."""

DEMUXERS = {
    "video/mp4": "mov", "video/quicktime": "mov", "video/3gpp": "mov", "video/3gpp2": "mov", "audio/mp4": "mov",
    "video/webm": "matroska", "video/x-matroska": "matroska", "audio/webm": "matroska", "audio/x-matroska": "matroska",
    "video/ogg": "ogg", "audio/ogg": "ogg", "video/x-msvideo": "avi", "video/mp2t": "mpegts", "video/mpeg": "mpeg", "video/x-flv": "flv",
    "video/x-ms-asf": "asf", "audio/mpeg": "mp3", "audio/aac": "aac", "audio/flac": "flac", "audio/wav": "wav", "audio/aiff": "aiff", "audio/amr": "amr",
}  # fmt: skip
"""Type, as sniffed, and demuxer."""
SOUNDS = tuple(each for each in DEMUXERS if each.startswith("audio/"))
FILMS = tuple(each for each in DEMUXERS if each.startswith("video/"))
SURE = frozenset({"mov", "matroska"})
"""Containers that say how long they are, and can be sought in; of the others all packets are looked at."""
