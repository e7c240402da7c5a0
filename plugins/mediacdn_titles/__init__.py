"""Movies, and series of seasons and episodes: what media are shown as, under /v1/movies, /v1/series, /v1/seasons and /v1/episodes."""

from typing import Any

from mediacdn import Core, hookimpl

__all__ = ["mediacdn_routes"]


@hookimpl
def mediacdn_routes(core: Core) -> list[Any]:
    from mediacdn_titles.episodes import episode_routes
    from mediacdn_titles.movies import movie_routes
    from mediacdn_titles.rights import Rights
    from mediacdn_titles.series import series_routes

    rights = Rights(core)
    return [*movie_routes(core, rights), *series_routes(core, rights), *episode_routes(core, rights)]
