"""/v1/seasons/{id}/episodes and /v1/episodes: a media's place in a season."""

from typing import Any

from litestar import Response, delete, get, patch, post

from mediacdn import Core, Episode, MediaHeld, NumberTaken, Season, TooLarge, Unprocessable, contract
from mediacdn_titles.movies import ANYBODY, LOCATION, READS, TOKEN
from mediacdn_titles.rights import Asked, Rights
from mediacdn_titles.views import ByNumber, EpisodeChanges, EpisodePage, EpisodeView, Limit, NewEpisode, Ulid, episode_view, given

WRITES = contract.problems(*contract.ACTS, MediaHeld, NumberTaken, TooLarge, Unprocessable)


def episode_routes(core: Core, rights: Rights) -> list[Any]:
    """The handlers of this file."""

    @get("/v1/seasons/{season_id:str}/episodes", responses=READS, security=ANYBODY, tags=["titles"])
    async def episodes(request: Asked, season_id: Ulid, cursor: ByNumber = None, limit: Limit = 50) -> EpisodePage:
        """The episodes of a season whose media the caller may read, by number."""
        caller = await rights.caller(request)
        above = await rights.readable(caller, Season, season_id)
        page, following = await core.titles.page(Episode, below=above.id, visible_to=core.visible_to(caller), after=cursor, limit=limit)
        return EpisodePage([episode_view(core, each) for each in page if await rights.shows(caller, each)], following)

    @post(
        "/v1/seasons/{season_id:str}/episodes",
        guards=[rights.known],
        responses=WRITES,
        response_headers=[LOCATION],
        security=TOKEN,
        tags=["titles"],
    )
    async def add_episode(request: Asked, season_id: Ulid, data: NewEpisode) -> Response[EpisodeView]:
        """Make a media an episode: who may change the series and the media may. 409 `number_taken` or `media_held`."""
        caller = await rights.writer(request)
        above = await rights.writable(caller, Season, season_id)
        await rights.own_media(caller, data.media_id)
        episode = await core.titles.add(Episode, {**given(data), "season_id": above.id})
        return Response(episode_view(core, episode), headers={"Location": core.url(f"/v1/episodes/{episode.id}")})

    @get("/v1/episodes/{episode_id:str}", responses=READS, security=ANYBODY, tags=["titles"])
    async def episode(request: Asked, episode_id: Ulid) -> EpisodeView:
        """One episode: to whoever may read its media; otherwise what reading that answers."""
        return episode_view(core, await rights.readable(await rights.caller(request), Episode, episode_id))

    @patch("/v1/episodes/{episode_id:str}", guards=[rights.known], responses=WRITES, security=TOKEN, tags=["titles"])
    async def change_episode(request: Asked, episode_id: Ulid, data: EpisodeChanges) -> EpisodeView:
        """Change an episode: the series' owner's and administrators' to do. Another media sets the former one free."""
        caller = await rights.writer(request)
        before = await rights.writable(caller, Episode, episode_id)
        changes = given(data)
        if changes.get("media_id", before.media_id) != before.media_id:
            await rights.own_media(caller, changes["media_id"])
        return episode_view(core, await core.titles.change(Episode, episode_id, changes))

    @delete("/v1/episodes/{episode_id:str}", guards=[rights.known], responses=WRITES, security=TOKEN, tags=["titles"])
    async def remove_episode(request: Asked, episode_id: Ulid) -> None:
        """Delete an episode; its media stays and is free for another title."""
        await rights.writable(await rights.writer(request), Episode, episode_id)
        await core.titles.remove(Episode, episode_id)

    return [episodes, add_episode, episode, change_episode, remove_episode]
