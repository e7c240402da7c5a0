"""The first rule whose conditions all hold names the storage; a rule without conditions always holds."""

from typing import Any

import pytest

from mediacdn.config import Rule
from mediacdn.storage.placement import Placed, Routing, Subject, conditions

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
        ({"variant": "original"}, {}, True),
        ({"variant": "original"}, {"variant": "thumbnail"}, False),
        ({"variant": "*"}, {}, False),
        ({"variant": "*"}, {"variant": "w=10"}, True),
        ({"variant": "thumbnail"}, {"variant": "thumbnail"}, True),
        ({"variant": "thumbnail"}, {"variant": "thumbnails"}, False),
        ({"variant": "page:*"}, {"variant": "page:12"}, True),
        ({"variant": "page:*"}, {}, False),
        ({}, {"variant": "thumbnail"}, True),
        ({"type": "image/*", "tag": "cat", "owner": "ann", "public": True, "max_size": 1000}, {}, True),
        ({"type": "image/*", "tag": "cat", "owner": "bob", "public": True, "max_size": 1000}, {}, False),
    ],
)
def test_a_rule_holds_when_all_its_conditions_do(conditions: dict[str, Any], media: dict[str, Any], holds: bool) -> None:
    rule = Rule(storage="far", **conditions)
    placed = Routing((rule,), "near").place(Subject(**{**PHOTO, **media}))
    assert (placed.storage, placed.rule) == (("far", 0) if holds else ("near", None))


def test_the_first_that_holds_wins() -> None:
    rules = (
        Rule(storage="videos", type="video/*"),
        Rule(storage="large", min_size=500),
        Rule(storage="images", type="image/*"),
        Rule(storage="rest"),
    )
    for photo, storage, number in (({}, "large", 1), ({"size": 10}, "images", 2), ({"size": 10, "media_type": "text/plain"}, "rest", 3)):
        placed = Routing(rules, "near").place(Subject(**{**PHOTO, **photo}))
        assert (placed.storage, placed.rule) == (storage, number)


@pytest.mark.parametrize(
    ("named", "media", "why"),
    [
        ({"variant": "*"}, {}, "it is an original, not *"),
        ({"variant": "original"}, {"variant": "thumb"}, "it is thumb, not original"),
        ({"type": "video/*"}, {}, "its type is image/jpeg, not video/*"),
        ({"min_size": 1001}, {}, "it has 1000 bytes, fewer than 1001"),
        ({"max_size": 999}, {}, "it has 1000 bytes, more than 999"),
        ({"max_size": 999}, {"size": None}, "its size is not known yet"),
        ({"tag": "pii"}, {}, "it has no tag pii"),
        ({"owner": "bob"}, {}, "its owner is ann, not bob"),
        ({"owner": "bob"}, {"owner": ""}, "its owner is nobody, not bob"),
        ({"public": False}, {}, "it is public"),
        ({"public": True}, {"public": False}, "it is private"),
    ],
)
def test_why_a_rule_does_not_hold(named: dict[str, Any], media: dict[str, Any], why: str) -> None:
    rules = (Rule(storage="far", **named), Rule(storage="rest"))
    assert Routing(rules, "near").place(Subject(**{**PHOTO, **media})) == Placed("rest", 1, (why,))
    assert Routing(rules[:1], "near").place(Subject(**{**PHOTO, **media})) == Placed("near", None, (why,))


def test_a_rule_in_words() -> None:
    assert conditions(Rule(storage="far")) == "always"
    assert conditions(Rule(storage="far", type="image/*", max_size=5, public=False)) == "type = image/*, max_size = 5, public = false"


def test_without_rules_it_is_the_default() -> None:
    assert Routing((), "near").place(Subject(**PHOTO)) == Placed("near", None)
