"""The kernel's fence around a process that reads untrusted bytes: what it may open (Landlock), and what it may ask of the kernel at all (calls.py).

Descriptors that it was handed work on, and are how media come and go; by itself it opens its code, and what its libraries look for. Both are for good, and
for whatever it starts. A kernel that has one of them (Landlock since Linux 5.13, where it is switched on) does that one.
"""

import ctypes
import os
import stat
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib.machinery import PathFinder, all_suffixes
from importlib.util import find_spec

from msgspec import Struct

from mediacdn.model import Fence
from mediacdn.sandbox import calls

_CREATE, _ADD, _RESTRICT = 444, 445, 446
"""System calls, of the same numbers on every machine."""
_VERSION = 1
_BENEATH = 1
_NO_NEW_PRIVS = 38
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_FILE, _MAKE_REG, _TRUNCATE = 1, 1 << 1, 1 << 2, 1 << 3, 1 << 5, 1 << 8, 1 << 14
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
_FILES = ((1, (1 << 13) - 1), (2, 1 << 13), (3, _TRUNCATE), (5, 1 << 15))
"""Rights over files, by the version of Landlock that brought them: opening, making and removing; moving; truncating; ioctl of devices."""
_NETWORK = ((4, 0b11),)
"""Binding and connecting TCP."""
_SCOPES = ((6, 0b11),)
"""Sockets without a path, and signals, of processes outside."""

SYSTEM = (
    "/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64", "/nix/store", "/gnu/store",
    "/etc/ld.so.cache", "/etc/ld.so.preload", "/etc/localtime", "/usr/share/zoneinfo",
    "/etc/fonts", "/usr/share/fonts", "/usr/share/fontconfig", "/usr/local/share/fonts", "/var/cache/fontconfig",
    "/dev/null", "/dev/zero", "/dev/urandom", "/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/sys/vm/overcommit_memory", "/sys/devices/system/cpu",
)  # fmt: skip
"""What the libraries of a decoder look for: themselves, fonts, the clock's zones, the processors. Certificates they do not: nothing is fetched."""
_IMPORTED = tuple(all_suffixes())
_NOBODY = "mediacdn_no_module_of_this_name"


class Kernel(Struct, frozen=True):
    """What this kernel has: the version of Landlock, 0 without it, and whether system calls can be refused."""

    landlock: int
    calls: bool

    @property
    def whole(self) -> bool:
        return bool(self.landlock) and self.calls

    def __str__(self) -> str:
        landlock = f"Landlock (ABI {self.landlock})" if self.landlock else "no Landlock"
        return f"{landlock}, {'a filter' if self.calls else 'no filter'} of system calls"


def kernel() -> Kernel:
    """Ask the kernel what it has."""
    version = ctypes.CDLL(None, use_errno=True).syscall(_CREATE, None, 0, _VERSION)
    return Kernel(max(version, 0), calls.available())


def enclose(fence: Fence, *, package: str = "", program: str = "", folder: int | None = None) -> None:
    """Shut this process in, before it has read a byte of anybody's and while it has one thread.

    It may read SYSTEM, `fence.reads` and, with `package`, Python's libraries and that package. With `program` it may become that one, once more or again;
    beneath `folder`, a descriptor, it may make, write, read and remove files. Does what the kernel has. Raises: OSError, where the fence is required and the
    kernel lacks a part of it, or refuses what it has.
    """
    if fence.mode == "off":
        return
    found = kernel()
    if fence.mode == "require" and not found.whole:
        raise OSError(f"the fence around decoders is required, and this kernel has {found}")
    _called("prctl", _NO_NEW_PRIVS, 1, 0, 0, 0)
    if found.landlock:
        _shut_files(found.landlock, fence, package, program, folder)
    if found.calls:
        calls.refuse(programs=bool(program))


def _shut_files(version: int, fence: Fence, package: str, program: str, folder: int | None) -> None:
    handled = [sum(rights for since, rights in table if since <= version) for table in (_FILES, _NETWORK, _SCOPES)]
    asked = struct.pack("=QQQ", *handled)
    ruleset = _called("syscall", _CREATE, asked, ctypes.c_size_t(len(asked)), 0)
    try:
        read = _READ_FILE | _READ_DIR | (_EXECUTE if program else 0)
        for path in {*SYSTEM, *fence.reads, *(_python(package) if package else ()), *(_beside(program) if program else ())}:
            _grant(ruleset, path, read)
        _grant(ruleset, "/dev/null", read | _WRITE_FILE)
        if folder is not None:
            rights = _READ_FILE | _READ_DIR | _WRITE_FILE | _MAKE_REG | _REMOVE_FILE | _TRUNCATE
            _rule(ruleset, folder, rights & handled[0])
        _called("syscall", _RESTRICT, ruleset, 0)
    finally:
        os.close(ruleset)


def _grant(ruleset: int, path: str, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # what is not here, or not for us, needs no rule
        return
    try:
        _rule(ruleset, place, rights if stat.S_ISDIR(os.fstat(place).st_mode) else rights & _OF_FILES)
    finally:
        os.close(place)


def _rule(ruleset: int, place: int, rights: int) -> None:
    _called("syscall", _ADD, ruleset, _BENEATH, struct.pack("=Qi", rights, place), 0)


def _called(name: str, *words: object) -> int:
    found = getattr(ctypes.CDLL(None, use_errno=True), name)(*words)
    if found < 0:
        raise OSError(ctypes.get_errno(), f"the fence was refused: {os.strerror(ctypes.get_errno())}")
    return int(found)


def _beside(program: str) -> Iterator[str]:
    """The program, and its libraries where they lie as in /opt/name/bin and /opt/name/lib."""
    path = os.path.realpath(program)
    yield path
    above, name = os.path.split(os.path.dirname(path))
    if name == "bin":
        yield os.path.join(above, "lib")


def _python(package: str) -> Iterator[str]:
    """Where modules are. Of folders of the path that are not Python's own, such as the one a server was started in, whose data may lie there, only what can be imported."""
    libraries = {os.path.join(each, "lib") for each in (sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix)}
    yield from libraries
    for entry in sys.path:
        if entry.startswith(tuple(f"{each}/" for each in libraries)):
            continue
        if os.path.basename(entry) in ("site-packages", "dist-packages") or os.path.isfile(entry):
            yield entry
            continue
        with suppress(OSError), os.scandir(entry) as found:
            for each in found:
                if each.name.endswith((".libs", ".dist-info", *_IMPORTED)) or os.path.isfile(os.path.join(each.path, "__init__.py")):
                    yield each.path
    with suppress(ImportError, ValueError):
        spec = find_spec(package)
        yield from (spec and spec.submodule_search_locations) or ()
    PathFinder.find_spec(_NOBODY)  # has every folder listed that cannot be from here on, and is listed anew only when it has changed
