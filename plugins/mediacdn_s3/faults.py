"""What a failure of the service, of the network or of the SDK means to the core; refusals are logged by the name of the operation, without a secret."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
from botocore.exceptions import BotoCoreError, ClientError

from mediacdn import Conflict, MediaError, NotFound, StorageFull, StorageUnavailable

ABSENT = frozenset({"NoSuchKey", "NotFound", "404"})
FULL = frozenset({"InsufficientStorage", "QuotaExceeded", "QuotaExceededException", "XMinioStorageFull", "507", "EntityTooLarge"})
CONFLICTS = frozenset({"InvalidPart", "InvalidPartOrder", "EntityTooSmall", "PreconditionFailed", "ConditionalRequestConflict", "412"})
SENTENCES = {
    "NoSuchBucket": "The bucket does not exist",
    "AccessDenied": "The service refuses access to the bucket",
    "403": "The service refuses access to the bucket",
    "InvalidAccessKeyId": "The service does not know the access key",
    "SignatureDoesNotMatch": "The service refuses the secret key",
    "ExpiredToken": "The credentials have expired",
    "RequestTimeTooSkewed": "The clock differs too much from the service's",
    "PermanentRedirect": "The bucket is in another region",
    "301": "The bucket is in another region",
}
SAID_AGAIN = 60.0
"""Seconds for which the same refusal of the same operation is not logged again."""


class OutOfRange(StorageUnavailable):
    """No byte of the range that was asked for is there."""


class Faults:
    """Translates, and says in the log what an operator can mend."""

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self._said: dict[tuple[str, str], float] = {}

    @contextmanager
    def of(self, operation: str) -> Iterator[None]:
        """Within it, what the SDK raises comes out as the seam's errors."""
        try:
            yield
        except ClientError as error:
            raise self._answered(operation, error) from error
        except (BotoCoreError, aiohttp.ClientError, OSError, TimeoutError) as error:
            self._say(operation, type(error).__name__)
            raise StorageUnavailable("The storage does not answer") from error

    def _answered(self, operation: str, error: ClientError) -> MediaError:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code == "NoSuchUpload":
            return NotFound("The storage knows no such upload of parts")
        if code in ABSENT:
            return NotFound("The storage holds no object at this key")
        if status == 416:
            return OutOfRange()
        if code in CONFLICTS:
            return Conflict("The storage refuses: the parts are not those that it has, or an object is there already")
        self._say(operation, code, status, error.response.get("ResponseMetadata", {}).get("RequestId"))
        if code in FULL or status == 507:
            return StorageFull()
        return StorageUnavailable(SENTENCES.get(code, "The storage fails to answer"))

    def _say(self, operation: str, code: str, status: int | None = None, request: str | None = None) -> None:
        now = time.monotonic()
        if self._said.get((operation, code), -SAID_AGAIN) + SAID_AGAIN <= now:
            self._said[operation, code] = now
            self._logger.warning("S3 fails", operation=operation, code=code, status=status, service_request=request)
