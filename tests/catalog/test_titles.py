"""Titles on both databases: a media belongs to one, numbers are unique, pages are ordered, and what goes sets free what it held; whoever races."""

import asyncio
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pytest

from mediacdn.catalog.database import Catalog
from mediacdn.errors import InvalidParameter, MediaError, MediaHeld, NotEmpty, NotFound, NumberTaken, Unprocessable
from mediacdn.model import Episode, Media, Movie, Season, Series

pytestmark = pytest.mark.anyio
Make = Callable[..., Media]
NOBODY = "01BX5ZZKBKACTAV9WEVGEMMVS0"


@pytest.fixture
async def films(media_like: Make, store: Any) -> list[Media]:
    return [await store(media_like(f"film {number}", public=number % 2 == 0)) for number in range(6)]


async def movie(catalog: Catalog, media: Media, title: str = "Up", **values: Any) -> Movie:
    given = {"owner": "ada", "title": title, "description": None, "release_date": None, "media_id": media.id, **values}
    return await catalog.titles.add(Movie, given)


async def series(catalog: Catalog, owner: str = "ada", public: bool = False) -> Series:
    return await catalog.titles.add(Series, {"owner": owner, "public": public, "title": "Loops", "description": None})


async def season(catalog: Catalog, above: Series, number: int = 1) -> Season:
    return await catalog.titles.add(Season, {"series_id": above.id, "number": number})


async def episode(catalog: Catalog, above: Season, media: Media, number: int = 1) -> Episode:
    return await catalog.titles.add(Episode, {"season_id": above.id, "number": number, "title": None, "media_id": media.id})


async def outcomes(*work: Any) -> list[Any]:
    """What each of several at once came to: its title, or its error's type."""
    found = await asyncio.gather(*work, return_exceptions=True)
    assert all(isinstance(each, MediaError) or not isinstance(each, BaseException) for each in found), found
    return [type(each) for each in found]


async def test_it_is_kept_as_given(catalog: Catalog, films: list[Media], clock: Any) -> None:
    made = await movie(catalog, films[0], description="A house\nflies", release_date=date(2009, 5, 29))
    assert await catalog.titles.get(Movie, made.id) == made
    assert (made.release_date, made.status, made.manifest) == (date(2009, 5, 29), films[0].status, None)
    clock.pass_by(seconds=1)
    changed = await catalog.titles.change(Movie, made.id, {"title": "Down", "release_date": None})
    assert (changed.title, changed.release_date, changed.description) == ("Down", None, "A house\nflies")
    assert changed.updated_at == made.updated_at + timedelta(seconds=1)
    await catalog.titles.remove(Movie, made.id)
    for verb in (catalog.titles.get(Movie, made.id), catalog.titles.change(Movie, made.id, {}), catalog.titles.remove(Movie, made.id)):
        with pytest.raises(NotFound):
            await verb


async def test_a_media_belongs_to_one_title(catalog: Catalog, films: list[Media]) -> None:
    made, first = await movie(catalog, films[0]), await season(catalog, await series(catalog))
    for again in (movie(catalog, films[0]), episode(catalog, first, films[0])):
        with pytest.raises(MediaHeld) as told:
            await again
        assert told.value.extra == {"held_by": f"/v1/movies/{made.id}"}
    await catalog.titles.change(Movie, made.id, {"media_id": films[1].id})
    assert (await episode(catalog, first, films[0])).media_id == films[0].id, "the former one is free"
    with pytest.raises(MediaHeld):
        await catalog.titles.change(Movie, made.id, {"media_id": films[0].id, "title": "no"})
    assert (await catalog.titles.get(Movie, made.id)).title == "Up", "all or nothing"
    await catalog.titles.remove(Movie, made.id)
    await movie(catalog, films[1])


async def test_a_title_has_an_original_that_is_there(catalog: Catalog, films: list[Media], media_like: Make, store: Any) -> None:
    derived = await store(media_like("thumb", source_id=films[0].id, relationship="thumbnail", derivation_key="k"))
    with pytest.raises(Unprocessable):
        await movie(catalog, derived)
    await catalog.media.delete(films[0].id)
    for gone in (films[0].id, NOBODY):
        with pytest.raises(NotFound):
            await catalog.titles.add(Movie, {"owner": "ada", "title": "x", "media_id": gone})


async def test_two_at_once_give_one_media_to_two_titles(catalog: Catalog, films: list[Media]) -> None:
    first = await season(catalog, await series(catalog))
    for film in films:
        found = await outcomes(movie(catalog, film), episode(catalog, first, film, 1 + films.index(film)), movie(catalog, film))
        assert sorted(each.__name__ for each in found if each is MediaHeld) == ["MediaHeld"] * 2, found
    movies, _ = await catalog.titles.page(Movie, visible_to=None, after=None, limit=50)
    episodes, _ = await catalog.titles.page(Episode, below=first.id, visible_to=None, after=None, limit=50)
    assert sorted(each.media_id for each in [*movies, *episodes]) == sorted(each.id for each in films)


async def test_one_number_twice_at_once(catalog: Catalog, films: list[Media]) -> None:
    above = await series(catalog)
    for number in range(5):
        found = await outcomes(*(season(catalog, above, number) for _ in range(3)))
        assert sorted(each.__name__ for each in found) == ["NumberTaken", "NumberTaken", "Season"]
    first, other = await season(catalog, above, 7), await season(catalog, await series(catalog), 7)
    found = await outcomes(*(episode(catalog, first, film) for film in films[:3]))
    assert sorted(each.__name__ for each in found) == ["Episode", "NumberTaken", "NumberTaken"]
    await episode(catalog, other, films[4])  # another season has numbers of its own
    two = await catalog.titles.add(Episode, {"season_id": first.id, "number": 2, "title": None, "media_id": films[5].id})
    with pytest.raises(NumberTaken):
        await catalog.titles.change(Episode, two.id, {"number": 1})
    assert (await catalog.titles.change(Episode, two.id, {"number": 2})).number == 2
    free = [film for film in films[:3] if not await held(catalog, film)]
    assert len(free) == 2, "who lost holds nothing"


async def held(catalog: Catalog, media: Media) -> bool:
    try:
        await catalog.titles.remove(Movie, (await movie(catalog, media)).id)
    except MediaHeld:
        return True
    return False


async def test_what_is_not_empty_goes_only_with_what_is_below(catalog: Catalog, films: list[Media]) -> None:
    above = await series(catalog)
    first, second = await season(catalog, above, 1), await season(catalog, above, 2)
    for number, film in enumerate(films[:4]):
        await episode(catalog, first if number < 3 else second, film, number)
    for kind, which in ((Series, above.id), (Season, first.id)):
        with pytest.raises(NotEmpty):
            await catalog.titles.remove(kind, which)
    await catalog.titles.remove(Season, first.id, recursive=True)
    assert [await held(catalog, film) for film in films[:4]] == [False, False, False, True]
    await catalog.titles.remove(Series, above.id, recursive=True)
    assert not await held(catalog, films[3])
    with pytest.raises(NotFound):
        await catalog.titles.get(Season, second.id)
    with pytest.raises(NotFound):
        await season(catalog, above, 3)
    with pytest.raises(NotFound):
        await episode(catalog, first, films[0])


async def test_nothing_is_added_below_what_goes(catalog: Catalog, films: list[Media]) -> None:
    for number in range(6):
        above = await series(catalog)
        first = await season(catalog, above)
        await outcomes(
            episode(catalog, first, films[number]),
            season(catalog, above, 2),
            catalog.titles.remove(Series, above.id, recursive=True),
            season(catalog, above, 3),
        )
        assert not await held(catalog, films[number])
        with pytest.raises(NotFound):
            await catalog.titles.get(Season, first.id)


@pytest.mark.parametrize("titled", ["refuse", "remove"])
async def test_a_media_is_parted_from_its_title(catalog: Catalog, films: list[Media], titled: Any) -> None:
    made = await movie(catalog, films[0])
    part = catalog.titles.part
    if titled == "refuse":
        with pytest.raises(MediaHeld) as told:
            await part(films[0].id, titled)
        assert told.value.extra == {"held_by": f"/v1/movies/{made.id}"}
        assert await catalog.titles.get(Movie, made.id) == made
    else:
        await part(films[0].id, titled)
        with pytest.raises(NotFound):
            await catalog.titles.get(Movie, made.id)
    await part(films[1].id, titled)
    await part(films[1].id, titled)  # as often as a deletion is tried
    with pytest.raises(NotFound):
        await movie(catalog, films[1])
    await part(NOBODY, titled)


async def test_a_title_and_a_deletion_at_once(catalog: Catalog, films: list[Media]) -> None:
    for film in films:
        found = await outcomes(movie(catalog, film), catalog.titles.part(film.id, "refuse"))
        assert found in ([Movie, MediaHeld], [NotFound, type(None)])


async def test_both_ends_of_a_title_go_at_once(catalog: Catalog, films: list[Media]) -> None:
    for film in films:
        made = await movie(catalog, film)
        other = catalog.titles.change(Movie, made.id, {"title": "x"})
        found = await outcomes(catalog.titles.remove(Movie, made.id), catalog.titles.part(film.id, "remove"), other)
        assert set(found[:2]) <= {type(None), NotFound}, found
        for gone in (catalog.titles.get(Movie, made.id), movie(catalog, film)):
            with pytest.raises(NotFound):
                await gone


async def test_media_that_two_titles_exchange(catalog: Catalog, films: list[Media]) -> None:
    """Each waits for what the other holds, or is refused it: never both have one."""
    one, two = await movie(catalog, films[0]), await movie(catalog, films[1])
    for _ in range(5):
        change = catalog.titles.change
        first, second = [(await catalog.titles.get(Movie, each.id)).media_id for each in (one, two)]
        await outcomes(change(Movie, one.id, {"media_id": second}), change(Movie, two.id, {"media_id": first}))
        assert len({(await catalog.titles.get(Movie, each.id)).media_id for each in (one, two)}) == 2
        await change(Movie, one.id, {"media_id": films[2].id})
        await change(Movie, one.id, {"media_id": first})


async def test_what_expired_leaves_its_title(catalog: Catalog, films: list[Media]) -> None:
    made = await movie(catalog, films[0])
    await catalog.media.delete(films[0].id)
    assert await catalog.titles.get(Movie, made.id) == made
    assert await catalog.titles.page(Movie, visible_to=None, after=None, limit=5) == ([], None)
    assert (await catalog.titles.change(Movie, made.id, {"media_id": films[1].id})).media_id == films[1].id
    assert [each.id for each in (await catalog.titles.page(Movie, visible_to=None, after=None, limit=5))[0]] == [made.id]


async def test_pages(catalog: Catalog, films: list[Media], media_like: Make, store: Any, clock: Any) -> None:
    above = await series(catalog)
    first = await season(catalog, above, 11)
    for number in (2, 30, 1):
        await season(catalog, above, number)
    for number, film in zip((10, 2, 1, 30), films, strict=False):
        await episode(catalog, first, film, number)
    made = [await movie(catalog, film) for film in films[4:]]

    async def walk(kind: Any, to: str | None = None, **where: Any) -> list[Any]:
        seen: list[Any] = []
        after = None
        while True:
            page, after = await catalog.titles.page(kind, visible_to=to, after=after, limit=2, **where)
            assert len(page) <= 2
            seen += page
            if after is None:
                return seen

    assert [each.number for each in await walk(Season, below=above.id)] == [1, 2, 11, 30]
    assert [each.number for each in await walk(Episode, below=first.id)] == [1, 2, 10, 30]
    assert [each.number for each in await walk(Episode, "", below=first.id)] == [1, 10], "of public media"
    assert [each.number for each in await walk(Episode, "ada", below=first.id)] == [1, 2, 10, 30]
    assert [each.id for each in await walk(Movie)] == [made[1].id, made[0].id]
    assert [each.id for each in await walk(Movie, "bob")] == [made[0].id]
    public = await series(catalog, public=True)
    assert [each.id for each in await walk(Series, "")] == [public.id]
    assert [each.id for each in await walk(Series, "ada")] == [public.id, above.id]
    short = await store(media_like("short", public=True, expires_at=clock.now() + timedelta(hours=1)))
    await movie(catalog, short)
    assert len(await walk(Movie, "")) == 2
    clock.pass_by(hours=2)
    assert len(await walk(Movie, "")) == 1
    for wrong in ("x", "-1", "9" * 10, "0" * 11 + "9" * 5000):
        with pytest.raises(InvalidParameter):
            await catalog.titles.page(Season, below=above.id, visible_to=None, after=wrong, limit=2)
