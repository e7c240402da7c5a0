"""Arguments: every rule has its row; the normal form is one; the JSON Schema says what the reading does."""

import json
import math
import unicodedata
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mediacdn.config.decoding import Text
from mediacdn.errors import InvalidArgument
from mediacdn.model import Argument
from mediacdn.recipes.arguments import MAX_MATCHED, MAX_NUMBER, MAX_STRING, normalise, written
from mediacdn.recipes.declarations import MAX_ARGUMENTS, flaws
from mediacdn.recipes.descriptors import schema
from tests.recipes.given import IMAGE, declarations, objects

INTEGER = Argument(name="n", type="integer")
NUMBER = Argument(name="n", type="number")
BOOLEAN = Argument(name="n", type="boolean")
STRING = Argument(name="n")

# the argument, what JSON says, its normal form
TAKEN: list[tuple[Argument, Any, Any]] = [
    (INTEGER, 320, 320),
    (INTEGER, 320.0, 320),
    (INTEGER, -0.0, 0),
    (INTEGER, MAX_NUMBER, MAX_NUMBER),
    (INTEGER, -MAX_NUMBER, -MAX_NUMBER),
    (NUMBER, 1, 1),
    (NUMBER, 1.0, 1),
    (NUMBER, -0.0, 0),
    (NUMBER, 1e3, 1000),
    (NUMBER, 0.1, 0.1),
    (NUMBER, 1e-7, 1e-7),
    (BOOLEAN, True, True),
    (BOOLEAN, False, False),
    (STRING, "", ""),
    (STRING, "e\u0301", "\u00e9"),
    (STRING, "a" * MAX_STRING, "a" * MAX_STRING),
    (STRING, "\U0001f600\n", "\U0001f600\n"),
    (STRING, Text("a"), "a"),
    (INTEGER, Text("320"), 320),
    (BOOLEAN, Text("on"), True),
    (Argument(name="n", min=1, max=1), "e\u0301", "\u00e9"),
    (Argument(name="n", allowed=("\u00e9",)), "e\u0301", "\u00e9"),
    (Argument(name="n", allowed=("e\u0301",)), "\u00e9", "\u00e9"),
    (Argument(name="n", type="number", allowed=(0.5, 1.0)), 1, 1),
    (Argument(name="n", type="integer", min=1, max=3), 3, 3),
    (Argument(name="n", type="number", min=0.5, max=3), 0.5, 0.5),
    (Argument(name="n", pattern="[a-z]+"), "abc", "abc"),
]


@pytest.mark.parametrize(("argument", "value", "normal"), TAKEN)
def test_what_json_says_becomes_its_normal_form(argument: Argument, value: Any, normal: Any) -> None:
    read = normalise([argument], {"n": value})["n"]
    assert (type(read), read, math.copysign(1, read) if isinstance(read, float) else None) == (
        type(normal),
        normal,
        1 if isinstance(normal, float) else None,
    )


# the argument, what JSON says, the rule that the refusal tells
REFUSED: list[tuple[Argument, Any, str]] = [
    (INTEGER, "320", "a whole number"),
    (INTEGER, 1.5, "a whole number"),
    (INTEGER, True, "a whole number"),
    (INTEGER, None, "a whole number"),
    (INTEGER, MAX_NUMBER + 1, "a whole number"),
    (INTEGER, 10**400, "a whole number"),
    (INTEGER, 1e300, "a whole number"),
    (INTEGER, [1], "a whole number"),
    (NUMBER, "1.5", "a number"),
    (NUMBER, False, "a number"),
    (NUMBER, math.nan, "a number"),
    (NUMBER, math.inf, "a number"),
    (NUMBER, -math.inf, "a number"),
    (NUMBER, {}, "a number"),
    (BOOLEAN, 1, "true or false"),
    (BOOLEAN, "true", "true or false"),
    (BOOLEAN, None, "true or false"),
    (STRING, 1, "text of at most 1024 characters"),
    (STRING, None, "text of at most 1024 characters"),
    (STRING, "a\0", "text of at most 1024 characters"),
    (STRING, "\ud800", "text of at most 1024 characters"),
    (STRING, "a" * (MAX_STRING + 1), "text of at most 1024 characters"),
    (STRING, "\ufb2c" * 400, "text of at most 1024 characters"),
    (Argument(name="n", type="integer", min=1, max=8), 0, "a whole number from 1 to 8"),
    (Argument(name="n", type="integer", min=1, max=8), 9, "a whole number from 1 to 8"),
    (Argument(name="n", type="integer", min=1), 0, "a whole number of at least 1"),
    (Argument(name="n", type="number", max=0.5), 0.6, "a number of at most 0.5"),
    (Argument(name="n", type="number", min=0), -0.1, "a number of at least 0"),
    (Argument(name="n", min=2, max=5), "a", "text of 2 to 5 characters"),
    (Argument(name="n", max=5), "abcdef", "text of at most 5 characters"),
    (Argument(name="n", pattern="[a-z]+"), "abc\n", "text of at most 256 characters that matches [a-z]+"),
    (Argument(name="n", pattern="[a-z]+"), "a" * (MAX_MATCHED + 1), "text of at most 256 characters that matches [a-z]+"),
    (Argument(name="n", allowed=("cover", "fill")), "covr", "one of cover, fill; did you mean 'cover'?"),
    (Argument(name="n", allowed=("cover", "fill")), "Cover", "one of cover, fill; did you mean 'cover'?"),
    (Argument(name="n", type="integer", allowed=(1, 2)), 3, "one of 1, 2"),
    (Argument(name="n", type="boolean", allowed=(True,)), False, "one of true"),
]


@pytest.mark.parametrize(("argument", "value", "told"), REFUSED)
def test_a_refusal_names_the_argument_and_its_rule(argument: Argument, value: Any, told: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        normalise([argument], {"n": value})
    assert refusal.value.detail == f"'n' must be {told}"
    assert refusal.value.extra == {"argument": "n"}
    assert refusal.value.status == 422


# the argument, its text in a query, its normal form (None: refused)
TEXTS: list[tuple[Argument, str, Any]] = [
    (INTEGER, "320", 320),
    (INTEGER, "-5", -5),
    (INTEGER, "-0", 0),
    (INTEGER, "5.0", 5),
    (INTEGER, "05", None),
    (INTEGER, "+5", None),
    (INTEGER, " 5", None),
    (INTEGER, "", None),
    (INTEGER, "0x10", None),
    (INTEGER, "1_0", None),
    (INTEGER, "\u0665", None),
    (INTEGER, "9" * 30, None),
    (INTEGER, "9" * 5000, None),
    (NUMBER, "1.50", 1.5),
    (NUMBER, "1.0", 1),
    (NUMBER, "-0.0", 0),
    (NUMBER, "1e-07", 1e-07),
    (NUMBER, "1e3", 1000),
    (NUMBER, "1E3", None),
    (NUMBER, ".5", None),
    (NUMBER, "5.", None),
    (NUMBER, "nan", None),
    (NUMBER, "inf", None),
    (NUMBER, "1e999", None),
    (BOOLEAN, "true", True),
    (BOOLEAN, "Yes", True),
    (BOOLEAN, "0", False),
    (BOOLEAN, "off", False),
    (BOOLEAN, "", None),
    (BOOLEAN, "2", None),
    (STRING, "320", "320"),
    (STRING, "", ""),
]


@pytest.mark.parametrize(("argument", "text", "normal"), TEXTS)
def test_text_is_read_by_the_arguments_type(argument: Argument, text: str, normal: Any) -> None:
    if normal is None:
        with pytest.raises(InvalidArgument, match="'n' must be"):
            normalise([argument], [("n", text)])
    else:
        read = normalise([argument], [("n", text)])["n"]
        assert (type(read), str(read)) == (type(normal), str(normal))


SHAPES: list[tuple[Any, str, dict[str, Any]]] = [
    ({"width": 5}, "'width' is not an argument; there is w, h", {"argument": "width"}),
    ({"qualty": 5}, "'qualty' is not an argument; did you mean 'quality'?", {"argument": "qualty"}),
    ({"x" * 200: 5}, f"'{'x' * 60}' is not an argument; there is w, h", {"argument": "x" * 60}),
    ({"\ud800": 5}, "'?' is not an argument", {"argument": "?"}),
    ([("w", "5"), ("w", "5")], "'w' is given more than once", {"argument": "w"}),
    ([("w", 5)], "Arguments in a list are pairs of texts", {}),
    ([("w",)], "Arguments are an object, or a list of pairs of texts", {}),
    (["w5"], "Arguments are an object, or a list of pairs of texts", {}),
    ("w=5", "Arguments are an object, or a list of pairs of texts", {}),
    (None, "Arguments are an object, or a list of pairs of texts", {}),
    ({5: 5}, "Names of arguments are text", {}),
]


@pytest.mark.parametrize(("given", "told", "extra"), SHAPES)
def test_what_is_no_set_of_arguments(given: Any, told: str, extra: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        normalise(IMAGE, given)
    assert refusal.value.detail.startswith(told)
    assert refusal.value.extra == extra


def test_an_action_without_arguments_says_so() -> None:
    with pytest.raises(InvalidArgument, match="'w' is not an argument; there are none"):
        normalise([], {"w": 1})


def test_what_is_required_is_missed() -> None:
    with pytest.raises(InvalidArgument, match="'n' is missing; it must be text of at most 1024 characters") as refusal:
        normalise([Argument(name="n", required=True)], {})
    assert refusal.value.extra == {"argument": "n"}


def test_defaults_are_filled_in_and_the_order_is_the_declarations() -> None:
    assert list(normalise(IMAGE, {"h": 5, "w": 6}).items()) == [
        ("w", 6),
        ("h", 5),
        ("fit", "inside"),
        ("quality", 80),
        ("dpr", 1),
        ("strip", True),
    ]


@given(st.data())
@settings(deadline=None, max_examples=300)
def test_normalising_twice_changes_nothing(data: st.DataObject) -> None:
    declared = data.draw(declarations())
    given = data.draw(objects(declared))
    try:
        normal = normalise(declared, given)
    except InvalidArgument:
        return
    again = normalise(declared, normal)
    assert json.dumps(again) == json.dumps(normal)
    assert list(normal) == [argument.name for argument in declared if argument.name in normal]
    texts = [(name, written(value)) for name, value in reversed(normal.items())]
    assert json.dumps(normalise(declared, texts)) == json.dumps(normal)


@given(st.data())
@settings(deadline=None, max_examples=600)
def test_the_schema_holds_for_what_is_taken_and_for_nothing_else(data: st.DataObject) -> None:
    declared = data.draw(declarations())
    assert list(flaws(declared)) == []
    given = data.draw(objects(declared))
    given = {name: unicodedata.normalize("NFC", value) if isinstance(value, str) else value for name, value in given.items()}
    assume(not any(isinstance(value, float) and not math.isfinite(value) for value in given.values()))  # JSON has none
    told = schema(declared)
    validator = jsonschema_rs.validator_for(json.loads(json.dumps(told)))
    try:
        normal = normalise(declared, given)
    except InvalidArgument:
        assert not validator.is_valid(given)
        return
    assert validator.is_valid(given)
    assert validator.is_valid(normal)


def test_the_schema_is_one() -> None:
    jsonschema_rs.meta.validate(schema(IMAGE))


FLAWS: list[tuple[tuple[Argument, ...], str]] = [
    ((Argument(name="W"),), "argument 'W': is not a name"),
    ((Argument(name=""),), "argument '': is not a name"),
    ((Argument(name=5),), "argument 5: is not what an argument is: Expected `str`, got `int` - at `$.name`"),  # type: ignore[arg-type]
    ((Argument(name="a", type="int"),), "argument 'a': is not what an argument is: Invalid enum value 'int'"),  # type: ignore[arg-type]
    ((Argument(name="a-b"),), "argument 'a-b': is not a name"),
    ((Argument(name="a"), Argument(name="a")), "argument 'a': is declared twice"),
    ((Argument(name="a", type="integer", min=2, max=1),), "argument 'a': min (2) is more than max (1)"),
    ((Argument(name="a", type="boolean", min=2),), "argument 'a': min bounds a boolean"),
    ((Argument(name="a", type="number", max=math.inf),), "argument 'a': max is not a finite number"),
    ((Argument(name="a", type="number", min=math.nan),), "argument 'a': min is not a finite number"),
    ((Argument(name="a", min=0.5),), "argument 'a': min is 0.5, which is no length"),
    ((Argument(name="a", min=-1),), "argument 'a': min is -1, and a string has 0 to 1024"),
    ((Argument(name="a", max=2000),), "argument 'a': max is 2000, and a string has 0 to 1024"),
    ((Argument(name="a", type="integer", pattern="a"),), "argument 'a': pattern is for strings, and the type is integer"),
    ((Argument(name="a", pattern="("),), "argument 'a': pattern '(' cannot be used: it ends where a ) should be"),
    ((Argument(name="a", pattern="(?=a)"),), "argument 'a': pattern '(?=a)' cannot be used"),
    ((Argument(name="a", required=True, default="x"),), "argument 'a': has a default although it is required"),
    ((Argument(name="a", type="integer", default="5"),), "argument 'a': default is '5', which must be a whole number"),
    ((Argument(name="a", type="integer", default=True),), "argument 'a': default is true, which must be a whole number"),
    ((Argument(name="a", allowed=("x",), default="y"),), "argument 'a': default is 'y', which must be one of x"),
    ((Argument(name="a", max=1, default="yy"),), "argument 'a': default is 'yy', which must be text of at most 1 characters"),
    ((Argument(name="a", allowed=("x", 1)),), "argument 'a': allowed has 1, which must be text"),
    ((Argument(name="a", type="integer", max=3, allowed=(4,)),), "argument 'a': allowed has 4, which must be a whole number of at most 3"),
    ((Argument(name="a", pattern="x", allowed=("y",)),), "argument 'a': allowed has 'y', which must be text of at most 256"),
    ((Argument(name="a", allowed=("\u00e9", "e\u0301")),), "argument 'a': allowed names a value twice"),
    ((Argument(name="a", type="number", allowed=(1, 1.0)),), "argument 'a': allowed names a value twice"),
    (tuple(Argument(name=f"a{number}") for number in range(MAX_ARGUMENTS + 1)), "has more than 64 arguments"),
]


@pytest.mark.parametrize(("declared", "told"), FLAWS)
def test_what_is_declared_wrong_is_told(declared: tuple[Argument, ...], told: str) -> None:
    [flaw] = flaws(declared)
    assert flaw.startswith(told)
