"""What a child may be made to do: the well-behaved things, and what a decoder that has been taken over or has broken would do."""

import ctypes
import os
import resource
import signal
import socket
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from mediacdn import InvalidArgument, NotFound, OverLimits, Undecodable


def run(request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
    return DO[request["do"]](request, descriptors) or {}


def echo(request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
    return {**request, "pid": os.getpid()}


def upper(request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
    source, output = descriptors
    text = os.pread(source, 1 << 20, 0)
    os.write(output, text.upper())
    try:
        os.write(source, b"mine")
        writable = True
    except OSError:
        writable = False
    return {"read": len(text), "writable": writable}


KEPT: list[bytearray] = []


def keep(request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
    """Hold on to so much memory, touched, for good."""
    held = bytearray(request["bytes"])
    held[::4096] = b"x" * len(held[::4096])
    KEPT.append(held)
    return {"pid": os.getpid()}


def signal_at_parents_death() -> int:
    told = ctypes.c_int()
    ctypes.CDLL(None).prctl(2, ctypes.byref(told), 0, 0, 0)
    return told.value


def tell(request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
    """What this process is and has."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    files = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            files[name] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the listing's own
    return {
        "environment": dict(os.environ),
        "files": files,
        "limits": {name: resource.getrlimit(getattr(resource, name))[0] for name in ("RLIMIT_AS", "RLIMIT_FSIZE", "RLIMIT_CORE", "RLIMIT_NOFILE", "RLIMIT_CPU")},
        "privileges": status["NoNewPrivs"].strip(),
        "session": os.getsid(0) == os.getpid(),
        "folder": os.getcwd(),
        "pid": os.getpid(),
        "isolated": sys.flags.isolated,
        "user": os.getuid(),
        "groups": os.getgroups(),
        "net": [line.split(":")[0].strip() for line in Path("/proc/self/net/dev").read_text().splitlines()[2:]],
        "parting": signal_at_parents_death(),
    }  # fmt: skip


def sleep(request: dict[str, Any], descriptors: list[int]) -> None:
    time.sleep(request.get("seconds", 60))


def deaf(request: dict[str, Any], descriptors: list[int]) -> None:
    for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(each, signal.SIG_IGN)
    time.sleep(60)


def spin(request: dict[str, Any], descriptors: list[int]) -> None:
    while True:
        pass


def hoard(request: dict[str, Any], descriptors: list[int]) -> None:
    kept = []
    while True:
        kept.append(bytearray(10_000_000))


def abort_for_memory(request: dict[str, Any], descriptors: list[int]) -> None:
    sys.stderr.write("GLib-ERROR: failed to allocate 1073741824 bytes\n")
    sys.stderr.flush()
    os.abort()


def fill(request: dict[str, Any], descriptors: list[int]) -> None:
    while True:
        os.write(descriptors[0], b"x" * 65536)


def fall(request: dict[str, Any], descriptors: list[int]) -> None:
    os.kill(os.getpid(), getattr(signal, request["signal"]))


def leave(request: dict[str, Any], descriptors: list[int]) -> None:
    os._exit(0)


def shout(request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
    for _ in range(400):
        os.write(2, b"warning: \x1b[31m/etc/secret/place/file.c:12: bad\n" * 500)
    return {"shouted": True}


def refuse(request: dict[str, Any], descriptors: list[int]) -> None:
    raise {"undecodable": Undecodable, "over_limits": OverLimits, "invalid_argument": InvalidArgument, "not_found": NotFound}[
        request["code"]
    ](request["detail"])


def fail(request: dict[str, Any], descriptors: list[int]) -> None:
    raise ZeroDivisionError("the secret of /etc/shadow")


def spawn(request: dict[str, Any], descriptors: list[int]) -> None:
    child = subprocess.Popen(["/bin/sleep", "60"], stderr=subprocess.DEVNULL)
    os.write(descriptors[0], str(child.pid).encode())
    time.sleep(60)


def unpackable(request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
    return {"what": object()}


def large(request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
    return {"what": "x" * 1_000_000}


def line() -> int:
    return next(each for each in range(3, 64) if stat.S_ISSOCK(os.fstat(each).st_mode))


def forge(request: dict[str, Any], descriptors: list[int]) -> None:
    """Say to the parent what no child says."""
    deep: Any = []
    for _ in range(2000):
        deep = [deep]
    bodies = {
        "noise": b"\xc1\xff\xfe\xfd",
        "pickle": b"cos\nsystem\n(S'touch /tmp/taken'\ntR.",
        "list": msgspec.msgpack.encode([1, 2]),
        "types": msgspec.msgpack.encode({"body": 7, "code": [], "detail": 3}),
        "deep": b"\x81\xa4body\x81\xa1x" + b"\x91" * 200_000 + b"\xc0",
        "nothing": msgspec.msgpack.encode({}),
        "code": msgspec.msgpack.encode({"code": "ZeroDivisionError", "detail": "\x1b[31mred\x00" * 1000}),
    }
    frame = (
        struct.pack("!I", 1 << 31)
        if request["what"] == "length"
        else struct.pack("!I", len(bodies[request["what"]])) + bodies[request["what"]]
    )
    with socket.socket(fileno=os.dup(line())) as forged:
        if request["what"] == "list":
            socket.send_fds(forged, [frame], [0, 1, 2])
        else:
            forged.sendall(frame)
    time.sleep(60)


DO: dict[str, Callable[[dict[str, Any], list[int]], dict[str, Any] | None]] = {
    each.__name__: each
    for each in (
        echo, keep, upper, tell, sleep, deaf, spin, hoard, abort_for_memory, fill, fall, leave, shout, refuse, fail, spawn, unpackable, large, forge,
    )
}  # fmt: skip
