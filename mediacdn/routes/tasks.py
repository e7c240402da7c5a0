"""Recipes and tasks: what can be made of a media, asking for it, and following how it comes about."""

from typing import Annotated, Any, Literal

from litestar import Request, Response, delete, get, post
from litestar.datastructures import ResponseHeader
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import HeaderParameter
from litestar.params import Parameter as Param
from litestar.response.base import ASGIResponse
from msgspec import Struct

from mediacdn.access import Caller
from mediacdn.errors import (
    Conflict,
    InvalidArgument,
    NotFound,
    Overloaded,
    TooLarge,
    TooManyRequests,
    TooManyTasks,
    Unauthorized,
    Unprocessable,
)
from mediacdn.interfaces import Clock
from mediacdn.model import Job, Scope
from mediacdn.recipes.descriptors import Descriptor
from mediacdn.routes.contract import ACTS, NEEDS_TOKEN, READS_RECORD, WITH_TOKEN, OptionalBody, answers, problems
from mediacdn.routes.media import ULID, Id
from mediacdn.routes.parameters import cursor as read_cursor
from mediacdn.routes.records import Records
from mediacdn.routes.task_views import Task, TaskPage, show_task
from mediacdn.routes.views import Addresses
from mediacdn.routes.watching import Watching, ended_mark
from mediacdn.tasks import ENDED, Tasks

Asked = Request[Any, Any, Any]
TaskId = Annotated[str, Param(description="The task's ULID, upper case", schema_extra={"pattern": ULID})]
Code = Annotated[str, Param(description="A recipe's code, for its newest version, or code@version")]
Cursor = Annotated[str | None, Param(description="`next` of an earlier page", schema_extra={"pattern": ULID})]
Limit = Annotated[int, Param(ge=1, le=200)]

LastEventId = Annotated[str | None, HeaderParameter(name="Last-Event-ID", description="The id of the last event that was seen")]


class Wish(Struct, frozen=True, forbid_unknown_fields=True):
    """`args` by the recipe's `args_schema`. Every task is tracked; one of a single step with `track` false is not listed, and leaves no record when it has ended well: what it made tells of it."""

    args: dict[str, Any] = {}
    track: bool = True


class Recipes(Struct, frozen=True):
    """Every recipe, by code and version."""

    items: list[Descriptor]


class TaskEvent(Struct, frozen=True):
    """One event. `data` is JSON: of `task` the whole task, whose revision `id` is; of `end` its id and status."""

    event: Literal["task", "end"]
    id: str
    data: str


_STREAM = {
    200: ResponseSpec(
        TaskEvent,
        generate_examples=False,
        media_type="text/event-stream",
        description="Events `task` (the task as JSON; `id` is its revision) whenever it changes, and one `end` (`{id, status}`) when it has ended; then the stream ends",
    ),
    204: ResponseSpec(None, generate_examples=False, description="It has ended and Last-Event-ID says that this was heard: come no more"),
}
_LOCATION = ResponseHeader(name="Location", description="Where the task is", documentation_only=True)


def task_routes(records: Records, tasks: Tasks, watching: Watching, *, addresses: Addresses, clock: Clock) -> list[Any]:
    """The handlers of this file."""

    async def someone(request: Asked) -> Caller:
        caller = await records.caller(request)
        if caller.principal is None:
            raise Unauthorized()
        return caller

    async def readable(caller: Caller, task_id: str) -> Job:
        """The task, when the caller may read the record of its media."""
        if caller.principal is None:
            raise Unauthorized()
        job = await tasks.get(task_id)
        await records.allowed(caller, job.media_id or "")
        return job

    @get("/v1/recipes", responses=problems(*NEEDS_TOKEN), security=WITH_TOKEN, tags=["tasks"])
    async def recipes(request: Asked) -> Recipes:
        """Every recipe of this server, with the JSON Schema of its arguments."""
        await someone(request)
        return Recipes([tasks.registry.describe(each) for each in tasks.registry.all()])

    @get("/v1/recipes/{code:str}", responses=problems(*NEEDS_TOKEN, NotFound), security=WITH_TOKEN, tags=["tasks"])
    async def recipe(request: Asked, code: Code) -> Descriptor:
        """One recipe: its arguments, steps, and the media that it takes."""
        await someone(request)
        return tasks.registry.describe(tasks.registry.find(code))

    @post(
        "/v1/media/{media_id:str}/tasks/{code:str}",
        guards=[records.known],
        status_code=202,
        operation_class=OptionalBody,
        responses={
            **answers(Task, "The task that does this already, or has done it"),
            **problems(*ACTS, Conflict, InvalidArgument, Unprocessable, TooLarge, TooManyTasks),
        },
        response_headers=[_LOCATION],
        security=WITH_TOKEN,
        tags=["tasks"],
    )
    async def ask(request: Asked, media_id: Id, code: Code, data: Wish | None = None) -> Response[Task]:
        """Have a recipe done to a media: 202 and the task that will do it, or 200 and the one that does or did the same.

        A failed or cancelled task starts again (202), as does a completed one whose output was deleted. Media of a type that the recipe does not take are 422:
        415 would speak of this request's own body (RFC 9110 section 15.5.16), which is fine. Who has `limits.tasks_per_caller` tasks that have not ended gets 429; admins
        are not counted.
        """
        caller = await records.caller(request)
        media = await records.actionable(caller, media_id, "write")
        wish, by = data or Wish(), caller.principal.id if caller.principal else None
        job, started = await tasks.ask(media, code, wish.args, by=by, track=wish.track, bounded=not caller.has(Scope.ADMIN))
        location = addresses.url(f"/v1/media/tasks/{job.id}")
        return Response(show_task(job), status_code=202 if started else 200, headers={"Location": location})

    @get("/v1/media/{media_id:str}/tasks", responses=problems(*READS_RECORD), security=WITH_TOKEN, tags=["tasks"])
    async def of_media(request: Asked, media_id: Id, cursor: Cursor = None, limit: Limit = 50) -> TaskPage:
        """The tasks of one media that are still kept, newest first."""
        await records.allowed(await records.caller(request), media_id)
        page, following = await tasks.of_media(media_id, limit=limit, after=read_cursor(cursor))
        return TaskPage([show_task(job) for job in page], following)

    @get("/v1/media/tasks/{task_id:str}", responses=problems(*READS_RECORD), security=WITH_TOKEN, tags=["tasks"])
    async def read(request: Asked, task_id: TaskId) -> Task:
        """One task with its timeline."""
        return show_task(await readable(await records.caller(request), task_id))

    @get(
        "/v1/media/tasks/{task_id:str}/events",
        responses={**_STREAM, **problems(*READS_RECORD, TooManyRequests, Overloaded)},
        security=WITH_TOKEN,
        tags=["tasks"],
    )
    async def events(request: Asked, task_id: TaskId, last_event_id: LastEventId = None) -> ASGIResponse:
        """Follow a task as server-sent events.

        With Last-Event-ID nothing that was seen is sent again. The stream ends when the task has ended, the reader may not read it any more (its token's own
        end included), or the server stops; clients come again by themselves, and 204 says that they need not.
        """
        caller = await records.caller(request)
        job = await readable(caller, task_id)
        if job.state in ENDED and last_event_id == ended_mark(job):
            return ASGIResponse(status_code=204)

        async def allowed() -> None:
            until = caller.principal.expires_at if caller.principal is not None else None
            if until is not None and until <= clock.now():
                raise Unauthorized()
            await records.allowed(caller, job.media_id or "")

        return watching.watch(caller.principal.id if caller.principal else "", job, last_event_id, allowed)  # type: ignore[return-value]

    @delete("/v1/media/tasks/{task_id:str}", status_code=200, responses=problems(*ACTS, Conflict), security=WITH_TOKEN, tags=["tasks"])
    async def cancel(request: Asked, task_id: TaskId) -> Task:
        """Cancel a task that waits or runs; one that was cancelled stays so, and 409 says that it has ended otherwise."""
        caller = await records.caller(request)
        if caller.principal is None:
            raise Unauthorized()
        job = await tasks.get(task_id)
        await records.actionable(caller, job.media_id or "", "write")
        return show_task(await tasks.cancel(task_id))

    return [recipes, recipe, ask, of_media, read, events, cancel]
