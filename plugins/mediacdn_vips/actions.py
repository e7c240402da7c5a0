"""The drivers: they hand descriptors to a sandbox's child, and check what it answers, for it has read untrusted bytes."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Any

import msgspec

from mediacdn import Argument, ConfigError, InvalidArgument, Kit, Made, OverLimits, Sandbox, Sink, Source, Tool, Undecodable, open_sandbox
from mediacdn_vips.arguments import arguments
from mediacdn_vips.config import FactsConfig, ImageConfig
from mediacdn_vips.equipment import tools
from mediacdn_vips.request import Limits, Seen, Spec, Work

_CALL = "mediacdn_vips.child:run"
_ENVIRONMENT = {
    "VIPS_CONCURRENCY": "1",  # the same time for a thumbnail at less memory; children are what runs beside each other
    "VIPS_DISC_THRESHOLD": "1024g",  # never a temporary file
    "VIPS_WARNING": "0",
    "VIPS_BLOCK_UNTRUSTED": "1",
    "MALLOC_ARENA_MAX": "2",
}
_READ = ("image/jpeg", "image/png", "image/webp", "image/gif", "image/tiff", "image/avif")


class _Action:
    def __init__(self, config: FactsConfig, box: Sandbox) -> None:
        self._config = config
        self._box = box
        heic = ("image/heic", "image/heif") if find_spec("pillow_heif") else ()
        self._accepts = (*_READ, *heic, *(("image/svg+xml",) if config.svg else ()))

    @property
    def accepts(self) -> tuple[str, ...]:
        return self._accepts

    async def equipment(self) -> Sequence[Tool]:
        return await tools(svg=self._config.svg)

    async def _seen(self, work: Work, source: Source, *others: int) -> Seen:
        if source.media.size > self._config.max_bytes:
            raise OverLimits(f"Pictures of more than {self._config.max_bytes} bytes are not decoded")
        async with source.file() as file:
            body = await self._box.run(msgspec.to_builtins(work), [file, *others], deadline=self._config.deadline)
        try:
            return msgspec.convert(body, Seen)
        except msgspec.ValidationError as error:
            raise Undecodable from error


class Image(_Action):
    """`image`: one picture of another. The arguments stand in `arguments`."""

    def __init__(self, config: ImageConfig, box: Sandbox) -> None:
        super().__init__(config, box)
        self._limits = Limits(config.max_bytes, config.max_pixels, config.max_frames, config.max_edge, config.resident)
        self._effort = config.effort
        self._marks = config.watermarks
        self._arguments = arguments(config.max_edge, config.watermarks)

    @property
    def arguments(self) -> tuple[Argument, ...]:
        return self._arguments

    async def run(self, source: Source, spec: Mapping[str, Any], sink: Sink) -> Made:
        try:
            asked = msgspec.convert({name: value for name, value in spec.items() if value is not None}, Spec)
        except msgspec.ValidationError as error:
            raise InvalidArgument(str(error)) from error
        work = Work(limits=self._limits, svg=self._config.svg, effort=self._effort, spec=asked)
        async with _opened(self._marks.get(asked.watermark) if asked.watermark else None) as marks:
            seen = await self._seen(work, source, sink.file(), *marks)
        if not seen.media_type or (asked.format and seen.media_type != f"image/{asked.format}"):
            raise Undecodable
        return Made(media_type=seen.media_type, width=seen.width, height=seen.height, facts={"frames": seen.frames}, tools=seen.tools)


class Facts(_Action):
    """`image-facts`: size as shown, placeholder, dominant colour, frames and transparency. Writes nothing.

    Of a picture over the limit of pixels it tells what the header says, and decodes nothing.
    """

    @property
    def arguments(self) -> tuple[Argument, ...]:
        return ()

    async def run(self, source: Source, spec: Mapping[str, Any], sink: Sink) -> Made:
        config = self._config
        work = Work(limits=Limits(config.max_bytes, config.max_pixels, config.max_frames, resident=config.resident), svg=config.svg)
        seen = await self._seen(work, source)
        facts: dict[str, Any] = {"frames": seen.frames, "has_alpha": seen.has_alpha}
        if seen.dominant_colour is not None:
            facts["dominant_colour"] = seen.dominant_colour
        return Made(width=seen.width, height=seen.height, placeholder=seen.placeholder, facts=facts, tools=seen.tools)


@asynccontextmanager
async def _opened(path: str | None) -> AsyncIterator[list[int]]:
    if path is None:
        yield []
        return
    descriptor = await asyncio.to_thread(os.open, path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield [descriptor]
    finally:
        os.close(descriptor)


@asynccontextmanager
async def _box(config: FactsConfig, output: int, kit: Kit) -> AsyncIterator[Sandbox]:
    async with open_sandbox(
        call=_CALL, children=config.children, queue=config.queue, jobs=config.jobs, memory=config.memory, resident=config.resident,
        processor=config.processor, output=output, environment=_ENVIRONMENT, user=config.user, warm=kit.worker, fence=kit.fence,
    ) as box:  # fmt: skip
        yield box


@asynccontextmanager
async def open_image(config: ImageConfig, kit: Kit) -> AsyncIterator[Image]:
    """Open the action with children of its own. Raises: ConfigError for a watermark that is not there, Unavailable."""
    for name, path in config.watermarks.items():
        if not await asyncio.to_thread(os.access, path, os.R_OK):
            raise ConfigError(f"the watermark {name!r} cannot be read: {path}")
    async with _box(config, config.output, kit) as box:
        yield Image(config, box)


@asynccontextmanager
async def open_facts(config: FactsConfig, kit: Kit) -> AsyncIterator[Facts]:
    """Open the action with children of its own. Raises: Unavailable."""
    async with _box(config, 0, kit) as box:
        yield Facts(config, box)
