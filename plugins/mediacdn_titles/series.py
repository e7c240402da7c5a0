"""/v1/series and /v1/seasons: what episodes are ordered in."""

from typing import Any

from litestar import Response, delete, get, patch, post

from mediacdn import Core, NotEmpty, NumberTaken, Season, Series, TooLarge, contract
from mediacdn_titles.movies import ANYBODY, LISTS, LOCATION, READS, TOKEN
from mediacdn_titles.rights import Asked, Rights
from mediacdn_titles.views import (
    ById,
    ByNumber,
    Limit,
    NewSeason,
    NewSeries,
    SeasonChanges,
    SeasonPage,
    SeasonView,
    SeriesChanges,
    SeriesPage,
    SeriesView,
    Ulid,
    given,
    season_view,
    series_view,
)

WRITES = contract.problems(*contract.ACTS, TooLarge, NumberTaken)
REMOVES = contract.problems(*contract.ACTS, NotEmpty)


def series_routes(core: Core, rights: Rights) -> list[Any]:
    """The handlers of this file."""

    @get("/v1/series", responses=LISTS, security=ANYBODY, tags=["titles"])
    async def all_series(request: Asked, cursor: ById = None, limit: Limit = 50) -> SeriesPage:
        """The series that the caller may see, newest first: without a token the public ones."""
        caller = await rights.caller(request)
        page, following = await core.titles.page(Series, visible_to=core.visible_to(caller), after=cursor, limit=limit)
        return SeriesPage([series_view(each) for each in page], following)

    @post("/v1/series", guards=[rights.known], responses=WRITES, response_headers=[LOCATION], security=TOKEN, tags=["titles"])
    async def add_series(request: Asked, data: NewSeries) -> Response[SeriesView]:
        """Begin a series; its owner and administrators add to it."""
        caller = await rights.writer(request)
        made = await core.titles.add(Series, {**given(data), "owner": caller.id})
        return Response(series_view(made), headers={"Location": core.url(f"/v1/series/{made.id}")})

    @get("/v1/series/{series_id:str}", responses=READS, security=ANYBODY, tags=["titles"])
    async def one_series(request: Asked, series_id: Ulid) -> SeriesView:
        """One series."""
        return series_view(await rights.readable(await rights.caller(request), Series, series_id))

    @patch("/v1/series/{series_id:str}", guards=[rights.known], responses=WRITES, security=TOKEN, tags=["titles"])
    async def change_series(request: Asked, series_id: Ulid, data: SeriesChanges) -> SeriesView:
        """Change a series."""
        await rights.writable(await rights.writer(request), Series, series_id)
        return series_view(await core.titles.change(Series, series_id, given(data)))

    @delete("/v1/series/{series_id:str}", guards=[rights.known], responses=REMOVES, security=TOKEN, tags=["titles"])
    async def remove_series(request: Asked, series_id: Ulid, recursive: bool = False) -> None:
        """Delete a series without seasons, or with `recursive` all below it too; media stay and are free for other titles."""
        await rights.writable(await rights.writer(request), Series, series_id)
        await core.titles.remove(Series, series_id, recursive=recursive)

    @get("/v1/series/{series_id:str}/seasons", responses=READS, security=ANYBODY, tags=["titles"])
    async def seasons(request: Asked, series_id: Ulid, cursor: ByNumber = None, limit: Limit = 50) -> SeasonPage:
        """The seasons of a series, by number."""
        caller = await rights.caller(request)
        above = await rights.readable(caller, Series, series_id)
        page, following = await core.titles.page(Season, below=above.id, visible_to=core.visible_to(caller), after=cursor, limit=limit)
        return SeasonPage([season_view(each) for each in page], following)

    @post(
        "/v1/series/{series_id:str}/seasons",
        guards=[rights.known],
        responses=WRITES,
        response_headers=[LOCATION],
        security=TOKEN,
        tags=["titles"],
    )
    async def add_season(request: Asked, series_id: Ulid, data: NewSeason) -> Response[SeasonView]:
        """Begin a season; 409 `number_taken` where the series has one of this number."""
        above = await rights.writable(await rights.writer(request), Series, series_id)
        season = await core.titles.add(Season, {"series_id": above.id, "number": data.number})
        return Response(season_view(season), headers={"Location": core.url(f"/v1/seasons/{season.id}")})

    @get("/v1/seasons/{season_id:str}", responses=READS, security=ANYBODY, tags=["titles"])
    async def season(request: Asked, season_id: Ulid) -> SeasonView:
        """One season."""
        return season_view(await rights.readable(await rights.caller(request), Season, season_id))

    @patch("/v1/seasons/{season_id:str}", guards=[rights.known], responses=WRITES, security=TOKEN, tags=["titles"])
    async def change_season(request: Asked, season_id: Ulid, data: SeasonChanges) -> SeasonView:
        """Give a season another number."""
        await rights.writable(await rights.writer(request), Season, season_id)
        return season_view(await core.titles.change(Season, season_id, given(data)))

    @delete("/v1/seasons/{season_id:str}", guards=[rights.known], responses=REMOVES, security=TOKEN, tags=["titles"])
    async def remove_season(request: Asked, season_id: Ulid, recursive: bool = False) -> None:
        """Delete a season without episodes, or with `recursive` its episodes too; media stay and are free for other titles."""
        await rights.writable(await rights.writer(request), Season, season_id)
        await core.titles.remove(Season, season_id, recursive=recursive)

    series = [all_series, add_series, one_series, change_series, remove_series]
    return [*series, seasons, add_season, season, change_season, remove_season]
