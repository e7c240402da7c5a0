"""/v1/movies: a film of its own."""

from typing import Any

from litestar import Response, delete, get, patch, post
from litestar.datastructures import ResponseHeader

from mediacdn import Core, MediaHeld, Movie, TooLarge, Unprocessable, contract
from mediacdn_titles.rights import Asked, Rights
from mediacdn_titles.views import ById, Limit, MovieChanges, MoviePage, MovieView, NewMovie, Ulid, given, movie_view

READS = contract.problems(*contract.READS_RECORD)
LISTS = contract.problems(*contract.NEEDS_TOKEN)
WRITES = contract.problems(*contract.ACTS, MediaHeld, TooLarge, Unprocessable)
LOCATION = ResponseHeader(name="Location", description="Where it is", documentation_only=True)
ANYBODY, TOKEN = contract.WITH_TOKEN_OR_NOTHING, contract.WITH_TOKEN


def movie_routes(core: Core, rights: Rights) -> list[Any]:
    """The handlers of this file."""

    @get("/v1/movies", responses=LISTS, security=ANYBODY, tags=["titles"])
    async def movies(request: Asked, cursor: ById = None, limit: Limit = 50) -> MoviePage:
        """The movies whose media the caller may read, newest first: without a token those of public media."""
        caller = await rights.caller(request)
        page, following = await core.titles.page(Movie, visible_to=core.visible_to(caller), after=cursor, limit=limit)
        return MoviePage([movie_view(core, each) for each in page if await rights.shows(caller, each)], following)

    @post("/v1/movies", guards=[rights.known], responses=WRITES, response_headers=[LOCATION], security=TOKEN, tags=["titles"])
    async def add_movie(request: Asked, data: NewMovie) -> Response[MovieView]:
        """Make a media a movie; who may change the media may. 409 `media_held` where it is a movie or an episode already."""
        caller = await rights.writer(request)
        await rights.own_media(caller, data.media_id)
        movie = await core.titles.add(Movie, {**given(data), "owner": caller.id})
        return Response(movie_view(core, movie), headers={"Location": core.url(f"/v1/movies/{movie.id}")})

    @get("/v1/movies/{movie_id:str}", responses=READS, security=ANYBODY, tags=["titles"])
    async def movie(request: Asked, movie_id: Ulid) -> MovieView:
        """One movie: to whoever may read its media; otherwise what reading that answers."""
        return movie_view(core, await rights.readable(await rights.caller(request), Movie, movie_id))

    @patch("/v1/movies/{movie_id:str}", guards=[rights.known], responses=WRITES, security=TOKEN, tags=["titles"])
    async def change_movie(request: Asked, movie_id: Ulid, data: MovieChanges) -> MovieView:
        """Change a movie: its owner's and administrators' to do. Another media sets the former one free."""
        caller = await rights.writer(request)
        before = await rights.writable(caller, Movie, movie_id)
        changes = given(data)
        if changes.get("media_id", before.media_id) != before.media_id:
            await rights.own_media(caller, changes["media_id"])
        return movie_view(core, await core.titles.change(Movie, movie_id, changes))

    @delete("/v1/movies/{movie_id:str}", guards=[rights.known], responses=WRITES, security=TOKEN, tags=["titles"])
    async def remove_movie(request: Asked, movie_id: Ulid) -> None:
        """Delete a movie; its media stays and is free for another title."""
        await rights.writable(await rights.writer(request), Movie, movie_id)
        await core.titles.remove(Movie, movie_id)

    return [movies, add_movie, movie, change_movie, remove_movie]
