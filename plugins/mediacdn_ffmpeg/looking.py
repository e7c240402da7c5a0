"""The drivers that look at films and make small things of them, in children that decode by PyAV."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from mediacdn import Argument, Kit, Made, MadeFile, Sandbox, Sink, Source, Tool, Undecodable, open_sandbox
from mediacdn_ffmpeg import request
from mediacdn_ffmpeg.config import LookConfig
from mediacdn_ffmpeg.demuxers import DEMUXERS, FILMS
from mediacdn_ffmpeg.lending import lent, names
from mediacdn_ffmpeg.request import Board, Check, Checked, Film, Limits, Look, Peaks, Sheet, Still, Task, Work

S = TypeVar("S", bound=Struct)
A = TypeVar("A")


class Looking:
    """A child that decodes, and its limits."""

    def __init__(self, config: LookConfig, box: Sandbox) -> None:
        self.config = config
        self.limits = Limits(pixels=config.max_pixels, duration=config.max_duration, streams=config.max_streams)
        self._box = box

    async def film(self, media_type: str, file: int) -> Film:
        """Look at a film. Raises: Undecodable, OverLimits, Overloaded, Unavailable."""
        return await self.done(Look(demuxer=DEMUXERS[media_type], limits=self.limits), Film, file)

    async def done(self, task: Task, kind: type[S], *descriptors: int, deadline: float | None = None) -> S:
        """Have a task done, and check that the answer is one of it. Raises: as `film`."""
        body = await self._box.run(msgspec.to_builtins(Work(task)), descriptors, deadline=deadline or self.config.deadline)
        try:
            return msgspec.convert(body, kind)
        except msgspec.ValidationError as error:
            raise Undecodable from error

    async def checked(self, task: Check, folder: int) -> Checked:
        """Look at segments that were made in the folder. Raises: as `film`."""
        async with lent(folder, names(task.piece)) as line:
            return await self.done(task, Checked, line)


@asynccontextmanager
async def open_looking(config: LookConfig, kit: Kit, output: int = 64 << 20) -> AsyncIterator[Looking]:
    """Open the children. Raises: Unavailable."""
    async with open_sandbox(
        call="mediacdn_ffmpeg.child:run", children=config.children, queue=config.queue, jobs=config.jobs, memory=config.memory, resident=0,
        processor=config.processor, output=output, environment={"MALLOC_ARENA_MAX": "2"}, fence=kit.fence,
    ) as box:  # fmt: skip
        yield Looking(config, box)


class Facts:
    """`film-facts`: duration, size as shown, frame rate, codecs, rotation, tracks of sound, HDR. Writes nothing."""

    arguments: tuple[Argument, ...] = ()
    accepts = tuple(DEMUXERS)

    def __init__(self, looking: Looking) -> None:
        self._looking = looking

    async def equipment(self) -> Sequence[Tool]:
        return [Tool("PyAV", f"{version('av')}, by which films are looked at: no ffprobe is needed")]

    async def run(self, source: Source, spec: Mapping[str, Any], sink: Sink) -> Made:
        async with source.file() as file:
            film = await self._looking.film(source.media.media_type, file)
        video = film.video
        facts: dict[str, Any] = {"audio": [_track(each) for each in film.audio]}
        if video is not None:
            facts.update(rotation=video.rotation, hdr=video.hdr, bits=video.bits)
        return Made(
            width=video.width if video else None,
            height=video.height if video else None,
            duration=round(film.duration, 3),
            frame_rate=video.frame_rate if video else None,
            codecs=", ".join([*([video.codec] if video else []), *dict.fromkeys(each.codec for each in film.audio)]),
            facts=facts,
            tools=film.tools,
        )


class Poster:
    """`film-poster`: a picture of a film, upright, that is not dark."""

    accepts = FILMS
    arguments = (Argument(name="edge", type="integer", default=1280, min=16, max=4096, summary="Most pixels of width and height"),)

    def __init__(self, looking: Looking) -> None:
        self._looking = looking

    async def run(self, source: Source, spec: Mapping[str, Any], sink: Sink) -> Made:
        task = Still(demuxer=DEMUXERS[source.media.media_type], limits=self._looking.limits, edge=spec["edge"])
        async with source.file() as file:
            made = await self._looking.done(task, request.Made, file, sink.file())
        if not made.width or not made.height:
            raise Undecodable
        return Made(media_type="image/jpeg", width=made.width, height=made.height, tools=made.tools)


class Storyboard:
    """`storyboard`: WebVTT whose cues are places on a sheet of small pictures, for whoever looks for a moment."""

    accepts = FILMS
    arguments = (
        Argument(name="tiles", type="integer", default=100, min=1, max=400, summary="Pictures, at most one a second"),
        Argument(name="width", type="integer", default=160, min=16, max=320, summary="Most pixels of width and height of each"),
    )

    def __init__(self, looking: Looking) -> None:
        self._looking = looking

    async def run(self, source: Source, spec: Mapping[str, Any], sink: Sink) -> Made:
        task = Board(demuxer=DEMUXERS[source.media.media_type], limits=self._looking.limits, tiles=spec["tiles"], width=spec["width"])
        folder = await sink.folder()
        output = os.open("sheet", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=folder)
        try:
            async with source.file() as file:
                sheet = await self._looking.done(task, Sheet, file, output)
            digest = await asyncio.to_thread(_digest, output)
        finally:
            os.close(output)
        path = f"sheet-{digest}.jpg"
        os.write(sink.file(), _cues(sheet, f"storyboard/{path}").encode())
        return Made(media_type="text/vtt", tools=sheet.tools, files=(MadeFile("sheet", path, "image/jpeg"),))


def _digest(descriptor: int) -> str:
    with os.fdopen(os.dup(descriptor), "rb") as file:
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def _cues(sheet: Sheet, address: str) -> str:
    """One cue for each picture, until the next; addresses are relative to the list's own."""
    ends = [*sheet.times[1:], max(sheet.duration, sheet.times[-1] + 1)]
    lines = ["WEBVTT", ""]
    for number, (start, end) in enumerate(zip(sheet.times, ends, strict=True)):
        place = (number % sheet.columns * sheet.width, number // sheet.columns * sheet.height, sheet.width, sheet.height)
        lines += [f"{_clock(start)} --> {_clock(end)}", f"{address}#xywh={','.join(map(str, place))}", ""]
    return "\n".join(lines)


def _clock(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    return f"{milliseconds // 3_600_000:02d}:{milliseconds // 60_000 % 60:02d}:{milliseconds // 1000 % 60:02d}.{milliseconds % 1000:03d}"


class Waveform:
    """`waveform`: the outline of the sound as JSON, in the form of audiowaveform's: pairs of the lowest and highest of 8 bits."""

    accepts = tuple(DEMUXERS)
    arguments = (Argument(name="points", type="integer", default=1000, min=10, max=10_000, summary="Pairs, at most"),)

    def __init__(self, looking: Looking) -> None:
        self._looking = looking

    async def run(self, source: Source, spec: Mapping[str, Any], sink: Sink) -> Made:
        task = Peaks(demuxer=DEMUXERS[source.media.media_type], limits=self._looking.limits, points=spec["points"])
        async with source.file() as file:
            made = await self._looking.done(task, request.Made, file, sink.file())
        return Made(media_type="application/json", duration=round(made.duration, 3), tools=made.tools)


def _track(audio: request.Audio) -> dict[str, Any]:
    told = {"codec": audio.codec, "channels": audio.channels, "rate": audio.rate}
    return {**told, "language": audio.language} if audio.language else told


def alone(action: Callable[[Looking], A]) -> Callable[[LookConfig, Kit], AbstractAsyncContextManager[A]]:
    """What opens an action with children of its own; it raises Unavailable."""

    @asynccontextmanager
    async def opened(config: LookConfig, kit: Kit) -> AsyncIterator[A]:
        async with open_looking(config, kit) as looking:
            yield action(looking)

    return opened


open_facts = alone(Facts)
open_poster = alone(Poster)
open_waveform = alone(Waveform)
open_storyboard = alone(Storyboard)
