"""The registry: what is wrong is told at start-up by recipe, step and key; recipes are found, settled and told of."""

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from mediacdn.errors import ConfigError, InvalidArgument, NotFound, PluginError
from mediacdn.model import Argument, Media, Plan, Recipe, Step
from mediacdn.recipes.planning import Planner
from mediacdn.recipes.registry import Registry, SettledStep, check_tables
from mediacdn.ulids import Ulids
from tests.recipes.given import ACTIONS, IMAGE, Idle, recipe

LANG = Argument(name="lang", required=True)
WIDE = Argument(name="w", type="integer")


def step(name: str = "scale", action: str = "image", **given: Any) -> Step:
    return Step(name=name, action=action, **given)


# the recipe, what is told after "recipe 'poster@1': "
WRONG: list[tuple[Recipe, str]] = [
    (recipe(steps=(step(action="imag"),)), "step 'scale': there is no action 'imag'; did you mean 'image'?"),
    (recipe(steps=(step(action="zzz"),)), "step 'scale': there is no action 'zzz'; there is extract, image, translate"),
    (
        recipe(steps=(step(spec={"qualty": 5}),)),
        "step 'scale': spec key 'qualty' is not an argument of the action 'image'; did you mean 'quality'?",
    ),
    (
        recipe(steps=(step(spec={"w": "5"}),)),
        "step 'scale': spec key 'w' is refused by the action: 'w' must be a whole number from 1 to 8192",
    ),
    (
        recipe(steps=(step(spec={"w": 0}),)),
        "step 'scale': spec key 'w' is refused by the action: 'w' must be a whole number from 1 to 8192",
    ),
    (
        recipe(steps=(step(spec={"w": {}}),)),
        "step 'scale': spec key 'w' is refused by the action: 'w' must be a whole number from 1 to 8192",
    ),
    (
        recipe(steps=(step(spec={"fit": "covr"}),)),
        "step 'scale': spec key 'fit' is refused by the action: 'fit' must be one of inside, cover, contain, fill; did you mean 'cover'?",
    ),
    (
        recipe(arguments=(WIDE,), steps=(step(spec={"w": "${width}"}),)),
        "step 'scale': spec key 'w' has the placeholder ${width}, which names no argument; there is w",
    ),
    (
        recipe(arguments=(LANG,), steps=(step(spec={"background": "${lagn}x"}),)),
        "step 'scale': spec key 'background' has the placeholder ${lagn}, which names no argument; did you mean 'lang'?",
    ),
    (
        recipe(steps=(step(spec={"background": "${lang"}),)),
        "step 'scale': spec key 'background' has a ${ that begins no placeholder such as ${lang}: '${lang'",
    ),
    (
        recipe(steps=(step(spec={"background": "${Lang}"}),)),
        "step 'scale': spec key 'background' has a ${ that begins no placeholder such as ${lang}: '${Lang}'",
    ),
    (
        recipe(arguments=(LANG,), steps=(step(spec={"w": "${lang}"}),)),
        "step 'scale': spec key 'w' is of the type integer, and the argument 'lang' of the type string",
    ),
    (
        recipe(arguments=(WIDE,), steps=(step(spec={"w": "1${w}"}),)),
        "step 'scale': spec key 'w' has the placeholder ${w}, whose argument can be left out; make it required or give it a default",
    ),
    (
        recipe(arguments=(Argument(name="w", type="integer", default=1),), steps=(step(spec={"w": "1${w}"}),)),
        "step 'scale': spec key 'w' is of the type integer, and its template is text around placeholders",
    ),
    (
        recipe(arguments=(Argument(name="lang"),), steps=(step(), step("t", "translate", spec={"lang": "${lang}"}))),
        "step 't': spec key 'lang' has the placeholder ${lang}, whose argument can be left out; make it required or give it a default",
    ),
    (recipe(steps=(step(), step("t", "translate"))), "step 't': the action 'translate' needs the spec key 'lang'"),
    (
        recipe(steps=(step(relationship="poster:${lang}"),)),
        "step 'scale': relationship has the placeholder ${lang}, which names no argument; there is none",
    ),
    (
        recipe(arguments=(Argument(name="lang"),), steps=(step(relationship="poster:${lang}"),)),
        "step 'scale': relationship has the placeholder ${lang}, whose argument can be left out; make it required or give it a default",
    ),
    (recipe(steps=(step(relationship="a b"),)), "step 'scale': relationship 'a b' must be 1 to 128 letters, digits and : . _ -, the first"),
    (recipe(steps=(step(relationship=""),)), "step 'scale': relationship '' must be 1 to 128 letters, digits and : . _ -, the first"),
    (recipe(steps=(step(saves_to="defalt"),)), "step 'scale': saves_to names 'defalt', which is no storage; did you mean 'default'?"),
    (recipe(steps=(step(), step())), "step 'scale': another step has this name"),
    (recipe(steps=(step("a b"),)), "step 'a b': is not a name"),
    (recipe(steps=()), "has 0 steps; expected 1 to 32"),
    (recipe(steps=tuple(step(f"s{number}") for number in range(33))), "has 33 steps; expected 1 to 32"),
    (recipe(accepts=("video/*",)), "step 'scale': the action 'image' reads image/*, none of which the recipe accepts"),
    (recipe(accepts=("Image/*",)), "accepts has 'Image/*'; expected a media type such as image/png"),
    (recipe(lane="a b"), "the lane 'a b' is not a name"),
    (recipe(arguments=(WIDE, WIDE)), "argument 'w': is declared twice"),
    (recipe(arguments=(Argument(name="w", type="integer", default="5"),)), "argument 'w': default is '5', which must be a whole number"),
    (recipe(steps=({"name": "s"},)), "is not what a recipe is: Object missing required field `action` - at `$.steps[0]`"),
    (recipe(title=5), "is not what a recipe is: Expected `str | null`, got `int` - at `$.title`"),
    (recipe(steps=(step(spec={"w": object()}),)), "is not what a recipe is: "),
    (
        recipe(arguments=(Argument(name="w", type="int"),)),  # type: ignore[arg-type]
        "is not what a recipe is: Invalid enum value 'int' - at `$.arguments[0].type`",
    ),
]


@pytest.mark.parametrize(("wrong", "told"), WRONG)
def test_a_wrong_recipe_is_told_by_recipe_step_and_key(wrong: Recipe, told: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        Registry(ACTIONS, defined=[wrong])
    [problem] = refusal.value.extra["problems"]
    assert problem.startswith(f"recipes.define[0]: recipe 'poster@1': {told}")
    if "there is no action" in told:
        return  # of a plugin's recipe that is another plugin's absence
    with pytest.raises(PluginError) as brought:
        Registry(ACTIONS, brought=[("site", wrong)])
    assert str(brought.value).startswith(f"plugin 'site': recipe 'poster@1': {told}")


@pytest.mark.parametrize("code", ["", "Poster", "1poster", "-poster", "poster@1", "poster_1", "a" * 65, "p\u00f6ster", "poster\n"])
def test_a_malformed_code_is_told(code: str) -> None:
    with pytest.raises(ConfigError, match=r"the code .* must be at most 64 of a-z, 0-9 and -, the first a letter"):
        Registry(ACTIONS, defined=[recipe(code)])


@pytest.mark.parametrize("version", [0, -1, 10**9])
def test_a_version_is_a_positive_whole_number(version: int) -> None:
    with pytest.raises(ConfigError, match="the version"):
        Registry(ACTIONS, defined=[recipe(version=version)])


def test_a_recipe_without_accepts_is_told() -> None:
    with pytest.raises(ConfigError, match="accepts is empty"):
        Registry(ACTIONS, defined=[recipe(accepts=())])


def test_two_recipes_of_one_name_are_told_whoever_brings_them() -> None:
    with pytest.raises(ConfigError, match=r"^recipes.define\[0\]: recipe 'poster@1': there is another recipe of this name$"):
        Registry(ACTIONS, brought=[("site", recipe())], defined=[recipe()])
    with pytest.raises(PluginError, match=r"^plugin 'other': recipe 'poster@1': there is another recipe of this name$"):
        Registry(ACTIONS, brought=[("site", recipe()), ("other", recipe())])


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as refusal:
        Registry(ACTIONS, defined=[recipe("Bad", steps=(step(action="x"),)), recipe("good"), recipe(lane="")])
    assert [problem.partition(": recipe ")[0] for problem in refusal.value.extra["problems"]] == ["recipes.define[0]"] * 2 + [
        "recipes.define[2]"
    ]
    assert str(refusal.value) == "\n".join(refusal.value.extra["problems"])


def test_a_plugins_recipe_without_its_action_is_left_out_and_the_log_says_so() -> None:
    lacking = recipe("spoken", steps=(step(), step("say", "speak"), step("sing", "sing"), step("again", "speak")))
    newer = recipe("poster", version=2, steps=(step(action="speak"),))
    with capture_logs() as logged:
        registry = Registry(ACTIONS, brought=[("site", lacking), ("site", recipe()), ("site", newer)])
    assert [(each["recipe"], each["plugin"], each["actions"]) for each in logged] == [
        ("spoken@1", "site", ("speak", "sing")),
        ("poster@2", "site", ("speak",)),
    ]
    assert [each.name for each in registry.all()] == ["poster@1"]
    assert registry.find("poster").name == "poster@1"
    for name in ("spoken", "spoken@1"):
        assert registry.left_out(name)
        with pytest.raises(NotFound, match=f"^The recipe '{name}' needs the actions 'speak', 'sing', which no plugin here brings$"):
            registry.find(name)
    assert registry.left_out("poster@2")
    assert not registry.left_out("poster")
    assert not registry.left_out("elsewhere")


def test_what_else_is_wrong_with_a_recipe_without_its_action_is_told() -> None:
    with pytest.raises(PluginError) as refusal:
        Registry(ACTIONS, brought=[("site", recipe(steps=(step(spec={"qualty": 1}), step("say", "speak", spec={"of": "${lang}"}))))])
    assert [each.partition(": step ")[2].partition(" ")[0] for each in refusal.value.extra["problems"]] == ["'scale':", "'say':"]


def test_plans_of_what_is_left_out_are_passed_over_in_silence(media_of_pictures: Media) -> None:
    registry = Registry(ACTIONS, brought=[("site", recipe("spoken", steps=(step("say", "speak"),)))])
    with capture_logs() as logged:
        assert Planner(registry, lambda media: [Plan(recipe="spoken")], Ulids(), 3)(media_of_pictures) == []
        assert logged == []
        assert Planner(registry, lambda media: [Plan(recipe="elsewhere")], Ulids(), 3)(media_of_pictures) == []
    assert [each["event"] for each in logged] == ["a plan does not fit"]


POLICIES: list[tuple[dict[str, list[str]], list[str]]] = [
    ({}, ["poster@1"]),
    ({"poster": []}, []),
    ({"poster@1": ["video/*"]}, []),
    ({"poster": ["image/*"]}, ["poster@1"]),
    ({"stamp": ["image/png"]}, ["poster@1", "stamp@1"]),
    ({"stamp": ["image/gif"]}, ["poster@1"]),
    ({"nowhere": ["image/*"]}, ["poster@1"]),
]


@pytest.mark.parametrize(("policy", "planned"), POLICIES)
def test_the_configuration_overrules_what_plugins_plan(policy: dict[str, list[str]], planned: list[str], media_of_pictures: Media) -> None:
    stamp = recipe("stamp", steps=(step("stamp", spec={"w": 32}),))
    planner = Planner(
        Registry(ACTIONS, brought=[("site", recipe()), ("site", stamp)]),
        lambda media: [Plan(recipe="poster", required=True)],
        Ulids(),
        3,
        policy,
    )
    jobs = planner(media_of_pictures)
    assert [each.code for each in jobs] == planned
    assert [each.required for each in jobs if each.code == "poster@1"] == [True] * planned.count("poster@1")


@pytest.fixture
def media_of_pictures() -> Media:
    now = datetime.now(UTC)
    return Media(id="x", owner="alice", kind="image", media_type="image/png", created_at=now, updated_at=now)


def test_an_actions_own_arguments_are_checked() -> None:
    with pytest.raises(PluginError, match=r"^action 'image': argument 'W': is not a name"):
        Registry({"image": Idle((Argument(name="W"),))})


def test_tables_of_no_action_are_told() -> None:
    check_tables(["image"], ACTIONS)
    with pytest.raises(ConfigError, match=r"^recipes.imag configures an action that no loaded plugin brings; did you mean 'image'\?$"):
        check_tables(["imag"], ACTIONS)
    with pytest.raises(PluginError, match="an action is called 'define'"):
        check_tables([], [*ACTIONS, "define"])


def test_a_recipe_is_found_by_its_name_or_as_the_newest_of_its_code() -> None:
    brought = [("site", recipe(version=version)) for version in (2, 10, 9)]
    registry = Registry(ACTIONS, brought=brought, defined=[recipe("clip")])
    assert registry.find("poster@9").version == 9
    assert registry.find("poster").version == 10
    assert [each.name for each in registry.all()] == ["clip@1", "poster@2", "poster@9", "poster@10"]


@pytest.mark.parametrize("name", ["poster@2", "poster@", "poster@01", "poster@1 ", "Poster@1", "@1", "", "postr", "x" * 100_000, "\ud800"])
def test_an_unknown_recipe_is_not_found(name: str) -> None:
    with pytest.raises(NotFound) as refusal:
        Registry(ACTIONS, defined=[recipe()]).find(name)
    assert len(refusal.value.detail) < 300
    assert refusal.value.detail.encode()


def test_an_unknown_recipe_is_told_with_the_near_one() -> None:
    with pytest.raises(NotFound, match=r"^There is no recipe 'postr'; did you mean 'poster@1'\?$"):
        Registry(ACTIONS, defined=[recipe()]).find("postr")


# what the recipe accepts, what its first action reads, what both take
TYPES = [
    (("*/*",), ("image/*",), ("image/*",)),
    (("image/*",), ("image/png", "image/gif", "text/plain"), ("image/png", "image/gif")),
    (("image/png", "video/*"), ("image/*",), ("image/png",)),
    (("image/*", "image/png"), ("image/*",), ("image/*", "image/png")),
    (("image/png",), ("IMAGE/PNG",), ("image/png",)),
    (("*/*",), ("*/*",), ("*/*",)),
]


@pytest.mark.parametrize(("ours", "theirs", "both"), TYPES)
def test_a_recipe_takes_what_it_and_its_first_action_take(ours: tuple[str, ...], theirs: tuple[str, ...], both: tuple[str, ...]) -> None:
    registry = Registry({"image": Idle(IMAGE, theirs)}, defined=[recipe(accepts=ours)])
    assert registry.accepts(registry.find("poster")) == both


def test_recipes_are_found_by_media_type() -> None:
    text = recipe("text", steps=(step("extract", "extract"),))
    registry = Registry(ACTIONS, defined=[recipe(), recipe("wide", accepts=("image/png",)), text])
    assert [each.code for each in registry.accepting("image/png")] == ["poster", "wide"]
    assert [each.code for each in registry.accepting("image/gif")] == ["poster"]
    assert [each.code for each in registry.accepting("application/pdf")] == ["text"]
    assert registry.accepting("video/mp4") == ()


DOCUMENT = Recipe(
    code="document-translation",
    version=3,
    title="Translation",
    arguments=(
        Argument(name="lang", required=True, max=16, summary="The language"),
        Argument(name="note"),
        Argument(name="size", type="number", default=1.0),
    ),
    steps=(
        step("extract", "extract", relationship="text"),
        step("translate", "translate", spec={"lang": "${lang}", "note": "${note}"}, relationship="translate:${lang}", saves_to="default"),
        step("card", "image", spec={"fit": "cover", "w": 100, "dpr": "${size}"}, continue_on_error=True),
    ),
)


def test_settling_puts_arguments_into_steps_and_normalises_their_specs() -> None:
    registry = Registry(ACTIONS, defined=[DOCUMENT])
    settled = registry.settle(DOCUMENT, {"size": 2.0, "lang": "pt-br"})
    assert settled.name == "document-translation@3"
    assert list(settled.arguments.items()) == [("lang", "pt-br"), ("size", 2)]
    card = {"w": 100, "fit": "cover", "quality": 80, "dpr": 2, "strip": True}
    assert settled.steps == (
        SettledStep(name="extract", action="extract", spec={}, relationship="text"),
        SettledStep(name="translate", action="translate", spec={"lang": "pt-br"}, relationship="translate:pt-br", saves_to="default"),
        SettledStep(name="card", action="image", spec=card, continue_on_error=True),
    )
    assert list(settled.steps[2].spec) == list(card)


def test_what_an_argument_says_is_put_in_once_and_not_looked_at_again() -> None:
    caption = recipe(
        arguments=(
            Argument(name="a", required=True),
            Argument(name="n", type="number", default=0.5),
            Argument(name="b", type="boolean", default=True),
        ),
        steps=(step("t", "translate", spec={"lang": "en", "note": "${a}|${n}|${b}|$${a}"}),),
    )
    registry = Registry(ACTIONS, defined=[caption])
    assert registry.settle(caption, {"a": "${n}"}).steps[0].spec["note"] == "${n}|0.5|true|$${n}"


def test_what_a_step_refuses_is_told_by_the_callers_argument() -> None:
    registry = Registry(ACTIONS, defined=[DOCUMENT])
    with pytest.raises(InvalidArgument) as refusal:
        registry.settle(DOCUMENT, {"lang": "PT"})
    assert refusal.value.detail.startswith("The step 'translate' refuses it: 'lang' must be text of at most 256 characters that matches")
    assert refusal.value.extra == {"argument": "lang"}
    with pytest.raises(InvalidArgument) as refusal:
        registry.settle(DOCUMENT, {"lang": "pt", "size": 9})
    assert refusal.value.detail == "'size' is refused by the step 'card': 'dpr' must be a number from 0.5 to 4"
    assert refusal.value.extra == {"argument": "size"}


@pytest.mark.parametrize("lang", ["", "a b", "a/b", "\u00e9", "a\n", "..", "x" * 120, "a,b"])
def test_an_argument_that_makes_no_relationship_is_refused(lang: str) -> None:
    named = recipe(arguments=(LANG,), steps=(step(spec={"w": 5}, relationship="${lang}:translate"),))
    registry = Registry(ACTIONS, defined=[named])
    with pytest.raises(InvalidArgument) as refusal:
        registry.settle(named, {"lang": lang})
    assert refusal.value.detail.startswith("'lang' becomes part of the relationship ${lang}:translate, which must be 1 to 128")
    assert refusal.value.extra == {"argument": "lang"}


def test_the_descriptor_is_the_seeds_in_snake_case() -> None:
    registry = Registry(ACTIONS, defined=[DOCUMENT, recipe()])
    told = json.loads(msgspec.json.encode(registry.describe(DOCUMENT)))
    schema = told.pop("args_schema")
    assert told == {
        "code": "document-translation",
        "version": 3,
        "title": "Translation",
        "args": [
            {"name": "lang", "type": "string", "required": True, "max": 16, "summary": "The language"},
            {"name": "note", "type": "string", "required": False},
            {"name": "size", "type": "number", "required": False, "default": 1},
        ],
        "steps": [
            {"name": "extract", "action": "extract", "spec_template": {}, "relationship": "text"},
            {
                "name": "translate",
                "action": "translate",
                "spec_template": {"lang": "${lang}", "note": "${note}"},
                "relationship": "translate:${lang}",
                "saves_to": "default",
            },
            {
                "name": "card",
                "action": "image",
                "spec_template": {"fit": "cover", "w": 100, "dpr": "${size}"},
                "continue_on_error": True,
            },
        ],
        "requires": ["application/pdf", "text/*"],
    }
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["required"] == ["lang"]
    assert list(schema["properties"]) == ["lang", "note", "size"]
    assert schema["properties"]["size"]["default"] == 1
    bare = json.loads(msgspec.json.encode(registry.describe(registry.find("poster"))))
    assert bare["requires"] == ["image/*"]
    assert bare["args"] == []


def test_a_default_of_nothing_is_told_too() -> None:
    nothing = recipe(
        arguments=(
            Argument(name="a", default=""),
            Argument(name="b", type="integer", default=0, min=0),
            Argument(name="c", type="boolean", default=False),
        )
    )
    told = json.loads(msgspec.json.encode(Registry(ACTIONS, defined=[nothing]).describe(nothing)))
    assert [argument["default"] for argument in told["args"]] == ["", 0, False]
    assert told["args"][1]["min"] == 0
