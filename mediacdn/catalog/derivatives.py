"""What was made of a media: found by its derivation key, and never more visible than what it was made of."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec.structs import replace
from sqlalchemy import ColumnElement, Table, and_, bindparam, delete, or_, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from mediacdn.catalog.changes import append
from mediacdn.catalog.leases import Held, insist
from mediacdn.catalog.quarantine import with_descendants
from mediacdn.catalog.rows import COLUMNS, media_of
from mediacdn.catalog.tables import derivations, media
from mediacdn.catalog.transactions import Transactions
from mediacdn.errors import Gone, InvalidParameter, Quarantined
from mediacdn.interfaces import Clock
from mediacdn.model import Change, Derivation, Made, Media, State

FOLLOWED = frozenset({"public", "expires_at", "links_valid_from"})
"""What a derivative has of its source."""
PICTURES = ("page:1", "poster", "thumbnail")
"""Relationships of pictures that show what a media is."""
FACTS = ("width", "height", "duration", "frame_rate", "codecs", "placeholder")

KNOWN = select(media.c.id).where(media.c.dedupe_key == bindparam("key"))


def dedupe_key(derivation_key: str) -> str:
    """The key under which a derivative is unique among what is live."""
    return f"derived:{derivation_key}"


async def like_its_source(connection: AsyncConnection, derived: Media) -> Media:
    """Give the derivative its source's owner, visibility and end, which stay as they are until this transaction ends. Raises: Gone."""
    columns = (media.c.owner, media.c.public, media.c.expires_at, media.c.links_valid_from)
    here = and_(media.c.id == derived.source_id, media.c.state == State.LIVE.value)
    row = (await connection.execute(select(*columns).where(here).with_for_update())).one_or_none()
    if row is None:
        raise Gone("What this was made of is gone, or withheld")
    return replace(derived, owner=row.owner, public=row.public, expires_at=row.expires_at, links_valid_from=row.links_valid_from)


async def within_its_source(connection: AsyncConnection, derived: Media) -> None:
    """Raises: InvalidParameter, where a derivative would be public and its source is not, or would outlive it."""
    here = and_(media.c.id == derived.source_id, media.c.state != State.DELETED.value)
    # Not locked, for a change of the source locks it first; that then waits for the derivative's row, and has the last word on it.
    row = (await connection.execute(select(media.c.public, media.c.expires_at).where(here))).one_or_none()
    if row is None:
        return
    if derived.public and not row.public:
        raise InvalidParameter("What was made of a private media is private")
    if row.expires_at is not None and (derived.expires_at is None or derived.expires_at > row.expires_at):
        raise InvalidParameter("What was made of a media expires with it, or sooner")


async def follow(connection: AsyncConnection, id: str, values: Mapping[str, Any]) -> list[str]:
    """Change what was made of a media as the media itself is being changed; tell the ids."""
    ids = select(with_descendants(media.c.id == id).c.id)
    same: dict[str, Any] = {name: values[name] for name in FOLLOWED & values.keys()}
    same.update(updated_at=values["updated_at"], version=media.c.version + 1)
    if "generation" in values:
        same["generation"] = media.c.generation + 1
    here = and_(media.c.id.in_(ids), media.c.id != id, media.c.state != State.DELETED.value)
    return list(await connection.scalars(update(media).where(here).values(same).returning(media.c.id)))


async def credit_recipe(
    connection: AsyncConnection, insert: Callable[[Table], sqlite.Insert | postgresql.Insert], id: str, by: Derivation
) -> None:
    """Write down that this recipe makes this media, once."""
    await connection.execute(insert(derivations).values(made=id, **msgspec.structs.asdict(by)).on_conflict_do_nothing())


async def forget_recipes(connection: AsyncConnection, id: str) -> None:
    """Nobody asks who made what is deleted."""
    await connection.execute(delete(derivations).where(derivations.c.made == id))


class DerivativeRows:
    """Derivatives by derivation key, and facts that actions found out."""

    def __init__(self, transactions: Transactions, clock: Clock) -> None:
        self._transactions = transactions
        self._clock = clock
        self._known_words = transactions.words(KNOWN)

    async def find(self, derivation_key: str) -> Media | None:
        """Read the live derivative of this key. Raises: Quarantined, when it is withheld: made again under another id it would be a way around that."""
        if await self._transactions.point(self._known_words, key=dedupe_key(derivation_key)) is None:
            return None  # as for nearly every new job
        now = self._clock.now()
        here = and_(media.c.dedupe_key == dedupe_key(derivation_key), or_(media.c.expires_at.is_(None), media.c.expires_at > now))

        async def work(connection: AsyncConnection) -> Media | None:
            row = (await connection.execute(select(*COLUMNS).where(here))).one_or_none()
            return None if row is None else media_of(row)

        found = await self._transactions.read(work)
        if found is not None and found.state is State.QUARANTINED:
            raise Quarantined
        return found

    async def found(self, keys: Sequence[str]) -> dict[str, Media]:
        """Read the live derivatives of these keys, by key."""
        alive = or_(media.c.expires_at.is_(None), media.c.expires_at > self._clock.now())

        async def work(connection: AsyncConnection) -> dict[str, Media]:
            found = {}
            for at in range(0, len(keys), 500):
                some = media.c.dedupe_key.in_([dedupe_key(each) for each in keys[at : at + 500]])
                for row in await connection.execute(select(*COLUMNS).where(some, media.c.state == State.LIVE.value, alive)):
                    each = media_of(row)
                    found[str(each.derivation_key)] = each
            return found

        return await self._transactions.read(work)

    async def picture(self, id: str) -> Media | None:
        """Read the picture that stands for a media which is none: its page, poster or thumbnail, the largest of those that are live."""
        ids = select(with_descendants(media.c.id == id).c.id)
        shows = media.c.relationship.in_(PICTURES)
        here = and_(media.c.id.in_(ids), media.c.id != id, media.c.state == State.LIVE.value, media.c.kind == "image", shows)

        async def work(connection: AsyncConnection) -> Media | None:
            statement = select(*COLUMNS).where(here).order_by(media.c.width.desc(), media.c.id).limit(1)
            row = (await connection.execute(statement)).one_or_none()
            return None if row is None else media_of(row)

        return await self._transactions.read(work)

    async def kin(self, id: str) -> list[str]:
        """Name all that was made of a media and is still here, the nearest last: in this order they can be deleted."""
        ids = select(with_descendants(media.c.id == id).c.id)
        here = and_(media.c.id.in_(ids), media.c.id != id, media.c.state != State.DELETED.value)

        async def work(connection: AsyncConnection) -> list[str]:
            return list(await connection.scalars(select(media.c.id).where(here).order_by(media.c.id.desc())))

        return await self._transactions.read(work)

    async def credit(self, id: str, by: Derivation) -> None:
        """Write down that another recipe, or another run, makes this media as well."""
        await self._transactions.write(lambda connection: credit_recipe(connection, self._transactions.insert, id, by))

    async def made_before(
        self, code: str, version: int, *, limit: int, after: tuple[str, str] = ("", "")
    ) -> list[tuple[Media, Derivation]]:
        """List what versions of a recipe below this one made and is live, in the order of (id, fingerprint), from behind `after`."""
        columns = [derivations.c[name] for name in Derivation.__struct_fields__]
        own = tuple_(derivations.c.made, derivations.c.fingerprint)
        old = and_(derivations.c.code == code, derivations.c.version < version, own > after)
        statement = select(*COLUMNS, *columns).join(media, media.c.id == derivations.c.made).where(old, self._here())

        async def work(connection: AsyncConnection) -> list[tuple[Media, Derivation]]:
            found = await connection.execute(statement.order_by(derivations.c.made, derivations.c.fingerprint).limit(limit))
            return [
                (media_of(row[: len(COLUMNS)]), Derivation(**dict(zip(Derivation.__struct_fields__, row[len(COLUMNS) :], strict=True))))
                for row in found
            ]

        return await self._transactions.read(work)

    async def steps_done(self, fingerprint: str) -> set[str]:
        """Name the steps of a recipe's run whose outputs are live."""
        statement = select(derivations.c.step).join(media, media.c.id == derivations.c.made)

        async def work(connection: AsyncConnection) -> set[str]:
            return set(await connection.scalars(statement.where(derivations.c.fingerprint == fingerprint, self._here())))

        return await self._transactions.read(work)

    def _here(self) -> ColumnElement[bool]:
        alive = or_(media.c.expires_at.is_(None), media.c.expires_at > self._clock.now())
        return and_(media.c.state == State.LIVE.value, alive)

    async def describe(self, id: str, made: Made, held: Held) -> list[Change]:
        """Write down what an action found out about a media; what it does not say stays as it was. Raises: Gone, LeaseLost."""
        known: dict[str, Any] = {name: value for name in FACTS if (value := getattr(made, name)) is not None}
        if not known and not made.facts:
            return []

        async def work(connection: AsyncConnection) -> list[Change]:
            await insist(connection, held)
            now: datetime = self._clock.now()
            here = and_(media.c.id == id, media.c.state != State.DELETED.value)
            row = (await connection.execute(select(*COLUMNS).where(here).with_for_update())).one_or_none()
            if row is None:
                raise Gone("The media was deleted meanwhile")
            before = media_of(row)
            values = {**known, "facts": {**before.facts, **made.facts}}
            if all(getattr(before, name) == value for name, value in values.items()):
                return []
            await connection.execute(update(media).where(media.c.id == id).values(**values, updated_at=now, version=before.version + 1))
            return await append(connection, [id], now)

        return await self._transactions.write(work)
