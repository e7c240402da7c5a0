"""PDF documents of the tests' own making, whole and hostile, and the actions called on them."""

import os
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from hashlib import md5
from typing import Any

from mediacdn import Action, Made, Media
from mediacdn.recipes.arguments import normalise

_PAD = bytes.fromhex("28bf4e5e4e758a4164004e56fffa01082e2e00b6d0683e802f0ca9fe6453697a")


def pdf(objects: Mapping[int, bytes], *, trailer: bytes = b"") -> bytes:
    """Numbered objects as a file with a table of references; 1 is the catalog."""
    body, offsets = bytearray(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"), {}
    for number, each in objects.items():
        offsets[number] = len(body)
        body += b"%d 0 obj\n" % number + each + b"\nendobj\n"
    size = max(objects) + 1
    table = b"".join(b"%010d 00000 n \n" % offsets[number] if number in offsets else b"0000000000 65535 f \n" for number in range(size))
    start = len(body)
    return (
        bytes(body)
        + b"xref\n0 %d\n" % size
        + table
        + b"trailer\n<< /Size %d /Root 1 0 R %s >>\nstartxref\n%d\n%%%%EOF\n" % (size, trailer, start)
    )


def stream(content: bytes, head: bytes = b"") -> bytes:
    return b"<< /Length %d %s >>\nstream\n" % (len(content), head) + content + b"\nendstream"


def _unicode_font(text: str) -> tuple[bytes, bytes]:
    """A font whose character n is the n-th of `text`, and the map that says so."""
    marks = "".join(f"<{n:04x}> <{c.encode('utf-16-be').hex()}>\n" for n, c in enumerate(text, 1))
    cmap = f"/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /Own def 1 begincodespacerange <0000> <ffff> endcodespacerange\n{len(text)} beginbfchar\n{marks}endbfchar endcmap end end"
    return (
        b"<< /Type /Font /Subtype /Type0 /BaseFont /Helvetica /Encoding /Identity-H /ToUnicode 6 0 R /DescendantFonts [<< /Type /Font /Subtype /CIDFontType2"
        b" /BaseFont /Helvetica /CIDSystemInfo << /Registry (Adobe) /Ordering (Identity) /Supplement 0 >> /FontDescriptor 7 0 R /DW 1000 >>] >>"
    ), stream(cmap.encode())


def document(
    pages: Sequence[str] = ("Hello",), *, title: str = "", size: tuple[float, float] = (612, 792), extra: bytes = b"", more: bytes = b""
) -> bytes:
    """Pages of text, each line of which is a line there. `extra` goes into every page's dictionary, `more` into the catalog's."""
    letters = "".join(dict.fromkeys("".join(pages).replace("\n", ""))) or " "
    font, cmap = _unicode_font(letters)
    objects: dict[int, bytes] = {}
    kids = []
    for number, text in enumerate(pages):
        at = 10 + 2 * number
        kids.append(f"{at} 0 R")
        lines = "".join(f"<{''.join(f'{letters.index(c) + 1:04x}' for c in each)}> Tj 0 -20 Td\n" for each in text.split("\n"))
        box = f"[0 0 {size[0]} {size[1]}]"
        objects[at] = (
            f"<< /Type /Page /Parent 2 0 R /MediaBox {box} /Contents {at + 1} 0 R /Resources << /Font << /F 5 0 R /H 8 0 R >> >> ".encode()
            + extra
            + b" >>"
        )
        objects[at + 1] = stream(f"BT /F 12 Tf 72 700 Td\n{lines}ET 1 0 0 rg 0 0 {size[0] / 2} {size[1] / 2} re f".encode())
    head = {
        1: b"<< /Type /Catalog /Pages 2 0 R " + more + b" >>",
        2: f"<< /Type /Pages /Count {len(pages)} /Kids [{' '.join(kids)}] >>".encode(),
        4: b"<< /Title <" + (b"\xfe\xff" + title.encode("utf-16-be")).hex().encode() + b"> >>",
        5: font,
        6: cmap,
        7: b"<< /Type /FontDescriptor /FontName /Helvetica /Flags 4 /FontBBox [0 0 1000 1000] /ItalicAngle 0 /Ascent 800 /Descent -200 /CapHeight 700 /StemV 80 >>",
        8: b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    }
    return pdf(head | objects, trailer=b"/Info 4 0 R" if title else b"")


def encrypted(password: bytes = b"secret") -> bytes:
    """A document that needs a password, by the standard handler's second revision (ISO 32000-1, 7.6.3.3); its content is beside the point."""
    mark = b"0123456789abcdef"
    padded = (password + _PAD)[:32]
    owner = _rc4(md5(padded, usedforsecurity=False).digest()[:5], padded)
    key = md5(padded + owner + (0xFFFFFFFC).to_bytes(4, "little") + mark, usedforsecurity=False).digest()[:5]
    user = _rc4(key, _PAD)
    handler = b"<< /Filter /Standard /V 1 /R 2 /Length 40 /P -4 /O <" + owner.hex().encode() + b"> /U <" + user.hex().encode() + b"> >>"
    whole = {
        1: b"<< /Type /Catalog /Pages 2 0 R >>",
        2: b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>",
        3: b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 100] >>",
        9: handler,
    }
    return pdf(whole, trailer=b"/Encrypt 9 0 R /ID [<" + mark.hex().encode() + b"> <" + mark.hex().encode() + b">]")


def _rc4(key: bytes, content: bytes) -> bytes:
    box, at = list(range(256)), 0
    for i in range(256):
        at = (at + box[i] + key[i % len(key)]) % 256
        box[i], box[at] = box[at], box[i]
    out, i, at = bytearray(), 0, 0
    for each in content:
        i = (i + 1) % 256
        at = (at + box[i]) % 256
        box[i], box[at] = box[at], box[i]
        out.append(each ^ box[(box[i] + box[at]) % 256])
    return bytes(out)


class Given:
    """Bytes as an action's Source."""

    def __init__(self, content: bytes, size: int | None = None) -> None:
        now = datetime.now(UTC)
        self._content = content
        self.media = Media(
            id="", owner="", media_type="application/pdf", size=len(content) if size is None else size, created_at=now, updated_at=now
        )

    @asynccontextmanager
    async def file(self) -> AsyncIterator[int]:
        with tempfile.TemporaryFile() as file:
            file.write(self._content)
            file.flush()
            file.seek(0)
            yield file.fileno()


class Taken:
    """A file as an action's Sink."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def file(self) -> int:
        return self._descriptor

    async def progress(self, share: float) -> None:
        pass


async def make(action: Action, content: bytes, *, size: int | None = None, **spec: Any) -> tuple[bytes, Made]:
    """Run an action as the core does, and give what it wrote and what it says."""
    with tempfile.TemporaryFile() as sink:
        made = await action.run(Given(content, size), normalise(action.arguments, spec), Taken(sink.fileno()))
        return os.pread(sink.fileno(), 1 << 27, 0), made
