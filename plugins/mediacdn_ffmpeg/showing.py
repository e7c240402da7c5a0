"""The drivers of what shows a film or a piece of sound before it is played: a preview, a cover, an outline as a picture, how loud it is; and Opus to listen to."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from mediacdn import Argument, Kit, Made, Sink, Source, Tool, Undecodable
from mediacdn_ffmpeg import command, request
from mediacdn_ffmpeg.config import EncodeConfig, LookConfig
from mediacdn_ffmpeg.demuxers import DEMUXERS, FILMS, SOUNDS
from mediacdn_ffmpeg.looking import Looking, alone, open_looking
from mediacdn_ffmpeg.making import OFF, Making, copied, open_making
from mediacdn_ffmpeg.request import Cover, Drawing, Heard, Loudness, Motion


class PreviewConfig(LookConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same for previews."""

    most: int = 1_000_000
    """Bytes of one."""


class LoudnessConfig(LookConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same for what listens to all of it."""

    deadline: float = 3600.0
    processor: float = 1800.0


class Preview:
    """`preview`: a few seconds of the whole film in motion, as WebP."""

    accepts = FILMS
    arguments = (
        Argument(name="edge", type="integer", default=320, min=16, max=640, summary="Most pixels of width and height"),
        Argument(name="clips", type="integer", default=8, min=1, max=16, summary="Places of the film"),
    )

    def __init__(self, looking: Looking, most: int) -> None:
        self._looking = looking
        self._most = most

    async def run(self, source: Source, spec: Mapping[str, Any], sink: Sink) -> Made:
        task = Motion(
            demuxer=DEMUXERS[source.media.media_type], limits=self._looking.limits, edge=spec["edge"], clips=spec["clips"], most=self._most
        )
        async with source.file() as file:
            made = await self._looking.done(task, request.Made, file, sink.file())
        if not made.width or not made.height:
            raise Undecodable
        return Made(media_type="image/webp", width=made.width, height=made.height, duration=round(made.duration, 3), tools=made.tools)


class Covers:
    """`cover`: the picture that comes with a piece of sound. Writes nothing where none does."""

    accepts = SOUNDS
    arguments = (Argument(name="edge", type="integer", default=1280, min=16, max=4096, summary="Most pixels of width and height"),)

    def __init__(self, looking: Looking) -> None:
        self._looking = looking

    async def run(self, source: Source, spec: Mapping[str, Any], sink: Sink) -> Made:
        task = Cover(demuxer=DEMUXERS[source.media.media_type], limits=self._looking.limits, edge=spec["edge"])
        async with source.file() as file:
            made = await self._looking.done(task, request.Made, file, sink.file())
        if not made.width or not made.height:
            return Made(tools=made.tools)
        return Made(media_type="image/jpeg", width=made.width, height=made.height, tools=made.tools)


class Metering:
    """`loudness`: how loud it is, by EBU R 128. Writes nothing."""

    accepts = tuple(DEMUXERS)
    arguments: tuple[Argument, ...] = ()

    def __init__(self, looking: Looking) -> None:
        self._looking = looking

    async def run(self, source: Source, spec: Mapping[str, Any], sink: Sink) -> Made:
        task = Loudness(demuxer=DEMUXERS[source.media.media_type], limits=self._looking.limits)
        async with source.file() as file:
            heard = await self._looking.done(task, Heard, file)
        told = {"integrated": heard.integrated, "range": heard.range, "true_peak": heard.true_peak}
        return Made(facts={"loudness": told}, tools=heard.tools)


class Drawings:
    """`waveform-picture`: the outline of the sound as PNG."""

    accepts = tuple(DEMUXERS)
    arguments = (
        Argument(name="width", type="integer", default=1200, min=16, max=4096, summary="Pixels"),
        Argument(name="height", type="integer", default=200, min=16, max=1024, summary="Pixels"),
    )

    def __init__(self, looking: Looking) -> None:
        self._looking = looking

    async def run(self, source: Source, spec: Mapping[str, Any], sink: Sink) -> Made:
        task = Drawing(demuxer=DEMUXERS[source.media.media_type], limits=self._looking.limits, width=spec["width"], height=spec["height"])
        async with source.file() as file:
            made = await self._looking.done(task, request.Made, file, sink.file())
        return Made(media_type="image/png", width=spec["width"], height=spec["height"], tools=made.tools)


class Opus:
    """`opus`: the first track of sound as Opus in Ogg."""

    accepts = tuple(DEMUXERS)
    arguments = (Argument(name="rate", type="integer", default=96, min=16, max=320, summary="Thousands of bits a second"),)

    def __init__(self, making: Making) -> None:
        self._making = making

    async def equipment(self) -> Sequence[Tool]:
        return await self._making.equipment()

    async def run(self, source: Source, spec: Mapping[str, Any], sink: Sink) -> Made:
        making, media_type = self._making, source.media.media_type
        folder = await sink.folder()
        how = await making.how(media_type, {"crf": 0, "preset": ""})
        async with source.file() as file:
            film = await making.looking.film(media_type, file)
            if not film.audio:
                raise Undecodable("There is no sound in it that can be read")
            words = command.opus(film, how, rate=spec["rate"], name="made.ogg")
            await making.encode(words, file, folder, film.duration, lambda share: sink.progress(share * 0.95))
        await copied(folder, "made.ogg", sink.file())
        made = await making.looking.film("audio/ogg", sink.file())
        wanted = film.audio[0].duration or film.duration
        if made.duration < wanted - OFF - 0.1:
            raise Undecodable(
                f"The sound says that it is {wanted:.1f} s long, and ends after {made.duration:.1f} s: it is damaged or cut short"
            )
        tools = {**making.tools, **film.tools}
        return Made(media_type="audio/ogg", duration=round(made.duration, 3), codecs="opus", tools=tools)


open_cover = alone(Covers)
open_loudness = alone(Metering)
open_drawing = alone(Drawings)


@asynccontextmanager
async def open_preview(config: PreviewConfig, kit: Kit) -> AsyncIterator[Preview]:
    """Open the action with children of its own. Raises: Unavailable."""
    async with open_looking(config, kit) as looking:
        yield Preview(looking, config.most)


@asynccontextmanager
async def open_opus(config: EncodeConfig, kit: Kit) -> AsyncIterator[Opus]:
    """Open the action. Raises: ConfigError, where a worker has no ffmpeg; Unavailable."""
    async with open_making(config, kit) as making:
        yield Opus(making)
