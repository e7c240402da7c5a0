"""The inspectors' conformance suite accepts one that keeps its promises, and fails one that breaks any."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mediacdn.model import Incoming, Verdict
from mediacdn.testing import InspectorConformance

WORD = b"forbidden"


class Words:
    """Looks for a word, across chunks."""

    async def inspect(self, upload: Incoming, chunks: AsyncIterator[bytes]) -> Verdict:
        tail = b""
        async for chunk in chunks:
            if WORD in tail + chunk:
                return Verdict("reject", "a word")
            tail = (tail + chunk)[-len(WORD) :]
        return Verdict("accept")


class TestWords(InspectorConformance):
    @pytest.fixture
    def inspector(self) -> Words:
        return Words()

    @pytest.fixture
    def refused(self) -> bytes:
        return b"it is " + WORD + b" here"


class Forgetful(Words):
    async def inspect(self, upload: Incoming, chunks: AsyncIterator[bytes]) -> Verdict:
        found = False
        async for chunk in chunks:
            found = found or WORD in chunk
        return Verdict("reject" if found else "accept")


class Shared(Words):
    def __init__(self) -> None:
        self.seen = b""

    async def inspect(self, upload: Incoming, chunks: AsyncIterator[bytes]) -> Verdict:
        async for chunk in chunks:
            self.seen += chunk
        return Verdict("reject" if WORD in self.seen else "accept")


class Sleeper(Words):
    async def inspect(self, upload: Incoming, chunks: AsyncIterator[bytes]) -> Verdict:
        verdict = await super().inspect(upload, chunks)
        time.sleep(0.4)  # noqa: ASYNC251
        return verdict


class Stubborn(Words):
    async def inspect(self, upload: Incoming, chunks: AsyncIterator[bytes]) -> Verdict:
        try:
            return await super().inspect(upload, chunks)
        except asyncio.CancelledError:
            await asyncio.sleep(1.5)
            return Verdict("accept")


class Yes(Words):
    async def inspect(self, upload: Incoming, chunks: AsyncIterator[bytes]) -> Any:
        await super().inspect(upload, chunks)
        return True


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("kind", "test", "given"),
    [
        (Yes, "accepts_what_is_in_order", ("accepted",)),
        (Forgetful, "finds_it_wherever_chunks_are_cut", ("refused",)),
        (Shared, "uploads_are_told_apart", ("accepted", "refused")),
        (Sleeper, "the_event_loop_goes_on", ("accepted",)),
        (Stubborn, "ends_when_it_is_cancelled", ("accepted",)),
    ],
)
async def test_a_broken_promise_is_found(kind: type[Words], test: str, given: tuple[str, ...]) -> None:
    contents = {"accepted": b"fine " * 100, "refused": b"it is " + WORD + b" here"}
    with pytest.raises(AssertionError):
        await getattr(InspectorConformance(), f"test_{test}")(kind(), *(contents[each] for each in given))
    if kind is Stubborn:
        await asyncio.sleep(0.7)
