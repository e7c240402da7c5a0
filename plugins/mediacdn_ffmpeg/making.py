"""Having ffmpeg make something of a film, and the driver that makes one file. A film is looked at first, and what was made is looked at before it counts."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec

from mediacdn import Argument, ConfigError, Fence, Kit, Made, OverLimits, Sandbox, Sink, Source, Tool, Undecodable, open_sandbox
from mediacdn_ffmpeg import command, program
from mediacdn_ffmpeg.config import EncodeConfig
from mediacdn_ffmpeg.demuxers import DEMUXERS, FILMS
from mediacdn_ffmpeg.ladder import Rendition, fitted, rate
from mediacdn_ffmpeg.looking import Looking, open_looking
from mediacdn_ffmpeg.request import Encode, Ran

OFF = 0.1
"""Seconds by which what was made may be longer or shorter than the film."""
PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
SAID = 240
"""Characters of ffmpeg's last words that are told."""


class Making:
    """ffmpeg in a child, and another child that looks."""

    def __init__(self, config: EncodeConfig, looking: Looking, box: Sandbox, found: program.Program | None, fence: Fence) -> None:
        self.config = config
        self.looking = looking
        self._box = box
        self._program = found
        self._fence = fence

    async def how(self, media_type: str, spec: Mapping[str, Any]) -> command.How:
        """What to say to ffmpeg. Raises: ConfigError, where there is none."""
        if self._program is None:
            self._program = await program.find(self.config.ffmpeg)
        return command.How(
            program=self._program.path, tonemaps=self._program.tonemaps, demuxer=DEMUXERS[media_type], crf=spec["crf"], preset=spec["preset"],
            threads=self.config.threads, pixels=self.config.max_pixels,
        )  # fmt: skip

    async def equipment(self) -> Sequence[Tool]:
        """What there is of ffmpeg, looked for anew."""
        try:
            found = await program.find(self.config.ffmpeg)
        except ConfigError as error:
            return [Tool("ffmpeg", error.detail, program.FIX, usable=False)]
        lacks = "" if found.tonemaps else "; it lacks zscale, so that HDR is not brought to what every screen shows"
        return [Tool("ffmpeg", f"{found.version} at {found.path}{lacks}", program.FIX if lacks else "")]

    @property
    def tools(self) -> dict[str, str]:
        return {} if self._program is None else {"ffmpeg": self._program.version}

    async def encode(self, arguments: list[str], file: int, folder: int, duration: float, told: Callable[[float], Any]) -> None:
        """Run ffmpeg. Raises: Undecodable, OverLimits, Overloaded, Unavailable."""
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        try:
            asked = Encode(tuple(arguments), self.config.nice, self._fence)
            running = asyncio.ensure_future(
                self._box.run(msgspec.to_builtins(asked), [file, folder, theirs], deadline=self.config.encode_deadline)
            )
            watching = asyncio.ensure_future(self._watch(ours, folder, duration, told))
            try:
                await asyncio.wait({running, watching}, return_when=asyncio.FIRST_COMPLETED)
                if watching.done():
                    watching.result()
                body = await running
            finally:
                for each in (running, watching):
                    each.cancel()
                await asyncio.wait({running, watching})
        finally:
            os.close(theirs)
        try:
            ran = msgspec.convert(body, Ran)
        except msgspec.ValidationError as error:
            raise Undecodable from error
        if ran.code:
            said = f"; ffmpeg said: …{ran.said[-SAID:].strip()}" if ran.said else ""
            raise Undecodable(f"The film is damaged, cut short, or of a kind that is not read here{said}")
        await self._within_bounds(folder)

    async def _within_bounds(self, folder: int) -> None:
        if await asyncio.to_thread(_size, folder) > self.config.max_output:
            raise OverLimits(f"What would be made of the film is more than {self.config.max_output} bytes")

    async def _watch(self, pipe: int, folder: int, duration: float, told: Callable[[float], Any]) -> None:
        """Tell the progress, and hold what is made to its limit. Never returns. Raises: OverLimits."""
        loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(pipe, "rb", buffering=0))
        looked = 0.0
        try:
            while line := await reader.readline():
                name, _, value = line.partition(b"=")
                if name == b"out_time_us" and duration > 0:
                    with suppress(ValueError):
                        await told(min(1.0, max(0.0, int(value) / 1e6 / duration)))
                if name == b"progress" and loop.time() > looked + 2:
                    looked = loop.time()
                    await self._within_bounds(folder)
            await asyncio.Event().wait()
        finally:
            transport.close()


class Mp4:
    """`mp4`: one file that plays everywhere, its index first."""

    accepts = FILMS

    def __init__(self, config: EncodeConfig, making: Making) -> None:
        self._making = making
        self.arguments = (
            Argument(
                name="box",
                type="integer",
                default=720,
                min=16,
                max=2160,
                summary="The box of 16:9 by its height that the film is fitted into",
            ),
            *quality(config),
        )

    async def equipment(self) -> Sequence[Tool]:
        return await self._making.equipment()

    async def run(self, source: Source, spec: Mapping[str, Any], sink: Sink) -> Made:
        making, media_type = self._making, source.media.media_type
        folder = await sink.folder()
        how = await making.how(media_type, spec)
        async with source.file() as file:
            film = await making.looking.film(media_type, file)
            if film.video is None:
                raise Undecodable("There are no pictures in it that can be read")
            size = fitted(film.video.width, film.video.height, spec["box"])
            rendition = Rendition("mp4", *size, rate(*size))
            await making.encode(
                command.mp4(film, rendition, how, name="made.mp4"), file, folder, film.duration, lambda share: sink.progress(share * 0.95)
            )
        await copied(folder, "made.mp4", sink.file())
        made = await making.looking.film("video/mp4", sink.file())
        if made.video is None or made.duration < film.duration - OFF - 0.1:
            raise Undecodable(
                f"The film says that it is {film.duration:.1f} s long, and ends after {made.duration:.1f} s: it is damaged or cut short"
            )
        return Made(
            media_type="video/mp4", width=size[0], height=size[1], duration=round(made.duration, 3), frame_rate=made.video.frame_rate,
            codecs=", ".join([made.video.codec, *(each.codec for each in made.audio)]), tools={**making.tools, **film.tools},
        )  # fmt: skip


def quality(config: EncodeConfig) -> tuple[Argument, Argument]:
    """The arguments of whatever encodes, with the configured values as their defaults."""
    return (
        Argument(name="crf", type="integer", default=config.crf, min=0, max=51, summary="Quality of H.264, 0 is all and 51 nothing"),
        Argument(name="preset", default=config.preset, allowed=PRESETS, summary="How hard x264 works"),
    )


def _size(folder: int) -> int:
    with os.scandir(folder) as found:
        return sum(each.stat(follow_symlinks=False).st_size for each in found)


async def copied(folder: int, name: str, output: int) -> None:
    """Give what was made by a name as the step's own file."""
    await asyncio.to_thread(_copied, folder, name, output)


def _copied(folder: int, name: str, output: int) -> None:
    with os.fdopen(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder), "rb") as file:
        at, size = 0, os.fstat(file.fileno()).st_size
        while at < size:
            at += os.sendfile(output, file.fileno(), at, size - at)


@asynccontextmanager
async def open_making(config: EncodeConfig, kit: Kit) -> AsyncIterator[Making]:
    """Open both children. Raises: ConfigError, where a worker has no ffmpeg; Unavailable."""
    found = await program.find(config.ffmpeg) if kit.worker else None
    async with (
        open_looking(config, kit) as looking,
        open_sandbox(
            call="mediacdn_ffmpeg.running:run", children=config.children, queue=config.queue, jobs=config.jobs, memory=config.encode_memory, resident=0,
            processor=config.encode_processor, output=config.output, files=256, fence=Fence("off"),
        ) as box,
    ):  # fmt: skip
        yield Making(config, looking, box, found, kit.fence)


@asynccontextmanager
async def open_mp4(config: EncodeConfig, kit: Kit) -> AsyncIterator[Mp4]:
    """Open the action. Raises: ConfigError, where a worker has no ffmpeg; Unavailable."""
    async with open_making(config, kit) as making:
        yield Mp4(config, making)
