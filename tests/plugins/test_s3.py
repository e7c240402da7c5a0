"""The s3 driver keeps the promises of its seams on two real servers that behave differently."""

from collections.abc import AsyncIterator

import anyio
import pytest

from mediacdn.testing import PartsConformance, PresignerConformance, StorageConformance
from mediacdn_s3.storage import S3Storage
from tests.services.buckets import MIB, Bucket, open_bucket


async def given(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


@pytest.fixture(scope="class")
async def bucket(request: pytest.FixtureRequest) -> AsyncIterator[Bucket]:
    async with open_bucket(request.getfixturevalue(request.cls.server).table) as bucket:
        yield bucket


class OnS3:
    """Each class below runs on one server, with the client opened once."""

    server = ""

    @pytest.fixture(scope="class")
    @classmethod
    def anyio_backend(cls) -> str:
        return "asyncio"

    @pytest.fixture
    async def storage(self, bucket: Bucket) -> S3Storage:
        return bucket.storage(page=10)


class Objects(OnS3, StorageConformance):
    big_object_size = 32 * MIB
    memory_allowance = 5 * 5 * MIB + 16 * MIB
    many = 25


class TestObjectsOnSwift(Objects):
    server = "swift_server"


class TestObjectsOnRclone(Objects):
    server = "rclone_server"

    async def test_of_puts_at_once_one_wins_whole(self, storage: S3Storage) -> None:
        """rclone shows what it has of a small object while it arrives; of what stands in the end, the promise holds here too."""
        contents = [bytes([n]) * (100_000 + n) for n in range(8)]
        async with anyio.create_task_group() as writers:
            for content in contents:
                writers.start_soon(storage.put, "conformance/raced", given(content))
        async with storage.open("conformance/raced") as chunks:
            assert b"".join([chunk async for chunk in chunks]) in contents


class TestPartsOnSwift(OnS3, PartsConformance):
    server = "swift_server"


class TestPartsOnRclone(OnS3, PartsConformance):
    server = "rclone_server"


class TestPresigningOnSwift(OnS3, PresignerConformance):
    server = "swift_server"


class TestPresigningOnRclone(OnS3, PresignerConformance):
    server = "rclone_server"
