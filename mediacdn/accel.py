"""Answers whose bytes a proxy in front sends itself: nginx's X-Accel-Redirect, for files of storages whose folder an internal location of its own has.

Everything is decided before, as for any read; what is handed over is the head, and where the file is. The proxy cuts the range itself, so only requests are handed
over that it must read as we did: at most one plain range, no precondition but the If-Range that compares our ETag.
"""

import re
from collections.abc import Mapping
from urllib.parse import quote

from mediacdn.delivery import Answer
from mediacdn.errors import ConfigError
from mediacdn.http.fields import field_lines, field_pairs, joined
from mediacdn.interfaces import RelativePaths, Storage

ASKED_BY = "x-sendfile-type"
"""The request field by which a trusted proxy says that it will send files, and how."""
WAY = "X-Accel-Redirect"
PRECONDITIONS = ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since")
ITS_OWN = frozenset({b"content-length", b"content-range", b"accept-ranges"})
"""Fields that the proxy works out from the file and the range."""
_PLAIN = re.compile(r"bytes=(?:([0-9]{1,15})-([0-9]{0,15})|-[0-9]{1,15})")


class Accel:
    """Hands over what lies in the configured storages: `locations` maps a storage's name to the internal location with its folder. Raises: ConfigError."""

    def __init__(self, locations: Mapping[str, str], storages: Mapping[str, Storage]) -> None:
        self._places: dict[str, tuple[str, RelativePaths]] = {}
        for name, location in locations.items():
            storage = storages[name]
            if not isinstance(storage, RelativePaths):
                raise ConfigError(f"server.accel: the files of storage.{name} cannot be sent by a proxy")
            self._places[name] = location, storage

    def hand_over(self, answer: Answer, fields: Mapping[str, str]) -> Answer | None:
        """The answer that has the proxy send the bytes, to a request with these fields; None where we send them ourselves."""
        place = self._places.get(answer.origin.storage)
        if place is None or not answer.spans or answer.pieces is not None or answer.framing is not None:
            return None
        wanted = fields.get("range")
        if wanted is not None and not _plain(wanted):
            return None
        if any(name in fields for name in PRECONDITIONS) or not fields.get("if-range", '"').startswith('"'):
            return None
        location, storage = place
        told = [pair for pair in field_pairs(answer.head) if pair[0] not in ITS_OWN]
        path = location + quote(storage.relative_path(answer.origin.key), safe="/+=")
        told += [(WAY.lower().encode(), path.encode()), (b"content-length", b"0")]
        return Answer(200, (field_lines(joined(told)),), answer.card, answer.origin, answer.variant)


def _plain(wanted: str) -> bool:
    """Whether everybody reads this Range alike: one range, its end not before its start, of numbers that no parser finds too large."""
    found = _PLAIN.fullmatch(wanted)
    return found is not None and (not found[2] or int(found[1]) <= int(found[2]))
