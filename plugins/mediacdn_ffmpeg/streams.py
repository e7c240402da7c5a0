"""The driver that has ffmpeg make streams: renditions in segments, each looked at, named by what is in it, and listed in playlists that are written here."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any

from mediacdn import Argument, Kit, Made, MadeFile, OverLimits, Sink, Source, Undecodable
from mediacdn_ffmpeg import command, playlists
from mediacdn_ffmpeg.config import RENDITION, HlsConfig
from mediacdn_ffmpeg.copying import Copied, fit
from mediacdn_ffmpeg.demuxers import DEMUXERS
from mediacdn_ffmpeg.ladder import ladder
from mediacdn_ffmpeg.making import OFF, Making, open_making, quality
from mediacdn_ffmpeg.request import EMPTY, Audio, Check, Checked, Film, Piece

MPEGURL = "application/vnd.apple.mpegurl"
DAMAGED = "The film says that it is {0:.1f} s long, and ends after {1:.1f} s: it is damaged or cut short"
_MOST_PLAYLIST = 16 << 20
_SHORT = 0.4
"""Seconds of sound of which there is no segment: some players pass over it, and then wait for it."""


class Hls:
    """`hls`: a stream (RFC 8216) of one or more renditions, and the tracks of sound beside them; in transport streams the first of these is in each rendition."""

    accepts = tuple(DEMUXERS)

    def __init__(self, config: HlsConfig, making: Making) -> None:
        self._making = making
        # What decides which bytes are made is among the arguments, so that another configuration makes another derivative.
        self.arguments = (
            Argument(
                name="renditions", default=",".join(config.renditions), max=200, pattern="[1-9][0-9]{1,3}p(,[1-9][0-9]{1,3}p)*",
                summary="Boxes of 16:9 by their height; none makes the film larger",
            ),
            Argument(name="container", default=config.container, allowed=("fmp4", "mpegts"), summary="Of the segments"),
            Argument(name="seconds", type="integer", default=config.seconds, min=1, max=20, summary="Of a segment"),
            *quality(config),
        )  # fmt: skip

    async def run(self, source: Source, spec: Mapping[str, Any], sink: Sink) -> Made:
        tried: list[Copied] = []
        try:
            return await self._made(source, spec, sink, tried)
        except Undecodable:
            if not tried:
                raise
        return await self._made(source, spec, sink, None)  # what was copied is not fit after all

    async def _made(self, source: Source, spec: Mapping[str, Any], sink: Sink, tried: list[Copied] | None) -> Made:
        """Make it; what fits is copied, and `tried` told of it, unless that is None."""
        making, media_type = self._making, source.media.media_type
        folder = await sink.folder()
        how = await making.how(media_type, spec)
        async with source.file() as file:
            film = await making.looking.film(media_type, file)
            boxes = [int(found[1]) for each in spec["renditions"].split(",") if (found := RENDITION.fullmatch(each))]
            rungs = ladder(film.video.width, film.video.height, boxes) if film.video else []
            copied = Copied() if tried is None else fit(film, source.media.size, rungs, spec["seconds"])
            if tried is not None and copied != Copied():
                tried.append(copied)
            arguments, names = command.hls(film, rungs, how, container=spec["container"], seconds=spec["seconds"], copied=copied)
            await making.encode(arguments, file, folder, film.duration, lambda share: sink.progress(share * 0.9))
        tracks, pieces, lists = [], [], []
        sounds: list[playlists.Sound] = []
        starts: list[tuple[float, ...]] = []
        fmp4 = spec["container"] == "fmp4"
        within = bool(film.audio) and not fmp4
        for number, name in enumerate(names):
            rung = rungs[number] if number < len(rungs) else None
            cut = await asyncio.to_thread(listed, folder, name, "m4s" if fmp4 else "ts")
            if rung is None and fmp4:
                cut = await asyncio.to_thread(rounded, folder, cut)
            piece = Piece(name, len(cut), fmp4)
            beside = film.audio[len(sounds) + (within and bool(rungs))] if rung is None else None
            checked = await self._checked(film, piece, folder, beside, heard=within, copied=copied.sound)
            if copied.sound and rungs and beside is not None and fmp4 and not sounding(checked, film):
                raise Undecodable("The sound of the film does not begin and end with it")
            if copied.keys and rung is not None:
                starts.append(checked.starts)
                if checked.leading or not aligned(starts):
                    raise Undecodable("Key frames of the film are not what they seem")
            files, segments, init = await asyncio.to_thread(named, folder, piece, cut)
            pieces += files
            await asyncio.to_thread(write, folder, f"{name}.playlist", playlists.media_playlist(segments, init))
            keys = checked.keys if rung is not None and len(checked.keys) == len(segments) else ()
            track = playlists.Track(
                name=name, segments=segments, codecs=checked.codecs, keys=keys, width=checked.width, height=checked.height,
                frame_rate=rate(film, checked.frames / max(checked.video, 0.04)),
            )  # fmt: skip
            lists.append(name)
            if beside is not None and rungs:
                sounds.append(playlists.Sound(beside.language, track))
            else:
                tracks.append(track)
            if keys:
                lists.append(f"{name}-keys")
                await asyncio.to_thread(write, folder, f"{name}-keys.playlist", playlists.key_playlist(track, init))
            await sink.progress(0.9 + 0.1 * (number + 1) / len(names))
        if sounds and within:
            sounds.insert(0, playlists.Sound(film.audio[0].language))
        master = playlists.master_playlist(tracks, sounds, version=7 if fmp4 else 4 if sounds else 3)
        await asyncio.to_thread(write, folder, "master.playlist", master)
        await asyncio.to_thread(os.write, sink.file(), master.encode())
        pieces += [MadeFile(f"{name}.playlist", f"{name}.m3u8", MPEGURL) for name in lists]
        pieces.append(MadeFile("master.playlist", "master.m3u8", MPEGURL))
        top = rungs[0] if rungs else None
        return Made(
            media_type=MPEGURL, width=top.width if top else None, height=top.height if top else None, duration=round(film.duration, 3),
            facts={"renditions": names, "segments": sum(len(each.segments) for each in tracks)}, tools={**making.tools, **film.tools},
            files=tuple(pieces), manifest="master.m3u8",
        )  # fmt: skip

    async def _checked(self, film: Film, piece: Piece, folder: int, sound: Audio | None, *, heard: bool, copied: bool) -> Checked:
        """Look at what was made before anybody else does, a track of sound or pictures, in which there is sound where it is `heard`. Raises: Undecodable."""
        looking, pictures = self._making.looking, sound is None
        about = film.video if sound is None else sound
        wanted = (about.duration if about else None) or film.duration
        try:
            checked = await looking.checked(Check(piece=piece, video=pictures, audio=heard or not pictures, through=copied), folder)
        except Undecodable as error:
            if error.detail != EMPTY:
                raise
            raise Undecodable(DAMAGED.format(wanted, 0.0)) from error
        made = checked.video if pictures else checked.audio
        # A frame or packet more or less is no difference; what was asked for in whole frames of 60 a second at most may lack one of the film's.
        slack = OFF + (max(1 / film.video.frame_rate, 1 / command.FASTEST) if pictures and film.video and film.video.frame_rate else 0.05)
        if made < wanted - slack:
            raise Undecodable(DAMAGED.format(wanted, made))
        if made > wanted + slack and made > film.duration + slack:
            raise Undecodable(f"What was made is {made:.1f} s long, and the film {wanted:.1f} s: its times are damaged")
        return checked


def sounding(checked: Checked, film: Film) -> bool:
    """Whether sound that was copied lasts from the film's beginning to about its end: players wait for what they are told to play along with the pictures."""
    begun, ended = checked.spans.get("audio", (0.0, film.duration))
    return begun < OFF and ended > film.duration - 1


def aligned(starts: list[tuple[float, ...]]) -> bool:
    """Whether the segments of renditions begin at the same pictures."""
    return all(len(each) == len(starts[0]) and all(abs(a - b) < 0.01 for a, b in zip(each, starts[0], strict=True)) for each in starts[1:])


def rate(film: Film, found: float) -> float:
    """The film's own frame rate, where what was made has about as many."""
    told = film.video.frame_rate if film.video else 0.0
    return told if abs(found - told) < 0.03 * told else found


def listed(folder: int, name: str, ending: str) -> tuple[playlists.Segment, ...]:
    try:
        text = _bytes(folder, f"{name}.m3u8", _MOST_PLAYLIST).decode("ascii")
        return playlists.read(text, name, ending)
    except (OSError, ValueError) as error:
        raise Undecodable("Nothing whole was made of the film") from error


def rounded(folder: int, segments: tuple[playlists.Segment, ...]) -> tuple[playlists.Segment, ...]:
    """Put a last segment of sound that is very short behind the one before it: fragments follow each other in a file as they do in two."""
    if len(segments) < 2 or segments[-1].seconds >= _SHORT:
        return segments
    *others, before, last = segments
    with os.fdopen(os.open(before.name, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder), "ab") as file:
        file.write(_bytes(folder, last.name, 1 << 30))
    return *others, playlists.Segment(before.name, before.seconds + last.seconds)


def named(
    folder: int, piece: Piece, listed: tuple[playlists.Segment, ...], part: str = ""
) -> tuple[list[MadeFile], tuple[playlists.Segment, ...], str]:
    """Name files by what is in them: an address never means other bytes, so that who plays what was made before is not served what is made now."""
    name, media_type = piece.name, "video/mp4" if piece.fmp4 else "video/mp2t"
    files, segments, init = [], [], ""
    if piece.init:
        init = f"segments/{name}-init-{digest(folder, piece.init)[0]}.mp4"
        files.append(MadeFile(piece.init, init, media_type))
    for number, each in enumerate(listed):
        mark, size = digest(folder, each.name)
        path = f"segments/{name}-{part}{number:05d}-{mark}.{piece.ending}"
        files.append(MadeFile(each.name, path, media_type))
        segments.append(playlists.Segment(path, each.seconds, size))
    return files, tuple(segments), init


def digest(folder: int, name: str) -> tuple[str, int]:
    content = _bytes(folder, name, 1 << 30)
    return sha256(content).hexdigest()[:12], len(content)


def _bytes(folder: int, name: str, most: int) -> bytes:
    with os.fdopen(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder), "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OverLimits("A segment that was made is larger than is allowed")
    return content


def write(folder: int, name: str, text: str) -> None:
    with os.fdopen(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder), "w") as file:
        file.write(text)


@asynccontextmanager
async def open_hls(config: HlsConfig, kit: Kit) -> AsyncIterator[Hls]:
    """Open the action. Raises: ConfigError, where a worker has no ffmpeg; Unavailable."""
    async with open_making(config, kit) as making:
        yield Hls(config, making)
