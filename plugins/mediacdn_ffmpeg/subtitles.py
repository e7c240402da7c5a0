"""Subtitles: SubRip and WebVTT read strictly, and written as the WebVTT that every player takes. Pure.

What is written holds cues and nothing else: comments, styles and regions stay behind, and of markup what WebVTT knows. A text that breaks a rule is refused with the
line, so that whoever gives it can mend it; SubRip, of which there is no standard, is taken as players take it.
"""

import html
import re
from collections.abc import Iterator
from typing import NoReturn

from msgspec import Struct

from mediacdn import OverLimits, Undecodable

MOST_CUES = 20_000
MOST_TEXT = 5_000
"""Characters of a cue."""
_MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"
_VTT_TIME = r"(?:(\d{2,3}):)?([0-5]\d):([0-5]\d)\.(\d{3})"
_VTT_TIMES = re.compile(rf"{_VTT_TIME}[ \t]+-->[ \t]+{_VTT_TIME}(?:[ \t]+(.*))?", re.ASCII)
_SRT_TIME = r"(\d{1,3}):([0-5]?\d):([0-5]?\d)[,.](\d{1,3})"
_SRT_TIMES = re.compile(rf"\s*{_SRT_TIME}\s*-->\s*{_SRT_TIME}(?:\s.*)?", re.ASCII)
_PERCENT = r"(?:100(?:\.0+)?|\d{1,2}(?:\.\d{1,9})?)%"
_SETTINGS = {
    "vertical": re.compile("rl|lr"),
    "line": re.compile(rf"(?:-?\d{{1,6}}|{_PERCENT})(?:,(?:start|center|end))?"),
    "position": re.compile(rf"{_PERCENT}(?:,(?:line-left|center|line-right))?"),
    "size": re.compile(_PERCENT),
    "align": re.compile("start|center|end|left|right"),
    "region": re.compile(r"\S+"),
}
_TAG = re.compile(rf"</?(?:[ibu]|c|v|lang|ruby|rt)(?:\.[^\s<>&.]+)*(?:[ \t\n][^<>&]*)?>|<{_VTT_TIME}>")
_SRT_TAG = re.compile(r"<(/?)([ibu])>", re.IGNORECASE)
_SRT_NOISE = re.compile(r"</?font\b[^<>]*>|\{\\[^{}]*\}", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:amp|lt|gt|nbsp|lrm|rlm|quot|apos|#\d{1,7}|#x[0-9A-Fa-f]{1,6});")


class Cue(Struct, frozen=True):
    """What is shown from one millisecond of the film to another. `settings` and `text` are WebVTT's."""

    start: int
    stop: int
    text: str
    settings: str = ""


def read(content: bytes) -> tuple[Cue, ...]:
    """Read subtitles of either kind; the first line tells which. Raises: Undecodable, OverLimits."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Undecodable(f"The subtitles are not UTF-8: byte {error.start + 1} is none of it") from error
    if "\0" in text:
        raise Undecodable("The subtitles hold a zero byte")
    lines = text.removeprefix(_MARK).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    webvtt = re.fullmatch(r"WEBVTT(?:[ \t].*)?", lines[0]) is not None
    cues = tuple(_webvtt(lines)) if webvtt else tuple(sorted(_subrip(lines), key=lambda each: (each.start, each.stop)))
    if not cues:
        raise Undecodable("There are no subtitles in it")
    return cues


def write(cues: tuple[Cue, ...], header: str = "") -> str:
    """Write WebVTT; `header` is a line of its head."""
    blocks = ["WEBVTT" + (f"\n{header}" if header else "")]
    for each in cues:
        settings = f" {each.settings}" if each.settings else ""
        blocks.append(f"{_clock(each.start)} --> {_clock(each.stop)}{settings}\n{each.text}")
    return "\n\n".join(blocks) + "\n"


def mapped(text: str, ticks: int) -> str:
    """Give WebVTT that was written here with the line that says where in a stream its time begins, in ticks of 90 kHz (RFC 8216 section 3.5)."""
    return text.replace("WEBVTT", f"WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:{ticks},LOCAL:00:00:00.000", 1)


def _webvtt(lines: list[str]) -> Iterator[Cue]:
    at = next((number for number, line in enumerate(lines) if number and not line.strip()), len(lines))
    for line in range(1, at):
        if "-->" in lines[line]:
            _refuse(line, "a cue needs an empty line before it")
    count, last = 0, 0
    for first, block in _blocks(lines, at):
        if re.fullmatch(r"(?:NOTE|STYLE|REGION)(?:[ \t].*)?", block[0]) and "-->" not in block[0]:
            if any("-->" in line for line in block):
                _refuse(first, "a comment, style or region holds an arrow")
            continue
        number = first if "-->" in block[0] else first + 1
        body = block[number - first :]
        found = _VTT_TIMES.fullmatch(body[0].strip(" \t")) if body else None
        if found is None:
            _refuse(number if body else first, "this is no pair of times such as 00:01.000 --> 00:02.500")
        start, stop = _times(found, number)
        if start < last:
            _refuse(number, "it begins before the cue above it")
        last, count = start, count + 1
        yield Cue(start, stop, _text(body[1:], number + 1, count), _settings(found[9] or "", number))


def _subrip(lines: list[str]) -> Iterator[Cue]:
    # A text may hold empty lines; what ends it is the next pair of times, with or without its number.
    begins = [number for number, line in enumerate(lines) if _SRT_TIMES.fullmatch(line)]
    if not begins or any(line.strip() and not line.strip().isdigit() for line in lines[: begins[0]]):
        raise Undecodable(
            "These are neither WebVTT, which begins with WEBVTT, nor SubRip, which begins with a number and 00:00:01,000 --> 00:00:02,500"
        )
    for count, (at, following) in enumerate(zip(begins, [*begins[1:], len(lines) + 1], strict=True), 1):
        found = _SRT_TIMES.fullmatch(lines[at])
        assert found is not None
        start, stop = _times(found, at)
        body = lines[at + 1 : following]
        if following <= len(lines) and body and body[-1].strip().isdigit():
            body = body[:-1]
        texts = [each for line in body if (each := line.strip())]
        if any("-->" in line for line in texts):
            _refuse(at, "its text holds an arrow, or times that are none")
        if texts:
            yield Cue(start, stop, _bounded("\n".join(map(_plainer, texts)), at, count))


def _blocks(lines: list[str], at: int) -> Iterator[tuple[int, list[str]]]:
    """Runs of lines that are not empty, each with the number of its first."""
    block: list[str] = []
    for number in range(at, len(lines) + 1):
        if number < len(lines) and lines[number].strip():
            block.append(lines[number])
        elif block:
            yield number - len(block), block
            block = []


def _times(found: re.Match[str], number: int) -> tuple[int, int]:
    start, stop = (_milliseconds(*found.groups()[at : at + 4]) for at in (0, 4))
    if stop <= start:
        _refuse(number, "it ends before it begins")
    return start, stop


def _milliseconds(hours: str | None, minutes: str, seconds: str, fraction: str) -> int:
    return ((int(hours or 0) * 60 + int(minutes)) * 60 + int(seconds)) * 1000 + int(fraction.ljust(3, "0"))


def _settings(text: str, number: int) -> str:
    kept, seen = [], set()
    for each in text.split():
        name, _, value = each.partition(":")
        if name not in _SETTINGS or name in seen or not _SETTINGS[name].fullmatch(value):
            _refuse(number, f"{each[:40]!r} is no setting of a cue")
        seen.add(name)
        if name != "region":
            kept.append(each)
    return " ".join(kept)


def _text(lines: list[str], number: int, count: int) -> str:
    text = "\n".join(line.rstrip() for line in lines)
    if "-->" in text:
        _refuse(number, "a text holds an arrow; a cue needs an empty line before it")
    rest = _TAG.sub("", text)
    if "<" in rest:
        _refuse(number, "it holds markup that WebVTT does not know, or < that is not written &lt;")
    if "&" in _ENTITY.sub("", rest):
        _refuse(number, "it holds & that is not written &amp;")
    return _bounded(text, number, count)


def _plainer(line: str) -> str:
    """A line of SubRip as WebVTT: of its markup what both know."""
    parts = _SRT_TAG.split(_SRT_NOISE.sub("", line))
    told = [html.escape(html.unescape(parts[0]), quote=False)]
    for close, name, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        told += (f"<{close}{name.lower()}>", html.escape(html.unescape(text), quote=False))
    return "".join(told)


def _bounded(text: str, number: int, count: int) -> str:
    if len(text) > MOST_TEXT:
        raise OverLimits(f"Line {number + 1} of the subtitles begins a text of more than {MOST_TEXT} characters")
    if count > MOST_CUES:
        raise OverLimits(f"There are more than {MOST_CUES} subtitles in it")
    return "".join(each for each in text if each == "\n" or each == "\t" or each >= " ")


def _clock(milliseconds: int) -> str:
    hours, rest = divmod(milliseconds, 3_600_000)
    return f"{hours:02d}:{rest // 60_000:02d}:{rest // 1000 % 60:02d}.{rest % 1000:03d}"


def _refuse(number: int, why: str) -> NoReturn:
    raise Undecodable(f"Line {number + 1} of the subtitles: {why}")
