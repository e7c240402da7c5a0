"""Freshness told to caches (RFC 9111 section 5.2.2): the one place that writes Cache-Control for media."""


def cache_control(public: bool, max_age: int, *, remaining: int | None = None, immutable: bool = True) -> str:
    """Write Cache-Control for media that stays fresh for `max_age` seconds.

    Public media may be kept by anybody and are `immutable` (RFC 8246): bytes under an id do not change. Private media are for the
    caller's own cache, never a shared one. `remaining`, the seconds until the media itself expires, bounds the freshness, and takes
    `immutable` away: a reload then learns of an expiry that was moved. Negative seconds count as 0.
    """
    seconds = max(max_age if remaining is None else min(max_age, remaining), 0)
    if not public:
        return f"private, max-age={seconds}"
    if immutable and remaining is None:
        return f"public, max-age={seconds}, immutable"
    return f"public, max-age={seconds}"
