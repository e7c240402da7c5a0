"""Inspectors beside an upload: what they see, whose word counts, and what becomes of those that fail, dawdle or never end."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mediacdn.errors import ContentRejected, InspectionUnavailable
from mediacdn.inspection import Inspection
from mediacdn.model import Incoming, Verdict

pytestmark = pytest.mark.anyio
UPLOAD = Incoming(id="x", owner="alice", media_type="text/plain")
ACCEPT, REJECT, WITHHOLD = Verdict("accept"), Verdict("reject", "bad\n" + "x" * 400), Verdict("quarantine", "odd\x00")


class Says:
    """Reads everything, or as many chunks as it is told, and then says what it is told."""

    def __init__(self, verdict: Any, chunks: int | None = None, pause: float = 0.0) -> None:
        self.verdict, self.chunks, self.pause = verdict, chunks, pause
        self.seen: list[bytes] = []
        self.ended = False

    async def inspect(self, upload: Incoming, chunks: AsyncIterator[bytes]) -> Verdict:
        assert upload is UPLOAD
        try:
            if self.chunks != 0:
                async for chunk in chunks:
                    self.seen.append(chunk)
                    if len(self.seen) == self.chunks:
                        break
            await asyncio.sleep(self.pause)
            if isinstance(self.verdict, BaseException):
                raise self.verdict
            return self.verdict  # type: ignore[no-any-return]
        finally:
            self.ended = True


async def asked(*inspectors: Any, chunks: tuple[bytes, ...] = (b"a", b"b", b"c"), **rules: Any) -> str | None:
    inspection = Inspection({str(number): each for number, each in enumerate(inspectors)}, **rules)
    async with inspection.of(UPLOAD) as watch:
        assert watch is not None
        for each in chunks:
            await watch.feed(each)
        return await watch.verdict()


async def test_without_inspectors_nothing_is_watched() -> None:
    async with Inspection({}).of(UPLOAD) as watch:
        assert watch is None


@pytest.mark.parametrize("chunks", [(), (b"a",), (b"a", b"b", b"c")])
async def test_all_see_the_whole_stream_in_order(chunks: tuple[bytes, ...]) -> None:
    one, other = Says(ACCEPT), Says(WITHHOLD, pause=0.01)
    assert await asked(one, other, chunks=chunks) == "odd"
    assert one.seen == other.seen == list(chunks)


FAILURE = RuntimeError("no engine")


@pytest.mark.parametrize(
    ("said", "on_failure", "outcome"),
    [
        ((ACCEPT, ACCEPT), "refuse", None),
        ((ACCEPT, WITHHOLD), "refuse", "odd"),
        ((WITHHOLD, Verdict("quarantine", "too")), "refuse", "odd; too"),
        ((Verdict("quarantine"),), "refuse", ""),
        ((WITHHOLD, REJECT), "refuse", ContentRejected),
        ((FAILURE, REJECT), "refuse", ContentRejected),
        ((FAILURE, REJECT), "accept", ContentRejected),
        ((ACCEPT, FAILURE), "refuse", InspectionUnavailable),
        ((WITHHOLD, FAILURE), "refuse", InspectionUnavailable),
        ((ACCEPT, FAILURE), "accept", None),
        ((WITHHOLD, FAILURE), "accept", "odd"),
        ((ACCEPT, FAILURE), "quarantine", "not inspected by 1"),
        ((WITHHOLD, FAILURE), "quarantine", "odd; not inspected by 1"),
        ((None,), "refuse", InspectionUnavailable),
        ((True,), "refuse", InspectionUnavailable),
        (("accept",), "refuse", InspectionUnavailable),
        ((Verdict("fine"),), "refuse", InspectionUnavailable),  # type: ignore[arg-type]
        ((asyncio.CancelledError(),), "refuse", InspectionUnavailable),
        ((TimeoutError(),), "refuse", InspectionUnavailable),
    ],
)
@pytest.mark.parametrize("chunks", [None, 0, 1])
async def test_whose_word_counts(said: tuple[Any, ...], on_failure: str, outcome: Any, chunks: int | None) -> None:
    inspectors = [Says(each, chunks) for each in said]
    if isinstance(outcome, type):
        with pytest.raises(outcome):
            await asked(*inspectors, on_failure=on_failure)
    else:
        assert await asked(*inspectors, on_failure=on_failure) == outcome


async def test_a_reason_is_bounded_and_printable() -> None:
    with pytest.raises(ContentRejected) as refusal:
        await asked(Says(REJECT))
    assert refusal.value.detail == "bad" + "x" * 296
    with pytest.raises(ContentRejected, match="An inspection rejects this content"):
        await asked(Says(Verdict("reject")))


async def test_a_rejection_ends_the_upload_where_it_is() -> None:
    slow = Says(ACCEPT)
    inspection = Inspection({"quick": Says(REJECT, 1), "slow": slow})

    async def upload() -> None:
        async with inspection.of(UPLOAD) as watch:
            assert watch is not None
            for _ in range(5):
                await watch.feed(b"a")
                await asyncio.sleep(0)

    with pytest.raises(ContentRejected):
        await upload()
    assert len(slow.seen) < 5
    assert slow.ended


class Deaf:
    """Takes nothing, or a chunk and no more, and ends when it likes."""

    def __init__(self, chunks: int, stubborn: bool = False) -> None:
        self.chunks, self.stubborn = chunks, stubborn

    async def inspect(self, upload: Incoming, chunks: AsyncIterator[bytes]) -> Verdict:
        for _ in range(self.chunks):
            await anext(chunks)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if not self.stubborn:
                raise
            await asyncio.sleep(1.5)
        return ACCEPT


@pytest.mark.parametrize("stubborn", [False, True])
@pytest.mark.parametrize("chunks", [0, 1, 3])
async def test_who_is_late_has_failed(chunks: int, stubborn: bool) -> None:
    began = time.monotonic()
    with pytest.raises(InspectionUnavailable):
        await asked(Says(ACCEPT), Deaf(chunks, stubborn), deadline=0.1)
    assert time.monotonic() - began < 2
    assert await asked(Says(ACCEPT), Deaf(chunks), deadline=0.1, on_failure="accept") is None
    if stubborn:
        await asyncio.sleep(1.6)  # it ends by itself, which is heard


async def test_a_slow_upload_is_not_the_inspectors_delay() -> None:
    inspection = Inspection({"one": Says(ACCEPT)}, deadline=0.05)
    async with inspection.of(UPLOAD) as watch:
        assert watch is not None
        for _ in range(3):
            await asyncio.sleep(0.08)
            await watch.feed(b"a")
        assert await watch.verdict() is None


async def test_a_cancelled_upload_ends_its_inspectors() -> None:
    one, two = Says(ACCEPT), Deaf(0)
    task = asyncio.create_task(asked(one, two, chunks=(b"a",) * 5))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert one.ended
    assert not [each for each in asyncio.all_tasks() if each.get_name().startswith("inspect:")]


async def test_no_more_than_two_batches_lie_about() -> None:
    """One in the inspector's hands and one before it: a slow one slows the upload, and costs no memory."""
    slow = Says(ACCEPT)
    given = 0

    class Slow:
        async def inspect(self, upload: Incoming, chunks: AsyncIterator[bytes]) -> Verdict:
            async for each in chunks:
                slow.seen.append(each)
                await asyncio.sleep(0.01)
                assert given <= len(slow.seen) + 2
            return ACCEPT

    inspection = Inspection({"slow": Slow()})
    async with inspection.of(UPLOAD) as watch:
        assert watch is not None
        for _ in range(10):
            await watch.feed(b"a")
            given += 1
        assert await watch.verdict() is None
    assert len(slow.seen) == 10
