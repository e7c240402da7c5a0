"""The first rule whose conditions all hold names the storage; a rule without conditions always holds."""

from typing import Any

import pytest

from mediacdn.config import Rule
from mediacdn.storage.placement import place

PHOTO: dict[str, Any] = {"media_type": "image/jpeg", "size": 1000, "tags": ("cat", "dog"), "owner": "ann", "public": True}


@pytest.mark.parametrize(
    ("conditions", "media", "holds"),
    [
        ({}, {}, True),
        ({"type": "image/jpeg"}, {}, True),
        ({"type": "image/*"}, {}, True),
        ({"type": "*/*"}, {}, True),
        ({"type": "video/*"}, {}, False),
        ({"type": "image/png"}, {}, False),
        ({"min_size": 1000}, {}, True),
        ({"min_size": 1001}, {}, False),
        ({"max_size": 1000}, {}, True),
        ({"max_size": 999}, {}, False),
        ({"min_size": 1, "max_size": 2000}, {}, True),
        ({"min_size": 0}, {"size": 0}, True),
        ({"min_size": 0}, {"size": None}, False),
        ({"max_size": 10**12}, {"size": None}, False),
        ({"type": "image/*"}, {"size": None}, True),
        ({"tag": "dog"}, {}, True),
        ({"tag": "do"}, {}, False),
        ({"tag": "dog"}, {"tags": ()}, False),
        ({"owner": "ann"}, {}, True),
        ({"owner": "bob"}, {}, False),
        ({"public": True}, {}, True),
        ({"public": False}, {}, False),
        ({"public": False}, {"public": False}, True),
        ({"public": True}, {"public": False}, False),
        ({"type": "image/*", "tag": "cat", "owner": "ann", "public": True, "max_size": 1000}, {}, True),
        ({"type": "image/*", "tag": "cat", "owner": "bob", "public": True, "max_size": 1000}, {}, False),
    ],
)
def test_a_rule_holds_when_all_its_conditions_do(conditions: dict[str, Any], media: dict[str, Any], holds: bool) -> None:
    rule = Rule(storage="far", **conditions)
    assert place([rule], "near", **{**PHOTO, **media}) == (("far", rule) if holds else ("near", None))


def test_the_first_that_holds_wins() -> None:
    rules = [
        Rule(storage="videos", type="video/*"),
        Rule(storage="large", min_size=500),
        Rule(storage="images", type="image/*"),
        Rule(storage="rest"),
    ]
    assert place(rules, "near", **PHOTO) == ("large", rules[1])
    assert place(rules, "near", **{**PHOTO, "size": 10}) == ("images", rules[2])
    assert place(rules, "near", **{**PHOTO, "size": 10, "media_type": "text/plain"}) == ("rest", rules[3])


def test_without_rules_it_is_the_default() -> None:
    assert place((), "near", **PHOTO) == ("near", None)
