"""The client's verbs about recipes, tasks and ancestry."""

from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Struct

from mediacdn.client.events import follow
from mediacdn.client.record import Record
from mediacdn.client.transport import Transport

ENDED = frozenset({"Completed", "Failed", "Cancelled"})


class Fault(Struct, frozen=True):
    """What went wrong: the stable code, and a sentence."""

    code: str | None = None
    message: str | None = None


class TaskStep(Struct, frozen=True, kw_only=True):
    """A step of a task's timeline. `input` is the digest of the bytes that it read, `output` the id of the media that it made or found made."""

    name: str
    action: str
    status: str = "Pending"
    started_at: datetime | None = None
    ended_at: datetime | None = None
    input: str | None = None
    output: str | None = None
    tools: dict[str, str] = {}
    error: Fault | None = None


class Task(Struct, frozen=True, kw_only=True):
    """A recipe asked for a media. `status` is Pending, Processing, Completed, Failed or Cancelled; `progress` is from 0 to 1."""

    id: str
    media_id: str
    code: str
    args: dict[str, Any] = {}
    status: str = "Pending"
    progress: float = 0.0
    attempts: int = 0
    error: Fault | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    steps: tuple[TaskStep, ...] = ()

    @property
    def ended(self) -> bool:
        return self.status in ENDED


class TaskVerbs:
    """What `Client` can do about tasks."""

    _transport: Transport

    async def run_task(self, id: str, code: str, args: Mapping[str, Any] | None = None, *, track: bool = True) -> Task:
        """Have a recipe (`code`, or `code@version`) done to a media; asked again, it is the same task, which starts again if it failed or was cancelled.

        Raises also: InvalidArgument, Unprocessable, Conflict.
        """
        path = f"/v1/media/{quote(id, safe='')}/tasks/{quote(code, safe='@')}"
        wish = {"args": dict(args or {}), "track": track}
        return await self._transport.read(await self._transport.ask("POST", path, repeatable=True, json=wish), Task)

    async def get_task(self, task_id: str) -> Task:
        """One task with its timeline."""
        return await self._transport.read(await self._transport.ask("GET", _task(task_id), repeatable=True), Task)

    async def tasks(self, id: str) -> AsyncIterator[Task]:
        """Go through the tasks of a media that are still kept, newest first."""
        async for task in self._pages(f"/v1/media/{quote(id, safe='')}/tasks", {}, _Tasks):
            yield task

    async def cancel_task(self, task_id: str) -> Task:
        """Cancel a task that waits or runs. Raises also: Conflict, when it has ended otherwise."""
        return await self._transport.read(await self._transport.ask("DELETE", _task(task_id), repeatable=True), Task)

    async def stream_task(self, task_id: str) -> AsyncIterator[Task]:
        """Follow a task: its state now, then whenever it changes, until it has ended; a broken connection is resumed.

        Raises what the server answers a reader who may not read any more.
        """
        async for data in follow(self._transport, f"{_task(task_id)}/events", wanted="task", last="end"):
            yield msgspec.json.decode(data, type=Task)

    async def recipes(self) -> list[dict[str, Any]]:
        """Every recipe of the server, by code and version."""
        listed = await self._transport.read(
            await self._transport.ask("GET", "/v1/recipes", repeatable=True), dict[str, list[dict[str, Any]]]
        )
        return listed["items"]

    async def describe_task(self, code: str) -> dict[str, Any]:
        """One recipe: its arguments with their JSON Schema, its steps, and the media that it takes."""
        path = f"/v1/recipes/{quote(code, safe='@')}"
        return await self._transport.read(await self._transport.ask("GET", path, repeatable=True), dict[str, Any])

    def ancestors(self, id: str, relationship: str | None = None) -> AsyncIterator[Record]:
        """Go through what a media was made of, the nearest first."""
        return self._kin(id, "ancestors", relationship)

    def descendants(self, id: str, relationship: str | None = None) -> AsyncIterator[Record]:
        """Go through all that was made of a media, and of what was made of it, newest first."""
        return self._kin(id, "descendants", relationship)

    def derivatives(self, id: str, relationship: str | None = None) -> AsyncIterator[Record]:
        """Go through what was made of a media itself, newest first."""
        return self._kin(id, "derivatives", relationship)

    async def _kin(self, id: str, which: str, relationship: str | None) -> AsyncIterator[Record]:
        filters = {} if relationship is None else {"relationship": relationship}
        async for record in self._pages(f"/v1/media/{quote(id, safe='')}/{which}", filters, _Records):
            yield record

    async def _pages(self, path: str, filters: Mapping[str, str], kind: Any) -> AsyncIterator[Any]:
        cursor: str | None = None
        while True:
            params = {**filters, "limit": "100", **({} if cursor is None else {"cursor": cursor})}
            page = await self._transport.read(await self._transport.ask("GET", path, repeatable=True, params=params), kind)
            for each in page.items:
                yield each
            cursor = page.next
            if cursor is None:
                return


class _Tasks(Struct, frozen=True):
    items: list[Task]
    next: str | None = None


class _Records(Struct, frozen=True):
    items: list[Record]
    next: str | None = None


def _task(task_id: str) -> str:
    return f"/v1/media/tasks/{quote(task_id, safe='')}"
