"""Packages: derivatives of many files, which become readable in the transaction that records the derivative, or not at all.

The files of one lie below a prefix of keys that nothing else uses, so that what happens to all of them is one statement. Where the same bytes are there already
they are shared, as any object's are: a step that is done again stores nothing twice.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import ColumnElement, and_, bindparam, delete, exists, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mediacdn.catalog.changes import append
from mediacdn.catalog.leases import Held, insist
from mediacdn.catalog.owners import weigh
from mediacdn.catalog.rows import COLUMNS, media_of
from mediacdn.catalog.tables import PARTIAL, jobs, media, objects, package_files, packages
from mediacdn.catalog.transactions import Transactions
from mediacdn.errors import CatalogUnavailable, Gone
from mediacdn.interfaces import Clock
from mediacdn.model import Change, JobState, Media, PackageFile, State

SUBTITLES = "subtitles:"
"""Relationships of what manifests list: another one, or one less, makes them untrue."""
AT_ONCE = 500
"""Digests in one statement."""
UNIT = "unit"
"""The relationship to its media of what a unit has made: its package is nobody's to read, but its files become those of the whole."""


class Package(Struct, frozen=True):
    """What is to be published with a derivative: files whose keys begin with `prefix`, and the path of that among them where players begin.

    Other files are those of units, `joined`, which nobody needs any more once it is whole: while it is `growing` there will be more.
    """

    prefix: str
    files: Sequence[PackageFile]
    manifest: str | None = None
    growing: bool = False
    joined: Sequence[str] = ()


class Found(Struct, frozen=True):
    """A file of a package: its storage, the media that has it, and when that was made."""

    file: PackageFile
    storage: str
    media_id: str
    made_at: datetime
    growing: bool = False


def below(storage: str, prefix: str) -> ColumnElement[bool]:
    """The objects whose keys begin with `prefix`, which is ASCII and ends in a slash."""
    return and_(objects.c.storage == storage, objects.c.key > prefix, objects.c.key < prefix + "\x7f")


async def write_package(connection: AsyncConnection, derived: Media, package: Package, now: datetime) -> tuple[list[Change], bool]:
    """Publish files whose bytes are durable, as those of a derivative that is recorded in the same transaction; the package before it is replaced. Tells of changes,
    and whether there was one before.

    What is below the prefix and not needed is left to be deleted. Raises: CatalogUnavailable, when the sweeper took the intents away.
    """
    rows_of = await _held(connection, derived, package.prefix, package.files, now)
    await connection.execute(insert(package_files), rows_of)
    unit = derived.relationship == UNIT
    own = {"media_id": derived.id, "source_id": derived.source_id, "mount": derived.relationship, "growing": package.growing}
    if unit:
        await connection.execute(insert(packages).values(own))
        return [], False
    await weigh(connection, derived.owner, sum(each.size for each in package.files))
    before = and_(packages.c.source_id == derived.source_id, packages.c.mount == derived.relationship, packages.c.replaced_at.is_(None))
    anew = (await connection.execute(update(packages).where(before).values(replaced_at=now))).rowcount > 0
    await connection.execute(insert(packages).values(own))
    for at in range(0, len(package.joined), AT_ONCE):
        units = packages.c.media_id.in_(package.joined[at : at + AT_ONCE])
        await connection.execute(update(packages).where(units).values(replaced_at=now))
    if package.manifest is not None:
        here = and_(media.c.id == derived.source_id, media.c.state != State.DELETED.value)
        values = {"manifest": f"{derived.relationship}/{package.manifest}", "updated_at": now, "version": media.c.version + 1}
        await connection.execute(update(media).where(here).values(values))
    assert derived.source_id is not None
    return await append(connection, [derived.source_id], now), anew


async def _held(
    connection: AsyncConnection, derived: Media, prefix: str, files: Sequence[PackageFile], now: datetime
) -> list[dict[str, Any]]:
    """Make the bytes of files those of a package, and give its rows. Those whose keys begin with `prefix` are durable, and intended; others are there."""
    own = sum(each.key.startswith(prefix) for each in files)
    intents = select(func.count()).where(below(derived.storage, prefix), objects.c.state == "writing")
    if own and (await connection.execute(intents)).scalar_one() < own:
        raise CatalogUnavailable("The files took too long to store and were swept away")
    there: dict[str, str] = {}
    digests = sorted({each.digest for each in files})
    for at in range(0, len(digests), AT_ONCE):
        same = and_(objects.c.storage == derived.storage, objects.c.digest.in_(digests[at : at + AT_ONCE]), objects.c.state == "live")
        rows = await connection.execute(select(objects.c.digest, objects.c.key).where(same).with_for_update())
        there.update((digest, key) for digest, key in rows)
    shared = dict(there)
    rows_of = []
    held: Counter[str] = Counter()
    new: dict[str, PackageFile] = {}
    for each in files:
        if each.digest not in there and not each.key.startswith(prefix):
            raise CatalogUnavailable("What a unit had made is not there any more")
        key = there.setdefault(each.digest, each.key)
        held[key] += 1
        if each.digest not in shared and key == each.key:
            new[key] = each
        rows_of.append({"media_id": derived.id, "path": each.path, "key": key, **_bytes(each), "media_type": each.media_type})
    which = and_(objects.c.storage == derived.storage, objects.c.key == bindparam("of"))
    if new:
        live = [
            {"of": key, "times": held[key], **{f"new_{name}": value for name, value in _bytes(each).items()}} for key, each in new.items()
        ]
        values = {"state": "live", "refcount": bindparam("times"), "touched_at": now}
        values.update({name: bindparam(f"new_{name}") for name in ("size", "digest")})
        await connection.execute(update(objects).where(which).values(values), live)
    if shared:
        take = [{"of": key, "times": held[key]} for key in shared.values()]
        await connection.execute(update(objects).where(which).values(refcount=objects.c.refcount + bindparam("times")), take)
    await drop_package(connection, derived.storage, prefix)
    return rows_of


async def grow_package(connection: AsyncConnection, derived: Media, package: Package, now: datetime) -> list[Change]:
    """Add to a package that grows what it has not, and put other bytes in place of those that have changed. Raises: Gone, CatalogUnavailable."""
    alive = select(media.c.id).where(media.c.id == derived.id, media.c.state == State.LIVE.value).with_for_update()
    if (await connection.execute(alive)).first() is None:
        raise Gone("What grows is gone, or withheld")
    columns = (package_files.c.path, package_files.c.key, package_files.c.digest, package_files.c.size)
    found = await connection.execute(select(*columns).where(package_files.c.media_id == derived.id))
    before = {path: (key, digest, size) for path, key, digest, size in found}
    fresh = [each for each in package.files if each.path not in before or before[each.path][1] != each.digest]
    if not fresh:
        await drop_package(connection, derived.storage, package.prefix)
        return []
    rows_of = await _held(connection, derived, package.prefix, fresh, now)
    changed = [each.path for each in fresh if each.path in before]
    if changed:
        old = and_(package_files.c.media_id == derived.id, package_files.c.path.in_(changed))
        await connection.execute(delete(package_files).where(old))
        await _let_go(connection, derived.storage, Counter(before[path][0] for path in changed))
    await connection.execute(insert(package_files), rows_of)
    await weigh(connection, derived.owner, sum(each.size for each in fresh) - sum(before[path][2] for path in changed))
    assert derived.source_id is not None
    return await append(connection, [derived.source_id], now)


async def drop_package(connection: AsyncConnection, storage: str, prefix: str) -> None:
    """Leave to be deleted what was intended below the prefix, and stored there."""
    await connection.execute(update(objects).where(below(storage, prefix), objects.c.state == "writing").values(state="deleting"))


async def forget_package(connection: AsyncConnection, gone: Media) -> None:
    """Let go of the files of a derivative that is being deleted."""
    of = delete(package_files).where(package_files.c.media_id == gone.id).returning(package_files.c.key, package_files.c.size)
    rows = (await connection.execute(of)).all()
    if not rows:
        return
    if gone.relationship != UNIT:
        await weigh(connection, gone.owner, -sum(size for _, size in rows))
    await _let_go(connection, gone.storage, Counter(key for key, _ in rows))
    await connection.execute(delete(packages).where(packages.c.media_id == gone.id))
    left = select(packages.c.media_id).where(packages.c.source_id == gone.source_id, packages.c.mount == gone.relationship).limit(1)
    if (await connection.execute(left)).first() is None:
        here = and_(media.c.id == gone.source_id, media.c.manifest.startswith(f"{gone.relationship}/", autoescape=True))
        await connection.execute(update(media).where(here).values(manifest=None, version=media.c.version + 1))


def _newest_is_live(source_id: str, relationship: str) -> ColumnElement[bool]:
    """Whether the newest derivative of this relationship that is still here may be read: an older one is no way around what it is withheld for."""
    other = media.alias()
    same = and_(other.c.source_id == source_id, other.c.relationship == relationship, other.c.state != State.DELETED.value)
    newest = select(other.c.state).where(same).order_by(other.c.id.desc()).limit(1).scalar_subquery()
    return newest == State.LIVE.value


async def _let_go(connection: AsyncConnection, storage: str, held: Counter[str]) -> None:
    """Take so many holds off the objects at these keys; what nobody holds is to be deleted."""
    which = and_(objects.c.storage == storage, objects.c.key == bindparam("of"), objects.c.state == "live")
    less = [{"of": key, "times": times} for key, times in held.items()]
    await connection.execute(update(objects).where(which).values(refcount=objects.c.refcount - bindparam("times")), less)
    keys = list(held)
    for at in range(0, len(keys), AT_ONCE):
        empty = and_(objects.c.storage == storage, objects.c.key.in_(keys[at : at + AT_ONCE]), objects.c.refcount <= 0)
        await connection.execute(update(objects).where(empty, objects.c.state == "live").values(state="deleting"))


def _bytes(file: PackageFile) -> dict[str, Any]:
    return {"size": file.size, "digest": file.digest}


class PackageRows:
    """What was made of a media, by the path below it: a package's file, or a derivative that is one file. What is withheld or deleted is not found."""

    def __init__(self, transactions: Transactions, clock: Clock) -> None:
        self._transactions = transactions
        self._clock = clock

    async def find(self, source_id: str, mount: str, path: str) -> Found | None:
        """Find a file of the newest package that has it: one that was replaced still has those of its own, but does not stand in for one that is withheld."""
        statement = (
            select(package_files, media.c.storage, media.c.id, media.c.created_at, packages.c.growing)
            .join(packages, packages.c.media_id == package_files.c.media_id)
            .join(media, media.c.id == packages.c.media_id)
            .where(packages.c.source_id == source_id, packages.c.mount == mount, package_files.c.path == path)
            .where(media.c.state == State.LIVE.value, _newest_is_live(source_id, mount))
            .order_by(media.c.id.desc())
            .limit(1)
        )

        async def work(connection: AsyncConnection) -> Found | None:
            row = (await connection.execute(statement)).one_or_none()
            if row is None:
                return None
            file = PackageFile(path=row.path, key=row.key, size=row.size, digest=row.digest, media_type=row.media_type)
            return Found(file, row.storage, row.id, row.created_at, row.growing)

        return await self._transactions.read(work)

    async def output(self, source_id: str, relationship: str) -> Media | None:
        """Find the newest derivative of this relationship to a media; None where that is withheld."""
        here = and_(
            media.c.source_id == source_id,
            media.c.relationship == relationship,
            media.c.state == State.LIVE.value,
            _newest_is_live(source_id, relationship),
        )

        async def work(connection: AsyncConnection) -> Media | None:
            row = (await connection.execute(select(*COLUMNS).where(here).order_by(media.c.id.desc()).limit(1))).one_or_none()
            return None if row is None else media_of(row)

        return await self._transactions.read(work)

    async def subtitles(self, source_id: str) -> list[Media]:
        """List the live subtitles of a media by their relationship, of each language the newest."""
        here = and_(media.c.source_id == source_id, media.c.relationship.startswith(SUBTITLES), media.c.state == State.LIVE.value)

        async def work(connection: AsyncConnection) -> list[Media]:
            rows = await connection.execute(select(*COLUMNS).where(here).order_by(media.c.id))
            found = {each.relationship: each for each in map(media_of, rows)}
            return [found[name] for name in sorted(found, key=str)]

        return await self._transactions.read(work)

    async def before(self, made: Media) -> list[str]:
        """Name the live derivatives in whose place this one is: of the same relationship, and older."""
        here = and_(media.c.source_id == made.source_id, media.c.relationship == made.relationship, media.c.state == State.LIVE.value)

        async def work(connection: AsyncConnection) -> list[str]:
            return list(await connection.scalars(select(media.c.id).where(here, media.c.id < made.id)))

        return await self._transactions.read(work)

    async def files(self, media_id: str) -> list[PackageFile]:
        """List a package's files by path."""
        return (await self.files_of([media_id]))[media_id]

    async def files_of(self, ids: Sequence[str]) -> dict[str, list[PackageFile]]:
        """List the files of packages by path."""
        columns = [package_files.c[name] for name in PackageFile.__struct_fields__]

        async def work(connection: AsyncConnection) -> dict[str, list[PackageFile]]:
            found: dict[str, list[PackageFile]] = {each: [] for each in ids}
            for at in range(0, len(ids), AT_ONCE):
                statement = select(package_files.c.media_id, *columns).where(package_files.c.media_id.in_(ids[at : at + AT_ONCE]))
                for own, *values in await connection.execute(statement.order_by(package_files.c.path)):
                    found[own].append(PackageFile(**dict(zip(PackageFile.__struct_fields__, values, strict=True))))
            return found

        return await self._transactions.read(work)

    async def serves(self, source_id: str, mount: str) -> bool:
        """Whether a whole package is read there."""
        here = and_(
            packages.c.source_id == source_id, packages.c.mount == mount, packages.c.growing.is_(False), packages.c.replaced_at.is_(None)
        )

        async def work(connection: AsyncConnection) -> bool:
            return (await connection.execute(select(packages.c.media_id).where(here).limit(1))).first() is not None

        return await self._transactions.read(work)

    async def grow(self, derived: Media, package: Package, held: Held) -> list[Change]:
        """Add to a package that grows, whose new bytes are durable. Raises: Gone, LeaseLost, CatalogUnavailable."""

        async def work(connection: AsyncConnection) -> list[Change]:
            await insist(connection, held)
            return await grow_package(connection, derived, package, self._clock.now())

        return await self._transactions.write(work)

    async def intend(self, storage: str, keys: Sequence[str]) -> None:
        """Say that bytes are about to be written at keys that were never used, all below one prefix."""
        now = self._clock.now()
        row = {"storage": storage, "size": 0, "refcount": 0, "state": "writing", "touched_at": now, "etag": ""}

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(insert(objects), [{**row, "key": key} for key in keys])

        await self._transactions.write(work)

    async def touch(self, storage: str, prefix: str) -> None:
        """Say that what is below the prefix is still being written."""

        async def work(connection: AsyncConnection) -> None:
            statement = update(objects).where(below(storage, prefix), objects.c.state == "writing")
            await connection.execute(statement.values(touched_at=self._clock.now()))

        await self._transactions.write(work)

    async def abandon(self, storage: str, prefix: str) -> None:
        """Give up what is below the prefix; the sweep removes it."""
        await self._transactions.write(lambda connection: drop_package(connection, storage, prefix))

    async def unfinished(self, before: datetime, limit: int = 100) -> list[str]:
        """Name up to `limit` derivatives that were to be part of a whole which nobody makes any more: what grew, and units that were made before `before`."""
        going = (JobState.PENDING.value, JobState.PROCESSING.value)
        wanted = exists().where(jobs.c.media_id == packages.c.source_id, jobs.c.division.is_not(None), jobs.c.state.in_(going))
        old = media.c.created_at < before
        statement = (
            select(packages.c.media_id)
            .join(media, media.c.id == packages.c.media_id)
            .where(PARTIAL, packages.c.replaced_at.is_(None), or_(packages.c.growing, old), ~wanted)
            .limit(limit)
        )

        async def work(connection: AsyncConnection) -> list[str]:
            return list(await connection.scalars(statement))

        return await self._transactions.read(work)

    async def replaced(self, before: datetime, limit: int = 100) -> list[str]:
        """Name up to `limit` packages in whose place another has been served since `before`."""
        statement = select(packages.c.media_id).where(packages.c.replaced_at < before).order_by(packages.c.replaced_at).limit(limit)

        async def work(connection: AsyncConnection) -> list[str]:
            return list(await connection.scalars(statement))

        return await self._transactions.read(work)
