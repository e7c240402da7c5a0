"""What the tests of recipes take for given: actions that say what they take and do nothing."""

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from mediacdn.interfaces import Action, Sink, Source
from mediacdn.model import Argument, Made, Recipe, Step
from mediacdn.recipes.arguments import MAX_NUMBER
from mediacdn.recipes.patterns import Pattern

IMAGE = (
    Argument(name="w", type="integer", min=1, max=8192),
    Argument(name="h", type="integer", min=1, max=8192),
    Argument(name="fit", allowed=("inside", "cover", "contain", "fill"), default="inside"),
    Argument(name="format", allowed=("avif", "webp", "jpeg", "png")),
    Argument(name="quality", type="integer", min=1, max=100, default=80),
    Argument(name="dpr", type="number", min=0.5, max=4, default=1),
    Argument(name="strip", type="boolean", default=True),
    Argument(name="background", pattern="[0-9a-f]{6}"),
)
TRANSLATE = (Argument(name="lang", required=True, pattern="[a-z]{2}(-[a-z]{2})?"), Argument(name="note"))


class Idle:
    """An action that only says what it takes."""

    def __init__(self, arguments: tuple[Argument, ...] = (), accepts: tuple[str, ...] = ("*/*",)) -> None:
        self._arguments, self._accepts = arguments, accepts

    @property
    def arguments(self) -> tuple[Argument, ...]:
        return self._arguments

    @property
    def accepts(self) -> tuple[str, ...]:
        return self._accepts

    async def run(self, source: Source, spec: Mapping[str, Any], sink: Sink) -> Made:
        return Made()


ACTIONS: dict[str, Action] = {
    "image": Idle(IMAGE, ("image/*",)),
    "extract": Idle((), ("application/pdf", "text/*")),
    "translate": Idle(TRANSLATE, ("text/*",)),
}


def recipe(code: str = "poster", **given: Any) -> Recipe:
    return Recipe(code=code, **{"steps": (Step(name="scale", action="image", spec={"w": 320}),), **given})


TEXTS = st.text(max_size=12)


@st.composite
def arguments(draw: st.DrawFn, name: str) -> Argument:
    """Any argument that declarations.flaws has nothing against."""
    kind = draw(st.sampled_from(["string", "integer", "number", "boolean"]))
    required = draw(st.booleans())
    if kind == "boolean":
        return Argument(name=name, type="boolean", required=required, default=None if required else draw(st.none() | st.booleans()))
    values: st.SearchStrategy[Any]
    low, high, pattern = None, None, None
    if kind == "string":
        low, high = draw(st.none() | st.integers(0, 3)), draw(st.none() | st.integers(3, 8))
        pattern = draw(st.none() | st.sampled_from(["[a-z]*", "[^a]*", r"(\w|-)+", r"\d{1,3}|x*"]))
        drawn = draw(st.lists(TEXTS, max_size=4))
        values = st.sampled_from(drawn) if drawn else st.nothing()
    else:
        numbers = st.integers(-50, 50) if kind == "integer" else st.integers(-50, 50) | st.floats(-50, 50)
        low, high = draw(st.none() | st.integers(-60, 0)), draw(st.none() | st.integers(0, 60))
        values = numbers
    return draw(_valued(Argument(name=name, type=kind, required=required, min=low, max=high, pattern=pattern), values))


@st.composite
def _valued(draw: st.DrawFn, argument: Argument, values: st.SearchStrategy[Any]) -> Argument:
    fine = [each for each in draw(st.lists(values, max_size=4) if not values.is_empty else st.just([])) if _fits(argument, each)]
    allowed = tuple({_key(each): each for each in fine}.values()) if draw(st.booleans()) else ()
    default = fine[0] if fine and not argument.required and draw(st.booleans()) else None
    return Argument(
        name=argument.name, type=argument.type, required=argument.required, min=argument.min, max=argument.max,
        pattern=argument.pattern, allowed=allowed, default=default,
    )  # fmt: skip


def _key(value: Any) -> Any:
    import unicodedata

    return unicodedata.normalize("NFC", value) if isinstance(value, str) else value


def _fits(argument: Argument, value: Any) -> bool:
    low = -MAX_NUMBER if argument.min is None else argument.min
    high = MAX_NUMBER if argument.max is None else argument.max
    if not isinstance(value, str):
        return low <= value <= high
    text = _key(value)
    return low <= len(text) <= high and "\0" not in text and (argument.pattern is None or Pattern(argument.pattern).fullmatch(text))


@st.composite
def declarations(draw: st.DrawFn) -> tuple[Argument, ...]:
    names = draw(st.lists(st.sampled_from(["a", "b", "lang", "w"]), unique=True, max_size=4))
    return tuple(draw(arguments(name)) for name in names)


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-60, 60),
    st.integers(),
    st.floats(),
    st.floats(-60, 60),
    TEXTS,
    st.sampled_from(["", "a", "-a", "x", "12", "\0", "e\u0301", "true"]),
    st.lists(st.integers(), max_size=1),
)


@st.composite
def objects(draw: st.DrawFn, declared: tuple[Argument, ...]) -> dict[str, Any]:
    """Objects that often hold by the declaration and often just do not."""
    found: dict[str, Any] = {}
    for argument in declared:
        if draw(st.integers(0, 5)) > (0 if argument.required else 2):
            found[argument.name] = draw(VALUES | st.sampled_from(argument.allowed) if argument.allowed else VALUES)
    if draw(st.integers(0, 9)) == 0:
        found["other"] = 1
    return found
