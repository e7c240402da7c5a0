"""Request bodies as streams: raw, and the file part of a form, parsed as it arrives and never kept."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any

from multipart import MultipartError, MultipartSegment, ParserLimitReached, PushMultipartParser, parse_options_header

from mediacdn.errors import BrokenMultipart, InvalidParameter, TooLarge
from mediacdn.routes.parameters import put

MAX_FIELD = 64 * 1024
MAX_PARTS = 12
MAX_PART_HEADERS = 16
MAX_PART_HEADER = 8192
MAX_SILENCE = 128 * 1024  # bytes that bring no event: a preamble or an epilogue, which no real client sends


class ClientGone(Exception):
    """The client left before its body was complete; there is nobody to answer."""


async def raw(receive: Callable[[], Awaitable[Any]]) -> AsyncGenerator[bytes, None]:
    """The body as it arrives. Raises: ClientGone."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone()
        if message["body"]:
            yield message["body"]
        if not message.get("more_body", False):
            return


class Form:
    """A multipart/form-data body (RFC 7578) with one `file` part. `file()` streams that part; fields before and after it land in `fields`."""

    def __init__(self, content_type: str, body: AsyncIterator[bytes]) -> None:
        _, options = parse_options_header(content_type)
        boundary = options.get("boundary", "")
        if not 1 <= len(boundary) <= 200:
            raise BrokenMultipart("The multipart boundary is missing or too long")
        self._body = body
        self._parser = PushMultipartParser(
            boundary,
            max_header_size=MAX_PART_HEADER,
            max_header_count=MAX_PART_HEADERS,
            max_segment_count=MAX_PARTS,
        )
        self._events = self._parsed()
        self.fields: dict[str, str] = {}
        self._named: set[str] = set()
        self.sha256: str | None = None
        self.media_type: str | None = None

    async def _parsed(self) -> AsyncGenerator[MultipartSegment | bytes | bytearray | None, None]:
        try:
            silence = 0
            async for chunk in self._body:
                silence += len(chunk)
                for event in self._parser.parse(chunk):
                    silence = 0
                    yield event
                if silence > MAX_SILENCE:
                    raise BrokenMultipart("The form has too much beside its parts")
            self._parser.close()
        except ParserLimitReached as error:
            raise BrokenMultipart(f"The form exceeds a limit: {error}") from None
        except MultipartError as error:
            # Further arguments quote the bytes.
            raise BrokenMultipart(f"The form is malformed: {error.args[0] if error.args else error}") from None
        except UnicodeError:
            raise BrokenMultipart("The form is not UTF-8") from None

    async def file(self) -> AsyncGenerator[bytes, None]:
        """The file's bytes; ends only when the whole form was read. Raises: BrokenMultipart, InvalidParameter, TooLarge, ClientGone."""
        seen = False
        async for event in self._events:
            if not isinstance(event, MultipartSegment):
                raise BrokenMultipart()
            if event.name != "file":
                await self._field(event)
                continue
            if seen:
                raise BrokenMultipart("Only one 'file' part is allowed")
            seen = True
            self.media_type = event.header("Content-Type", None)
            if event.filename:
                self.fields.setdefault("filename", event.filename)
            async for chunk in self._part():
                yield bytes(chunk)
        if not seen:
            raise BrokenMultipart("The form has no 'file' part")

    async def _part(self) -> AsyncIterator[bytes | bytearray]:
        async for event in self._events:
            if event is None:
                return
            assert not isinstance(event, MultipartSegment)
            yield event

    async def _field(self, segment: MultipartSegment) -> None:
        value = bytearray()
        async for chunk in self._part():
            value += chunk
            if len(value) > MAX_FIELD:
                raise TooLarge(f"The form field {segment.name[:60]!r} is longer than {MAX_FIELD} bytes")
        try:
            text = value.decode("utf-8")
        except UnicodeDecodeError:
            raise BrokenMultipart(f"The form field {segment.name[:60]!r} is not UTF-8") from None
        if segment.name in self._named:
            raise InvalidParameter(f"{segment.name[:60]!r} is given more than once")
        self._named.add(segment.name)
        if segment.name == "sha256":
            self.sha256 = text
        elif segment.name == "filename":
            self.fields["filename"] = text  # the field wins over the part's own name
        else:
            put(self.fields, segment.name, text)
