"""A whole plugin: an action that takes the first words of a text, and a recipe of it."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from msgspec import Struct

from mediacdn import Argument, Driver, Kit, Made, Recipe, Sink, Source, Step, hookimpl


class ExcerptConfig(Struct, frozen=True, forbid_unknown_fields=True):
    read: int = 65_536  # bytes of a text that are looked at


class Excerpt:
    arguments = (Argument(name="words", type="integer", default=10, min=1, max=1000),)
    accepts = ("text/plain",)

    def __init__(self, config: ExcerptConfig) -> None:
        self._read = config.read

    async def run(self, source: Source, spec: Mapping[str, Any], sink: Sink) -> Made:
        async with source.file() as file:
            words = os.pread(file, self._read, 0).decode(errors="replace").split()
        os.write(sink.file(), " ".join(words[: spec["words"]]).encode())
        return Made(media_type="text/plain", facts={"words": len(words)})


@asynccontextmanager
async def open_excerpt(config: ExcerptConfig, kit: Kit) -> AsyncIterator[Excerpt]:
    yield Excerpt(config)


@hookimpl
def mediacdn_drivers() -> list[Driver]:
    return [Driver(seam="action", name="excerpt", config=ExcerptConfig, open=open_excerpt)]


@hookimpl
def mediacdn_recipes() -> list[Recipe]:
    words = Argument(name="words", type="integer", default=10, min=1, max=1000, summary="How many to keep")
    step = Step(name="cut", action="excerpt", spec={"words": "${words}"}, relationship="excerpt")
    return [Recipe(code="excerpt", title="Excerpt", arguments=(words,), steps=(step,), accepts=("text/plain",))]
