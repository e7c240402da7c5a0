"""Which core a process runs on, and how much processor time it has used: the two things that make servers comparable."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TICK = 1 / os.sysconf("SC_CLK_TCK")


def pair() -> tuple[int, int]:
    """The core that servers are pinned to, and the one for what loads them. Raises: SystemExit on a machine with one core."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("a server and its load need a core each, and here is only one")
    return cores[0], cores[1]


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Within it, this thread and every process that it starts stay on one core; as `taskset -c` does it."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def family(pid: int) -> list[int]:
    """A process and all that descends from it."""
    found = [pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def spent(pids: Iterable[int]) -> float:
    """Seconds of processor time, user and system, of these processes so far (proc(5), fields 14 and 15 of stat)."""
    return sum(_spent(pid) for pid in pids)


class Meter:
    """The processor time that processes and all that descends from them use from now on; one that ends meanwhile, such as nginx's cache loader, is left out."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._before = {each: _spent(each) for pid in pids for each in family(pid)}

    def used(self) -> float:
        """Seconds since the beginning."""
        total = 0.0
        for pid, before in self._before.items():
            with suppress(FileNotFoundError, ProcessLookupError):
                total += _spent(pid) - before
        return total


def _spent(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK
