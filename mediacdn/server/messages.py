"""What the parent and its server processes say to each other over a socket pair, and how a message is framed: four bytes of length, then MessagePack."""

from typing import Generic, TypeVar

import msgspec
from msgspec import Struct

from mediacdn.server.totals import Family

T = TypeVar("T")
_LENGTH = 4


class Drain(Struct, frozen=True, tag=True):
    """To a process: end in order."""


class Hurry(Struct, frozen=True, tag=True):
    """To a process: wait no longer for answers under way."""


class Adopt(Struct, frozen=True, tag=True):
    """To a process: accept for another slot too, whose process is away."""

    slot: int


class Release(Struct, frozen=True, tag=True):
    """To a process: the slot that was adopted has its own process again."""

    slot: int


class Report(Struct, frozen=True, tag=True):
    """To a process: say what you count, for the sum of this number."""

    number: int


class Total(Struct, frozen=True, tag=True):
    """To a process: the exposition that it asked for."""

    number: int
    text: bytes


class Ready(Struct, frozen=True, tag=True):
    """From a process: requests are taken."""


class Leaving(Struct, frozen=True, tag=True):
    """From a process: it was told to end by somebody else, and accepts no longer."""


class Refused(Struct, frozen=True, tag=True):
    """From a process: it cannot start, in a sentence."""

    sentence: str


class Counted(Struct, frozen=True, tag=True):
    """From a process: what it counts; number 0 is unasked, its last words."""

    number: int
    families: list[Family]


class Ask(Struct, frozen=True, tag=True):
    """From a process: what it counts, and a wish for the sum over all; `number` is its own."""

    number: int
    families: list[Family]


Order = Drain | Hurry | Adopt | Release | Report | Total
Word = Ready | Leaving | Refused | Counted | Ask

_encoder = msgspec.msgpack.Encoder()


def framed(message: Order | Word) -> bytes:
    """The bytes of a message on the line."""
    body = _encoder.encode(message)
    return len(body).to_bytes(_LENGTH, "big") + body


class Frames(Generic[T]):
    """Messages out of the bytes of one line, however they were cut."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[T]) -> None:
        self._decoder = decoder
        self._pending = bytearray()

    def feed(self, chunk: bytes) -> list[T]:
        """The messages that `chunk` completes."""
        self._pending += chunk
        found: list[T] = []
        while len(self._pending) >= _LENGTH:
            end = _LENGTH + int.from_bytes(self._pending[:_LENGTH], "big")
            if len(self._pending) < end:
                break
            found.append(self._decoder.decode(self._pending[_LENGTH:end]))
            del self._pending[:end]
        return found


def orders() -> "Frames[Order]":
    """What a process hears."""
    return Frames(msgspec.msgpack.Decoder(Order))


def words() -> "Frames[Word]":
    """What the parent hears."""
    return Frames(msgspec.msgpack.Decoder(Word))
