"""What goes over the socket between a Sandbox and its child: frames of msgpack behind their length. Both sides import it; neither trusts a length."""

import struct
from typing import Any

import msgspec
from msgspec import Struct

from mediacdn.model import Fence

HEADER = struct.Struct("!I")
LARGEST_REQUEST = 64 * 1024
"""Bytes of a request: small enough for an idle socket's buffer, so that it leaves in one write together with its descriptors."""
LARGEST_REPLY = 256 * 1024
MOST_DESCRIPTORS = 8

Encoder = msgspec.msgpack.Encoder()


class Setup(Struct, frozen=True, kw_only=True):
    """What a child is told once: what to call (`module:function`), who its parent is, and its limits in bytes and seconds of processor time."""

    call: str
    parent: int
    memory: int
    resident: int
    processor: float
    output: int
    files: int
    jobs: int
    user: str = ""
    fence: Fence = Fence()


class Request(Struct, frozen=True):
    """One piece of work; `descriptors` come with the frame's first bytes (SCM_RIGHTS)."""

    body: dict[str, Any]
    descriptors: int = 0


class Reply(Struct, frozen=True):
    """What came of it: `body`, or the `code` and public `detail` of an error. `failed` marks an error that nobody foresaw."""

    body: dict[str, Any] | None = None
    code: str = ""
    detail: str = ""
    failed: bool = False


def framed(message: Struct) -> bytes:
    body = Encoder.encode(message)
    return HEADER.pack(len(body)) + body
