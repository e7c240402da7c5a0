"""Fingerprints: vectors that never change, and no two inputs with one fingerprint."""

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediacdn.recipes.arguments import Value, normalise
from mediacdn.recipes.fingerprints import derivation_key, fingerprint
from mediacdn.recipes.registry import Registry
from tests.recipes.given import ACTIONS, recipe

ULID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"

# source, code, version, arguments, the bytes, their SHA-256
TASKS: list[tuple[str, str, int, dict[str, Value], str, str]] = [
    (ULID, "poster", 1, {"w": 320, "lang": "pt-br"}, f'mediacdn task v1\n["{ULID}","poster",1,{{"lang":"pt-br","w":320}}]', "097bf97a5f8560ba83e7a38dcf653d28895e3ea6af193177b07639ba423b40ff"),
    (ULID, "poster", 12, {}, f'mediacdn task v1\n["{ULID}","poster",12,{{}}]', "ebf390a168c050ae8b810aa19cbf39a4057a51429a45dc40698d83e9be7e0d80"),
    (
        ULID, "text", 1, {"a": "\u00e9\U0001f600\"\\\n", "b": True, "n": 0.1, "t": 1e-07},
        f'mediacdn task v1\n["{ULID}","text",1,{{"a":"\\u00e9\\ud83d\\ude00\\"\\\\\\n","b":true,"n":0.1,"t":1e-07}}]',
        "e8f40386090c1c8b6bb47d77a71202e33c6b7578b1dcca94c313c5d61c406739",
    ),
]  # fmt: skip
DERIVATIONS: list[tuple[str, str, dict[str, Value], str, str]] = [
    (
        ULID,
        "image",
        {"w": 320, "fit": "cover"},
        f'mediacdn derivation v1\n["{ULID}","image",{{"fit":"cover","w":320}}]',
        "9a4d28157a1ce723c32e4ecc26dcb8e4e5f0c1a2d5c50c846e3f454af7c12d84",
    ),
    (
        ULID,
        "extract",
        {},
        f'mediacdn derivation v1\n["{ULID}","extract",{{}}]',
        "8d849bde24bfc4aaff95f9dd0bb4df5b67246edfcf848b31652052c1aebfbd12",
    ),
]


@pytest.mark.parametrize(("source", "code", "version", "arguments", "hashed", "digest"), TASKS)
def test_the_bytes_of_a_task_never_change(
    source: str, code: str, version: int, arguments: dict[str, Value], hashed: str, digest: str
) -> None:
    assert hashlib.sha256(hashed.encode("ascii")).hexdigest() == digest
    assert fingerprint(source, code, version, arguments) == digest


@pytest.mark.parametrize(("source", "action", "spec", "hashed", "digest"), DERIVATIONS)
def test_the_bytes_of_a_derivation_never_change(source: str, action: str, spec: dict[str, Value], hashed: str, digest: str) -> None:
    assert hashlib.sha256(hashed.encode("ascii")).hexdigest() == digest
    assert derivation_key(source, action, spec) == digest


def test_spelling_makes_no_other_fingerprint() -> None:
    registry = Registry(ACTIONS, defined=[recipe()])
    image = ACTIONS["image"].arguments
    asked: list[Any] = [{"w": 320, "fit": "inside"}, {"w": 320.0}, {"dpr": 1.0, "w": 320}, [("strip", "yes"), ("w", "320")]]
    assert len({derivation_key(ULID, "image", normalise(image, each)) for each in asked}) == 1
    assert len({derivation_key(ULID, "image", normalise(image, each)) for each in [{"w": 320}, {"h": 320}, {"w": 321}, {}]}) == 4
    settled = registry.settle(registry.find("poster"), {})
    assert settled.fingerprint(ULID) == fingerprint(ULID, "poster", 1, {})
    assert settled.steps[0].derivation_key(ULID) == derivation_key(ULID, "image", normalise(image, {"w": 320}))


VALUES = st.one_of(
    st.sampled_from(["1", 1, True, "true", "", "a", '"', '","', "\\", "]", "0.1", 0.1]), st.text(max_size=4), st.integers(-3, 3)
)
INPUTS = st.tuples(
    st.sampled_from(["A", "B", 'A","']),
    st.sampled_from(["p", "q", "p1"]),
    st.integers(1, 3),
    st.dictionaries(st.sampled_from(["a", "b", "ab"]), VALUES, max_size=3),
)


@given(INPUTS, INPUTS)
@settings(deadline=None, max_examples=500)
def test_different_input_never_shares_a_fingerprint(one: Any, other: Any) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (fingerprint(*one) == fingerprint(*other)) is same
    assert (derivation_key(one[0], one[1], one[3]) == derivation_key(other[0], other[1], other[3])) is (
        json.dumps([one[0], one[1], one[3]], sort_keys=True) == json.dumps([other[0], other[1], other[3]], sort_keys=True)
    )
    assert fingerprint(*one) != derivation_key(one[0], one[1], one[3])


def test_a_value_that_json_has_not_is_no_fingerprint() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        fingerprint(ULID, "p", 1, {"a": float("nan")})
