"""Whether a film's own pictures and sound are fit to be one of its renditions as they are: then they are copied, and neither time nor quality is lost. Pure."""

from collections.abc import Sequence
from itertools import pairwise

from msgspec import Struct

from mediacdn_ffmpeg.ladder import Rendition
from mediacdn_ffmpeg.request import Audio, Film

LONGEST = 2.0
"""Times the length of a segment that the film's key frames may be apart, and the other way round the least that they are on average."""
MOST_KEYS = 4000
SPARE = 1.25
"""Times the bit rate of a rendition that its copy may have."""
FASTEST = 60.0
TAIL = 0.5
"""Seconds that the last key frame is ahead of the end at least: players stall at segments of a picture or two."""


class Copied(Struct, frozen=True):
    """What is copied: the pictures as the first rendition, where there are `keys`, the seconds of their key frames, which the other renditions then have too; and
    the sound."""

    keys: tuple[float, ...] = ()
    sound: bool = False


def fit(film: Film, size: int, rungs: Sequence[Rendition], seconds: int) -> Copied:
    """Tell what of a film of `size` bytes can be copied. That it could is found out by looking at what was made, as ever."""
    sound = bool(film.audio) and all(map(_sounds, film.audio))
    video = film.video
    if video is None or not rungs or not video.plain or not film.duration or not 0 < video.frame_rate <= FASTEST:
        return Copied(sound=sound)
    top, keys = rungs[0], video.keys
    gaps = [after - before for before, after in pairwise([*keys, film.duration])]
    fits = (
        (top.width, top.height) == (video.width, video.height)
        and 0 < len(keys) <= MOST_KEYS
        and max(gaps) <= LONGEST * seconds
        and (len(keys) == 1 or gaps[-1] >= TAIL)
        and film.duration / len(keys) >= min(seconds, film.duration) / LONGEST
        and size * 8 / film.duration <= SPARE * top.rate + 200_000 * len(film.audio)
    )
    return Copied(keys=keys if fits else (), sound=sound)


def _sounds(audio: Audio) -> bool:
    return audio.plain and 1 <= audio.channels <= 2 and audio.rate in (44_100, 48_000)
