"""The drivers: they hand descriptors to a sandbox's child, and check what it answers, for it has read untrusted bytes."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from mediacdn import Argument, InvalidArgument, Kit, Made, OverLimits, Sandbox, Sink, Source, Undecodable, open_sandbox
from mediacdn_pdf.config import FactsConfig, PageConfig, TextConfig
from mediacdn_pdf.request import Draw, Look, Read, Seen, Work

_CALL = "mediacdn_pdf.child:run"
_ENVIRONMENT = {"VIPS_CONCURRENCY": "1", "VIPS_WARNING": "0", "VIPS_BLOCK_UNTRUSTED": "1", "MALLOC_ARENA_MAX": "2"}


class _Action:
    def __init__(self, config: FactsConfig, box: Sandbox) -> None:
        self._config = config
        self._box = box

    @property
    def accepts(self) -> tuple[str, ...]:
        return ("application/pdf",)

    async def _seen(self, task: Read | Draw | Look, source: Source, *others: int) -> Seen:
        if source.media.size > self._config.max_bytes:
            raise OverLimits(f"Documents of more than {self._config.max_bytes} bytes are not read")
        async with source.file() as file:
            body = await self._box.run(msgspec.to_builtins(Work(task)), [file, *others], deadline=self._config.deadline)
        try:
            return msgspec.convert(body, Seen)
        except msgspec.ValidationError as error:
            raise Undecodable from error


class Text(_Action):
    """`pdf-text`: the document's text as UTF-8 in NFC, pages separated by form feeds, without other control characters than tab and line feed."""

    def __init__(self, config: TextConfig, box: Sandbox) -> None:
        super().__init__(config, box)
        self._task = Read(pages=config.max_pages, text=config.max_text)

    @property
    def arguments(self) -> tuple[Argument, ...]:
        return ()

    async def run(self, source: Source, spec: Mapping[str, Any], sink: Sink) -> Made:
        seen = await self._seen(self._task, source, sink.file())
        facts = {"pages": seen.pages, "pages_read": seen.read, "pages_damaged": seen.damaged, "truncated": seen.read < seen.pages}
        return Made(media_type="text/plain", facts=facts, tools=seen.tools)


class Page(_Action):
    """`pdf-page`: one page as a picture on white. It is drawn at the size asked for, so that w and h enlarge as well."""

    def __init__(self, config: PageConfig, box: Sandbox) -> None:
        super().__init__(config, box)
        edge = self._edge = config.max_edge
        self._arguments = (
            Argument(name="page", type="integer", default=1, min=1, max=1_000_000, summary="Counted from 1"),
            Argument(name="w", type="integer", min=1, max=edge, summary="Most pixels of width; without w and h, 150 for each inch"),
            Argument(name="h", type="integer", min=1, max=edge, summary="Most pixels of height"),
            Argument(name="format", default="png", allowed=("jpeg", "png", "webp"), summary="Of the picture"),
        )

    @property
    def arguments(self) -> tuple[Argument, ...]:
        return self._arguments

    async def run(self, source: Source, spec: Mapping[str, Any], sink: Sink) -> Made:
        try:
            task = msgspec.convert(
                {"type": "page", **{name: value for name, value in spec.items() if value is not None}, "edge": self._edge}, Draw
            )
        except msgspec.ValidationError as error:
            raise InvalidArgument(str(error)) from error
        seen = await self._seen(task, source, sink.file())
        if not (0 < seen.width <= self._edge and 0 < seen.height <= self._edge):
            raise Undecodable
        facts = {"page": task.page, "pages": seen.pages}
        return Made(media_type=f"image/{task.format}", width=seen.width, height=seen.height, facts=facts, tools=seen.tools)


class Facts(_Action):
    """`pdf-facts`: pages, the first one's size in points, the title, and whether it is encrypted (with the empty password, or it could not be read)."""

    @property
    def arguments(self) -> tuple[Argument, ...]:
        return ()

    async def run(self, source: Source, spec: Mapping[str, Any], sink: Sink) -> Made:
        seen = await self._seen(Look(), source)
        facts: dict[str, Any] = {
            "pages": seen.pages,
            "page_width": seen.page_width,
            "page_height": seen.page_height,
            "encrypted": seen.encrypted,
        }
        return Made(facts={**facts, "document_title": seen.title} if seen.title else facts, tools=seen.tools)


@asynccontextmanager
async def _box(config: FactsConfig, output: int, kit: Kit) -> AsyncIterator[Sandbox]:
    async with open_sandbox(
        call=_CALL, children=config.children, queue=config.queue, jobs=config.jobs, memory=config.memory,
        resident=config.resident and config.resident + config.max_bytes, processor=config.processor, output=output, environment=_ENVIRONMENT, user=config.user,
        fence=kit.fence,
    ) as box:  # fmt: skip
        yield box


@asynccontextmanager
async def open_text(config: TextConfig, kit: Kit) -> AsyncIterator[Text]:
    """Open the action with children of its own. Raises: Unavailable."""
    async with _box(config, config.max_text, kit) as box:
        yield Text(config, box)


@asynccontextmanager
async def open_page(config: PageConfig, kit: Kit) -> AsyncIterator[Page]:
    """Open the action with children of its own. Raises: Unavailable."""
    async with _box(config, config.output, kit) as box:
        yield Page(config, box)


@asynccontextmanager
async def open_facts(config: FactsConfig, kit: Kit) -> AsyncIterator[Facts]:
    """Open the action with children of its own. Raises: Unavailable."""
    async with _box(config, 0, kit) as box:
        yield Facts(config, box)
