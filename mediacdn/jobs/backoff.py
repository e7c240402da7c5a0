"""When a failed attempt is followed by the next."""

from random import Random

from mediacdn.errors import MediaError, TooManyRequests


def pause(attempt: int, base: float, most: float, random: Random) -> float:
    """Seconds before the attempt after the `attempt`-th (from 1): exponential with full jitter, so that what failed together does not come again together."""
    return random.uniform(0, min(most, base * 2 ** min(attempt - 1, 60)))


def hopeless(error: BaseException) -> bool:
    """Whether another attempt would end alike: the fault is the media's or the request's, not of the moment."""
    return isinstance(error, MediaError) and error.status < 500 and not isinstance(error, TooManyRequests)
