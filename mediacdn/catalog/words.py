"""Statements written once in the words of their database, for those that run all the time: to build, hash and look up one anew costs more than to run it.

Values go in and rows come out as the tables' own types say; the driver is spoken to directly.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Boolean, Dialect, Executable
from sqlalchemy.sql.compiler import SQLCompiler

from mediacdn.catalog.tables import EPOCH, MICROSECOND, Json, Micros, moment_of


class Words:
    """One statement: its text, and how its parameters and columns are written and read."""

    def __init__(self, statement: Executable, dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect)  # type: ignore[attr-defined]
        assert isinstance(compiled, SQLCompiler)
        self.text = str(compiled)
        constant = compiled.params
        names = compiled.positiontup or []
        self._given = [(name, _writer(compiled.binds[name].type), constant[name]) for name in names]
        columns = getattr(statement, "_all_selected_columns", None)
        returned = list(columns) if columns else list(getattr(statement, "_returning", ()))
        self._readers = [(number, read) for number, each in enumerate(returned) if (read := _reader(each.type)) is not None]

    def bind(self, values: dict[str, Any]) -> list[Any]:
        """The parameters in their order."""
        return [write(values.get(name, constant)) for name, write, constant in self._given]

    def read(self, row: Sequence[Any]) -> list[Any]:
        """A row's values as the tables' types mean them."""
        values = list(row)
        for number, read in self._readers:
            if values[number] is not None:
                values[number] = read(values[number])
        return values


def _writer(kind: Any) -> Callable[[Any], Any]:
    if isinstance(kind, Micros):
        return _micros
    return _json if isinstance(kind, Json) else _same


def _reader(kind: Any) -> Callable[[Any], Any] | None:
    if isinstance(kind, Micros):
        return moment_of
    if isinstance(kind, Json):
        return msgspec.json.decode
    return bool if isinstance(kind, Boolean) else None


def _micros(value: datetime | None) -> int | None:
    return None if value is None else (value - EPOCH) // MICROSECOND


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _same(value: Any) -> Any:
    return value
