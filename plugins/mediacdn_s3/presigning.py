"""URLs that the service itself believes: signed here, without a request."""

from datetime import timedelta
from typing import Any

from mediacdn import InvalidParameter
from mediacdn_s3.faults import Faults
from mediacdn_s3.names import Names

LONGEST = timedelta(days=7)
"""What signature version 4 allows."""


class Presigning:
    """Signs with `signer`, the client of the address that clients use."""

    def __init__(self, signer: Any, bucket: str, names: Names, faults: Faults) -> None:
        self._signer = signer
        self._bucket = bucket
        self._names = names
        self._faults = faults

    async def get(self, key: str, expires: timedelta, media_type: str, disposition: str) -> str:
        return await self._url("get_object", key, expires, ResponseContentType=media_type, ResponseContentDisposition=disposition)

    async def put(self, key: str, expires: timedelta, size: int | None, media_type: str | None) -> str:
        """A given `size` and `media_type` are signed headers: a request with others, or without them, is refused."""
        return await self._url("put_object", key, expires, ContentLength=size, ContentType=media_type)

    async def part(self, key: str, upload: str, number: int, expires: timedelta, size: int | None) -> str:
        return await self._url("upload_part", key, expires, UploadId=upload, PartNumber=number, ContentLength=size)

    async def _url(self, operation: str, key: str, expires: timedelta, **how: Any) -> str:
        if not timedelta(seconds=1) <= expires <= LONGEST:
            raise InvalidParameter("A presigned URL lives from one second to seven days")
        named = {name: value for name, value in how.items() if value is not None}
        with self._faults.of("presign"):
            url: str = await self._signer.generate_presigned_url(
                operation, Params={"Bucket": self._bucket, "Key": self._names.of(key), **named}, ExpiresIn=int(expires.total_seconds())
            )
        return url
