"""The sandbox, with children that do what broken and taken-over decoders do."""

import asyncio
import os
import pwd
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from mediacdn import Fence, InvalidArgument, MediaError, OverLimits, Overloaded, Sandbox, Unavailable, Undecodable, open_sandbox
from mediacdn.sandbox.pool import WARM_AFTER

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param}


@asynccontextmanager
async def opened(**options: Any) -> AsyncIterator[Sandbox]:
    """A sandbox of pranks; afterwards nothing of it is left."""
    before = len(os.listdir("/proc/self/fd"))
    async with open_sandbox(call="tests.sandbox.pranks:run", **{"children": 1, **options}) as box:
        await box.start()
        yield box
        pids = box.pids
    assert not any(map(alive, pids))
    await asyncio.sleep(0.01)
    assert len(os.listdir("/proc/self/fd")) <= before + 2  # what the loop itself opens at its first child


def proc(pid: int, name: str) -> bytes:
    return Path(f"/proc/{pid}/{name}").read_bytes()


def alive(pid: int) -> bool:
    try:
        return proc(pid, "stat").rpartition(b")")[2].split()[0] != b"Z"
    except FileNotFoundError:
        return False


async def gone(*pids: int, within: float = 3.0) -> bool:
    until = time.monotonic() + within
    while any(map(alive, pids)):
        if time.monotonic() > until:
            return False
        await asyncio.sleep(0.02)
    return True


# What it is for


async def test_it_answers_with_descriptors_alone(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"quiet")
    async with opened() as box:
        with (tmp_path / "in").open("rb") as source, (tmp_path / "out").open("w+b") as output:
            for _ in range(3):
                answer = await box.run({"do": "upper"}, [source.fileno(), output.fileno()], deadline=5)
                assert answer == {"read": 5, "writable": False}
    assert (tmp_path / "out").read_bytes() == b"QUIET" * 3


async def test_a_child_stays_warm_and_is_replaced_after_its_jobs() -> None:
    async with opened(jobs=3) as box:
        pids = [(await box.run({"do": "echo", "at": at}, deadline=5))["pid"] for at in range(7)]
        assert [len(set(pids[:3])), len(set(pids[3:6])), len(set(pids))] == [1, 1, 3]
        assert await gone(pids[0], pids[3])


async def test_a_child_that_keeps_much_memory_is_replaced() -> None:
    async with opened(resident=200 << 20) as box:
        pids = [(await box.run({"do": "keep", "bytes": 40 << 20}, deadline=5))["pid"] for _ in range(4)]
        assert [pids[0] == pids[1], pids[1] == pids[2], pids[2] == pids[3]] == [True, True, False]


async def test_memory_beyond_the_bound_is_refused() -> None:
    async with opened(resident=200 << 20, memory=1 << 34) as box:
        with pytest.raises(OverLimits, match="memory"):
            await box.run({"do": "keep", "bytes": 200 << 20}, deadline=5)
        with pytest.raises(OverLimits, match="memory"):
            await box.run({"do": "hoard"}, deadline=10)
    async with opened(resident=0, memory=1 << 34) as box:
        await box.run({"do": "keep", "bytes": 400 << 20}, deadline=5)


async def test_children_work_beside_each_other() -> None:
    async with opened(children=2) as box:
        began = time.monotonic()
        await asyncio.gather(*(box.run({"do": "sleep", "seconds": 0.5}, deadline=5) for _ in range(2)))
        assert time.monotonic() - began < 0.95


@pytest.mark.parametrize(
    ("code", "kind"), [("undecodable", Undecodable), ("over_limits", OverLimits), ("invalid_argument", InvalidArgument)]
)
async def test_errors_come_back_as_they_were(code: str, kind: type[MediaError]) -> None:
    async with opened() as box:
        with pytest.raises(kind) as caught:
            await box.run({"do": "refuse", "code": code, "detail": "w must be at least 1"}, deadline=5)
        assert type(caught.value) is kind
        assert caught.value.detail == "w must be at least 1"
        [pid] = box.pids
        assert (await box.run({"do": "echo"}, deadline=5))["pid"] == pid  # a refusal costs no child


# What the child has


async def test_it_has_no_secret_no_descriptor_and_no_right(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MEDIACDN_SECRET", "s3cr3t")
    with (tmp_path / "private").open("w") as private:
        os.set_inheritable(private.fileno(), True)
        async with opened(environment={"VIPS_CONCURRENCY": "1"}, memory=700 << 20, output=1 << 20, files=24, processor=3) as box:
            for _ in range(3):  # nothing is left of one request for the next
                with tempfile.TemporaryFile() as given:
                    told = await box.run({"do": "tell"}, [given.fileno()], deadline=5)
                assert set(told["environment"]) - {"LC_CTYPE"} == {"PATH", "LANG", "VIPS_CONCURRENCY"}
                assert b"s3cr3t" not in proc(told["pid"], "environ")
                assert b"s3cr3t" not in proc(told["pid"], "cmdline")
                files = told["files"]
                assert (files.pop("0"), files.pop("1")) == ("/dev/null", "/dev/null")
                assert files.pop("2").partition(":")[0] in ("pipe", "socket")
                assert sum(target.startswith("socket:") for target in files.values()) == 1  # its line to the parent
                assert len(files) == 2, files  # and what it was given
                limits = told["limits"]
                assert (limits["RLIMIT_AS"], limits["RLIMIT_FSIZE"], limits["RLIMIT_CORE"], limits["RLIMIT_NOFILE"]) == (
                    700 << 20,
                    1 << 20,
                    0,
                    24,
                )
                assert limits["RLIMIT_CPU"] <= 5
                assert (told["privileges"], told["session"], told["folder"], told["isolated"]) == ("1", True, "/", 1)


def lets_processes_part() -> bool:
    """Whether the kernel has a network of its own for who asks."""
    ask = "import ctypes, sys; libc = ctypes.CDLL(None); sys.exit(bool(libc.unshare(1 << 30) and libc.unshare(5 << 28)))"
    return subprocess.run([sys.executable, "-c", ask], check=False).returncode == 0


async def test_it_has_no_network_where_the_kernel_lets_it_leave() -> None:
    async with opened() as box:
        told = await box.run({"do": "tell"}, deadline=5)
    assert (
        set(told["net"]) <= {"lo", "sit0", "tunl0", "ip6tnl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "ip6gre0"}
        or not lets_processes_part()
    )
    assert (told["parting"], told["user"]) == (signal.SIGKILL, os.getuid())


async def test_it_becomes_another_user_or_does_not_start() -> None:
    mine = pwd.getpwuid(os.getuid())
    async with open_sandbox(call="tests.sandbox.pranks:run", children=1, user=mine.pw_name) as box:
        if os.geteuid() == 0:
            told = await box.run({"do": "tell"}, deadline=5)
            assert (told["user"], told["groups"], told["parting"], told["privileges"]) == (mine.pw_uid, [], signal.SIGKILL, "1")
        else:  # setgroups is root's
            with pytest.raises(Unavailable):
                await box.run({"do": "tell"}, deadline=5)
    async with open_sandbox(call="tests.sandbox.pranks:run", children=1, user="nobody-of-this-name") as box:
        with pytest.raises(Unavailable):
            await box.run({"do": "tell"}, deadline=5)


async def test_starting_children_does_not_hold_up_the_loop() -> None:
    """Nor does it where the process is large, and a fork would copy the tables of all its pages."""
    heap = bytearray(256 << 20)
    heap[::4096] = b"x" * len(heap[::4096])
    async with open_sandbox(call="tests.sandbox.pranks:run", children=4) as box:
        loop, held = asyncio.get_running_loop(), []

        async def watch() -> None:
            while True:
                before = time.thread_time(), loop.time()
                await asyncio.sleep(0.001)
                held.append(time.thread_time() - before[0])

        watching = asyncio.create_task(watch())
        await box.start()
        watching.cancel()
    assert max(held) < 0.015, "seconds of its own processor time in one turn"


# What it does to who misbehaves


@pytest.mark.parametrize(
    ("request_", "options", "kind"),
    [
        ({"do": "sleep"}, {}, OverLimits),
        ({"do": "deaf"}, {}, OverLimits),
        ({"do": "spin"}, {"processor": 1, "deadline": 10}, OverLimits),
        ({"do": "hoard"}, {"memory": 300 << 20, "deadline": 10}, OverLimits),
        ({"do": "abort_for_memory"}, {}, OverLimits),
        ({"do": "fall", "signal": "SIGKILL"}, {}, OverLimits),
        ({"do": "fall", "signal": "SIGSEGV"}, {}, Undecodable),
        ({"do": "fall", "signal": "SIGABRT"}, {}, Undecodable),
        ({"do": "leave"}, {}, Undecodable),
        ({"do": "fail"}, {}, Undecodable),
        ({"do": "refuse", "code": "not_found", "detail": "x"}, {}, Undecodable),
        ({"do": "unpackable"}, {}, Undecodable),
        ({"do": "large"}, {}, Undecodable),
        *(({"do": "forge", "what": what}, {"deadline": 10}, Undecodable) for what in ("noise", "pickle", "list", "types", "deep", "nothing", "code", "length")),
    ],
    ids=lambda each: "-".join(map(str, each.values())) if isinstance(each, dict) and "do" in each else "",
)  # fmt: skip
async def test_misbehaviour_has_a_name_and_an_end(request_: dict[str, Any], options: dict[str, Any], kind: type[MediaError]) -> None:
    deadline = options.pop("deadline", 1.0)
    async with opened(**options) as box:
        [pid] = box.pids
        began = time.monotonic()
        with capture_logs() as logs, pytest.raises(MediaError) as caught:
            await box.run(request_, deadline=deadline)
        assert type(caught.value) is kind
        assert time.monotonic() - began < 6
        assert caught.value.detail.isprintable()
        assert len(caught.value.detail) <= 300
        assert "/etc" not in str(logs)
        if request_ != {"do": "forge", "what": "nothing"} and request_.get("what") != "code":  # a reply, if an odd one
            assert await gone(pid)
        assert (await box.run({"do": "echo"}, deadline=5))["do"] == "echo"


async def test_an_output_ends_at_its_limit(tmp_path: Path) -> None:
    async with opened(output=200_000) as box:
        with (tmp_path / "out").open("wb") as output, pytest.raises(Undecodable):
            await box.run({"do": "fill"}, [output.fileno()], deadline=5)
    assert (tmp_path / "out").stat().st_size == 200_000


async def test_who_shouts_into_stderr_is_heard_and_does_not_hang() -> None:
    async with opened() as box:
        assert await box.run({"do": "shout"}, deadline=5) == {"shouted": True}
        with capture_logs() as logs, pytest.raises(Undecodable):
            await box.run({"do": "fall", "signal": "SIGSEGV"}, deadline=5)
    [entry] = logs
    assert entry["signal"] == "SIGSEGV"
    assert "file.c:12: bad" in entry["stderr"]
    assert len(entry["stderr"]) <= 4096
    assert "/etc" not in entry["stderr"]
    assert "\x1b" not in entry["stderr"]


async def test_the_deadline_and_cancellation_kill_what_the_child_started(tmp_path: Path) -> None:
    async with opened(fence=Fence("off")) as box:  # behind one it starts nothing
        for way in ("deadline", "cancellation"):
            [pid] = box.pids
            with (tmp_path / way).open("w+b") as output:
                work = asyncio.create_task(box.run({"do": "spawn"}, [output.fileno()], deadline=1 if way == "deadline" else 60))
                await asyncio.sleep(0.5)
                grandchild = int((tmp_path / way).read_text())
                assert alive(grandchild)
                if way == "cancellation":
                    work.cancel()
                with pytest.raises((OverLimits, asyncio.CancelledError)):
                    await work
            assert await gone(pid, grandchild)
            assert (await box.run({"do": "echo"}, deadline=5))["do"] == "echo"


async def test_a_child_that_died_idle_is_replaced_unseen() -> None:
    async with opened(children=2) as box:
        for pid in box.pids:
            os.kill(pid, signal.SIGKILL)
        for _ in range(3):
            assert (await box.run({"do": "echo"}, deadline=5))["do"] == "echo"


# The queue


async def test_beyond_the_queue_it_says_so_at_once() -> None:
    async with opened(queue=1) as box:
        first, second = (asyncio.create_task(box.run({"do": "sleep", "seconds": 0.4}, deadline=5)) for _ in range(2))
        await asyncio.sleep(0.05)
        began = time.monotonic()
        with pytest.raises(Overloaded) as caught:
            await box.run({"do": "echo"}, deadline=5)
        assert time.monotonic() - began < 0.05
        assert int(caught.value.headers["Retry-After"]) >= 1
        second.cancel()  # who leaves the queue makes room in it
        await asyncio.sleep(0)
        third = asyncio.create_task(box.run({"do": "echo"}, deadline=5))
        assert (await third)["do"] == "echo"
        await first


async def test_who_is_cancelled_as_its_turn_comes_keeps_no_child() -> None:
    async with opened(queue=50) as box:
        for _ in range(20):
            works = [asyncio.create_task(box.run({"do": "echo"}, deadline=5)) for _ in range(6)]
            await asyncio.sleep(0.001)
            for each in works[::2]:
                each.cancel()
            await asyncio.gather(*works, return_exceptions=True)
        assert (await box.run({"do": "echo"}, deadline=5))["do"] == "echo"


async def test_closing_ends_what_runs_and_who_waits() -> None:
    async with opened(queue=5) as box:
        works = [asyncio.create_task(box.run({"do": "sleep"}, deadline=60)) for _ in range(3)]
        await asyncio.sleep(0.05)
    results = await asyncio.wait_for(asyncio.gather(*works, return_exceptions=True), 3)
    assert all(isinstance(each, MediaError) for each in results)
    with pytest.raises(Unavailable):
        await box.run({"do": "echo"}, deadline=5)


async def test_one_child_is_warm_soon_and_the_others_when_they_are_wanted() -> None:
    async with open_sandbox(call="tests.sandbox.pranks:run", children=2, warm=True) as box:
        assert box.pids == []
        await asyncio.sleep(WARM_AFTER)
        while not box.pids:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        assert len(box.pids) == 1
        await asyncio.gather(*[box.run({"do": "sleep", "seconds": 1}, deadline=20) for _ in range(2)])
        assert len(box.pids) == 2


async def test_what_cannot_be_imported_is_unavailable() -> None:
    before: list[str] = []
    for _ in range(3):  # the first one's failure ends the others wherever they are
        with pytest.raises(Unavailable):
            async with open_sandbox(call="tests.sandbox.nowhere:run", children=3) as box:
                await box.start()
        before = before or os.listdir("/proc/self/fd")
    assert len(os.listdir("/proc/self/fd")) <= len(before)


async def test_requests_are_bounded() -> None:
    async with opened() as box:
        with pytest.raises(ValueError, match="64 KiB"):
            await box.run({"do": "x" * 70_000}, deadline=5)
        with pytest.raises(ValueError, match="descriptors"):
            await box.run({"do": "echo"}, [0] * 9, deadline=5)


# The parent


async def test_the_loop_is_never_blocked() -> None:
    """Children start, work, crash and are killed while a ticker watches the loop; a thread tells how late anybody is on this machine."""
    lags: list[float] = []
    others: list[float] = []
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            at = time.monotonic()
            time.sleep(0.002)
            others.append(time.monotonic() - at - 0.002)

    async def tick() -> None:
        while True:
            at = time.monotonic()
            await asyncio.sleep(0.002)
            lags.append(time.monotonic() - at - 0.002)

    ticker = asyncio.create_task(tick())
    watcher = threading.Thread(target=watch)
    watcher.start()
    async with opened(children=2, jobs=5, memory=400 << 20) as box:
        for _ in range(3):
            await asyncio.gather(
                *(box.run({"do": "echo"}, deadline=5) for _ in range(10)),
                box.run({"do": "fall", "signal": "SIGSEGV"}, deadline=5),
                box.run({"do": "sleep"}, deadline=0.2),
                box.run({"do": "hoard"}, deadline=5),
                return_exceptions=True,
            )
    ticker.cancel()
    over.set()
    watcher.join()
    lags.sort()
    others.sort()
    assert (
        lags[len(lags) * 98 // 100] < 0.03 + others[len(others) * 98 // 100]
    )  # fork and exec, on a machine whose processors the children take
    assert lags[-1] < 0.3 + others[-1]


@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGTERM])
async def test_no_child_outlives_its_parent(way: signal.Signals) -> None:
    parent = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.sandbox.parent", cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert parent.stdout is not None
        pids = [int(each) for each in (await parent.stdout.readline()).split()]
        assert len(pids) == 2
        assert all(map(alive, pids))
    finally:
        parent.send_signal(way)
        await parent.wait()
    assert await gone(*pids)
