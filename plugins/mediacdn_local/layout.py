"""Which file holds which key, and back: no two keys share a file, and no key leaves the folder.

A key is one file, `{fan}/{name}`. `fan` is the first three hexadecimal digits of the key's SHA-256, so that 4,096 folders share the load
(24 files each at 10^5 objects, 24,000 at 10^8). `name` is the key with `/` written as `+`, a character that keys do not have.
A name of more than 240 characters (file systems end at 255) is cut into folders whose names end in `=`, another such character.
"""

import hashlib
import re

from msgspec import Struct

from mediacdn import InvalidParameter

_KEY = re.compile(r"(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._-]+(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._-]+)*")
_LONGEST_KEY = 512
_PIECE = 240
FAN = re.compile(r"[0-9a-f]{3}")


class Place(Struct, frozen=True):
    """Where a key's bytes lie: `folders` from the root downwards (the fan-out folder first), then the file's `name`."""

    key: str
    folders: tuple[str, ...]
    name: str


def place_of(key: str) -> Place:
    """Answer where `key` lies. Raises: InvalidParameter for a key outside the seam's alphabet, or with an empty, `.` or `..` part."""
    if len(key) > _LONGEST_KEY or not _KEY.fullmatch(key):
        raise InvalidParameter("The storage key is malformed")
    fan = hashlib.sha256(key.encode("ascii")).hexdigest()[:3]
    name = key.replace("/", "+")
    if len(name) <= _PIECE:
        return Place(key, (fan,), name)
    pieces = [name[at : at + _PIECE] for at in range(0, len(name), _PIECE)]
    return Place(key, (fan, *(f"{piece}=" for piece in pieces[:-1])), pieces[-1])


def key_of(folders: tuple[str, ...], name: str) -> str | None:
    """Answer which key the file `name` in `folders` holds; None for a file that this driver would not have put there."""
    key = "".join([*(folder.removesuffix("=") for folder in folders[1:]), name]).replace("+", "/")
    try:
        place = place_of(key)
    except InvalidParameter:
        return None
    return key if (place.folders, place.name) == (folders, name) else None
