"""What administrators see of the storages, what each holds by the catalog and can still take; and having media moved between them."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Annotated, Any

import anyio
from litestar import Request, Response, get, post
from msgspec import Meta, Struct

from mediacdn.access import Access
from mediacdn.catalog.database import Catalog
from mediacdn.catalog.moves import Usage
from mediacdn.errors import MediaError, NotFound, TooLarge
from mediacdn.interfaces import LocalPaths, MultipartUpload, Presigner, Room, Storage
from mediacdn.model import Scope
from mediacdn.routes.contract import NEEDS_TOKEN, WITH_TOKEN, problems
from mediacdn.routes.records import Records
from mediacdn.routes.task_views import JobShown, show_job
from mediacdn.upkeep.move_jobs import move_job

PATIENCE = 3.0
POWERS = {"local_paths": LocalPaths, "room": Room, "multipart": MultipartUpload, "presign": Presigner}
Asked = Request[Any, Any, Any]


class Held(Struct, frozen=True):
    """One storage. `objects` and `bytes` are those of live objects, `states` all of them: "writing" is on its way in, "leaving" was moved away and can still be
    read, "deleting" waits for the sweep. `free` is bytes that it can still take, null where it does not know; `via` where its uploads land first; `of` a mirror's members."""

    name: str
    driver: str
    objects: int
    bytes: int
    states: dict[str, Usage]
    free: int | None
    reachable: bool
    powers: list[str]
    via: str | None = None
    of: list[str] | None = None


class Storages(Struct, frozen=True):
    storages: list[Held]


class Move(Struct, frozen=True, forbid_unknown_fields=True):
    """The storage they go to; conditions NAME=VALUE as those of `mediacdn move --where`, which all must hold; bytes a second at most, 0 for no limit."""

    to: Annotated[str, Meta(min_length=1, max_length=64, examples=["default"])]
    where: Annotated[list[Annotated[str, Meta(max_length=1000)]], Meta(min_length=1, max_length=16, examples=[["tag=archive"]])]
    rate: Annotated[int, Meta(ge=0, le=10**12)] = 0


def storage_routes(
    records: Records,
    *,
    access: Access,
    catalog: Catalog,
    storages: Mapping[str, Storage],
    tables: Mapping[str, Mapping[str, Any]],
    new_id: Callable[[], str],
) -> list[Any]:
    """The handlers of this file."""

    async def held(name: str, storage: Storage, states: dict[str, Usage]) -> Held:
        live = states.get("live", Usage(0, 0))
        free, reachable = None, True
        try:
            with anyio.fail_after(PATIENCE):
                with suppress(NotFound):  # the honest answer of a storage that works
                    await storage.head("readiness/probe")
                if isinstance(storage, Room):
                    free = await storage.free()
        except (MediaError, TimeoutError):
            reachable = False
        return Held(
            name=name,
            driver=tables[name].get("driver", "local"),
            objects=live.objects,
            bytes=live.bytes,
            states=states,
            free=free,
            reachable=reachable,
            powers=[power for power, kind in POWERS.items() if isinstance(storage, kind)],
            via=tables[name].get("via"),
            of=list(tables[name]["of"]) if "of" in tables[name] and tables[name].get("driver") == "mirror" else None,
        )

    @get("/v1/admin/storage", responses=problems(*NEEDS_TOKEN), security=WITH_TOKEN, tags=["administration"])
    async def usage(request: Asked) -> Response[Storages]:
        """What each storage holds, and how much it can still take. Bytes that media share count once."""
        access.needs(await records.caller(request), Scope.ADMIN)
        counted = await catalog.moves.usage()
        found: dict[str, Held] = {}

        async def ask(name: str, storage: Storage) -> None:
            found[name] = await held(name, storage, counted.get(name, {}))

        async with anyio.create_task_group() as group:
            for name, storage in storages.items():
                group.start_soon(ask, name, storage)
        return Response(Storages([found[name] for name in storages]), headers={"Cache-Control": "no-store"})

    @post(
        "/v1/admin/move",
        guards=[records.known],
        status_code=202,
        responses=problems(*NEEDS_TOKEN, NotFound, TooLarge),
        security=WITH_TOKEN,
        tags=["administration"],
    )
    async def move(request: Asked, data: Move) -> JobShown:
        """Have a worker move media to another storage while they are read. The job tells how far it is; the same wish again is the same job, begun anew."""
        caller = await records.caller(request)
        access.needs(caller, Scope.ADMIN)
        if data.to not in storages:
            raise NotFound("There is no such storage")
        by = None if caller.principal is None else caller.principal.id
        job, _, _ = await catalog.jobs.ask(move_job(data.to, data.where, data.rate, new_id, by=by), again=True)
        return show_job(job)

    return [usage, move]
