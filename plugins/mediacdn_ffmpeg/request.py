"""What the actions ask of their children and what those answer: the one shape that both sides know."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from mediacdn import Fence

EMPTY = "A segment that was made is empty"
Count = Annotated[int, Meta(ge=0, le=1 << 40)]
Seconds = Annotated[float, Meta(ge=0, le=1e7)]
Decibel = Annotated[float, Meta(ge=-200, le=200)]
Word = Annotated[str, Meta(max_length=64)]


class Limits(Struct, frozen=True, kw_only=True):
    """What a film is held to before much of it is decoded."""

    pixels: int
    duration: float
    streams: int


class Look(Struct, frozen=True, kw_only=True, tag="look"):
    """What is to be known of a film. Descriptors: the film."""

    demuxer: str
    limits: Limits


class Still(Struct, frozen=True, kw_only=True, tag="still"):
    """A frame that shows what the film is, as JPEG that fits into `edge`. Descriptors: the film, the output."""

    demuxer: str
    limits: Limits
    edge: int = 1280


class Board(Struct, frozen=True, kw_only=True, tag="board"):
    """Small pictures of the whole film on one sheet. Descriptors: the film, the output."""

    demuxer: str
    limits: Limits
    tiles: int = 100
    width: int = 160


class Peaks(Struct, frozen=True, kw_only=True, tag="peaks"):
    """The outline of the sound, `points` pairs of its lowest and highest. Descriptors: the film, the output."""

    demuxer: str
    limits: Limits
    points: int = 1000


class Motion(Struct, frozen=True, kw_only=True, tag="motion"):
    """A few seconds of the whole film in motion, as WebP of at most `most` bytes. Descriptors: the film, the output."""

    demuxer: str
    limits: Limits
    edge: int = 320
    clips: int = 8
    most: int = 1_000_000


class Cover(Struct, frozen=True, kw_only=True, tag="cover"):
    """The picture that comes with sound, as JPEG that fits into `edge`. Descriptors: the sound, the output."""

    demuxer: str
    limits: Limits
    edge: int = 1280


class Loudness(Struct, frozen=True, kw_only=True, tag="loudness"):
    """How loud it is. Descriptors: the film."""

    demuxer: str
    limits: Limits


class Drawing(Struct, frozen=True, kw_only=True, tag="drawing"):
    """The outline of the sound as a picture. Descriptors: the film, the output."""

    demuxer: str
    limits: Limits
    width: int = 1200
    height: int = 200


class Piece(Struct, frozen=True):
    """A rendition that was made, or as many segments of it: the files of these, and of its initialization where they need one."""

    name: str
    count: int
    fmp4: bool
    begin: int = 0
    """Which segment is the first."""

    @property
    def init(self) -> str:
        return f"{self.name}_init.mp4" if self.fmp4 else ""

    @property
    def ending(self) -> str:
        return "m4s" if self.fmp4 else "ts"

    @property
    def segments(self) -> list[str]:
        return [f"{self.name}_{number:05d}.{self.ending}" for number in range(self.begin, self.begin + self.count)]


class Check(Struct, frozen=True, kw_only=True, tag="check"):
    """Whether segments are whole. Descriptors: the line on which they are lent."""

    piece: Piece
    video: bool
    audio: bool
    through: bool = False
    """Decode all of the sound, which nobody else has: it was copied."""


Task = Look | Still | Board | Peaks | Motion | Cover | Loudness | Drawing | Check


class Work(Struct, frozen=True):
    """One request to the child that decodes."""

    task: Task


class Encode(Struct, frozen=True):
    """One request to the child that runs ffmpeg. `{source}` and `{progress}` among the arguments become descriptors. Descriptors: the film, the folder, the progress."""

    arguments: tuple[str, ...]
    nice: int
    fence: Fence


class Video(Struct, frozen=True, kw_only=True):
    """The pictures of a film, as shown: upright, and with square pixels."""

    index: Count
    codec: Word
    width: Annotated[int, Meta(ge=1, le=1 << 16)]
    height: Annotated[int, Meta(ge=1, le=1 << 16)]
    rotation: Literal[0, 90, 180, 270] = 0
    frame_rate: Annotated[float, Meta(ge=0, le=100_000)] = 0.0
    bits: Count = 8
    hdr: bool = False
    interlaced: bool = False
    plain: bool = False
    """Whether it is H.264 that every player decodes, upright, and with square pixels."""
    keys: Annotated[tuple[Annotated[float, Meta(ge=-1, le=1e7)], ...], Meta(max_length=5000)] = ()
    """When its key frames are, where that is known without reading all of it."""
    duration: Seconds | None = None


class Audio(Struct, frozen=True, kw_only=True):
    """A track of sound. `language` is empty where it is not told."""

    index: Count
    codec: Word
    channels: Count = 0
    rate: Count = 0
    language: Word = ""
    plain: bool = False
    """Whether it is AAC that every player decodes."""
    duration: Seconds | None = None


class Film(Struct, frozen=True, kw_only=True):
    """What was found in a film."""

    duration: Seconds
    start: Annotated[float, Meta(ge=-1e7, le=1e7)] = 0.0
    """What its clock shows at its beginning."""
    video: Video | None = None
    audio: Annotated[tuple[Audio, ...], Meta(max_length=256)] = ()
    tools: dict[Word, Word] = {}


class Made(Struct, frozen=True, kw_only=True):
    """A picture or an outline that was written."""

    width: Count = 0
    height: Count = 0
    duration: Seconds = 0.0
    tools: dict[Word, Word] = {}


class Sheet(Struct, frozen=True, kw_only=True):
    """A sheet that was written: the size of its pictures, how many stand in a row, and the second that each is of."""

    width: Annotated[int, Meta(ge=1, le=4096)]
    height: Annotated[int, Meta(ge=1, le=4096)]
    columns: Annotated[int, Meta(ge=1, le=100)]
    times: Annotated[tuple[Seconds, ...], Meta(min_length=1, max_length=1000)]
    duration: Seconds
    tools: dict[Word, Word] = {}


class Checked(Struct, frozen=True, kw_only=True):
    """What was found in segments."""

    video: Seconds = 0.0
    audio: Seconds = 0.0
    width: Count = 0
    height: Count = 0
    frames: Count = 0
    codecs: Word = ""
    keys: Annotated[tuple[Count, ...], Meta(max_length=50_000)] = ()
    """Of each segment in a container of fragments, the bytes from its beginning to the end of its first picture."""
    starts: Annotated[tuple[float, ...], Meta(max_length=50_000)] = ()
    """When the first picture of each segment is shown."""
    leading: bool = False
    """Whether pictures of a segment are shown before its first, which needs the segment before then."""
    spans: dict[Literal["video", "audio"], tuple[float, float]] = {}
    decoded: dict[Literal["video", "audio"], tuple[float, float]] = {}
    """When the first packet and the last one are decoded."""


class Heard(Struct, frozen=True, kw_only=True):
    """How loud it is (EBU R 128): LUFS, LU and dBTP; None where it is silent or too short to tell."""

    integrated: Decibel | None = None
    range: Decibel | None = None
    true_peak: Decibel | None = None
    tools: dict[Word, Word] = {}


class Ran(Struct, frozen=True):
    """How ffmpeg ended: its exit status, negative for a signal, and the end of what it said."""

    code: int
    said: Annotated[str, Meta(max_length=5000)]
