"""What the wrappers do with MultipartUpload and Presigner: all but a part's stream is tried again, all that asks the storage is counted."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from mediacdn import MultipartUpload, NotFound, Part, Presigner, Storage, StorageUnavailable
from mediacdn.storage import retry
from mediacdn.storage.metrics import StorageMetrics
from mediacdn.storage.retry import Retrying, again
from mediacdn.storage.verify import Verifying
from mediacdn.testing import MemoryParts

pytestmark = pytest.mark.anyio

DOWN = StorageUnavailable("down")


class Flaky(MemoryParts):
    """Before each call of a part's, and each listed upload, the next entry of `script` is raised; None lets it pass, and so does the script's end."""

    def __init__(self, *script: Exception | None) -> None:
        super().__init__()
        self.script = list(script)
        self.calls = 0

    def _next(self) -> None:
        self.calls += 1
        if self.script and (error := self.script.pop(0)) is not None:
            raise error

    async def begin_parts(self, key: str) -> str:
        self._next()
        return await super().begin_parts(key)

    async def put_part(self, key: str, upload: str, number: int, chunks: Any, *, size: int) -> str:
        self._next()
        return await super().put_part(key, upload, number, chunks, size=size)

    async def list_parts(self, key: str, upload: str) -> Any:
        self._next()
        return await super().list_parts(key, upload)

    async def complete_parts(self, key: str, upload: str, parts: Any) -> Any:
        self._next()
        return await super().complete_parts(key, upload, parts)

    async def abort_parts(self, key: str, upload: str) -> None:
        self._next()
        await super().abort_parts(key, upload)

    async def list_uploads(self, prefix: str = "") -> AsyncIterator[Any]:
        self._next()
        async for each in super().list_uploads(prefix):
            yield each
            self._next()

    async def presign_get(self, key: str, expires: timedelta, *, media_type: str, disposition: str) -> str:
        return f"https://s.example/{key}"

    async def presign_put(self, key: str, expires: timedelta, *, size: int | None = None, media_type: str | None = None) -> str:
        return f"https://s.example/{key}?put"

    async def presign_part(self, key: str, upload: str, number: int, expires: timedelta, *, size: int | None = None) -> str:
        return f"https://s.example/{key}?{number}"


async def given(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def begin(storage: Any, upload: str, tag: str) -> Any:
    return await storage.begin_parts("b")


async def put(storage: Any, upload: str, tag: str) -> Any:
    return await storage.put_part("a", upload, 2, given(b"x"), size=1)


async def listed(storage: Any, upload: str, tag: str) -> Any:
    return await storage.list_parts("a", upload)


async def complete(storage: Any, upload: str, tag: str) -> Any:
    return await storage.complete_parts("a", upload, [Part(1, tag)])


async def abort(storage: Any, upload: str, tag: str) -> Any:
    return await storage.abort_parts("a", upload)


async def uploads(storage: Any, upload: str, tag: str) -> Any:
    return [each.upload async for each in storage.list_uploads()]


CALLS = {
    "begin_parts": begin,
    "put_part": put,
    "list_parts": listed,
    "complete_parts": complete,
    "abort_parts": abort,
    "list_uploads": uploads,
}
Call = Callable[[Any, str, str], Awaitable[Any]]


async def no_sleep(seconds: float) -> None:
    return


async def begun(*script: Exception | None) -> tuple[Flaky, str, str]:
    inner = Flaky()
    upload = await inner.begin_parts("a")
    tag = await inner.put_part("a", upload, 1, given(b"content"), size=7)
    inner.script, inner.calls = list(script), 0
    return inner, upload, tag


@pytest.mark.parametrize("name", CALLS)
async def test_what_is_safe_is_tried_again(name: str) -> None:
    inner, upload, tag = await begun(DOWN, DOWN)
    storage = Retrying(inner, sleep=no_sleep)
    if name == "put_part":
        with pytest.raises(StorageUnavailable):
            await CALLS[name](storage, upload, tag)
        assert inner.calls == 1
    else:
        await CALLS[name](storage, upload, tag)
        assert inner.calls >= 3


@pytest.mark.parametrize("name", CALLS)
async def test_other_errors_are_not_tried_again(name: str) -> None:
    inner, upload, tag = await begun(NotFound())
    with pytest.raises(NotFound):
        await CALLS[name](Retrying(inner, sleep=no_sleep), upload, tag)
    assert inner.calls == 1


async def test_a_list_of_uploads_is_not_begun_anew_after_its_first() -> None:
    inner, upload, tag = await begun(None, DOWN)
    with pytest.raises(StorageUnavailable):
        await uploads(Retrying(inner, sleep=no_sleep), upload, tag)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(("error", "outcome"), [(None, "ok"), (DOWN, "storage_unavailable")])
async def test_each_call_is_counted(name: str, error: Exception | None, outcome: str) -> None:
    inner, upload, tag = await begun(error)
    registry = CollectorRegistry()
    storage = StorageMetrics(registry).around(inner, "main")
    try:
        await CALLS[name](storage, upload, tag)
    except StorageUnavailable:
        assert error is not None
    labels = {"storage": "main", "operation": name, "outcome": outcome}
    assert registry.get_sample_value("mediacdn_storage_seconds_count", labels) == 1
    counted = registry.get_sample_value("mediacdn_storage_bytes_total", {"storage": "main", "direction": "in"})
    assert counted == (1 if name == "put_part" and error is None else 0)


@pytest.mark.parametrize("inner", [Flaky, MemoryParts])
async def test_powers_are_passed_on_through_all_wrappers(inner: type[MemoryParts]) -> None:
    storage: Storage = StorageMetrics(CollectorRegistry()).around(Retrying(Verifying(inner(), lambda key: None)), "main")
    assert isinstance(storage, MultipartUpload)
    assert storage.part_sizes == (1024, 1 << 30, 10_000)
    assert isinstance(storage, Presigner) is (inner is Flaky)
    if isinstance(storage, Presigner):
        assert await storage.presign_put("a", timedelta(hours=1)) == "https://s.example/a?put"


async def test_a_try_that_took_long_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, retry.PATIENCE + 0.1])
    monkeypatch.setattr("mediacdn.storage.retry.monotonic", lambda: next(times))
    calls = 0

    async def failing() -> None:
        nonlocal calls
        calls += 1
        raise DOWN

    with pytest.raises(StorageUnavailable):
        await again(failing, sleep=no_sleep)
    assert calls == 1
