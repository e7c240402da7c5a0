"""Names under which caches in front can drop many answers at once: Cache-Groups (RFC 9875), and the surrogate keys of CDNs that came before it. It answers for
what a field may hold; which names a media has, and whether to tell them, is delivery's business."""

import hashlib
import re
from collections.abc import Callable, Iterable
from urllib.parse import quote

GROUPS = 32
GROUP = 32
"""Every cache must take 32 groups of 32 characters (RFC 9875 section 2); more than that may be lost on some."""

KEY = 128
KEYS = 2048
"""Characters of one surrogate key, and of the field: CDNs take 16 KiB of it, but a proxy between may hold all fields of an answer in one page of 4 KiB."""

SEPARATORS = {"cache-tag": ",", "edge-cache-tag": ","}
"""Fields whose keys are separated by commas; elsewhere (Surrogate-Key, xkey) it is a blank."""

_PRINTABLE = re.compile(r"[ -~]+")


def cache_groups(names: Iterable[str]) -> str:
    """Write Cache-Groups: a structured-field list of strings (RFC 9875 section 2), empty for no names.

    A name that is too long, or that a string cannot hold, is told by its digest, always the same one. The first GROUPS different names are told.
    """
    return ", ".join('"' + each.replace("\\", "\\\\").replace('"', '\\"') + '"' for each in _first(names, _group, GROUPS))


def surrogate_keys(names: Iterable[str], separator: str = " ") -> str:
    """Write the keys of Surrogate-Key, xkey or Cache-Tag, as many as fit into KEYS characters, the first ones first.

    Blanks, commas and whatever is not plain ASCII are percent-encoded; a key that is too long then is told by its digest.
    """
    told: list[str] = []
    room = KEYS
    for each in _first(names, _key, KEYS):
        room -= len(each) + len(separator)
        if room + len(separator) < 0:
            break
        told.append(each)
    return separator.join(told)


def separator(field: str) -> str:
    """What stands between the keys in the field of this name."""
    return SEPARATORS.get(field.lower(), " ")


def _first(names: Iterable[str], write: Callable[[str], str], limit: int) -> list[str]:
    return list(dict.fromkeys(write(name) for name in names if name))[:limit]


def _group(name: str) -> str:
    return name if len(name) <= GROUP and _PRINTABLE.fullmatch(name) else _digest(name)


def _key(name: str) -> str:
    key = quote(name, safe="!#$&'()*+./:;=?@[]^_`{|}~-", errors="surrogatepass")
    return key if len(key) <= KEY else _digest(name)


def _digest(name: str) -> str:
    return "~" + hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[: GROUP - 1]
