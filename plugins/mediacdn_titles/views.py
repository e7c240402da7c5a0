"""What the API takes and shows of titles, as Structs that are both the JSON and its OpenAPI schema. In changes, what is absent stays, and null clears."""

from datetime import date, datetime
from typing import Annotated, Any

from litestar.params import Parameter as Param
from litestar.params import QueryParameter
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import asdict

from mediacdn import Core, Episode, Movie, Season, Series
from mediacdn_titles.rights import ULID

Words = Annotated[str, Meta(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f\x7f]*[^\x00-\x20\x7f][^\x00-\x1f\x7f]*$")]
Text = Annotated[str, Meta(max_length=20_000, pattern=r"^[^\x00]*$")]
Number = Annotated[int, Meta(ge=0, le=1_000_000)]
Ulid = Annotated[str, Param(description="Its ULID, upper case", schema_extra={"pattern": ULID})]
Limit = Annotated[int, QueryParameter(name="limit", ge=1, le=200)]
ById = Annotated[str | None, QueryParameter(name="cursor", description="`next` of an earlier page", pattern=ULID)]
ByNumber = Annotated[str | None, QueryParameter(name="cursor", description="`next` of an earlier page", pattern="^[0-9]{1,9}$")]


class NewMovie(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    title: Words
    media_id: str
    description: Text | None = None
    release_date: date | None = None


class MovieChanges(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    title: Words | UnsetType = UNSET
    media_id: str | UnsetType = UNSET
    description: Text | UnsetType | None = UNSET
    release_date: date | UnsetType | None = UNSET


class MovieView(Struct, frozen=True, kw_only=True):
    """A movie. `status` and `manifest_url` are its media's; the latter is null where nothing streams (yet)."""

    id: str
    owner: str
    title: str
    description: str | None
    release_date: date | None
    media_id: str
    status: str
    manifest_url: str | None
    created_at: datetime
    updated_at: datetime


class NewSeries(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    title: Words
    description: Text | None = None
    public: bool = False


class SeriesChanges(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    title: Words | UnsetType = UNSET
    description: Text | UnsetType | None = UNSET
    public: bool | UnsetType = UNSET


class SeriesView(Struct, frozen=True, kw_only=True):
    """A series. `public` is of its own words and the numbers of its seasons; an episode is as visible as its media."""

    id: str
    owner: str
    public: bool
    title: str
    description: str | None
    created_at: datetime
    updated_at: datetime


class NewSeason(Struct, frozen=True, forbid_unknown_fields=True):
    number: Number


class SeasonChanges(Struct, frozen=True, forbid_unknown_fields=True):
    number: Number | UnsetType = UNSET


class SeasonView(Struct, frozen=True, kw_only=True):
    id: str
    series_id: str
    number: int
    created_at: datetime
    updated_at: datetime


class NewEpisode(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    number: Number
    media_id: str
    title: Words | None = None


class EpisodeChanges(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    number: Number | UnsetType = UNSET
    media_id: str | UnsetType = UNSET
    title: Words | UnsetType | None = UNSET


class EpisodeView(Struct, frozen=True, kw_only=True):
    """An episode. `status` and `manifest_url` are its media's; the latter is null where nothing streams (yet)."""

    id: str
    season_id: str
    number: int
    title: str | None
    media_id: str
    status: str
    manifest_url: str | None
    created_at: datetime
    updated_at: datetime


class MoviePage(Struct, frozen=True):
    """One page, newest first; `next` is the cursor of the following page."""

    items: list[MovieView]
    next: str | None


class SeriesPage(Struct, frozen=True):
    """One page, newest first; `next` is the cursor of the following page."""

    items: list[SeriesView]
    next: str | None


class SeasonPage(Struct, frozen=True):
    """One page, by number; `next` is the cursor of the following page."""

    items: list[SeasonView]
    next: str | None


class EpisodePage(Struct, frozen=True):
    """One page, by number; `next` is the cursor of the following page."""

    items: list[EpisodeView]
    next: str | None


def given(data: Struct) -> dict[str, Any]:
    """The fields that a body names."""
    return {name: value for name, value in asdict(data).items() if value is not UNSET}


def movie_view(core: Core, movie: Movie) -> MovieView:
    return MovieView(**_of_media(core, movie))


def episode_view(core: Core, episode: Episode) -> EpisodeView:
    return EpisodeView(**{name: value for name, value in _of_media(core, episode).items() if name != "owner"})


def series_view(series: Series) -> SeriesView:
    return SeriesView(**asdict(series))


def season_view(season: Season) -> SeasonView:
    return SeasonView(**{name: value for name, value in asdict(season).items() if name not in ("owner", "public")})


def _of_media(core: Core, title: Movie | Episode) -> dict[str, Any]:
    values = asdict(title)
    manifest = values.pop("manifest")
    url = core.url(f"/v1/media/{title.media_id}/{manifest}") if manifest is not None else None
    return {**values, "status": title.status.value, "manifest_url": url}
