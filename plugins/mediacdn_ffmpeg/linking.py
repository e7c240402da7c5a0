"""The action that reads subtitles, and writes what lists them: the master playlist, the subtitles' own, and the manifest of DASH."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from mediacdn import Argument, Composed, Extract, Kit, Made, NotFound, OverLimits, Published, Sink, Source, language_tag
from mediacdn_ffmpeg import dash, manifests, subtitles
from mediacdn_ffmpeg.manifests import Entry, Master, Media, Subtitles
from mediacdn_ffmpeg.timing import begins

MPEGURL = "application/vnd.apple.mpegurl"
VTT = "text/vtt"
SOUND = 128_000
"""Bits a second of a track of sound beside the others."""
_MASTER = "hls/master.m3u8"
_TAG = r"[A-Za-z0-9-]{1,35}"
_MOST_PLAYLIST = 16 << 20
_MOST_BEGINNING = 4 << 20
"""Bytes of a segment in which its first picture's time is."""


class SubtitlesConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How much is read."""

    size: int = 10_000_000
    """Bytes of a text; what may be given is `limits.max_subtitles_size`."""


class Linking:
    """`subtitles`: WebVTT, from that or from SubRip."""

    accepts = ("text/vtt", "application/x-subrip", "text/plain")
    arguments = (
        Argument(name="language", required=True, max=35, summary="Tag of the language (BCP 47)"),
        Argument(name="label", required=True, max=100, summary="What viewers are shown"),
    )
    composes = (r"hls/master\.m3u8", rf"hls/subtitles/{_TAG}\.(?:m3u8|vtt)", r"dash/manifest\.mpd")

    def __init__(self, config: SubtitlesConfig) -> None:
        self._most = config.size

    async def run(self, source: Source, spec: Mapping[str, Any], sink: Sink) -> Made:
        async with source.file() as file:
            content = await asyncio.to_thread(os.pread, file, self._most + 1, 0)
        if len(content) > self._most:
            raise OverLimits(f"Subtitles of more than {self._most} bytes are not read")
        cues = await asyncio.to_thread(subtitles.read, content)
        text = await asyncio.to_thread(subtitles.write, cues)
        await asyncio.to_thread(_written, sink.file(), text.encode())
        return Made(media_type=VTT, facts={"language": spec["language"], "label": spec["label"], "cues": len(cues)})

    async def compose(self, path: str, published: Published) -> Composed | None:
        if path == _MASTER:
            listed = await _listed(published)
            found = await published.read(_MASTER, _MOST_PLAYLIST) if listed else None
            if found is None:
                return None
            return Composed(manifests.with_subtitles(_master(found), listed).encode(), MPEGURL, found.media_id)
        if path == "dash/manifest.mpd":
            return await self._dash(published)
        language, _, ending = path.removeprefix("hls/subtitles/").rpartition(".")
        return await self._subtitles(published, language, ending)

    async def _subtitles(self, published: Published, language: str, ending: str) -> Composed:
        tag = language_tag(language)
        given = await published.read(f"subtitles/{tag}", self._most) if tag else None
        if given is None:
            raise NotFound("There are no subtitles in this language")
        _, playlist, init, segment = await _first(published)
        if ending == "m3u8":
            seconds = playlist.seconds if playlist.ended else max(playlist.seconds, published.card.duration or 0.0)
            return Composed(manifests.subtitles_playlist(f"{tag}.vtt", seconds).encode(), MPEGURL, given.media_id)
        ticks = round(begins(init, segment) * 90_000)
        return Composed(subtitles.mapped(given.content.decode(), ticks).encode(), VTT, given.media_id)

    async def _dash(self, published: Published) -> Composed:
        found = await published.read(_MASTER, _MOST_PLAYLIST)
        if found is None:
            raise NotFound("There is no stream of this media")
        if found.growing:  # players of DASH would take what there is for all of it
            raise NotFound("The stream of this media is not whole yet")
        master = _master(found)
        pictures: list[dash.Representation] = []
        sounds: list[dash.Representation] = []
        beside = [each for each in master.media if each.attributes.get("TYPE") == "AUDIO" and each.uri]
        alone = bool(beside) and all(each.uri for each in master.media if each.attributes.get("TYPE") == "AUDIO")
        for entry in master.streams:
            codecs = entry.attributes.get("CODECS", "")
            told = codecs.partition(",")[0] if alone else codecs
            needs = max(SOUND, entry.number("BANDWIDTH") - SOUND * alone)
            each = await _representation(published, entry, needs, told)
            (pictures if "RESOLUTION" in entry.attributes else sounds).append(each)
        for track in beside:
            each = await _representation(published, track, SOUND, "mp4a.40.2", track.attributes.get("LANGUAGE", ""))
            sounds.append(replace(each, begins=pictures[0].begins) if alone and pictures else each)  # they have one clock
        text = await asyncio.to_thread(dash.manifest, pictures, sounds, await _listed(published), base="../hls/", beside="../subtitles/")
        return Composed(text.encode(), dash.MPD, found.media_id)


async def _representation(published: Published, entry: Entry, bandwidth: int, codecs: str, language: str = "") -> dash.Representation:
    media = await _playlist(published, entry.uri)
    if not media.ended or not media.init:
        raise NotFound("There is no DASH of a stream that is being made, or of one in transport streams")
    init, segment = await _beginning(published, media)
    name = entry.uri.removesuffix(".m3u8")
    return dash.Representation(name, entry, media, begins(init, segment), bandwidth, codecs, language)


async def _listed(published: Published) -> list[Subtitles]:
    return [Subtitles(str(each.facts["language"]), str(each.facts["label"])) for each in await published.subtitles()]


async def _first(published: Published) -> tuple[Master, Media, bytes, bytes]:
    """The first rendition, and how it begins. Raises: NotFound."""
    found = await published.read(_MASTER, _MOST_PLAYLIST)
    if found is None or not (master := _master(found)).streams:
        raise NotFound("There is no stream of this media")
    media = await _playlist(published, master.streams[0].uri)
    return master, media, *await _beginning(published, media)


async def _beginning(published: Published, media: Media) -> tuple[bytes, bytes]:
    if not media.segments:
        raise NotFound("There is nothing in this stream yet")
    init = await published.read(f"hls/{media.init}") if media.init else None
    segment = await published.read(f"hls/{media.segments[0][0]}", _MOST_BEGINNING)
    if segment is None or (init is None and media.init):
        raise NotFound("The stream was made anew meanwhile")
    return (b"" if init is None else init.content), segment.content


async def _playlist(published: Published, uri: str) -> Media:
    found = await published.read(f"hls/{uri}", _MOST_PLAYLIST)
    if found is None:
        raise NotFound("The stream was made anew meanwhile")
    return manifests.read_media(found.content.decode())


def _master(found: Extract) -> Master:
    return manifests.read_master(found.content.decode())


def _written(file: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(file, view) :]


@asynccontextmanager
async def open_subtitles(config: SubtitlesConfig, kit: Kit) -> AsyncIterator[Linking]:
    """Open the action."""
    yield Linking(config)
