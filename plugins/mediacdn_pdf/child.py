"""What runs in the sandbox's child: PDFium, which is not safe among threads, on one document at a time.

No form environment is ever made, and without one PDFium runs neither JavaScript nor XFA, also where a build of it could. Nothing is fetched: attachments,
links and launch actions are not looked at.
"""

import ctypes
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pypdfium2
import pypdfium2.raw as pdfium

from mediacdn import InvalidArgument, OverLimits, Undecodable
from mediacdn_pdf.picture import write
from mediacdn_pdf.request import Draw, Look, Read, Seen, Work
from mediacdn_pdf.text import line, plain

DPI = 150
"""Of a page's picture when no size is asked for."""
TITLE = 300
TOOLS = {"pdfium": str(pypdfium2.PDFIUM_INFO), "pypdfium2": str(pypdfium2.PYPDFIUM_INFO)}


def run(request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
    """Read, draw or look at a document (descriptors: the document, and the output but for a look)."""
    task = msgspec.convert(request, Work).task
    with _document(descriptors[0]) as document:
        if isinstance(task, Look):
            seen = _look(document)
        else:
            os.ftruncate(descriptors[1], 0)
            os.lseek(descriptors[1], 0, os.SEEK_SET)
            seen = _read(document, task, descriptors[1]) if isinstance(task, Read) else _draw(document, task, descriptors[1])
    answer: dict[str, Any] = msgspec.to_builtins(seen)
    return answer


@contextmanager
def _document(descriptor: int) -> Iterator[Any]:
    size = os.fstat(descriptor).st_size
    if not size:
        raise Undecodable("The document is empty")
    # Mapped privately: PDFium reads where it likes, and the descriptor's offset, which others share, stays where it is.
    content = (ctypes.c_ubyte * size).from_buffer(mmap.mmap(descriptor, size, access=mmap.ACCESS_COPY))
    try:
        document = pypdfium2.PdfDocument(content)
    except pypdfium2.PdfiumError as error:
        if error.err_code in (pdfium.FPDF_ERR_PASSWORD, pdfium.FPDF_ERR_SECURITY):
            raise Undecodable("The document is encrypted") from error
        raise Undecodable("The document is damaged, cut short, or none that is read here") from error
    try:
        if not len(document):
            raise Undecodable("The document has no pages")
        yield document
    finally:
        document.close()


@contextmanager
def _page(document: Any, number: int) -> Iterator[Any]:
    try:
        page = document[number]
    except pypdfium2.PdfiumError as error:
        raise Undecodable(f"Page {number + 1} is damaged") from error
    try:
        yield page
    finally:
        page.close()


def _size(page: Any) -> tuple[float, float]:
    width, height = page.get_size()
    if not (0 < width < 1e9 and 0 < height < 1e9):  # also when they are no numbers
        raise Undecodable("The page has no size")
    return width, height


def _look(document: Any) -> Seen:
    with _page(document, 0) as page:
        width, height = _size(page)
    title = document.get_metadata_value("Title")
    return Seen(
        pages=len(document), page_width=round(width, 2), page_height=round(height, 2), title=line(title, TITLE),
        encrypted=pdfium.FPDF_GetSecurityHandlerRevision(document) >= 0, tools=TOOLS,
    )  # fmt: skip


def _read(document: Any, task: Read, output: int) -> Seen:
    """Write the text of the pages. Of one that is damaged there is none, and those around it are read all the same."""
    pages, left, read, damaged = len(document), task.text, 0, 0
    with os.fdopen(output, "wb", closefd=False) as file:
        for number in range(min(pages, task.pages)):
            words = _text(document, number)
            damaged += words is None
            found = (b"\f" if number else b"") + (words or "").encode()
            if len(found) > left:
                file.write(found[:left].decode(errors="ignore").encode())  # up to the character that would not be whole
                break
            file.write(found)
            left -= len(found)
            read += 1
    if damaged and damaged == read:
        raise Undecodable("No page of the document can be read")
    return Seen(pages=pages, read=read, damaged=damaged, tools=TOOLS)


def _text(document: Any, number: int) -> str | None:
    try:
        with _page(document, number) as page:
            words = page.get_textpage()
            try:
                return plain(words.get_text_range())
            finally:
                words.close()
    except (pypdfium2.PdfiumError, Undecodable):
        return None


def _draw(document: Any, task: Draw, output: int) -> Seen:
    if task.page > len(document):
        raise InvalidArgument(f"The document has {len(document)} pages", argument="page")
    with _page(document, task.page - 1) as page:
        width, height = _size(page)
        asked = [side / each for side, each in ((task.w, width), (task.h, height)) if side is not None] or [DPI / 72]
        scale = min(*asked, task.edge / width, task.edge / height)
        across, down = max(1, round(width * scale)), max(1, round(height * scale))
        bitmap = pdfium.FPDFBitmap_CreateEx(across, down, pdfium.FPDFBitmap_BGRx, None, 0)
        if not bitmap:
            raise OverLimits("It needs more memory than is allowed")
        try:
            pdfium.FPDFBitmap_FillRect(bitmap, 0, 0, across, down, 0xFFFFFFFF)
            pdfium.FPDF_RenderPageBitmap(bitmap, page, 0, 0, across, down, 0, pdfium.FPDF_ANNOT | pdfium.FPDF_REVERSE_BYTE_ORDER)
            stride = pdfium.FPDFBitmap_GetStride(bitmap)
            pixels = ctypes.string_at(pdfium.FPDFBitmap_GetBuffer(bitmap), stride * down)
        finally:
            pdfium.FPDFBitmap_Destroy(bitmap)
    write(pixels, across, down, stride, task.format, output)
    return Seen(pages=len(document), width=across, height=down, page_width=round(width, 2), page_height=round(height, 2), tools=TOOLS)
