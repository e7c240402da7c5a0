"""Freshness told to caches (RFC 9111 section 5.2.2, RFC 9213): the one place that writes Cache-Control and CDN-Cache-Control for media."""


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


def cdn_cache_control(max_age: int, grace: int, *, remaining: int | None = None) -> str:
    """Write CDN-Cache-Control (RFC 9213 section 3.1) for public media: fresh for `max_age` seconds, then usable for `grace` while it is
    revalidated or the origin does not answer (RFC 5861).

    A CDN that knows the field reads nothing else, so it says `public` again: an answer to a request with Authorization may be kept too.
    `remaining`, the seconds until the media itself expires, bounds both. Negative seconds count as 0.
    """
    seconds = max(max_age if remaining is None else min(max_age, remaining), 0)
    stale = max(grace if remaining is None else min(grace, remaining - seconds), 0)
    if stale == 0:
        return f"public, max-age={seconds}"
    return f"public, max-age={seconds}, stale-while-revalidate={stale}, stale-if-error={stale}"
