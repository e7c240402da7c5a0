"""The drivers that have ffmpeg make films: streams of many renditions, and one file. A film is looked at first, and what was made is looked at before it counts."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from typing import Any

import msgspec

from mediacdn import Argument, Kit, Made, MadeFile, OverLimits, Sandbox, Sink, Source, Undecodable, open_sandbox
from mediacdn_ffmpeg import command, playlists, program
from mediacdn_ffmpeg.config import RENDITION, EncodeConfig, HlsConfig
from mediacdn_ffmpeg.demuxers import DEMUXERS, FILMS
from mediacdn_ffmpeg.ladder import Rendition, fitted, ladder, rate
from mediacdn_ffmpeg.looking import Looking, open_looking
from mediacdn_ffmpeg.request import Check, Checked, Encode, Film, Piece, Ran

OFF = 0.1
"""Seconds by which what was made may be longer or shorter than the film."""
MPEGURL = "application/vnd.apple.mpegurl"
PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
SAID = 240
"""Characters of ffmpeg's last words that are told."""
_MOST_PLAYLIST = 16 << 20


class Making:
    """ffmpeg in a child, and another child that looks."""

    def __init__(self, config: EncodeConfig, looking: Looking, box: Sandbox, found: program.Program | None) -> None:
        self.config = config
        self.looking = looking
        self._box = box
        self._program = found

    async def how(self, media_type: str, spec: Mapping[str, Any]) -> command.How:
        """What to say to ffmpeg. Raises: ConfigError, where there is none."""
        if self._program is None:
            self._program = await program.find(self.config.ffmpeg)
        return command.How(
            program=self._program.path, tonemaps=self._program.tonemaps, demuxer=DEMUXERS[media_type], crf=spec["crf"], preset=spec["preset"],
            threads=self.config.threads, pixels=self.config.max_pixels,
        )  # fmt: skip

    @property
    def tools(self) -> dict[str, str]:
        return {} if self._program is None else {"ffmpeg": self._program.version}

    async def encode(self, arguments: list[str], file: int, folder: int, duration: float, told: Callable[[float], Any]) -> None:
        """Run ffmpeg. Raises: Undecodable, OverLimits, Overloaded, Unavailable."""
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        try:
            asked = Encode(tuple(arguments), self.config.nice)
            running = asyncio.ensure_future(
                self._box.run(msgspec.to_builtins(asked), [file, folder, theirs], deadline=self.config.encode_deadline)
            )
            watching = asyncio.ensure_future(self._watch(ours, folder, duration, told))
            try:
                await asyncio.wait({running, watching}, return_when=asyncio.FIRST_COMPLETED)
                if watching.done():
                    watching.result()
                body = await running
            finally:
                for each in (running, watching):
                    each.cancel()
                await asyncio.wait({running, watching})
        finally:
            os.close(theirs)
        try:
            ran = msgspec.convert(body, Ran)
        except msgspec.ValidationError as error:
            raise Undecodable from error
        if ran.code:
            said = f"; ffmpeg said: …{ran.said[-SAID:].strip()}" if ran.said else ""
            raise Undecodable(f"The film is damaged, cut short, or of a kind that is not read here{said}")

    async def _watch(self, pipe: int, folder: int, duration: float, told: Callable[[float], Any]) -> None:
        """Tell the progress, and hold what is made to its limit. Never returns. Raises: OverLimits."""
        loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(pipe, "rb", buffering=0))
        looked = 0.0
        try:
            while line := await reader.readline():
                name, _, value = line.partition(b"=")
                if name == b"out_time_us" and duration > 0:
                    with suppress(ValueError):
                        await told(min(1.0, max(0.0, int(value) / 1e6 / duration)))
                if name == b"progress" and loop.time() > looked + 2:
                    looked = loop.time()
                    if await asyncio.to_thread(_size, folder) > self.config.max_output:
                        raise OverLimits(f"What would be made of the film is more than {self.config.max_output} bytes")
            await asyncio.Event().wait()
        finally:
            transport.close()


class Hls:
    """`hls`: a stream (RFC 8216) of one or more renditions, each with the first track of sound in it, and the other tracks beside them."""

    accepts = tuple(DEMUXERS)

    def __init__(self, config: HlsConfig, making: Making) -> None:
        self._making = making
        # What decides which bytes are made is among the arguments, so that another configuration makes another derivative.
        self.arguments = (
            Argument(
                name="renditions", default=",".join(config.renditions), max=200, pattern="[1-9][0-9]{1,3}p(,[1-9][0-9]{1,3}p)*",
                summary="Boxes of 16:9 by their height; none makes the film larger",
            ),
            Argument(name="container", default=config.container, allowed=("fmp4", "mpegts"), summary="Of the segments"),
            Argument(name="seconds", type="integer", default=config.seconds, min=1, max=20, summary="Of a segment"),
            *_quality(config),
        )  # fmt: skip

    async def run(self, source: Source, spec: Mapping[str, Any], sink: Sink) -> Made:
        making, media_type = self._making, source.media.media_type
        folder = await sink.folder()
        how = await making.how(media_type, spec)
        async with source.file() as file:
            film = await making.looking.film(media_type, file)
            boxes = [int(found[1]) for each in spec["renditions"].split(",") if (found := RENDITION.fullmatch(each))]
            rungs = ladder(film.video.width, film.video.height, boxes) if film.video else []
            arguments, names = command.hls(film, rungs, how, container=spec["container"], seconds=spec["seconds"])
            await making.encode(arguments, file, folder, film.duration, lambda share: sink.progress(share * 0.9))
        tracks, sounds, pieces, lists = [], [], [], []
        fmp4 = spec["container"] == "fmp4"
        for number, name in enumerate(names):
            rung = rungs[number] if number < len(rungs) else None
            listed = await asyncio.to_thread(_listed, folder, name, "m4s" if fmp4 else "ts")
            piece = Piece(name, len(listed), fmp4)
            checked = await self._checked(film, piece, folder, rung)
            files, segments, init = await asyncio.to_thread(_named, folder, piece, listed)
            pieces += files
            await asyncio.to_thread(_write, folder, f"{name}.playlist", playlists.media_playlist(segments, init))
            if rung is not None or not rungs:
                keys = checked.keys if rung is not None and len(checked.keys) == len(segments) else ()
                track = playlists.Track(
                    name=name, segments=segments, codecs=checked.codecs, keys=keys, width=checked.width, height=checked.height,
                    frame_rate=_rate(film, checked.frames / max(checked.video, 0.04)),
                )  # fmt: skip
                tracks.append(track)
                lists.append(name)
                if keys:
                    lists.append(f"{name}-keys")
                    await asyncio.to_thread(_write, folder, f"{name}-keys.playlist", playlists.key_playlist(track, init))
            else:
                lists.append(name)
                sounds.append(playlists.Sound(name, film.audio[number - len(rungs) + 1].language))
            await sink.progress(0.9 + 0.1 * (number + 1) / len(names))
        first = film.audio[0].language if film.audio else ""
        master = playlists.master_playlist(tracks, sounds, first, version=7 if fmp4 else 4 if sounds else 3)
        await asyncio.to_thread(_write, folder, "master.playlist", master)
        await asyncio.to_thread(os.write, sink.file(), master.encode())
        pieces += [MadeFile(f"{name}.playlist", f"{name}.m3u8", MPEGURL) for name in lists]
        pieces.append(MadeFile("master.playlist", "master.m3u8", MPEGURL))
        top = rungs[0] if rungs else None
        return Made(
            media_type=MPEGURL, width=top.width if top else None, height=top.height if top else None, duration=round(film.duration, 3),
            facts={"renditions": names, "segments": sum(len(each.segments) for each in tracks)}, tools={**making.tools, **film.tools},
            files=tuple(pieces), manifest="master.m3u8",
        )  # fmt: skip

    async def _checked(self, film: Film, piece: Piece, folder: int, rung: Rendition | None) -> Checked:
        """Look at what was made before anybody else does. Raises: Undecodable."""
        looking = self._making.looking
        video, audio = rung is not None, bool(film.audio)
        checked = await looking.done(Check(piece=piece, video=video, audio=audio), Checked, folder)
        made = checked.video if video else checked.audio
        wanted = (film.video.duration if video and film.video else film.audio[0].duration) or film.duration
        # A frame or packet more or less is no difference; what was asked for in whole frames of 60 a second at most may lack one of the film's.
        slack = OFF + (max(1 / film.video.frame_rate, 1 / command.FASTEST) if video and film.video and film.video.frame_rate else 0.05)
        if made < wanted - slack:
            raise Undecodable(f"The film says that it is {wanted:.1f} s long, and ends after {made:.1f} s: it is damaged or cut short")
        if made > wanted + slack and made > film.duration + slack:
            raise Undecodable(f"What was made is {made:.1f} s long, and the film {wanted:.1f} s: its times are damaged")
        return checked


class Mp4:
    """`mp4`: one file that plays everywhere, its index first."""

    accepts = FILMS

    def __init__(self, config: EncodeConfig, making: Making) -> None:
        self._making = making
        self.arguments = (
            Argument(
                name="box",
                type="integer",
                default=720,
                min=16,
                max=2160,
                summary="The box of 16:9 by its height that the film is fitted into",
            ),
            *_quality(config),
        )

    async def run(self, source: Source, spec: Mapping[str, Any], sink: Sink) -> Made:
        making, media_type = self._making, source.media.media_type
        folder = await sink.folder()
        how = await making.how(media_type, spec)
        async with source.file() as file:
            film = await making.looking.film(media_type, file)
            if film.video is None:
                raise Undecodable("There are no pictures in it that can be read")
            size = fitted(film.video.width, film.video.height, spec["box"])
            rendition = Rendition("mp4", *size, rate(*size))
            await making.encode(
                command.mp4(film, rendition, how, name="made.mp4"), file, folder, film.duration, lambda share: sink.progress(share * 0.95)
            )
        await asyncio.to_thread(_copied, folder, "made.mp4", sink.file())
        made = await making.looking.film("video/mp4", sink.file())
        if made.video is None or made.duration < film.duration - OFF - 0.1:
            raise Undecodable(
                f"The film says that it is {film.duration:.1f} s long, and ends after {made.duration:.1f} s: it is damaged or cut short"
            )
        return Made(
            media_type="video/mp4", width=size[0], height=size[1], duration=round(made.duration, 3), frame_rate=made.video.frame_rate,
            codecs=", ".join([made.video.codec, *(each.codec for each in made.audio)]), tools={**making.tools, **film.tools},
        )  # fmt: skip


def _rate(film: Film, found: float) -> float:
    """The film's own frame rate, where what was made has about as many."""
    told = film.video.frame_rate if film.video else 0.0
    return told if abs(found - told) < 0.03 * told else found


def _quality(config: EncodeConfig) -> tuple[Argument, Argument]:
    return (
        Argument(name="crf", type="integer", default=config.crf, min=0, max=51, summary="Quality of H.264, 0 is all and 51 nothing"),
        Argument(name="preset", default=config.preset, allowed=PRESETS, summary="How hard x264 works"),
    )


def _size(folder: int) -> int:
    with os.scandir(folder) as found:
        return sum(each.stat(follow_symlinks=False).st_size for each in found)


def _listed(folder: int, name: str, ending: str) -> tuple[playlists.Segment, ...]:
    try:
        text = _bytes(folder, f"{name}.m3u8", _MOST_PLAYLIST).decode("ascii")
        return playlists.read(text, name, ending)
    except (OSError, ValueError) as error:
        raise Undecodable("Nothing whole was made of the film") from error


def _named(folder: int, piece: Piece, listed: tuple[playlists.Segment, ...]) -> tuple[list[MadeFile], tuple[playlists.Segment, ...], str]:
    """Name files by what is in them: an address never means other bytes, so that who plays what was made before is not served what is made now."""
    name, media_type = piece.name, "video/mp4" if piece.fmp4 else "video/mp2t"
    files, segments, init = [], [], ""
    if piece.init:
        init = f"segments/{name}-init-{_digest(folder, piece.init)[0]}.mp4"
        files.append(MadeFile(piece.init, init, media_type))
    for number, each in enumerate(listed):
        digest, size = _digest(folder, each.name)
        path = f"segments/{name}-{number:05d}-{digest}.{piece.ending}"
        files.append(MadeFile(each.name, path, media_type))
        segments.append(playlists.Segment(path, each.seconds, size))
    return files, tuple(segments), init


def _digest(folder: int, name: str) -> tuple[str, int]:
    content = _bytes(folder, name, 1 << 30)
    return sha256(content).hexdigest()[:12], len(content)


def _bytes(folder: int, name: str, most: int) -> bytes:
    with os.fdopen(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder), "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OverLimits("A segment that was made is larger than is allowed")
    return content


def _write(folder: int, name: str, text: str) -> None:
    with os.fdopen(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder), "w") as file:
        file.write(text)


def _copied(folder: int, name: str, output: int) -> None:
    with os.fdopen(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder), "rb") as file:
        at, size = 0, os.fstat(file.fileno()).st_size
        while at < size:
            at += os.sendfile(output, file.fileno(), at, size - at)


@asynccontextmanager
async def _making(config: EncodeConfig, kit: Kit) -> AsyncIterator[Making]:
    found = await program.find(config.ffmpeg) if kit.worker else None
    async with (
        open_looking(config) as looking,
        open_sandbox(
            call="mediacdn_ffmpeg.running:run", children=config.children, queue=config.queue, jobs=config.jobs, memory=config.encode_memory,
            processor=config.encode_processor, output=config.output, files=256,
        ) as box,
    ):  # fmt: skip
        yield Making(config, looking, box, found)


@asynccontextmanager
async def open_hls(config: HlsConfig, kit: Kit) -> AsyncIterator[Hls]:
    """Open the action. Raises: ConfigError, where a worker has no ffmpeg; Unavailable."""
    async with _making(config, kit) as making:
        yield Hls(config, making)


@asynccontextmanager
async def open_mp4(config: EncodeConfig, kit: Kit) -> AsyncIterator[Mp4]:
    """Open the action. Raises: ConfigError, where a worker has no ffmpeg; Unavailable."""
    async with _making(config, kit) as making:
        yield Mp4(config, making)
