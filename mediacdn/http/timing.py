"""The Server-Timing field (W3C Server Timing section 3): how long the parts of an answer took, for the reader's own tools."""

import math
import re
from collections.abc import Iterable

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_UNPRINTABLE = re.compile(r"[^ -~]")


def server_timing(metrics: Iterable[tuple[str, float | None, str | None]]) -> str:
    """Write `fill;dur=12.5;desc="read from the origin"` of (name, milliseconds or None, description or None), in the order given.

    Microseconds are kept, negative times count as 0, and times that are no number are left out. Raises ValueError for a name that is no token.
    """
    written: list[str] = []
    for name, milliseconds, description in metrics:
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a metric")
        text = name
        if milliseconds is not None and math.isfinite(milliseconds):
            text += f";dur={max(milliseconds, 0.0):.3f}".rstrip("0").rstrip(".")
        if description:
            quoted = _UNPRINTABLE.sub("?", description).replace("\\", "\\\\").replace('"', '\\"')
            text += f";desc={description}" if _TOKEN.fullmatch(description) else f';desc="{quoted}"'
        written.append(text)
    return ", ".join(written)
