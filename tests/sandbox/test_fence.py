"""The kernel's fence: what a child that was taken over does not get, what one that was not still has, and what is said where the kernel has none."""

import errno
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from mediacdn import ConfigError, Fence, Kit, enclose, open_sandbox
from mediacdn.cli.doctor import _fence as finding
from mediacdn.config import Config, Decoders, load
from mediacdn.drivers import fence_of, tell_of_fence
from mediacdn.sandbox import calls, fence
from mediacdn.sandbox.fence import Kernel, kernel
from mediacdn_ffmpeg.config import LookConfig
from mediacdn_ffmpeg.looking import open_looking
from mediacdn_ffmpeg.running import run as run_ffmpeg
from mediacdn_pdf.actions import open_facts
from mediacdn_pdf.config import FactsConfig as PdfConfig
from mediacdn_vips import ImageConfig, open_image
from tests.sandbox.attempts import TRIED

ROOT = Path(__file__).parent.parent.parent
fenced = pytest.mark.usefixtures("whole")
REFUSED = {errno.EPERM, errno.EACCES}
MAY = ("map what it was handed", "write what it makes", "start a thread", "import", "read of itself", "read a font", "signal itself", "raise", "read its limits", "lock")  # fmt: skip
ROOTS = (
    "write into the code",
    "trace its parent",
    "read its parent's memory",
    "load a program of BPF",
    "handle faults",
    "mount",
    "open a ring",
)
"""What others than root may be refused in any case."""
VICTIMS = ("remove a file", "move a file", "link a file", "cut a file short", "change a file's rights", "change a file's owner", "change a file's times", "mark a file", "watch a file", "write into a file")  # fmt: skip
LAST = ("connect", "leave its group", "outlive its parent", "become root somewhere", "run a program")
"""What is not asked of a child without a fence: it is parted from the network already, is its group's leader, or would be another afterwards."""


@pytest.fixture
def whole() -> None:
    assert kernel().whole, f"needs a kernel with Landlock and seccomp; this one has {kernel()}"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A data directory, a listener on loopback and one on a path; where each attempt is aimed."""
    keys = tmp_path / "keys"
    keys.mkdir(mode=0o700)
    (keys / "ring").write_text("s3cr3t")
    (tmp_path / "catalog.sqlite3").write_text("SQLite format 3")
    victims = {}
    for each in VICTIMS:
        victims[each] = str(tmp_path / each.replace(" ", "-"))
        Path(victims[each]).write_text("untouched")
    (tmp_path / "mount").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "line"))
        other.listen()
        yield {
            **dict.fromkeys(TRIED, ""),
            **victims,
            "read the catalog": str(tmp_path / "catalog.sqlite3"),
            "read a key": str(keys / "ring"),
            "read the passwords": "/etc/passwd",
            "read beside the code": str(ROOT / "pyproject.toml"),
            "list a folder": str(tmp_path),
            "write a file": str(tmp_path / "new"),
            "write into the code": os.__file__,
            "make a folder": str(tmp_path / "folder"),
            "connect": str(listener.getsockname()[1]),
            "connect to a path": str(tmp_path / "line"),
            "mount": str(tmp_path / "mount"),
            "import": "wave",
            "read a font": str(next(filter(os.path.exists, ("/etc/fonts/fonts.conf", os.__file__)))),
        }


async def tried(place: dict[str, str], names: list[str], tmp_path: Path, mode: Any = "auto") -> dict[str, Any]:
    (tmp_path / "given").write_bytes(b"given to it")
    async with open_sandbox(call="tests.sandbox.attempts:run", children=1, fence=Fence(mode)) as box:
        with (tmp_path / "given").open("rb") as given, (tmp_path / "made").open("w+b") as made:
            return await box.run({"try": {each: place[each] for each in names}}, [given.fileno(), made.fileno()], deadline=20)


@fenced
@pytest.mark.anyio
async def test_a_child_that_was_taken_over_gets_nothing(place: dict[str, str], tmp_path: Path) -> None:
    names = [each for each in TRIED if each not in MAY]
    numbers = await tried(place, names, tmp_path)
    assert {each: number for each, number in numbers.items() if number not in REFUSED} == {}
    assert not {"new", "folder"} & set(os.listdir(tmp_path))
    assert {(tmp_path / each.replace(" ", "-")).read_text() for each in VICTIMS} == {"untouched"}


@fenced
@pytest.mark.anyio
async def test_it_still_has_what_it_is_for(place: dict[str, str], tmp_path: Path) -> None:
    assert await tried(place, list(MAY), tmp_path, "require") == dict.fromkeys(MAY, 0)
    assert (tmp_path / "made").read_bytes() == b"made"


@pytest.mark.anyio
async def test_it_is_the_fence_that_refuses(place: dict[str, str], tmp_path: Path) -> None:
    names = [each for each in TRIED if each not in (*LAST, *(() if os.geteuid() == 0 else ROOTS))]
    numbers = await tried(place, names, tmp_path, "off")
    assert [each for each, number in numbers.items() if number in REFUSED] == []


@fenced
@pytest.mark.parametrize(
    ("word", "comes_through"),
    [
        ("read line < {folder}/before && echo $line > {folder}/after && rm_ {folder}", True),
        ("read line < {outside}/secret", False),
        ("echo taken > {outside}/new", False),
        ("echo taken > {outside}/secret", False),
        ("kill -0 {parent}", False),
        ("exec /bin/cat {folder}/before", False),  # another program than the one that was named
        ("(exit 0)", False),  # a process
    ],
)
def test_a_program_has_its_folder_and_no_more(tmp_path: Path, word: str, comes_through: bool) -> None:
    folder, outside = tmp_path / "folder", tmp_path / "outside"
    for each in (folder, outside):
        each.mkdir()
    (folder / "before").write_text("words\n")
    (outside / "secret").write_text("s3cr3t\n")
    held = os.open(folder, os.O_RDONLY)
    try:
        script = "rm_() { :; }; " + word.format(folder=folder, outside=outside, parent=os.getpid())
        ended = subprocess.run(
            ["/bin/sh", "-c", script], check=False, capture_output=True, preexec_fn=lambda: enclose(Fence("require"), program="/bin/sh", folder=held)
        )  # fmt: skip
    finally:
        os.close(held)
    assert (ended.returncode == 0) is comes_through, ended.stderr
    assert (folder / "after").exists() is comes_through
    assert (os.listdir(outside), (outside / "secret").read_text()) == (["secret"], "s3cr3t\n")


@fenced
def test_older_versions_of_landlock_are_asked_for_what_they_have(tmp_path: Path) -> None:
    """Each version by itself, as a kernel of its time would be asked."""
    (tmp_path / "secret").touch()
    script = (
        "import os, sys, fractions\nfrom mediacdn import Fence\nfrom mediacdn.sandbox import fence\nfor version in range(1, fence.kernel().landlock + 1):\n"
        "    pid = os.fork()\n    if not pid:\n        try:\n            fence._called('prctl', 38, 1, 0, 0, 0)\n"
        "            fence._shut_files(version, Fence(), 'mediacdn', '', None)\n            import wave\n        except BaseException:\n            os._exit(1)\n"
        "        try:\n            open(sys.argv[1])\n        except PermissionError:\n            os._exit(0)\n        os._exit(2)\n"
        "    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "secret")], check=True, capture_output=True, text=True
    ).stdout.split()
    assert told == ["0"] * kernel().landlock


@fenced
@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["auto", "off"])
async def test_first_party_decoders_are_behind_it(mode: Any) -> None:
    kit: Any = Kit("", None, None, None, fence=Fence(mode))  # type: ignore[arg-type]
    opened = (open_image(ImageConfig(children=1), kit), open_facts(PdfConfig(), kit), open_looking(LookConfig(), kit))
    found = []
    told = re.compile(r"Seccomp_filters:\t(\d+)")
    mine = int(told.findall(Path("/proc/self/status").read_text())[0])  # noqa: ASYNC240
    for each in opened:
        async with each as action:
            await action._box.start()
            [pid] = action._box.pids
            found += [int(number) - mine for number in told.findall(Path(f"/proc/{pid}/status").read_text())]  # noqa: ASYNC240
    assert found == [int(mode == "auto")] * 3


@fenced
@pytest.mark.parametrize("mode", ["auto", "off"])
def test_ffmpeg_is_behind_it(tmp_path: Path, mode: str) -> None:
    """By a shell in its place."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "source").touch()
    descriptors = [os.open(each, os.O_RDONLY) for each in (tmp_path / "source", tmp_path / "folder", os.devnull)]
    try:
        words = ["/bin/sh", "-c", f"echo made > made; echo taken > {tmp_path}/taken"]
        ran = run_ffmpeg({"arguments": words, "nice": 0, "fence": {"mode": mode}}, descriptors)
    finally:
        for each in descriptors:
            os.close(each)
    assert (ran["code"] == 0) is (tmp_path / "taken").exists() is (mode == "off")
    assert os.listdir(tmp_path / "folder") == ["made"]


# The filter, by what it says of each call, on both machines


def verdict(program: list[calls.Instruction], machine: int, number: int, *arguments: int) -> int:
    """Run classic BPF over seccomp's data."""
    words = {0: number, 4: machine, **{16 + 8 * at: value & 0xFFFFFFFF for at, value in enumerate(arguments)}}
    at = held = 0
    while True:
        code, yes, no, value = program[at]
        at += 1
        if code == calls._GIVE:
            return value & 0xFFFF if value >> 16 == calls._ERRNO >> 16 else 0
        if code == calls._LOAD:
            held = words.get(value, 0)
        else:
            true = {calls._EQUAL: held == value, calls._AT_LEAST: held >= value, calls._ANY_OF: bool(held & value)}[code]
            at += yes if true else no


@pytest.mark.parametrize(("column", "machine"), [(0, calls._X86_64), (1, calls._AARCH64)], ids=["x86_64", "aarch64"])
@pytest.mark.parametrize("programs", [False, True])
def test_the_filter_refuses_by_number_and_argument(column: int, machine: int, programs: bool) -> None:
    program, pid = calls._program(column, 4711, programs=programs), 4711
    ask = lambda number, *words: verdict(program, machine, number, *words)  # noqa: E731
    for name, numbers in calls.REFUSED.items():
        if numbers[column]:
            assert ask(numbers[column], pid) == errno.EPERM, name
    assert {ask(each[column]) for each in calls.PROGRAMS.values()} == {0 if programs else errno.EPERM}
    clone, prctl = calls._CLONE[column], calls._PRCTL[column]
    assert [ask(clone, 0x3D0F00), ask(clone, 17), ask(clone, 0x3D0F00 | 1 << 28), ask(calls._CLONE3[column])] == [
        0,
        errno.EPERM,
        errno.EPERM,
        errno.ENOSYS,
    ]
    assert [ask(prctl, 15), ask(prctl, 1), ask(prctl, 1 | 1 << 32)] == [0, errno.EPERM, errno.EPERM]
    for numbers in calls._TO_ITSELF.values():
        assert [ask(numbers[column], each) for each in (pid, 1, 0, -1)] == [0, errno.EPERM, errno.EPERM, errno.EPERM]
    for numbers in calls._OF_ITSELF.values():
        assert [ask(numbers[column], each) for each in (pid, 0, 1)] == [0, 0, errno.EPERM]
    assert [ask(451), ask(0x40000000 + 39), verdict(program, 0x40000003, 102)] == [errno.ENOSYS, errno.ENOSYS, errno.EPERM]
    listed = {each[column] for table in (calls.REFUSED, calls.PROGRAMS, calls._TO_ITSELF, calls._OF_ITSELF) for each in table.values()}
    others = set(range(451)) - listed - {clone, prctl, calls._CLONE3[column]}
    assert {ask(each) for each in others} == {0}
    assert len(program) < 4096


def test_the_numbers_are_the_kernels() -> None:
    """By its headers, those of other machines where they are installed."""
    alone = {"clone": calls._CLONE, "clone3": calls._CLONE3, "prctl": calls._PRCTL, "seccomp": calls._SECCOMP}
    for column, header in ((0, "x86_64-linux-gnu/asm/unistd_64.h"), (1, "asm-generic/unistd.h")):
        if (found := Path("/usr/include", header)).exists():
            theirs = {name: int(number) for name, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", found.read_text())}
            ours = {
                name: each[column] for name, each in (calls.REFUSED | calls.PROGRAMS | calls._TO_ITSELF | calls._OF_ITSELF | alone).items()
            }
            assert ours == {name: theirs.get(name, 0) for name in ours}


# Where the kernel has none of it


@pytest.mark.parametrize("has", [Kernel(0, False), Kernel(0, True), Kernel(3, False), Kernel(3, True)], ids=str)
@pytest.mark.parametrize("mode", ["auto", "require", "off"])
def test_what_is_required_is_there_or_nothing_starts(monkeypatch: pytest.MonkeyPatch, has: Kernel, mode: Any) -> None:
    for module in ("mediacdn.sandbox.fence", "mediacdn.drivers"):
        monkeypatch.setattr(f"{module}.kernel", lambda: has)
    settings = Decoders(fence=mode, reads=("/opt/fonts",))
    whole = mode != "off" and has.whole
    with capture_logs() as logs:
        tell_of_fence(settings)
    assert [entry["log_level"] for entry in logs] == ["info" if whole else "warning"]
    told = finding(Config(decoders=settings))
    assert told.state == ("ok" if whole else "fail" if mode == "require" else "warn")
    if mode == "require" and not has.whole:
        with pytest.raises(ConfigError, match="require"):
            fence_of(settings)
        with pytest.raises(OSError, match="required"):
            enclose(Fence(mode))
    else:
        assert fence_of(settings) == Fence(mode, ("/opt/fonts",))


@pytest.mark.anyio
async def test_without_one_children_work_as_they_are(monkeypatch: pytest.MonkeyPatch, place: dict[str, str], tmp_path: Path) -> None:
    assert await tried(place, ["map what it was handed", "read the catalog"], tmp_path, "off") == {
        "map what it was handed": 0,
        "read the catalog": 0,
    }
    called: list[str] = []
    monkeypatch.setattr(fence, "kernel", lambda: Kernel(0, False))
    monkeypatch.setattr(fence, "_called", lambda name, *_: called.append(name) or 0)
    enclose(Fence())
    enclose(Fence("off"))
    assert called == ["prctl"]


@fenced
@pytest.mark.anyio
async def test_further_paths_may_be_read(place: dict[str, str], tmp_path: Path) -> None:
    async with open_sandbox(
        call="tests.sandbox.attempts:run", children=1, fence=Fence("auto", (str(tmp_path / "keys"), "/not/there"))
    ) as box:
        names = ["read a key", "read the catalog"]
        numbers = await box.run({"try": {each: place[each] for each in names}}, deadline=20)
    assert numbers == {"read a key": 0, "read the catalog": errno.EACCES}


@pytest.mark.parametrize("wrong", ['fence = "sometimes"', 'reads = ["fonts"]', "fences = 1"])
def test_wrong_keys_are_named(tmp_path: Path, wrong: str) -> None:
    (tmp_path / "mediacdn.toml").write_text(f"[decoders]\n{wrong}\n")
    with pytest.raises(ConfigError, match="decoders"):
        load(tmp_path / "mediacdn.toml")
