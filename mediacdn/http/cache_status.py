"""The Cache-Status field (RFC 9211): how this cache came by its answer, as one structured-field item."""

import re

NAME = "mediacdn"

FORWARDS = frozenset({"bypass", "method", "uri-miss", "vary-miss", "miss", "request", "stale", "partial"})
"""Why a request goes forward (RFC 9211 section 2.2)."""

_TOKEN = re.compile(r"[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*")
_UNPRINTABLE = re.compile(r"[^ -~]")
_LARGEST = 999_999_999_999_999
_NOTHING = (None,) * 6


def cache_status(
    *,
    hit: bool = False,
    fwd: str | None = None,
    fwd_status: int | None = None,
    ttl: int | None = None,
    stored: bool | None = None,
    collapsed: bool | None = None,
    key: str | None = None,
    detail: str | None = None,
) -> str:
    """Write `mediacdn; hit; ttl=30` and the like (RFC 9211 section 2).

    `hit` and `fwd` exclude each other (section 2.1); `fwd` is one of FORWARDS; `ttl` is seconds, negative when stale. Text that a
    structured-field string cannot hold is replaced character by character. Raises ValueError for `hit` with `fwd` and for an unknown `fwd`.
    """
    if hit and ttl is not None and (fwd, fwd_status, stored, collapsed, key, detail) == _NOTHING:  # nearly every answer's
        return f"{NAME}; hit; ttl={max(-_LARGEST, min(ttl, _LARGEST))}"
    parts = [NAME]
    if hit:
        if fwd is not None:
            raise ValueError("a hit is not forwarded")
        parts.append("hit")
    elif fwd is not None:
        if fwd not in FORWARDS:
            raise ValueError(f"{fwd!r} is no reason to forward")
        parts.append(f"fwd={fwd}")
    if fwd_status is not None:
        parts.append(f"fwd-status={fwd_status}")
    if ttl is not None:
        parts.append(f"ttl={max(-_LARGEST, min(ttl, _LARGEST))}")
    if stored is not None:
        parts.append("stored" if stored else "stored=?0")
    if collapsed is not None:
        parts.append("collapsed" if collapsed else "collapsed=?0")
    if key is not None:
        parts.append(f"key={_string(key)}")
    if detail is not None:
        parts.append(f"detail={detail if _TOKEN.fullmatch(detail) else _string(detail)}")
    return "; ".join(parts)


def _string(text: str) -> str:
    text = _UNPRINTABLE.sub("?", text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
