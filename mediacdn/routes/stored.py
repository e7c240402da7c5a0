"""The answer to an upload that ended well, whichever way its bytes came: the record, or of what its uploader may not read no more than its id."""

from litestar import Response
from msgspec import UNSET

from mediacdn.access import Access, Caller
from mediacdn.errors import MediaError
from mediacdn.ingest import Stored
from mediacdn.interfaces import Clock
from mediacdn.model import Media, Principal
from mediacdn.routes.views import Addresses, Record, anonymous


class StoredAnswers:
    """Makes the answers: 201 and the record of a new media, or 200 and the existing one's."""

    def __init__(self, access: Access, addresses: Addresses, clock: Clock) -> None:
        self._access = access
        self._addresses = addresses
        self._clock = clock

    async def response(self, principal: Principal, stored: Stored, fields: dict[str, str] | None = None) -> Response[Record]:
        caller = Caller(principal)
        media = stored.media if stored.created or await self._readable(stored.media, caller) else anonymous(stored.media)
        ignored = stored.ignored or UNSET
        record = self._addresses.record(media, storage=self._access.sees_storage(caller), ignored=ignored)
        return Response(record, status_code=201 if stored.created else 200, headers={**(fields or {}), "Location": record.urls.original})

    async def _readable(self, media: Media, caller: Caller) -> bool:
        try:
            verdict = await self._access.verdict(media.card, caller, "read")
            self._access.read(media.card, caller, self._clock.now(), verdict, bytes_only=False)
        except MediaError:
            return False
        return True
