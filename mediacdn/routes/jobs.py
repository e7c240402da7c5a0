"""Jobs as administrators see them: listed, started again, cancelled."""

from typing import Annotated, Any

from litestar import Request, delete, get, post
from litestar.params import Parameter as Param
from litestar.params import QueryParameter

from mediacdn.access import Access
from mediacdn.catalog.jobs import JobRows
from mediacdn.errors import Conflict, InvalidParameter, NotFound
from mediacdn.model import JobState, Scope
from mediacdn.routes.contract import NEEDS_TOKEN, WITH_TOKEN, problems
from mediacdn.routes.media import ULID
from mediacdn.routes.parameters import cursor as read_cursor
from mediacdn.routes.records import Records
from mediacdn.routes.task_views import JobPage, JobShown, show_job
from mediacdn.tasks import Tasks
from mediacdn.ulids import is_ulid

Asked = Request[Any, Any, Any]
_STATES = {each.value: each for each in JobState}
JobId = Annotated[str, Param(description="The job's ULID, upper case", schema_extra={"pattern": ULID})]


def job_routes(records: Records, tasks: Tasks, rows: JobRows, *, access: Access) -> list[Any]:
    """The handlers of this file."""

    async def admin(request: Asked) -> None:
        access.needs(await records.caller(request), Scope.ADMIN)

    @get("/v1/admin/jobs", responses=problems(*NEEDS_TOKEN), security=WITH_TOKEN, tags=["administration"])
    async def listed(
        request: Asked,
        cursor: Annotated[str | None, Param(description="`next` of an earlier page", schema_extra={"pattern": ULID})] = None,
        limit: Annotated[int, Param(ge=1, le=200)] = 50,
        status: Annotated[str | None, QueryParameter(name="state", schema_extra={"enum": list(_STATES)})] = None,
        lane: str | None = None,
    ) -> JobPage:
        """Jobs of every kind, newest first."""
        await admin(request)
        if lane is not None and "\x00" in lane:
            raise InvalidParameter("A filter cannot hold NUL")
        if status is not None and status not in _STATES:  # the framework would speak of this argument by its name here
            raise InvalidParameter(f"state must be one of {', '.join(_STATES)}")
        page, following = await rows.page(
            limit=limit, after=read_cursor(cursor), state=None if status is None else _STATES[status], lane=lane
        )
        return JobPage([show_job(job) for job in page], following)

    @post(
        "/v1/admin/jobs/{job_id:str}/retry",
        status_code=200,
        responses=problems(*NEEDS_TOKEN, NotFound, Conflict),
        security=WITH_TOKEN,
        tags=["administration"],
    )
    async def retry(request: Asked, job_id: JobId) -> JobShown:
        """Start a failed or cancelled job again, with all its attempts."""
        await admin(request)
        return show_job(await tasks.retry(_id(job_id)))

    @delete(
        "/v1/admin/jobs/{job_id:str}",
        status_code=200,
        responses=problems(*NEEDS_TOKEN, NotFound, Conflict),
        security=WITH_TOKEN,
        tags=["administration"],
    )
    async def cancel(request: Asked, job_id: JobId) -> JobShown:
        """Cancel a job that waits or runs."""
        await admin(request)
        return show_job(await tasks.cancel(_id(job_id)))

    return [listed, retry, cancel]


def _id(text: str) -> str:
    if not is_ulid(text):
        raise NotFound("There is no such job")
    return text
