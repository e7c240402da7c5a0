"""The driver that makes streams of long films in parts, by as many workers as there are, so that they play long before they are whole; short ones in one piece."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from mediacdn import Argument, Kit, Made, MadeFile, Sink, Source, Tool, Undecodable, Unit, UnitMade
from mediacdn_ffmpeg import command, plan, playlists
from mediacdn_ffmpeg.config import RENDITION, HlsConfig
from mediacdn_ffmpeg.demuxers import DEMUXERS, SURE
from mediacdn_ffmpeg.joining import Cut, Heard, Part, Sounds, joined
from mediacdn_ffmpeg.ladder import Rendition, ladder
from mediacdn_ffmpeg.making import OFF, Making, open_making
from mediacdn_ffmpeg.request import EMPTY, Check, Checked, Film, Piece
from mediacdn_ffmpeg.streams import DAMAGED, MPEGURL, Hls, listed, named, rounded, write

SLOWEST = 10.0
"""Frames a second that a film must have to be cut: of one that is a show of slides, a part may have none."""
SOUND = 0.1
"""About how much of the work on a part is its sound's."""


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

    async def equipment(self) -> Sequence[Tool]:
        return await self._making.equipment()

    async def run(self, source: Source, spec: Mapping[str, Any], sink: Sink) -> Made:
        return await self._plain.run(source, spec, sink)

    async def units(self, source: Source, spec: Mapping[str, Any]) -> Sequence[Unit]:
        if DEMUXERS[source.media.media_type] not in SURE or spec["container"] != "fmp4":
            return ()
        async with source.file() as file:
            film = await self._making.looking.film(source.media.media_type, file)
        if film.video is None or film.video.frame_rate < SLOWEST or film.duration <= max(spec["whole"], 2 * spec["chunk"]):
            return ()
        return plan.units(_spans(film, spec), _rungs(film, spec), spec["seconds"], spec["chunk"], heard=bool(film.audio))

    async def make(self, source: Source, spec: Mapping[str, Any], unit: Unit, made: Mapping[str, UnitMade], sink: Sink) -> Made:
        async with source.file() as file:
            film = await self._making.looking.film(source.media.media_type, file)
            how = await self._making.how(source.media.media_type, spec)
            facts: Sounds | Part
            if unit.spec["part"] == "sound":
                heard, files = await self._sound(film, how, spec, _spans(film, spec)[int(unit.spec["number"]) :], file, sink, 1.0)
                facts = Sounds(heard)
            else:
                facts, files = await self._pictures(film, how, spec, unit, file, sink)
        told: dict[str, Any] = msgspec.to_builtins(facts)
        os.write(sink.file(), msgspec.json.encode(told))
        return Made(media_type="application/json", facts=told, tools={**self._making.tools, **film.tools}, files=tuple(files))

    async def join(self, source: Source, spec: Mapping[str, Any], made: Mapping[str, UnitMade], sink: Sink, *, whole: bool) -> Made | None:
        parts = [(name, msgspec.convert(each.facts, Part)) for name, each in made.items() if name != "sound"]
        sounds = [("sound", msgspec.convert(made["sound"].facts, Sounds))] if "sound" in made else []
        found = joined(parts, sounds, spec["seconds"], whole=whole)
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
        self, film: Film, how: command.How, spec: Mapping[str, Any], spans: Sequence[plan.Span], file: int, sink: Sink, share: float
    ) -> tuple[list[Heard], list[MadeFile]]:
        """The sound of these parts, which follow each other. All before them is made too, for the rest is to be as if all had been made at once; `share` of the work it is."""
        making, folder, seconds = self._making, await sink.folder(), spec["seconds"]
        until = spans[-1].stop + 1 if spans[-1].stop else 0
        words, names = command.sounds(film, how, seconds=seconds, until=until)
        length = until or film.duration
        await making.encode(words, file, folder, length, lambda done: sink.progress(done * share))
        files: dict[str, MadeFile] = {}
        cuts: dict[int, list[Cut]] = {each.number: [] for each in spans}
        for name in names:
            segments = await asyncio.to_thread(listed, folder, name, "m4s")
            if not until:
                segments = await asyncio.to_thread(rounded, folder, segments)
            for span in spans:
                begin, end = span.start // seconds, span.stop // seconds or len(segments)
                if not begin < end <= len(segments):
                    raise Undecodable(DAMAGED.format(film.duration, sum(each.seconds for each in segments)))
                piece = Piece(name, end - begin, fmp4=True, begin=begin)
                checked = await making.looking.checked(Check(piece=piece, video=False, audio=True), folder)
                own, kept, init = await asyncio.to_thread(named, folder, piece, segments[begin:end], f"{span.number:04d}-")
                files.update((each.path, each) for each in own)
                cut = Cut(name=name, init=init, segments=kept, codecs=checked.codecs, spans=checked.spans, decoded=checked.decoded)
                cuts[span.number].append(cut)
        return [Heard(number, found) for number, found in cuts.items()], list(files.values())

    async def _pictures(
        self, film: Film, how: command.How, spec: Mapping[str, Any], unit: Unit, file: int, sink: Sink
    ) -> tuple[Part, list[MadeFile]]:
        """A part of the film in some of its renditions, with its sound where that is not left to another unit."""
        making, folder = self._making, await sink.folder()
        number, start, stop = (int(unit.spec[name]) for name in ("number", "start", "stop"))
        ladder_of, asked = _rungs(film, spec), str(unit.spec["rungs"]).split(",")
        rungs = [each for each in ladder_of if each.name in asked]
        end = stop or film.duration
        heard: list[Heard] = []
        files: list[MadeFile] = []
        if count := int(unit.spec["heard"]):
            heard, files = await self._sound(film, how, spec, _spans(film, spec)[number : number + count], file, sink, SOUND)
        begun = SOUND if heard else 0.0

        async def told(done: float) -> None:
            await sink.progress(begun + (0.95 - begun) * max(0.0, (done * film.duration - start) / max(end - start, 1)))

        words, _ = command.chunk(film, rungs, how, seconds=spec["seconds"], start=start, stop=stop)
        await making.encode(words, file, folder, film.duration, told)
        cuts = []
        for rung in rungs:
            segments = await asyncio.to_thread(listed, folder, rung.name, "m4s")
            piece = Piece(rung.name, len(segments), fmp4=True)
            try:
                checked = await making.looking.checked(Check(piece=piece, video=True, audio=False), folder)
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
            number=number, cuts=cuts, heard=heard, rungs=[each.name for each in ladder_of], first=plan.first_of(ladder_of).name, duration=film.duration,
            frame_rate=film.video.frame_rate, wanted=film.video.duration or film.duration,
            languages=[each.language for each in film.audio[: command.MOST_SOUNDS]],
        )  # fmt: skip
        return part, files


def _spans(film: Film, spec: Mapping[str, Any]) -> list[plan.Span]:
    assert film.video is not None
    return plan.spans(film.video.duration or film.duration, spec["seconds"], spec["chunk"])


def _rungs(film: Film, spec: Mapping[str, Any]) -> list[Rendition]:
    assert film.video is not None
    boxes = [int(found[1]) for each in spec["renditions"].split(",") if (found := RENDITION.fullmatch(each))]
    return ladder(film.video.width, film.video.height, boxes)


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
