"""One lock that PostgreSQL needs and SQLite, with its single writer, has anyway: for all that happens to one digest."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

# Uploads, deletions and quarantines of one content read several tables before they write; row locks cannot hold off a row that is not there yet,
# such as the media that commits while its digest is being refused. Two digests that hash alike only wait for each other.
_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:digest, 0))")


async def lock_digest(connection: AsyncConnection, digest: str) -> None:
    """Hold the digest until the transaction ends."""
    if connection.dialect.name == "postgresql":
        await connection.execute(_LOCK, {"digest": digest})
