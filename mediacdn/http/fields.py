"""Header fields in blocks that are put together once and sent many times: as pairs for who speaks ASGI, as lines for who writes to the wire."""

from collections.abc import Iterable

from msgspec import Struct

Fields = list[tuple[bytes, bytes]]


class Block(Struct, frozen=True, gc=False):
    """Fields in their order, names in lower case, and the same as field lines (RFC 9112 section 5), each with its end."""

    fields: Fields
    lines: bytes


def block(fields: Fields) -> Block:
    """Put fields together whose values are fit to be sent."""
    return Block(fields, b"".join([b"%b: %b\r\n" % field for field in fields]))


def flat(head: Iterable[Block]) -> Fields:
    """All fields of a head."""
    return [field for each in head for field in each.fields]
