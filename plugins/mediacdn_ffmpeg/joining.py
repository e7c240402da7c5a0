"""What parts of a film have to say of themselves, and the playlists of all of them, or of those that are there. Pure."""

from collections.abc import Sequence
from itertools import count, pairwise, takewhile
from typing import Literal

from msgspec import Struct

from mediacdn import Undecodable
from mediacdn_ffmpeg import playlists
from mediacdn_ffmpeg.command import sound_names
from mediacdn_ffmpeg.making import OFF

SEAM = 0.03
"""Seconds of sound that may be missing between two parts: a packet has 21 ms."""


class Cut(Struct, frozen=True, kw_only=True):
    """One rendition of a part, or a track of its sound. Times are seconds of the film's clock: when its streams begin and end, and when they are decoded."""

    name: str
    init: str
    segments: tuple[playlists.Segment, ...]
    keys: tuple[int, ...] = ()
    codecs: str = ""
    width: int = 0
    height: int = 0
    frames: int = 0
    spans: dict[Literal["video", "audio"], tuple[float, float]] = {}
    decoded: dict[Literal["video", "audio"], tuple[float, float]] = {}


class Heard(Struct, frozen=True):
    """The tracks of sound of a part."""

    number: int
    cuts: list[Cut]


class Sounds(Struct, frozen=True):
    """What the unit of sound has made: that of all parts whose own units have none."""

    heard: list[Heard]


class Part(Struct, frozen=True, kw_only=True):
    """What a unit has made of a part, and what is known of the film."""

    number: int
    cuts: list[Cut]
    rungs: list[str]
    first: str
    duration: float
    wanted: float
    """Seconds of its pictures."""
    frame_rate: float
    languages: list[str]
    """Of the film's tracks of sound."""
    heard: list[Heard] = []


class Joined(Struct, frozen=True, kw_only=True):
    """What is to be published: segments by path, each of a unit, and playlists by name, the one to begin with last."""

    segments: dict[str, str]
    texts: dict[str, str]
    names: list[str]
    count: int
    width: int
    height: int
    duration: float


def joined(parts: Sequence[tuple[str, Part]], sounds: Sequence[tuple[str, Sounds]], seconds: int, *, whole: bool) -> Joined | None:
    """Put together what units have made; None while nothing can be played. Before it is whole, there is as much of it as there is of the first rendition and of the
    sound, and renditions that lag behind are left out: a player that changed over to one would wait there. Raises: Undecodable, where what is whole does not fit together."""
    by_name: dict[str, dict[int, tuple[str, Cut]]] = {}
    made = [(unit, Heard(part.number, part.cuts)) for unit, part in parts]
    made += [(unit, each) for unit, part in parts for each in part.heard] + [(unit, each) for unit, rest in sounds for each in rest.heard]
    for unit, each in made:
        for cut in each.cuts:
            by_name.setdefault(cut.name, {})[each.number] = (unit, cut)
    if not parts:
        return None
    film = parts[0][1]
    heard = sound_names(len(film.languages))
    runs = {name: _run(by_name.get(name, {})) for name in (*film.rungs, *heard)}
    length = min(len(runs[name]) for name in (film.first, *heard))
    shown = [name for name in film.rungs if len(runs[name]) >= length]
    if not length or (whole and any(len(runs[name]) != length for name in (*film.rungs, *heard))):
        return None
    found: dict[str, str] = {}
    texts: dict[str, str] = {}
    tracks: dict[str, playlists.Track] = {}
    for name in (*shown, *heard):
        run = runs[name][:length]
        cuts = [cut for _, cut in run]
        if whole:
            _fitting(cuts, film.wanted)
        for unit, cut in run:
            found.update({cut.init: unit, **{each.name: unit for each in cut.segments}})
        texts[name] = playlists.joined_playlist([(cut.init, cut.segments) for cut in cuts], seconds, whole=whole)
        tracks[name] = track = _track(name, cuts, film.frame_rate, keys=whole)
        if track.keys:
            texts[f"{name}-keys"] = playlists.key_playlist(track, cuts[0].init)
    pictures = [tracks[name] for name in shown]
    beside = [playlists.Sound(language, tracks[name]) for language, name in zip(film.languages, heard, strict=True)]
    texts["master"] = playlists.master_playlist(pictures, beside, version=7)
    return Joined(
        segments=found, texts=texts, names=[*shown, *heard], count=sum(len(each.segments) for each in pictures),
        width=pictures[0].width, height=pictures[0].height, duration=round(film.duration, 3),
    )  # fmt: skip


def _run(cuts: dict[int, tuple[str, Cut]]) -> list[tuple[str, Cut]]:
    """The parts from the beginning, up to the first that is missing."""
    return [cuts[number] for number in takewhile(cuts.__contains__, count())]


def _track(name: str, cuts: Sequence[Cut], told: float, *, keys: bool) -> playlists.Track:
    segments = tuple(each for cut in cuts for each in cut.segments)
    seconds = sum(each.seconds for each in segments)
    found = sum(cut.frames for cut in cuts) / max(seconds, 0.04)
    alike = keys and len({cut.init for cut in cuts}) == 1 and all(len(cut.keys) == len(cut.segments) for cut in cuts)
    return playlists.Track(
        name=name, segments=segments, codecs=cuts[0].codecs, keys=tuple(each for cut in cuts for each in cut.keys) if alike else (),
        width=cuts[0].width, height=cuts[0].height, frame_rate=told if abs(found - told) < 0.03 * told else found,
    )  # fmt: skip


def _fitting(cuts: Sequence[Cut], wanted: float) -> None:
    """Time goes on from each part to the next, no sound is missing between them, and all together is as long as the film. Raises: Undecodable."""
    for before, after in pairwise(cuts):
        if any(after.decoded[kind][0] < before.decoded[kind][1] for kind in before.decoded):
            raise Undecodable("In what was made, time goes back")
        if "audio" in before.spans and abs(after.spans["audio"][0] - before.spans["audio"][1]) > SEAM:
            raise Undecodable("In what was made, sound is missing")
    made = sum(each.seconds for cut in cuts for each in cut.segments)
    if made < wanted - OFF - 1.0 / 10:
        raise Undecodable(f"The film says that it is {wanted:.1f} s long, and {made:.1f} s of it can be read: it is damaged or cut short")
