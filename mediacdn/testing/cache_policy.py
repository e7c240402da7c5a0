"""What every cache policy promises, as tests: subclass CachePolicyConformance in a test file and override its `policy` fixture.

    from mediacdn.testing import CachePolicyConformance

    class TestMine(CachePolicyConformance):
        @pytest.fixture
        def policy(self):
            return MyPolicy(MyConfig(...))

`policy` may also be an async generator that opens the driver and closes it. What a policy keeps is its own affair; that it answers at once, always the same, and with
values that the edge can use, is not.
"""

import asyncio
import gc
import math
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest

from mediacdn.interfaces import CachePolicy
from mediacdn.model import Admission, Card, State, Status

TIERS = ("memory", "disk")
AT_MOST = 100e-6
"""Seconds of one answer, the best of many: far above what a good policy takes, far below one look at a file or a socket."""

NOW = datetime(2026, 1, 1, tzinfo=UTC)
VARIANTS = ("", "thumb", "w=320,h=240,fmt=webp", "x" * 200)
HITS = (1, 2, 3, 1000, 1 << 30)


def card(**changes: Any) -> Card:
    """A card of a small public picture, but for `changes`."""
    given: dict[str, Any] = {
        "id": "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "owner": "alice",
        "public": True,
        "state": State.LIVE,
        "status": Status.READY,
        "generation": 1,
        "links_valid_from": 0,
        "expires_at": None,
        "storage": "default",
        "key": "originals/01ARZ3NDEKTSV4RRFFQ69G5FAV.png",
        "size": 10_000,
        "digest": "0" * 64,
        "media_type": "image/png",
        "modified": NOW,
    }
    return Card(**{**given, **changes})


def cards() -> Iterator[Card]:
    """Media of every kind: empty and huge, public and private, without tags and with many, of types known and unknown, about to expire."""
    for media_type, size, public in product(
        ("image/png", "video/mp4", "application/octet-stream", "model/gltf-binary"), (0, 1, 65_536, 4_194_305, 1 << 50), (True, False)
    ):
        yield card(media_type=media_type, size=size, public=public)
    yield card(tags=tuple(f"tag-{number}" for number in range(64)))
    yield card(tags=("Käse", "a b", ""))
    yield card(storage="elsewhere", owner="", filename="a\nb", width=1, height=1, duration=0.5)
    yield card(expires_at=NOW + timedelta(seconds=1))
    yield card(state=State.QUARANTINED)
    yield card(status=Status.PROCESSING, generation=1 << 39, digest="")


class CachePolicyConformance:
    """The tests. The fixture `policy` must be overridden."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def policy(self) -> CachePolicy:
        """The policy to test."""
        raise NotImplementedError("override the fixture `policy`")

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    async def test_every_answer_can_be_used(self, policy: CachePolicy) -> None:
        for each, variant, hits in product(cards(), VARIANTS, HITS):
            admission = policy.judge(each, variant, hits)
            assert isinstance(admission, Admission), admission
            assert isinstance(admission.tiers, tuple), "tiers are a tuple"
            assert len(set(admission.tiers)) == len(admission.tiers), "a tier is named once"
            assert set(admission.tiers) <= set(TIERS), f"tiers are of {TIERS}"
            for seconds in (admission.ttl, admission.grace):
                assert isinstance(seconds, int | float), "times are seconds"
                assert math.isfinite(seconds), "times are finite"
                assert 0 <= seconds <= 1e12, "times are neither negative nor beyond what a field can tell"
            if admission.tiers:
                assert admission.ttl + admission.grace > 0, "a copy that is kept has time in which it is used"
            assert isinstance(admission.pinned, bool)
            assert admission.rule, "the rule has a name, for people"
            assert len(admission.rule) <= 100, "and a short one"
            assert admission.rule.isprintable(), "of one line"

    async def test_the_same_question_has_the_same_answer(self, policy: CachePolicy) -> None:
        questions = list(product(cards(), VARIANTS, HITS))
        first = [policy.judge(*each) for each in questions]
        await asyncio.sleep(0.01)
        again = [policy.judge(*each) for each in reversed(questions)]
        assert first == again[::-1], "no answer hangs on the time, on chance or on what was asked before"

    async def test_an_equal_card_is_as_good(self, policy: CachePolicy) -> None:
        for one, other in zip(cards(), cards(), strict=True):
            assert policy.judge(one, "", 2) == policy.judge(other, "", 2)

    async def test_it_answers_at_once(self, policy: CachePolicy) -> None:
        """Best of many rounds: another process's work is not the policy's."""
        asked = [(each, variant, hits) for each, variant in product(cards(), VARIANTS) for hits in (1, 5)]
        best = math.inf
        collecting = gc.isenabled()
        gc.disable()
        try:
            for _ in range(20):
                began = time.perf_counter()
                for each, variant, hits in asked:
                    policy.judge(each, variant, hits)
                best = min(best, (time.perf_counter() - began) / len(asked))
        finally:
            if collecting:
                gc.enable()
        assert best < AT_MOST, f"{best * 1e6:.0f} us an answer, on the event loop"

    async def test_variants_without_end_take_no_memory_without_end(self, policy: CachePolicy) -> None:
        """Callers choose variants: what is remembered of each must be bounded."""
        import tracemalloc

        each = card()
        for number in range(10_000):
            policy.judge(each, f"w={number}", 1)
        tracemalloc.start()
        try:
            for number in range(10_000, 60_000):
                policy.judge(each, f"w={number}", 1)
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert held < 5_000_000, f"{held} bytes are held after 50,000 variants"
