"""Header fields as pairs, for who speaks ASGI, and as the lines that go over the wire (RFC 9112 section 5), for who puts an answer together from parts made before."""

from collections.abc import Collection, Iterable

Fields = list[tuple[bytes, bytes]]


def field_lines(pairs: Collection[tuple[bytes, bytes]]) -> bytes:
    """Field lines, each with its end; names in lower case. Raises ValueError for a value that would end its line (RFC 9110 section 5.5)."""
    text = b"".join([b"%b: %b\r\n" % pair for pair in pairs])
    if not text.count(b"\r") == text.count(b"\n") == len(pairs) or b"\0" in text:
        raise ValueError("a field's value has a CR, LF or NUL")
    return text


def field_pairs(lines: Iterable[bytes]) -> Fields:
    """The fields of such lines, given in any number of parts."""
    found = []
    for line in b"".join(lines).split(b"\r\n")[:-1]:
        name, _, value = line.partition(b": ")
        found.append((name, value))
    return found


def joined(pairs: Iterable[tuple[bytes, bytes]]) -> Fields:
    """The fields with each name once, repeated ones as a list (RFC 9110 section 5.3): for who reads only the first of a name."""
    found: dict[bytes, bytes] = {}
    for name, value in pairs:
        found[name] = found[name] + b", " + value if name in found else value
    return list(found.items())
