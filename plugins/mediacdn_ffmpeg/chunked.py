"""The driver that makes streams of long films in parts, by as many workers as there are, so that they play long before they are whole; short ones in one piece."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from mediacdn import Argument, Kit, Made, MadeFile, Sink, Source, Undecodable, Unit, UnitMade
from mediacdn_ffmpeg import command, plan, playlists
from mediacdn_ffmpeg.config import RENDITION, HlsConfig
from mediacdn_ffmpeg.demuxers import DEMUXERS, SURE
from mediacdn_ffmpeg.joining import Cut, Heard, Part, joined
from mediacdn_ffmpeg.ladder import Rendition, ladder
from mediacdn_ffmpeg.making import OFF, Making, open_making
from mediacdn_ffmpeg.request import EMPTY, Check, Checked, Film, Piece
from mediacdn_ffmpeg.streams import MPEGURL, Hls, listed, named, write

SLOWEST = 10.0
"""Frames a second that a film must have to be cut: of one that is a show of slides, a part may have none."""
DAMAGED = "The film says that it is {0:.1f} s long, and ends after {1:.1f} s: it is damaged or cut short"


class ChunkedHls:
    """`hls`: as Hls makes it, and in units where a film is long (interfaces.Divisible)."""

    accepts = tuple(DEMUXERS)

    def __init__(self, config: HlsConfig, making: Making) -> None:
        self._making = making
        self._plain = Hls(config, making)
        self.arguments = (
            *self._plain.arguments,
            Argument(name="chunk", type="integer", default=config.chunk, min=1, max=3600, summary="Seconds of a long film that are made at once"),
            Argument(name="whole", type="integer", default=config.whole, min=0, max=1 << 20, summary="Seconds up to which a film is made in one piece"),
        )  # fmt: skip

    async def run(self, source: Source, spec: Mapping[str, Any], sink: Sink) -> Made:
        return await self._plain.run(source, spec, sink)

    async def units(self, source: Source, spec: Mapping[str, Any]) -> Sequence[Unit]:
        if DEMUXERS[source.media.media_type] not in SURE or spec["container"] != "fmp4":
            return ()
        async with source.file() as file:
            film = await self._making.looking.film(source.media.media_type, file)
        if film.video is None or film.video.frame_rate < SLOWEST or film.duration <= max(spec["whole"], 2 * spec["chunk"]):
            return ()
        return plan.units(_spans(film, spec), _rungs(film, spec), spec["seconds"], spec["chunk"], sounds=len(film.audio))

    async def make(self, source: Source, spec: Mapping[str, Any], unit: Unit, made: Mapping[str, UnitMade], sink: Sink) -> Made:
        async with source.file() as file:
            film = await self._making.looking.film(source.media.media_type, file)
            how = await self._making.how(source.media.media_type, spec)
            facts: Heard | Part
            if unit.spec["part"] == "sound":
                facts, files = await self._sound(film, how, spec, unit, file, sink)
            else:
                facts, files = await self._pictures(film, how, spec, unit, made, file, sink)
        told: dict[str, Any] = msgspec.to_builtins(facts)
        os.write(sink.file(), msgspec.json.encode(told))
        return Made(media_type="application/json", facts=told, tools={**self._making.tools, **film.tools}, files=tuple(files))

    async def join(self, source: Source, spec: Mapping[str, Any], made: Mapping[str, UnitMade], sink: Sink, *, whole: bool) -> Made | None:
        parts = [(name, msgspec.convert(each.facts, Part)) for name, each in made.items() if name != "sound"]
        heard = msgspec.convert(made["sound"].facts, Heard) if "sound" in made else None
        found = joined(parts, heard, spec["seconds"], whole=whole)
        if found is None:
            return None
        folder = await sink.folder()
        files = [MadeFile(path, path, "video/mp4", unit) for path, unit in found.segments.items()]
        for name, text in found.texts.items():
            await asyncio.to_thread(write, folder, f"{name}.playlist", text)
            files.append(MadeFile(f"{name}.playlist", f"{name}.m3u8", MPEGURL))
        await asyncio.to_thread(os.write, sink.file(), found.texts["master"].encode())
        return Made(
            media_type=MPEGURL, width=found.width, height=found.height, duration=found.duration if whole else None,
            facts={"renditions": found.names, "segments": found.count}, tools=self._making.tools, files=tuple(files), manifest="master.m3u8",
        )  # fmt: skip

    async def _sound(
        self, film: Film, how: command.How, spec: Mapping[str, Any], unit: Unit, file: int, sink: Sink
    ) -> tuple[Heard, list[MadeFile]]:
        """The sound of all parts, and the further tracks."""
        making, folder = self._making, await sink.folder()
        edges = [int(each) for each in str(unit.spec["edges"]).split(",")]
        share = 1 / (2 if len(film.audio) > 1 else 1)
        words = command.sounds(film, how, edges=edges, until=0)
        await making.encode(words, file, folder, film.duration, lambda done: sink.progress(done * share))
        files = [MadeFile(name, name, "video/x-nut") for name in (_nut(number) for number in range(len(edges) + 1))]
        tracks = []
        if len(film.audio) > 1:
            words, names = command.further_sounds(film, how, seconds=spec["seconds"])
            await making.encode(words, file, folder, film.duration, lambda done: sink.progress(share + done * share))
            for number, name in enumerate(names):
                segments = await asyncio.to_thread(listed, folder, name, "m4s")
                piece = Piece(name, len(segments), fmp4=True)
                checked = await making.looking.checked(Check(piece=piece, video=False, audio=True), folder)
                wanted = film.audio[number + 1].duration or film.duration
                if checked.audio < wanted - OFF - 0.05:
                    raise Undecodable(DAMAGED.format(wanted, checked.audio))
                own, kept, init = await asyncio.to_thread(named, folder, piece, segments)
                files += own
                tracks.append(Cut(name=name, init=init, segments=kept, language=film.audio[number + 1].language))
        return Heard(tracks=tracks), files

    async def _pictures(
        self, film: Film, how: command.How, spec: Mapping[str, Any], unit: Unit, made: Mapping[str, UnitMade], file: int, sink: Sink
    ) -> tuple[Part, list[MadeFile]]:
        """A part of the film in some of its renditions."""
        making, folder = self._making, await sink.folder()
        number, start, stop = (int(unit.spec[name]) for name in ("number", "start", "stop"))
        ladder_of, asked = _rungs(film, spec), str(unit.spec["rungs"]).split(",")
        rungs = [each for each in ladder_of if each.name in asked]
        end = stop or film.duration
        words, _ = command.chunk(film, rungs, how, seconds=spec["seconds"], start=start, stop=stop, heard=bool(film.audio))

        async def told(done: float) -> None:
            await sink.progress(0.95 * max(0.0, (done * film.duration - start) / max(end - start, 1)))

        async with _hearing(made, number) as before:
            sound = before
            if film.audio and sound is None:
                edges = [each.start for each in _spans(film, spec)[1 : number + 2]]
                until = 0 if stop == 0 else stop + 1
                await making.encode(command.sounds(film, how, edges=edges, until=until), file, folder, film.duration, _silent)
                sound = os.open(_nut(number), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            try:
                await making.encode(words, file, folder, film.duration, told, sound=sound)
            finally:
                if sound is not None and sound is not before:
                    os.close(sound)
        cuts, files = [], []
        for rung in rungs:
            segments = await asyncio.to_thread(listed, folder, rung.name, "m4s")
            piece = Piece(rung.name, len(segments), fmp4=True)
            try:
                checked = await making.looking.checked(Check(piece=piece, video=True, audio=bool(film.audio)), folder)
            except Undecodable as error:
                if error.detail != EMPTY:
                    raise
                raise Undecodable(DAMAGED.format(film.duration, start)) from error
            _whole(film, checked, start, end, last=stop == 0)
            own, kept, init = await asyncio.to_thread(named, folder, piece, segments, f"{number:04d}-")
            files += own
            cuts.append(_cut(rung, checked, kept, init))
        assert film.video is not None
        part = Part(
            number=number, cuts=cuts, rungs=[each.name for each in ladder_of], first=plan.first_of(ladder_of).name, duration=film.duration,
            frame_rate=film.video.frame_rate, wanted=film.video.duration or film.duration, language=film.audio[0].language if film.audio else "",
        )  # fmt: skip
        return part, files


def _spans(film: Film, spec: Mapping[str, Any]) -> list[plan.Span]:
    assert film.video is not None
    return plan.spans(film.video.duration or film.duration, spec["seconds"], spec["chunk"])


def _rungs(film: Film, spec: Mapping[str, Any]) -> list[Rendition]:
    assert film.video is not None
    boxes = [int(found[1]) for each in spec["renditions"].split(",") if (found := RENDITION.fullmatch(each))]
    return ladder(film.video.width, film.video.height, boxes)


def _nut(number: int) -> str:
    return f"sound_{number:05d}.nut"


async def _silent(share: float) -> None:
    return


@asynccontextmanager
async def _hearing(made: Mapping[str, UnitMade], number: int) -> AsyncIterator[int | None]:
    """The sound of a part, where it is made already."""
    if "sound" not in made:
        yield None
        return
    async with made["sound"].file(_nut(number)) as descriptor:
        yield descriptor


def _whole(film: Film, checked: Checked, start: float, end: float, *, last: bool) -> None:
    """Raises: Undecodable, when the film has less in it than it says."""
    begun, ended = checked.spans["video"]
    if last and film.video is not None:
        end = film.video.duration or film.duration
        slack = OFF + (1 / film.video.frame_rate if film.video.frame_rate else 0.05)
    else:
        slack = 1.0  # a picture may stand for a while; what is lacking over all of it is looked at in the end
    if ended < end - slack or begun > end or begun < start - 0.001:
        raise Undecodable(DAMAGED.format(film.duration, ended))


def _cut(rung: Rendition, checked: Checked, segments: Sequence[playlists.Segment], init: str) -> Cut:
    """What is to be known of a part's rendition. A segment is as long as it is until the next; the last until its last picture has been shown."""
    ends = [*checked.starts[1:], checked.spans["video"][1]]
    if len(ends) != len(segments):
        raise Undecodable("A segment that was made lacks a picture")
    exact = tuple(
        playlists.Segment(each.name, round(stop - start, 6), each.size)
        for each, start, stop in zip(segments, checked.starts, ends, strict=True)
    )
    return Cut(
        name=rung.name, init=init, segments=exact, keys=checked.keys, codecs=checked.codecs, width=checked.width, height=checked.height,
        frames=checked.frames, spans=dict(checked.spans), decoded=dict(checked.decoded),
    )  # fmt: skip


@asynccontextmanager
async def open_chunked(config: HlsConfig, kit: Kit) -> AsyncIterator[ChunkedHls]:
    """Open the action. Raises: ConfigError, where a worker has no ffmpeg; Unavailable."""
    async with open_making(config, kit) as making:
        yield ChunkedHls(config, making)
