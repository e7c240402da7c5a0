"""Variants: one thing has one canonical text, whatever way it is asked for; what is none is refused; the format suits picture and client."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediacdn.config import Variants
from mediacdn.errors import ConfigError, InvalidArgument, MediaError, NotFound
from mediacdn.http.negotiation import preferences
from mediacdn.model import Argument
from mediacdn.recipes.arguments import Value, normalise
from mediacdn.signing import _VARIANT
from mediacdn.variants import FORMATS, MAX_TEXT, canonical, choose_format, parse, read_presets, resolve
from tests.recipes.given import IMAGE

PRESETS = read_presets(IMAGE, {"thumb": {"w": 320, "h": 320}, "avatar-2": {"w": 64, "fit": "cover", "format": "webp"}})

# as sent, its canonical text
ACCEPTED = [
    ("w=320,h=240,fit=cover,format=webp", "w=320,h=240,fit=cover,format=webp"),
    ("format=webp,fit=cover,h=240,w=320", "w=320,h=240,fit=cover,format=webp"),
    ("w=320,fit=inside,quality=80,dpr=1.0,strip=true", "w=320"),
    ("dpr=2.0,w=320.0", "w=320,dpr=2"),
    ("dpr=1.50", "dpr=1.5"),
    ("strip=no", "strip=false"),
    ("strip=0,w=1", "w=1,strip=false"),
    ("background=00ff7f", "background=00ff7f"),
    ("fit=inside", "fit=inside"),
    ("quality=80", "fit=inside"),
    ("strip=yes,dpr=1", "fit=inside"),
]


@pytest.mark.parametrize(("sent", "text"), ACCEPTED)
def test_what_is_asked_for_has_one_text(sent: str, text: str) -> None:
    found = resolve(sent, IMAGE, PRESETS)
    assert (found.text, found.preset) == (text, None)
    assert resolve(text, IMAGE, PRESETS) == found
    assert found.spec == parse(IMAGE, sent) == parse(IMAGE, text)
    assert _VARIANT.fullmatch(found.text), "a prefix link can list it"


REFUSED = [
    # as sent, what is told, of which argument
    ("w=", "A variant is name=value,…, and 'w=' is not", "w"),
    ("=5", "A variant is name=value,…, and '=5' is not", None),
    ("w=5,", "A variant is name=value,…, and '' is not", None),
    (",w=5", "A variant is name=value,…, and '' is not", None),
    ("w=5,,h=5", "A variant is name=value,…, and '' is not", None),
    ("w=5,h", "A variant is name=value,…, and 'h' is not", "h"),
    ("w=5,w=5", "'w' is given more than once", "w"),
    ("w=5,w=6", "'w' is given more than once", "w"),
    ("width=5", "'width' is not an argument", "width"),
    ("W=5", "'W' is not an argument", "W"),
    ("w=0", "'w' must be a whole number from 1 to 8192", "w"),
    ("w=9000", "'w' must be a whole number from 1 to 8192", "w"),
    ("w=05", "'w' must be a whole number from 1 to 8192", "w"),
    ("w=+5", "'w' must be a whole number from 1 to 8192", "w"),
    ("w=5=5", "'w' must be a whole number from 1 to 8192", "w"),
    ("w=nan", "'w' must be a whole number from 1 to 8192", "w"),
    ("fit=Cover", "'fit' must be one of inside, cover, contain, fill; did you mean 'cover'?", "fit"),
    ("dpr=1e9", "'dpr' must be a number from 0.5 to 4", "dpr"),
    ("strip=maybe", "'strip' must be true or false", "strip"),
    ("background=00FF7F", "'background' must be text of at most 256 characters that matches [0-9a-f]{6}", "background"),
    ("w%3D5=", "A variant is name=value,… of letters", None),
    ("w=5%2Ch=5", "A variant is name=value,… of letters", None),
    ("w=5/../x", "A variant is name=value,… of letters", None),
    ("w=5 ", "A variant is name=value,… of letters", None),
    ("w=5\n", "A variant is name=value,… of letters", None),
    ("w=\u0665", "A variant is name=value,… of letters", None),
    ("w=5;h=5", "A variant is name=value,… of letters", None),
    ("w=" + "1" * MAX_TEXT, "A variant has at most 256 characters", None),
]


@pytest.mark.parametrize(("sent", "told", "argument"), REFUSED)
def test_what_is_no_variant_is_refused(sent: str, told: str, argument: str | None) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        resolve(sent, IMAGE, PRESETS)
    assert refusal.value.detail.startswith(told)
    assert refusal.value.extra == ({} if argument is None else {"argument": argument})


def test_nothing_is_not_a_variant() -> None:
    with pytest.raises(InvalidArgument):
        parse(IMAGE, "")
    with pytest.raises(InvalidArgument, match="1 to 256 characters"):
        canonical([Argument(name="a")], {})


def test_what_no_text_can_say_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="'note' has characters that a variant's text cannot have"):
        canonical([Argument(name="note")], {"note": "a,b"})
    with pytest.raises(InvalidArgument, match="'note' has characters"):
        canonical([Argument(name="note")], {"note": ""})
    with pytest.raises(InvalidArgument, match="1 to 256 characters"):
        canonical([Argument(name="note")], {"note": "a" * 252})


def test_nothing_but_defaults_is_told_by_one_that_can_be() -> None:
    arguments = (
        Argument(name="note", default=""),
        Argument(name="mark", default="a,b"),
        Argument(name="on", type="boolean", default=False),
    )
    found = resolve("on=off", arguments, {})
    assert (found.text, found.spec) == ("on=false", {"note": "", "mark": "a,b", "on": False})


def test_a_preset_is_its_name() -> None:
    found = resolve("avatar-2", IMAGE, PRESETS)
    assert (found.text, found.preset) == ("avatar-2", "avatar-2")
    assert found.spec == {"w": 64, "fit": "cover", "format": "webp", "quality": 80, "dpr": 1, "strip": True}


@pytest.mark.parametrize("name", ["", "thum", "Thumb", "thumb ", "../thumb", "x" * 10_000, "original", "thumb%20"])
def test_an_unknown_preset_is_not_found(name: str) -> None:
    with pytest.raises(NotFound) as refusal:
        resolve(name, IMAGE, PRESETS)
    assert refusal.value.detail == "There is no variant of this name" + ("; did you mean 'thumb'?" if name == "thum" else "")


def test_wrong_presets_are_told_at_start_up() -> None:
    with pytest.raises(ConfigError) as refusal:
        read_presets(IMAGE, {"a": {"w": 0}, "b": {"width": 5}, "w=5": {}, "c": {"w": "5"}, "fine": {"w": 5}})
    assert refusal.value.extra["problems"] == (
        "variants.presets.a: 'w' must be a whole number from 1 to 8192",
        "variants.presets.b: 'width' is not an argument; there is " + ", ".join(argument.name for argument in IMAGE),
        "variants.presets.w=5 is not a name; use at most 64 of a-z, 0-9 and -, the first a letter",
        "variants.presets.c: 'w' must be a whole number from 1 to 8192",
    )


def test_the_presets_of_the_defaults_are_fine() -> None:
    frame = Argument(name="frame", type="integer", min=0)
    assert read_presets([*IMAGE, frame], Variants().presets)["thumb"]["fit"] == "inside"


@st.composite
def spellings(draw: st.DrawFn) -> tuple[dict[str, Value], str]:
    """Normal values, and one of the texts that ask for them."""
    said: dict[str, list[str]] = {
        "w": ["1", "320", "8192"],
        "h": ["1", "240"],
        "fit": ["inside", "cover", "fill"],
        "format": ["avif", "jpeg"],
        "quality": ["1", "80", "100"],
        "dpr": ["0.5", "1", "1.0", "1.25", "2e0", "4.000"],
        "strip": ["true", "false", "on", "0"],
        "background": ["000000", "abcdef"],
    }
    names = draw(st.lists(st.sampled_from(sorted(said)), unique=True, min_size=1))
    pairs = [(name, draw(st.sampled_from(said[name]))) for name in names]
    return normalise(IMAGE, pairs), ",".join(f"{name}={value}" for name, value in pairs)


@given(spellings(), spellings())
@settings(deadline=None, max_examples=400)
def test_reading_what_is_written_gives_it_back_and_two_things_never_share_a_text(
    one: tuple[dict[str, Value], str], other: tuple[dict[str, Value], str]
) -> None:
    for values, sent in (one, other):
        text = canonical(IMAGE, values)
        assert parse(IMAGE, sent) == parse(IMAGE, text) == values
        assert canonical(IMAGE, parse(IMAGE, text)) == text
    assert (canonical(IMAGE, one[0]) == canonical(IMAGE, other[0])) is (one[0] == other[0])


@given(st.text("wh=,fit1.e-:~cover@+0/% \n", max_size=40))
@settings(deadline=None, max_examples=300)
def test_any_text_is_a_variant_or_a_refusal(text: str) -> None:
    try:
        status = 200 if resolve(text, IMAGE, PRESETS).text else 500
    except MediaError as error:
        status = error.status
    assert status in (200, 404, 422)


CHROME = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"
SAFARI = "image/webp,image/avif,image/jxl,image/heic,image/heic-sequence,video/*;q=0.8,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5"
FIREFOX_OLD = "image/webp,*/*"
NAVIGATION = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7"
OFFERED = ("avif", "webp", "jpeg")

# the field, what is offered; the format of a plain picture, of one with alpha, of one that moves, of one with both
CHOICES: list[tuple[str | None, tuple[str, ...], tuple[str, str, str, str]]] = [
    (CHROME, OFFERED, ("avif", "avif", "webp", "webp")),
    (SAFARI, OFFERED, ("avif", "avif", "webp", "webp")),
    (NAVIGATION, OFFERED, ("avif", "avif", "webp", "webp")),
    (FIREFOX_OLD, OFFERED, ("webp", "webp", "webp", "webp")),
    (None, OFFERED, ("jpeg", "png", "gif", "gif")),
    ("*/*", OFFERED, ("jpeg", "png", "gif", "gif")),
    ("image/*", OFFERED, ("jpeg", "png", "gif", "gif")),
    ("text/html", OFFERED, ("jpeg", "png", "gif", "gif")),
    ("image/avif", OFFERED, ("avif", "avif", "gif", "gif")),
    ("image/jpeg", OFFERED, ("jpeg", "png", "gif", "gif")),
    ("image/png", OFFERED, ("jpeg", "png", "gif", "gif")),
    ("image/avif;q=0.5,image/webp", OFFERED, ("webp", "webp", "webp", "webp")),
    ("image/avif;q=0.5,image/jpeg;q=0.9,*/*;q=0.1", OFFERED, ("jpeg", "avif", "gif", "gif")),
    ("image/avif;q=0,image/webp;q=0,*/*", OFFERED, ("jpeg", "png", "gif", "gif")),
    ("image/webp;q=0.1,*/*", OFFERED, ("jpeg", "png", "gif", "gif")),
    ("*/*;q=0", OFFERED, ("jpeg", "png", "gif", "gif")),
    (CHROME, ("webp", "avif"), ("webp", "webp", "webp", "webp")),
    (CHROME, ("png", "avif"), ("png", "png", "gif", "gif")),
    (CHROME, ("jpeg",), ("jpeg", "png", "gif", "gif")),
    (CHROME, (), ("jpeg", "png", "gif", "gif")),
    ("*/*", ("avif",), ("jpeg", "png", "gif", "gif")),
]


@pytest.mark.parametrize(("accept", "offered", "formats"), CHOICES)
def test_the_format_suits_the_client_and_keeps_what_the_picture_has(
    accept: str | None, offered: tuple[str, ...], formats: tuple[str, str, str, str]
) -> None:
    accepted = preferences(accept)
    kinds = [(False, False), (True, False), (False, True), (True, True)]
    assert tuple(choose_format(accepted, offered, alpha=alpha, motion=motion) for alpha, motion in kinds) == formats


def test_every_offered_format_is_known() -> None:
    from typing import get_args, get_type_hints

    offered = get_args(get_args(get_type_hints(Variants)["negotiate"])[0])
    assert set(offered) == set(FORMATS)
