"""The child's side of a Sandbox: takes its limits, shuts itself in, imports what it is to call, then answers one request after another until its parent is gone."""

import ctypes
import math
import os
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pwd import getpwnam
from typing import Any, NoReturn, TypeVar

import msgspec
from msgspec import Struct

from mediacdn.errors import InvalidArgument, OverLimits, Undecodable
from mediacdn.sandbox.fence import enclose
from mediacdn.sandbox.wire import HEADER, LARGEST_REPLY, LARGEST_REQUEST, MOST_DESCRIPTORS, Reply, Request, Setup, framed

S = TypeVar("S", bound=Struct)

CODE = 28 << 20
"""Bytes of a child's resident memory that are files: the interpreter, the libraries. RLIMIT_DATA bounds the rest (since Linux 4.7)."""
STACK = 2 << 20
_CLONE_NEWNET, _CLONE_NEWUSER = 0x40000000, 0x10000000
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38


def main(descriptor: int) -> NoReturn:
    """Serve the socket `descriptor`. Never returns: the process ends here, without the interpreter's farewell, which a broken decoder may hang."""
    _shut(descriptor)
    with socket.socket(fileno=descriptor) as line:
        setup, _ = _receive(line, Setup)
        _part(setup.user)
        _tie(setup.parent)
        _confine(setup)
        _thin_stacks()
        module, _, name = setup.call.partition(":")
        enclose(setup.fence, package=module.partition(".")[0])  # before the import, which may start threads, that would not be in it
        call = getattr(import_module(module), name)
        line.sendall(framed(Reply(body={})))
        while True:
            request, descriptors = _receive(line, Request)
            _allow(setup.processor)
            try:
                reply = _answer(call, request, descriptors)
            finally:
                for each in descriptors:
                    os.close(each)
            line.sendall(_bounded(reply))
            if reply.failed:
                _leave(1)  # what an unforeseen error left behind is not for the next one's media


def _shut(kept: int) -> None:
    """Close what was inherited by mistake: uvloop leaves every inheritable descriptor of the parent open across exec."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != kept:
            with suppress(OSError):  # the listing's own
                os.close(int(name))


def _part(user: str) -> None:
    """Leave the network for an empty one, where the kernel lets us, by root's right or in a namespace of users of our own; become `user`, where one is named.

    Before `_tie`: a change of rights unties.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0 and not user:
        libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
    if user:
        who = getpwnam(user)
        os.setgroups([])
        os.setgid(who.pw_gid)
        os.setuid(who.pw_uid)


def _tie(parent: int) -> None:
    """Die with the parent, and never gain a right that it did not give."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if os.getppid() != parent:  # it died before the first line
        _leave(0)


def _confine(setup: Setup) -> None:
    os.umask(0o077)
    processor = math.ceil(setup.processor)
    for which, soft, hard in (
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_AS, setup.memory, setup.memory),
        (resource.RLIMIT_DATA, *2 * (max(setup.resident - CODE, 0) or resource.RLIM_INFINITY,)),
        (resource.RLIMIT_FSIZE, setup.output, setup.output),
        (resource.RLIMIT_NOFILE, setup.files, setup.files),
        (resource.RLIMIT_CPU, processor + 10, processor * (setup.jobs + 1) + 10),  # ten seconds are for starting
    ):
        ceiling = resource.getrlimit(which)[1]
        if ceiling != resource.RLIM_INFINITY:
            soft, hard = min(soft, ceiling), min(hard, ceiling)
        resource.setrlimit(which, (soft, hard))


def _thin_stacks() -> None:
    """Give threads of decoders two megabytes of stack, not eight: what is promised counts as what is used."""
    libc = ctypes.CDLL(None, use_errno=True)
    attributes = ctypes.create_string_buffer(256)  # pthread_attr_t has 56 bytes, or 64
    with suppress(AttributeError):  # another C library than glibc
        libc.pthread_attr_init(attributes)
        libc.pthread_attr_setstacksize(attributes, ctypes.c_size_t(STACK))
        libc.pthread_setattr_default_np(attributes)


def _allow(processor: float) -> None:
    """Raise the soft limit of processor time by one request's worth: past it, SIGXCPU ends the process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (min(hard, math.ceil(used.ru_utime + used.ru_stime + processor)), hard))


def _answer(call: Callable[[dict[str, Any], list[int]], dict[str, Any]], request: Request, descriptors: list[int]) -> Reply:
    try:
        return Reply(body=dict(call(request.body, descriptors)))
    except (Undecodable, OverLimits, InvalidArgument) as error:
        return Reply(code=error.code, detail=error.detail)
    except MemoryError:
        return Reply(code=OverLimits.code, detail="It needs more memory than is allowed", failed=True)
    except BaseException:
        traceback.print_exc(file=sys.stderr)
        return Reply(failed=True)


def _bounded(reply: Reply) -> bytes:
    try:
        frame = framed(reply)
        if len(frame) <= HEADER.size + LARGEST_REPLY:
            return frame
        sys.stderr.write("the reply is larger than a frame may be\n")
    except TypeError:  # something that msgpack has no word for
        traceback.print_exc(file=sys.stderr)
    return framed(Reply(failed=True))


def _receive(line: socket.socket, kind: type[S]) -> tuple[S, list[int]]:
    head, descriptors, _, _ = socket.recv_fds(line, HEADER.size, MOST_DESCRIPTORS)
    if not head:
        _leave(0)  # the parent has gone, or is done with this child
    (length,) = HEADER.unpack(head + _exactly(line, HEADER.size - len(head)))
    if length > LARGEST_REQUEST:
        _leave(2)
    message = msgspec.msgpack.decode(_exactly(line, length), type=kind)
    if len(descriptors) != getattr(message, "descriptors", 0):
        _leave(2)  # RLIMIT_NOFILE cut the list short
    return message, descriptors


def _exactly(line: socket.socket, length: int) -> bytes:
    gathered = bytearray()
    while len(gathered) < length:
        chunk = line.recv(length - len(gathered))
        if not chunk:
            _leave(0)
        gathered += chunk
    return bytes(gathered)


def _leave(code: int) -> NoReturn:
    sys.stderr.flush()
    os._exit(code)
