"""The conformance class of MultipartUpload finds the faults it is there for: each row is a storage with one fault and the test that must not pass with it."""

from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import suppress

import pytest

from mediacdn import MediaError, NotFound, ObjectInfo, Part, PartsBegun, StorageUnavailable
from mediacdn.testing import MemoryParts, PartsConformance

pytestmark = pytest.mark.anyio


class ShowsParts(MemoryParts):
    """What has arrived of an upload is visible."""

    async def put_part(self, key: str, upload: str, number: int, chunks: AsyncIterable[bytes], *, size: int) -> str:
        tag = await super().put_part(key, upload, number, chunks, size=size)

        async def content() -> AsyncIterator[bytes]:
            yield b"a part"

        await self.put(key, content())
        return tag


class KeepsWhatCame(MemoryParts):
    """A part whose stream breaks is kept as far as it came."""

    async def put_part(self, key: str, upload: str, number: int, chunks: AsyncIterable[bytes], *, size: int) -> str:
        came = b""

        async def so_far() -> AsyncIterator[bytes]:
            yield came

        try:
            async for chunk in chunks:
                came += chunk
        finally:
            tag = await super().put_part(key, upload, number, so_far(), size=size)
        return tag


class WrapsErrors(MemoryParts):
    async def put_part(self, key: str, upload: str, number: int, chunks: AsyncIterable[bytes], *, size: int) -> str:
        try:
            return await super().put_part(key, upload, number, chunks, size=size)
        except MediaError:
            raise
        except Exception as error:
            raise StorageUnavailable() from error


class ByArrival(MemoryParts):
    """Parts are put together as they came."""

    async def complete_parts(self, key: str, upload: str, parts: Sequence[Part]) -> ObjectInfo:
        begun = self._uploads.get(upload)
        if begun is not None and begun.made is None:
            contents = [content for _, content in begun.parts.values()]
            for number, content in zip(sorted(begun.parts), contents, strict=True):
                begun.parts[number] = begun.parts[number][0], content
        return await super().complete_parts(key, upload, parts)


class CompletesOnce(MemoryParts):
    async def complete_parts(self, key: str, upload: str, parts: Sequence[Part]) -> ObjectInfo:
        info = await super().complete_parts(key, upload, parts)
        del self._uploads[upload]
        return info


class BelievesTags(MemoryParts):
    """What is named is what there is."""

    async def complete_parts(self, key: str, upload: str, parts: Sequence[Part]) -> ObjectInfo:
        there = {part.number: part for part in await self.list_parts(key, upload)}
        return await super().complete_parts(key, upload, [there[part.number] for part in parts if part.number in there])


class DropsWhatFails(MemoryParts):
    """A completion that is refused loses the upload."""

    async def complete_parts(self, key: str, upload: str, parts: Sequence[Part]) -> ObjectInfo:
        try:
            return await super().complete_parts(key, upload, parts)
        except MediaError:
            self._uploads.pop(upload, None)
            raise


class AbortsInName(MemoryParts):
    async def abort_parts(self, key: str, upload: str) -> None:
        return None


class AbortsOnce(MemoryParts):
    async def abort_parts(self, key: str, upload: str) -> None:
        if upload not in self._uploads:
            raise NotFound
        await super().abort_parts(key, upload)


class TakesAnyUpload(MemoryParts):
    async def put_part(self, key: str, upload: str, number: int, chunks: AsyncIterable[bytes], *, size: int) -> str:
        with suppress(NotFound):
            return await super().put_part(key, upload, number, chunks, size=size)
        return "tag"


class OneUploadAKey(MemoryParts):
    async def begin_parts(self, key: str) -> str:
        known = [upload for upload, begun in self._uploads.items() if begun.key == key and begun.made is None]
        return known[0] if known else await super().begin_parts(key)


class ListsEverything(MemoryParts):
    async def list_uploads(self, prefix: str = "") -> AsyncIterator[PartsBegun]:
        async for each in super().list_uploads():
            yield each


C = PartsConformance
FAULTS = [
    (ShowsParts, C.test_parts_in_any_order_become_the_object, ()),
    (ShowsParts, C.test_the_object_is_the_old_one_until_then, ()),
    (KeepsWhatCame, C.test_a_part_whose_stream_ends_badly_is_as_it_was, ("raises", False)),
    (KeepsWhatCame, C.test_a_part_whose_stream_ends_badly_is_as_it_was, ("cancelled", True)),
    (WrapsErrors, C.test_a_part_whose_stream_ends_badly_is_as_it_was, ("raises", False)),
    (ByArrival, C.test_parts_in_any_order_become_the_object, ()),
    (CompletesOnce, C.test_completing_again_answers_the_same, ()),
    (BelievesTags, C.test_what_is_not_there_is_not_completed, ("missing",)),
    (BelievesTags, C.test_what_is_not_there_is_not_completed, ("tag",)),
    (DropsWhatFails, C.test_what_is_not_there_is_not_completed, ("tag",)),
    (AbortsInName, C.test_aborting_is_idempotent_and_final, ()),
    (AbortsOnce, C.test_aborting_is_idempotent_and_final, ()),
    (AbortsOnce, C.test_an_unknown_upload_is_not_found, ()),
    (TakesAnyUpload, C.test_an_unknown_upload_is_not_found, ()),
    (OneUploadAKey, C.test_two_uploads_of_one_key_do_not_mix, ()),
    (ListsEverything, C.test_uploads_are_listed_by_prefix, ()),
]


class Table(PartsConformance):
    __test__ = False  # it is run by the table only


@pytest.mark.parametrize(
    ("broken", "check", "arguments"), FAULTS, ids=[f"{broken.__name__}-{check.__name__}" for broken, check, _ in FAULTS]
)
async def test_a_fault_is_found(broken: type[MemoryParts], check: object, arguments: tuple[object, ...]) -> None:
    with pytest.raises((AssertionError, MediaError, ExceptionGroup, pytest.fail.Exception)):
        await check(Table(), broken(), *arguments)  # type: ignore[operator]
