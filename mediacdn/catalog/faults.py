"""What a driver's failure means: which is an outage, which a lost race worth another run, which the caller's own fault."""

import sqlite3
import sys
from typing import Any

from sqlalchemy.exc import DataError, DBAPIError, InterfaceError, OperationalError

from mediacdn.errors import CatalogUnavailable, InvalidParameter, StorageFull

# SQLSTATE (PostgreSQL, appendix A): unique_violation, serialization_failure, deadlock_detected.
UNIQUE = "23505"
ROLLED_BACK = {"40001", "40P01"}
DISK_FULL = "53100"
# Classes that mean "not now": connection, authorization, no such database, resources, operator intervention (shutdown, starting up), system error.
OUTAGE_CLASSES = ("08", "28", "3D", "53", "57", "58")

# sqlite.org/rescode.html; extended codes begin with the primary one.
SQLITE_UNIQUE = {"SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY"}
SQLITE_OUTAGES = (
    "SQLITE_BUSY",
    "SQLITE_LOCKED",
    "SQLITE_IOERR",
    "SQLITE_CANTOPEN",
    "SQLITE_READONLY",
    "SQLITE_PROTOCOL",
    "SQLITE_INTERRUPT",
    "SQLITE_NOTADB",
    "SQLITE_CORRUPT",
)


def _codes(error: BaseException) -> tuple[str, str]:
    """Tell the SQLSTATE and the SQLite result name of an error, each "" where it has none."""
    origin: Any = error.orig if isinstance(error, DBAPIError) else error
    return getattr(origin, "sqlstate", None) or "", getattr(origin, "sqlite_errorname", None) or ""


def clashed(error: BaseException) -> bool:
    """Whether a unique index refused the row."""
    state, name = _codes(error)
    return state == UNIQUE or name in SQLITE_UNIQUE


def lost_race(error: BaseException) -> bool:
    """Whether the transaction lost against another, was rolled back whole and may simply run again."""
    return clashed(error) or _codes(error)[0] in ROLLED_BACK


def disconnected(error: BaseException) -> bool:
    """Whether the connection is of no more use, and its neighbours probably neither."""
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or _codes(error)[0].startswith(("08", "57P"))
    return isinstance(error, (OSError, TimeoutError, *_out_of_step()))


def _out_of_step() -> tuple[type[Exception], ...]:
    """What asyncpg raises, and SQLAlchemy does not wrap, where a statement that was given up is still under way on the connection."""
    asyncpg = sys.modules.get("asyncpg")
    return () if asyncpg is None else (asyncpg.InternalClientError,)


def driver_errors(dialect: str) -> tuple[type[Exception], ...]:
    """Name what the driver raises where SQLAlchemy does not wrap it, as while asyncpg connects: to the caller all of that is an outage, a wrong password too."""
    if dialect == "postgresql":
        import asyncpg

        return (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
    return (sqlite3.Error,)


def translated(error: Exception, unwrapped: tuple[type[Exception], ...] = ()) -> Exception:
    """Turn a driver's exception into the house's; what is neither outage nor input stays as it is, so that it is seen and mended."""
    if isinstance(error, OSError | TimeoutError):
        return CatalogUnavailable()
    if isinstance(error, UnicodeError):
        return InvalidParameter("A value cannot be stored")  # a lone surrogate, which UTF-8 cannot hold
    state, name = _codes(error)
    if state == DISK_FULL or name == "SQLITE_FULL":
        return StorageFull("There is no room left in the catalog")
    if isinstance(error, DBAPIError):
        if isinstance(error, DataError) or state.startswith("22"):
            return InvalidParameter("A value cannot be stored")  # a NUL in a text, say, which PostgreSQL cannot hold
        nameless = not state and not name and isinstance(error, InterfaceError | OperationalError)
        if nameless or lost_race(error) or disconnected(error) or state.startswith(OUTAGE_CLASSES) or name.startswith(SQLITE_OUTAGES):
            return CatalogUnavailable()
    return CatalogUnavailable() if isinstance(error, unwrapped) else error
