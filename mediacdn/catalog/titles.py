"""Titles: movies, series, seasons and episodes. A media belongs to one title, which is a column of the media's own row: it is taken by whoever sets it where it was null.

Locks are taken from above: series, season, episode, media. What meets another way round is a deadlock, which the database ends and the transaction outlives.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from msgspec import Struct
from sqlalchemy import ColumnElement, Select, Table, and_, delete, insert, or_, select, true, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mediacdn.catalog.tables import episodes, media, movies, seasons, series
from mediacdn.catalog.transactions import Transactions
from mediacdn.errors import InvalidParameter, MediaHeld, NotEmpty, NotFound, NumberTaken, Unprocessable
from mediacdn.interfaces import Clock
from mediacdn.model import Episode, Movie, Season, Series, State, Status, Titled
from mediacdn.ulids import Ulids

T = TypeVar("T", Movie, Series, Season, Episode)

DELETION = "deletion"
"""What holds a media that is about to be deleted."""
LARGEST = 2**31 - 1


class _Kind(Struct, frozen=True):
    """How one kind is stored: its table, how it is shown, and the column that names what it is in."""

    table: Table
    shown: Select[Any]
    above: Table | None = None
    within: str = ""


_OF_MEDIA = (media.c.status, media.c.manifest)
_KINDS: dict[type[Any], _Kind] = {
    Movie: _Kind(movies, select(*movies.c, *_OF_MEDIA).join(media, media.c.id == movies.c.media_id)),
    Series: _Kind(series, select(*series.c)),
    Season: _Kind(
        seasons, select(*seasons.c, series.c.owner, series.c.public).join(series, series.c.id == seasons.c.series_id), series, "series_id"
    ),
    Episode: _Kind(
        episodes,
        select(*episodes.c, series.c.owner, *_OF_MEDIA)
        .join(seasons, seasons.c.id == episodes.c.season_id)
        .join(series, series.c.id == seasons.c.series_id)
        .join(media, media.c.id == episodes.c.media_id),
        seasons,
        "season_id",
    ),
}


class TitleRows:
    """See `interfaces.Titles`."""

    def __init__(self, transactions: Transactions, clock: Clock) -> None:
        self._transactions = transactions
        self._clock = clock
        self._new_id = Ulids()

    async def add(self, kind: type[T], values: Mapping[str, Any]) -> T:
        stored = _KINDS[kind]

        async def work(connection: AsyncConnection) -> T:
            now, new = self._clock.now(), self._new_id()
            if stored.above is not None:
                up = select(stored.above.c.id).where(stored.above.c.id == values[stored.within]).with_for_update(read=True)
                if (await connection.execute(up)).first() is None:
                    raise NotFound()
                await _number(connection, stored, values[stored.within], values["number"])
            if "media_id" in values:
                await _hold(connection, values["media_id"], f"{stored.table.name}/{new}")
            await connection.execute(insert(stored.table).values(**values, id=new, created_at=now, updated_at=now))
            return await _one(connection, kind, new)

        return await self._transactions.write(work)

    async def get(self, kind: type[T], id: str) -> T:
        return await self._transactions.read(lambda connection: _one(connection, kind, id))

    async def change(self, kind: type[T], id: str, changes: Mapping[str, Any]) -> T:
        stored = _KINDS[kind]

        async def work(connection: AsyncConnection) -> T:
            before = (await connection.execute(select(stored.table).where(stored.table.c.id == id).with_for_update())).one_or_none()
            if before is None:
                raise NotFound()
            if "number" in changes and changes["number"] != before.number:
                await _number(connection, stored, getattr(before, stored.within), changes["number"])
            if "media_id" in changes and changes["media_id"] != before.media_id:
                by = f"{stored.table.name}/{id}"
                await connection.execute(update(media).where(media.c.id == before.media_id, media.c.held_by == by).values(held_by=None))
                await _hold(connection, changes["media_id"], by)
            if changes:
                values = {**changes, "updated_at": self._clock.now()}
                await connection.execute(update(stored.table).where(stored.table.c.id == id).values(values))
            return await _one(connection, kind, id)

        return await self._transactions.write(work)

    async def remove(self, kind: type[T], id: str, *, recursive: bool = False) -> None:
        table = _KINDS[kind].table

        async def work(connection: AsyncConnection) -> None:
            if (await connection.execute(select(table.c.id).where(table.c.id == id).with_for_update())).first() is None:
                raise NotFound()
            below, held = await _below(connection, table, id)
            if below and not recursive:
                raise NotEmpty(
                    f"There are {below} {'seasons' if table is series else 'episodes'} below this; delete them first, or recursively"
                )
            if held:
                await connection.execute(update(media).where(media.c.id.in_(held), media.c.held_by != DELETION).values(held_by=None))
            await connection.execute(delete(table).where(table.c.id == id))  # and by its foreign keys what is below it

        await self._transactions.write(work)

    async def page(
        self, kind: type[T], *, below: str | None = None, visible_to: str | None, after: str | None, limit: int
    ) -> tuple[list[T], str | None]:
        stored = _KINDS[kind]
        table, numbered = stored.table, stored.above is not None
        statement = stored.shown.limit(limit + 1)
        if numbered:
            statement = statement.where(table.c[stored.within] == below).order_by(table.c.number)
            if after is not None:
                statement = statement.where(table.c.number > _cursor(after))
        else:
            statement = statement.order_by(table.c.id.desc())
            if after is not None:
                statement = statement.where(table.c.id < after)
        if "media_id" in table.c:
            alive = or_(media.c.expires_at.is_(None), media.c.expires_at > self._clock.now())
            statement = statement.where(media.c.state == State.LIVE.value, alive, _visible(media, visible_to))
        elif table is series:
            statement = statement.where(_visible(series, visible_to))

        async def work(connection: AsyncConnection) -> tuple[list[T], str | None]:
            found = [_title(kind, row) for row in await connection.execute(statement)]
            last: Any = found[limit - 1] if len(found) > limit else None
            return found[:limit], None if last is None else str(last.number if numbered else last.id)

        return await self._transactions.read(work)

    async def part(self, media_id: str, titled: Titled) -> None:
        """Part a media that is about to be deleted from the title that holds it, and let no other take it. Raises: MediaHeld, where `titled` says so."""

        async def work(connection: AsyncConnection) -> None:
            while True:  # until nobody gives it away between the look and the taking
                row = (await connection.execute(select(media.c.held_by).where(media.c.id == media_id))).one_or_none()
                if row is None or row.held_by == DELETION:
                    return
                by = row.held_by
                if by is not None:
                    if titled == "refuse":
                        raise _held(by)
                    name, _, title = by.partition("/")
                    table = movies if name == movies.name else episodes
                    await connection.execute(delete(table).where(table.c.id == title, table.c.media_id == media_id))
                taken = update(media).where(media.c.id == media_id, media.c.held_by.is_not_distinct_from(by)).values(held_by=DELETION)
                if (await connection.execute(taken)).rowcount:
                    return

        await self._transactions.write(work)


def _visible(of: Table, to: str | None) -> ColumnElement[bool]:
    if to is None:
        return true()
    return or_(of.c.public.is_(True), of.c.owner == to) if to else of.c.public.is_(True)


def _cursor(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 10 or int(text) > LARGEST:
        raise InvalidParameter("'cursor' is the `next` of an earlier page")
    return int(text)


def _held(by: str) -> MediaHeld:
    return MediaHeld(held_by=f"/v1/{by}")


def _title(kind: type[T], row: Any) -> T:
    values = dict(row._mapping)
    if "status" in values:
        values["status"] = Status(values["status"])
    return kind(**values)


async def _one(connection: AsyncConnection, kind: type[T], id: str) -> T:
    stored = _KINDS[kind]
    row = (await connection.execute(stored.shown.where(stored.table.c.id == id))).one_or_none()
    if row is None:
        raise NotFound()
    return _title(kind, row)


async def _number(connection: AsyncConnection, stored: _Kind, above: str, number: int) -> None:
    """Whether a number is free, as far as can be seen; what is added meanwhile meets the unique index, and then all of it runs again. Raises: NumberTaken."""
    same = and_(stored.table.c[stored.within] == above, stored.table.c.number == number)
    if (await connection.execute(select(stored.table.c.id).where(same))).first() is not None:
        raise NumberTaken(f"There is a number {number} already")


async def _hold(connection: AsyncConnection, media_id: str, by: str) -> None:
    """Take a media for a title. Raises: MediaHeld, NotFound, Unprocessable."""
    free = and_(media.c.id == media_id, media.c.state != State.DELETED.value, media.c.source_id.is_(None), media.c.held_by.is_(None))
    if (await connection.execute(update(media).where(free).values(held_by=by))).rowcount:
        return
    row = (await connection.execute(select(media.c.state, media.c.source_id, media.c.held_by).where(media.c.id == media_id))).one_or_none()
    if row is None or row.state == State.DELETED.value or row.held_by == DELETION:
        raise NotFound("There is no such media")
    if row.source_id is not None:
        raise Unprocessable("A title has an original, not what was made of one")
    raise _held(row.held_by)


async def _below(connection: AsyncConnection, table: Table, id: str) -> tuple[int, list[str]]:
    """How many there are below, and the media that go free with it; locked from above, so that nobody adds to them."""
    if "media_id" in table.c:
        return 0, list(await connection.scalars(select(table.c.media_id).where(table.c.id == id)))
    within = [id]
    if table is series:
        within = list(await connection.scalars(select(seasons.c.id).where(seasons.c.series_id == id).with_for_update()))
    held = list(await connection.scalars(select(episodes.c.media_id).where(episodes.c.season_id.in_(within)).with_for_update()))
    return (len(within) if table is series else len(held)), held
