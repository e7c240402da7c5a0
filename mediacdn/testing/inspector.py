"""What every inspector promises, as tests: subclass InspectorConformance in a test file and override its fixtures.

    from mediacdn.testing import InspectorConformance

    class TestMine(InspectorConformance):
        @pytest.fixture
        async def inspector(self):
            async with open_mine(MyConfig(...), kit()) as inspector:
                yield inspector

        @pytest.fixture
        def refused(self):
            return b"what it must not accept"

What it looks for is its own affair; that it sees it wherever chunks are cut, answers with a verdict, ends when it is cancelled and lets the event loop run, is not.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable

import pytest

from mediacdn.interfaces import Inspector
from mediacdn.model import Incoming, Verdict

PATIENCE = 30.0
LAG = 0.25
"""Seconds for which the event loop may stand still while a chunk is looked at."""


def incoming(size: int | None = None) -> Incoming:
    """An upload to ask about."""
    return Incoming(id="01ARZ3NDEKTSV4RRFFQ69G5FAV", owner="alice", media_type="application/octet-stream", size=size)


async def _cut(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        await asyncio.sleep(0)
        yield piece


class InspectorConformance:
    """The tests. The fixtures `inspector` and `refused` must be overridden; `accepted` may be."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def inspector(self) -> Inspector:
        """The inspector to test."""
        raise NotImplementedError("override the fixture `inspector`")

    @pytest.fixture
    def refused(self) -> bytes:
        """Content that it rejects or quarantines, of at least two bytes."""
        raise NotImplementedError("override the fixture `refused`")

    @pytest.fixture
    def accepted(self) -> bytes:
        """Content that it accepts."""
        return bytes(range(256)) * 16

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    async def verdict(self, inspector: Inspector, *pieces: bytes) -> Verdict:
        """Ask once, and see that what is answered is a verdict."""
        async with asyncio.timeout(PATIENCE):
            verdict = await inspector.inspect(incoming(), _cut(pieces))
        assert isinstance(verdict, Verdict), verdict
        assert verdict.outcome in ("accept", "reject", "quarantine")
        assert verdict.reason is None or isinstance(verdict.reason, str)
        return verdict

    async def test_accepts_what_is_in_order(self, inspector: Inspector, accepted: bytes) -> None:
        assert (await self.verdict(inspector, accepted)).outcome == "accept"
        assert (await self.verdict(inspector)).outcome == "accept", "an upload without a byte has no chunks"

    async def test_finds_it_wherever_chunks_are_cut(self, inspector: Inspector, refused: bytes) -> None:
        whole = await self.verdict(inspector, refused)
        assert whole.outcome != "accept"
        for at in {1, len(refused) // 2, len(refused) - 1}:
            assert (await self.verdict(inspector, refused[:at], refused[at:])).outcome == whole.outcome
        some = max(1, len(refused) // 50)
        pieces = [refused[at : at + some] for at in range(0, len(refused), some)]
        assert (await self.verdict(inspector, *pieces)).outcome == whole.outcome

    async def test_uploads_are_told_apart(self, inspector: Inspector, accepted: bytes, refused: bytes) -> None:
        half = len(refused) // 2
        asked = [(refused[:half], refused[half:]), (accepted, accepted), (refused,), (accepted,)]
        verdicts = await asyncio.gather(*(self.verdict(inspector, *pieces) for pieces in asked))
        assert [each.outcome == "accept" for each in verdicts] == [False, True, False, True]

    async def test_ends_when_it_is_cancelled(self, inspector: Inspector, accepted: bytes) -> None:
        async def endless() -> AsyncIterator[bytes]:
            yield accepted
            await asyncio.Event().wait()

        task = asyncio.ensure_future(inspector.inspect(incoming(), endless()))
        await asyncio.sleep(0.05)
        if not task.done():  # it may have known already
            task.cancel()
            done, _ = await asyncio.wait([task], timeout=1.0)
            assert done, "a cancelled inspector ends within a second"
        assert (await self.verdict(inspector, accepted)).outcome == "accept", "and the next upload is inspected"

    async def test_a_stream_that_breaks_is_no_verdict(self, inspector: Inspector, accepted: bytes) -> None:
        async def broken() -> AsyncIterator[bytes]:
            yield accepted[:1]
            raise ConnectionResetError

        async with asyncio.timeout(PATIENCE):
            try:
                verdict = await inspector.inspect(incoming(), broken())
            except ConnectionResetError:
                return
        assert isinstance(verdict, Verdict), "it was through before the break"

    async def test_the_event_loop_goes_on(self, inspector: Inspector, accepted: bytes) -> None:
        longest, before = 0.0, asyncio.get_running_loop().time()

        async def beat() -> None:
            nonlocal longest, before
            while True:
                await asyncio.sleep(0.005)
                now = asyncio.get_running_loop().time()
                longest, before = max(longest, now - before), now

        beating = asyncio.create_task(beat())
        try:
            chunk = (accepted * (1 + (1 << 20) // len(accepted)))[: 1 << 20] if accepted else b""
            await self.verdict(inspector, *([chunk] * 16))
            longest = max(longest, asyncio.get_running_loop().time() - before)
        finally:
            beating.cancel()
        assert longest < LAG, f"the event loop stood still for {longest:.2f} s"
