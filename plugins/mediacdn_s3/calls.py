"""Single requests to the service: their parameters, how long they may take, and what their answers mean. Nothing here repeats or remembers."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from anyio import to_thread
from msgspec import Struct

from mediacdn import ByteRange, NotFound, ObjectInfo, Part, PartsBegun, StorageUnavailable
from mediacdn_s3.body import Body
from mediacdn_s3.config import S3Config
from mediacdn_s3.faults import Faults
from mediacdn_s3.names import Names

COMPLETING = 600.0
"""Seconds that the service may take to put a large object together."""
_PAGE = 1000
_INLINE = 64 * 1024
"""Bytes whose checksum takes less than the way to a thread."""


class Sent(Struct, frozen=True):
    """A part that the service has: its number, the ETag, and the CRC-32 that goes with it where the service keeps those."""

    number: int
    etag: str
    crc32: str | None = None


class Calls:
    """The requests of one storage. `page` is how many entries a listing asks for at a time."""

    def __init__(self, client: Any, config: S3Config, faults: Faults, page: int = _PAGE) -> None:
        self._client = client
        self._faults = faults
        self._patience = config.read_timeout
        self._checksum = config.checksum
        self._page = page
        self._bucket = {"Bucket": config.bucket}
        self._condition = {} if config.overwrite else {"IfNoneMatch": "*"}
        kept = {"StorageClass": config.storage_class, "ServerSideEncryption": config.encryption, "SSEKMSKeyId": config.kms_key}
        self._kept = {name: value for name, value in kept.items() if value is not None}
        self.names = Names(config.prefix)

    async def head(self, key: str) -> ObjectInfo:
        answer = await self._asked("HeadObject", self._client.head_object, Key=self.names.of(key))
        return ObjectInfo(key, answer["ContentLength"], whole_seconds(answer["LastModified"]), unquoted(answer.get("ETag")))

    async def get(self, key: str, span: ByteRange | None, etag: str | None) -> Any:
        """Begin to read; the answer's "Body" is to be closed by the caller. `etag` is the version that must still be there."""
        how: dict[str, Any] = {} if span is None else {"Range": f"bytes={span.start}-{span.stop - 1}"}
        if etag is not None:
            how["IfMatch"] = f'"{etag}"'
        return await self._asked("GetObject", self._client.get_object, Key=self.names.of(key), **how)

    async def put(self, key: str, body: Body) -> str:
        """Store in one request; gives the ETag. Raises: Conflict where nothing may be replaced and something is there."""
        sums = await self._sums(body)
        answer = await self._fed(
            "PutObject", self._client.put_object, body, Key=self.names.of(key), **self._kept, **self._condition, **sums
        )
        return unquoted(answer.get("ETag"))

    async def delete(self, key: str) -> None:
        try:
            await self._asked("DeleteObject", self._client.delete_object, Key=self.names.of(key))
        except NotFound:
            return

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        name = self.names.beneath(prefix)
        more: dict[str, Any] = {}
        while name is not None:
            page = await self._asked("ListObjectsV2", self._client.list_objects_v2, Prefix=name, MaxKeys=self._page, **more)
            for each in page.get("Contents", ()):
                if (key := self.names.key(each["Key"])) is not None:
                    yield ObjectInfo(key, each["Size"], whole_seconds(each["LastModified"]), unquoted(each.get("ETag")))
            if not page.get("IsTruncated"):
                return
            if not page.get("NextContinuationToken"):
                raise StorageUnavailable("The storage lists only some of its objects")
            more = {"ContinuationToken": page["NextContinuationToken"]}

    async def begin(self, key: str, *, summed: bool) -> str:
        """Begin an upload of parts; `summed` says that each part will come with the checksum that the service is to keep."""
        kept = {"ChecksumAlgorithm": "CRC32"} if summed and self._checksum == "crc32" else {}
        answer = await self._asked(
            "CreateMultipartUpload", self._client.create_multipart_upload, Key=self.names.of(key), **self._kept, **kept
        )
        return str(answer["UploadId"])

    async def part(self, key: str, upload: str, number: int, body: Body, *, summed: bool) -> Sent:
        # An upload that was not begun with CRC-32 refuses parts that have one; Content-MD5 is welcome everywhere.
        sums = await self._sums(body, None if summed else "md5")
        answer = await self._fed(
            "UploadPart", self._client.upload_part, body, Key=self.names.of(key), UploadId=upload, PartNumber=number, **sums
        )
        if not answer.get("ETag"):
            raise StorageUnavailable("The storage took a part and did not name it")
        return Sent(number, unquoted(answer["ETag"]), sums.get("ChecksumCRC32"))

    async def complete(self, key: str, upload: str, parts: Sequence[Sent], *, ours: bool) -> str:
        """Give the ETag of the whole, "" where the service names none. `ours` says that it is a put, which may have a condition."""
        listed = [
            {"PartNumber": each.number, "ETag": f'"{each.etag}"', **({"ChecksumCRC32": each.crc32} if each.crc32 else {})} for each in parts
        ]
        answer = await self._asked(
            "CompleteMultipartUpload",
            self._client.complete_multipart_upload,
            COMPLETING,
            Key=self.names.of(key),
            UploadId=upload,
            MultipartUpload={"Parts": listed},
            **(self._condition if ours else {}),
        )
        return unquoted(answer.get("ETag"))

    async def abort(self, key: str, upload: str) -> None:
        try:
            await self._asked("AbortMultipartUpload", self._client.abort_multipart_upload, Key=self.names.of(key), UploadId=upload)
        except NotFound:
            return

    async def list_parts(self, key: str, upload: str) -> Sequence[Part]:
        parts: dict[int, Part] = {}
        more: dict[str, Any] = {}
        while True:
            page = await self._asked(
                "ListParts", self._client.list_parts, Key=self.names.of(key), UploadId=upload, MaxParts=self._page, **more
            )
            for each in page.get("Parts", ()):
                parts[each["PartNumber"]] = Part(each["PartNumber"], unquoted(each["ETag"]), each["Size"])
            if not page.get("IsTruncated"):
                return [parts[number] for number in sorted(parts)]
            more = {"PartNumberMarker": page["NextPartNumberMarker"]}

    async def list_uploads(self, prefix: str) -> AsyncIterator[PartsBegun]:
        name = self.names.beneath(prefix)
        more: dict[str, Any] = {}
        while name is not None:
            page = await self._asked(
                "ListMultipartUploads", self._client.list_multipart_uploads, Prefix=name, MaxUploads=self._page, **more
            )
            for each in page.get("Uploads", ()):
                if (key := self.names.key(each["Key"])) is not None:
                    yield PartsBegun(key, each["UploadId"], whole_seconds(each["Initiated"]))
            if not page.get("IsTruncated") or not page.get("NextKeyMarker"):
                return
            more = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page.get("NextUploadIdMarker", "")}

    async def _sums(self, body: Body, how: str | None = None) -> dict[str, str]:
        if self._checksum == "none":
            return {}
        name, made = ("ContentMD5", body.md5) if (how or self._checksum) == "md5" else ("ChecksumCRC32", body.crc32)
        return {name: made() if len(body) <= _INLINE else await to_thread.run_sync(made)}

    async def _asked(self, operation: str, method: Any, patience: float | None = None, /, **how: Any) -> Any:
        """Ask without a body. Each silence has its own limit in the SDK; this one is for an answer that drips."""
        with self._faults.of(operation):
            async with asyncio.timeout(patience or 3 * self._patience):
                return await method(**self._bucket, **how)

    async def _fed(self, operation: str, method: Any, body: Body, **how: Any) -> Any:
        with self._faults.of(operation):
            async with _moving(body, self._patience):
                return await method(**self._bucket, Body=body if len(body) else b"", **how)


@asynccontextmanager
async def _moving(body: Body, patience: float) -> AsyncIterator[None]:
    """Give up when for `patience` seconds the service has taken none of the body, or has it and does not answer: the SDK has no limit for that."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(patience) as limit:
        body.moved = lambda: limit.reschedule(loop.time() + patience)
        yield


def unquoted(etag: str | None) -> str:
    return (etag or "").strip('"')


def whole_seconds(time: datetime) -> datetime:
    """Listings say more than Last-Modified can: one object must not have two times."""
    return time.astimezone(UTC).replace(microsecond=0)
