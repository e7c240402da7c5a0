"""What a decoder that was taken over would try, each by itself: the answer is the number of the error, 0 where it came through."""

import ctypes
import fcntl
import mmap
import os
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
PARENT = os.getppid()


def run(request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
    return {name: _number(TRIED[name], where, descriptors) for name, where in request["try"].items()}


def _number(attempt: Callable[[str, list[int]], Any], where: str, descriptors: list[int]) -> int:
    try:
        attempt(where, descriptors)
    except OSError as error:
        return error.errno or -1
    return 0


def called(name: str, *words: Any) -> int:
    found = getattr(LIBC, name)(*words)
    if found < 0:
        raise OSError(ctypes.get_errno(), name)
    return int(found)


def read(path: str, _: list[int]) -> None:
    with open(path, "rb", buffering=0) as file:
        file.read(16)


def write(path: str, _: list[int]) -> None:
    with open(path, "ab", buffering=0) as file:
        file.write(b"taken")


def connect(port: str, _: list[int]) -> None:
    with socket.create_connection(("127.0.0.1", int(port)), timeout=2):
        pass


def connect_path(path: str, _: list[int]) -> None:
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(path)


def trace(_: str, __: list[int]) -> None:
    called("ptrace", 0x4206, PARENT, 0, 0)  # PTRACE_SEIZE, which does not stop it
    called("ptrace", 17, PARENT, 0, 0)


def peek(_: str, __: list[int]) -> None:
    held = ctypes.create_string_buffer(8)
    ours = (ctypes.c_void_p * 2)(ctypes.addressof(held), 8)
    called("process_vm_readv", PARENT, ours, 1, ours, 1, 0)


def fork(_: str, __: list[int]) -> None:
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)


def thread(_: str, __: list[int]) -> None:
    done = threading.Event()
    threading.Thread(target=done.set).start()
    assert done.wait(5)


def pages(_: str, descriptors: list[int]) -> None:
    with mmap.mmap(descriptors[0], 0, access=mmap.ACCESS_READ) as content:
        assert content[:5] == b"given"


def outcome(_: str, descriptors: list[int]) -> None:
    os.ftruncate(descriptors[1], 0)
    os.pwrite(descriptors[1], b"made", 0)


def imports(name: str, _: list[int]) -> None:
    __import__(name)


TRIED: dict[str, Callable[[str, list[int]], Any]] = {
    "read the catalog": read,
    "read a key": read,
    "read the passwords": read,
    "read the parent's environment": lambda _, __: read(f"/proc/{PARENT}/environ", []),
    "read beside the code": read,
    "list a folder": lambda path, _: os.listdir(path),
    "write into a file": write,
    "write a file": write,
    "write into the code": lambda path, _: os.close(os.open(path, os.O_WRONLY)),
    "write to itself in /proc": lambda _, __: write("/proc/self/comm", []),
    "remove a file": lambda path, _: os.unlink(path),
    "move a file": lambda path, _: os.rename(path, f"{path}.moved"),
    "make a folder": lambda path, _: os.mkdir(path),
    "link a file": lambda path, _: os.link(path, f"{path}.link"),
    "cut a file short": lambda path, _: os.truncate(path, 0),
    "change a file's rights": lambda path, _: os.chmod(path, 0o666),
    "change a file's owner": lambda path, _: os.chown(path, os.getuid(), os.getgid()),
    "change a file's times": lambda path, _: os.utime(path),
    "mark a file": lambda path, _: os.setxattr(path, "user.taken", b"1"),
    "change what it was handed": lambda _, descriptors: os.fchmod(descriptors[0], 0o666),
    "watch a file": lambda path, _: called("inotify_add_watch", called("inotify_init"), path.encode(), 1),
    "connect": connect,
    "connect to a path": connect_path,
    "make a pair of sockets": lambda _, __: socket.socketpair(),
    "trace its parent": trace,
    "read its parent's memory": peek,
    "hold its parent": lambda _, __: os.pidfd_open(PARENT),
    "signal its parent": lambda _, __: os.kill(PARENT, 0),
    "limit its parent": lambda _, __: __import__("resource").prlimit(PARENT, 7),
    "move its parent to a processor": lambda _, __: os.sched_setaffinity(PARENT, os.sched_getaffinity(PARENT)),
    "fork": fork,
    "run a program": lambda _, __: os.execv("/bin/true", ["true"]),
    "leave its group": lambda _, __: os.setpgid(0, 0) if os.getsid(0) != os.getpid() else os.setsid(),
    "outlive its parent": lambda _, __: called("prctl", 1, 0, 0, 0, 0),
    "become root somewhere": lambda _, __: called("unshare", 0x10000000),
    "use the kernel's keys": lambda _, __: called("syscall", {"x86_64": 250}.get(os.uname().machine, 219), 0, -3, 0),
    "load a program of BPF": lambda _, __: called("syscall", {"x86_64": 321}.get(os.uname().machine, 280), 0, None, 0),
    "open a ring": lambda _, __: called("syscall", 425, 0, None),
    "handle faults": lambda _, __: called("syscall", {"x86_64": 323}.get(os.uname().machine, 282), 0),
    "mount": lambda path, _: called("mount", b"none", path.encode(), b"nothing", 0, None),
    "share memory": lambda _, __: called("shmget", 0, 4096, 0o600 | 0o1000),
    # what it is for
    "map what it was handed": pages,
    "write what it makes": outcome,
    "start a thread": thread,
    "import": imports,
    "read of itself": lambda _, __: read("/proc/self/status", []),
    "read a font": read,
    "signal itself": lambda _, __: os.kill(os.getpid(), 0),
    "raise": lambda _, __: signal.raise_signal(signal.SIGCHLD),
    "read its limits": lambda _, __: __import__("resource").getrlimit(7),
    "lock": lambda _, descriptors: fcntl.flock(descriptors[1], fcntl.LOCK_EX | fcntl.LOCK_NB),
}
