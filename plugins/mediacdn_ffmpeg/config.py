"""The drivers' tables in the configuration."""

import re

from msgspec import Struct

RENDITION = re.compile(r"([1-9][0-9]{1,3})p")


class LookConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much looking into a film may cost, and where its decoder runs. Sizes are bytes, times are seconds."""

    children: int = 1
    queue: int = 64
    """Callers that may wait for a child; the next one is told to come again."""
    jobs: int = 50
    """Films after which a child is replaced."""
    deadline: float = 120.0
    processor: float = 60.0
    memory: int = 2 << 30
    """Of a child's address space."""
    max_pixels: int = 8_912_896
    """Of a frame: 4096 by 2176."""
    max_duration: float = 43_200.0
    max_streams: int = 64


class EncodeConfig(LookConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same for films that are made, by ffmpeg itself."""

    ffmpeg: str = ""
    """The program; by default that of PATH, else that of imageio-ffmpeg."""
    encode_deadline: float = 21_600.0
    encode_processor: float = 172_800.0
    encode_memory: int = 6 << 30
    """Of ffmpeg's address space, of which it uses a part."""
    output: int = 16 << 30
    """Bytes of the largest file that may be made."""
    max_output: int = 64 << 30
    """Bytes of all files of one film."""
    threads: int = 4
    """Of the decoder and the filters. Each rendition's encoder has one: with more, no two runs would write the same."""
    nice: int = 10
    crf: int = 23
    """Quality of H.264, 0 (all) to 51 (nothing)."""
    preset: str = "veryfast"
    """How hard x264 works, ultrafast to veryslow."""


class HlsConfig(EncodeConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same for streams."""

    renditions: tuple[str, ...] = ("1080p", "720p", "480p", "240p")
    """The boxes of 16:9 that a film is fitted into; none makes it larger."""
    container: str = "fmp4"
    """fmp4 or mpegts."""
    seconds: int = 4
    """Of a segment."""
    chunk: int = 60
    """Seconds of a film that are made at once, by any worker, where it is longer than `whole`."""
    whole: int = 120
    """Films up to so many seconds are made in one piece."""

    def __post_init__(self) -> None:
        wrong = [each for each in self.renditions if not RENDITION.fullmatch(each)]
        if wrong or not self.renditions:
            raise ValueError("renditions are such as 1080p and 720p")
        if self.container not in ("fmp4", "mpegts"):
            raise ValueError("container is fmp4 or mpegts")
        if not 1 <= self.seconds <= 20:
            raise ValueError("seconds must be from 1 to 20")
        if self.chunk < self.seconds or self.whole < 0:
            raise ValueError("chunk is no shorter than seconds, and whole is 0 or more")
