"""Films and sound made to stream and to download (`hls`, `mp4`, `opus`), looked at (`film-facts`, `loudness`) and shown (`film-poster`, `film-preview`, `storyboard`, `cover`,
`waveform`, `waveform-picture`), by ffmpeg in child processes; `subtitles` and the manifests that list them; and a player."""

from importlib.util import find_spec
from typing import Any

from mediacdn import Argument, Core, Driver, Media, Plan, Recipe, Step, hookimpl
from mediacdn_ffmpeg.chunked import open_chunked
from mediacdn_ffmpeg.config import EncodeConfig, HlsConfig, LookConfig
from mediacdn_ffmpeg.demuxers import DEMUXERS, FILMS, SOUNDS
from mediacdn_ffmpeg.linking import SubtitlesConfig, open_subtitles
from mediacdn_ffmpeg.looking import open_facts, open_poster, open_storyboard, open_waveform
from mediacdn_ffmpeg.making import open_mp4
from mediacdn_ffmpeg.showing import LoudnessConfig, PreviewConfig, open_cover, open_drawing, open_loudness, open_opus, open_preview

if find_spec("av") is None:  # only the children import it, and they would say so too late
    raise ImportError("No module named 'av'", name="av")

__all__ = ["EncodeConfig", "HlsConfig", "LookConfig", "mediacdn_drivers", "mediacdn_plan_jobs", "mediacdn_recipes", "mediacdn_routes"]


@hookimpl
def mediacdn_drivers() -> list[Driver]:
    return [
        Driver(seam="action", name="film-facts", config=LookConfig, open=open_facts),
        Driver(seam="action", name="film-poster", config=LookConfig, open=open_poster),
        Driver(seam="action", name="storyboard", config=LookConfig, open=open_storyboard),
        Driver(seam="action", name="waveform", config=LookConfig, open=open_waveform),
        Driver(seam="action", name="hls", config=HlsConfig, open=open_chunked),
        Driver(seam="action", name="mp4", config=EncodeConfig, open=open_mp4),
        Driver(seam="action", name="opus", config=EncodeConfig, open=open_opus),
        Driver(seam="action", name="film-preview", config=PreviewConfig, open=open_preview),
        Driver(seam="action", name="cover", config=LookConfig, open=open_cover),
        Driver(seam="action", name="loudness", config=LoudnessConfig, open=open_loudness),
        Driver(seam="action", name="waveform-picture", config=LoudnessConfig, open=open_drawing),
        Driver(seam="action", name="subtitles", config=SubtitlesConfig, open=open_subtitles),
    ]


@hookimpl
def mediacdn_plan_jobs(media: Media) -> list[Plan]:
    """What is to be known of films and sound, a stream, which a film's status waits for, a poster, and the outline of sound."""
    if media.media_type not in DEMUXERS or media.source_id is not None:
        return []
    if media.kind == "video":
        shown = [Plan(recipe=each) for each in ("poster", "thumb-film", "storyboard", "preview")]
        return [Plan(recipe="film-look", priority=1), Plan(recipe="hls", required=True), *shown]
    heard = [Plan(recipe=each) for each in ("cover", "loudness", "waveform", "waveform-picture")]
    return [Plan(recipe="film-look", priority=1), Plan(recipe="hls"), *heard]


@hookimpl
def mediacdn_recipes() -> list[Recipe]:
    still = Step(name="poster", action="film-poster", relationship="poster")
    small = {"w": 320, "h": 320, "fit": "inside", "format": "webp"}
    renditions = Argument(
        name="renditions", max=200, summary="Boxes of 16:9 by their height, such as 1080p,480p; by default the configured ones"
    )
    container = Argument(name="container", allowed=("fmp4", "mpegts"), summary="Of the segments; by default the configured one")
    return [
        Recipe(
            code="film-look",
            title="Facts of a film",
            summary="Duration, size, frame rate, codecs, rotation, tracks of sound; makes no bytes",
            steps=(Step(name="look", action="film-facts"),),
            accepts=tuple(DEMUXERS),
        ),
        Recipe(
            code="hls",
            title="Stream",
            summary="H.264 and AAC in renditions of several sizes, by HTTP Live Streaming",
            arguments=(renditions, container),
            steps=(Step(name="hls", action="hls", spec={"renditions": "${renditions}", "container": "${container}"}, relationship="hls"),),
            accepts=tuple(DEMUXERS),
            lane="video",
        ),
        Recipe(
            code="mp4",
            title="Film for download",
            summary="H.264 and AAC of at most 1280 by 720 pixels in one MP4, its index first",
            steps=(Step(name="mp4", action="mp4", relationship="mp4"),),
            accepts=FILMS,
            lane="video",
        ),
        Recipe(code="poster", title="Poster", summary="A still that is not dark", steps=(still,), accepts=FILMS),
        Recipe(
            code="thumb-film",
            title="Thumbnail of a film",
            summary="The poster as a still of at most 320 by 320 pixels",
            steps=(still, Step(name="thumb", action="image", spec=small, relationship="thumbnail")),
            accepts=FILMS,
        ),
        Recipe(
            code="storyboard",
            title="Storyboard",
            summary="Small pictures of the whole film on one sheet, with WebVTT that says which is when",
            steps=(Step(name="storyboard", action="storyboard", relationship="storyboard"),),
            accepts=FILMS,
        ),
        Recipe(
            code="preview",
            title="Preview",
            summary="A few seconds of the whole film in motion, as WebP",
            steps=(Step(name="preview", action="film-preview", relationship="preview"),),
            accepts=FILMS,
        ),
        Recipe(
            code="opus",
            title="Sound for download",
            summary="The first track of sound as Opus in Ogg",
            arguments=(Argument(name="rate", type="integer", default=96, min=16, max=320, summary="Thousands of bits a second"),),
            steps=(Step(name="opus", action="opus", spec={"rate": "${rate}"}, relationship="opus"),),
            accepts=tuple(DEMUXERS),
            lane="video",
        ),
        Recipe(
            code="cover",
            title="Cover",
            summary="The picture that comes with a piece of sound, where one does",
            steps=(Step(name="cover", action="cover", relationship="poster"),),
            accepts=SOUNDS,
        ),
        Recipe(
            code="loudness",
            title="Loudness",
            summary="Integrated loudness, its range and the true peak by EBU R 128; makes no bytes",
            steps=(Step(name="loudness", action="loudness"),),
            accepts=tuple(DEMUXERS),
        ),
        Recipe(
            code="waveform-picture",
            title="Picture of the sound",
            summary="PNG of its outline",
            steps=(Step(name="draw", action="waveform-picture", relationship="waveform-picture"),),
            accepts=tuple(DEMUXERS),
        ),
        Recipe(
            code="waveform",
            title="Outline of the sound",
            summary="JSON of peaks, for drawing",
            steps=(Step(name="waveform", action="waveform", relationship="waveform"),),
            accepts=tuple(DEMUXERS),
        ),
    ]


@hookimpl
def mediacdn_routes(core: Core) -> list[Any]:
    from mediacdn_ffmpeg.player import player_routes

    return player_routes()
