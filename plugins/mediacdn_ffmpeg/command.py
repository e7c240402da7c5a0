"""The arguments of ffmpeg: one process that decodes a film once and makes all of its renditions. Pure.

The input is a descriptor, its demuxer is named by what our own sniffing found, and the only protocol that it may open is that descriptor: playlists, concatenations
and references to other files lead nowhere. The bytes that come out depend on the film and the wish alone.
"""

from collections.abc import Sequence

from msgspec import Struct

from mediacdn_ffmpeg.ladder import Rendition
from mediacdn_ffmpeg.request import Film

ENCODER_THREADS = 1
"""With more, what x264 writes within a bit rate is another thing each time: its threads tell each other what they have spent when they come to it. The renditions,
the decoder and the filters run beside each other all the same."""
MOST_SOUNDS = 8
TAIL = 0.5
"""Seconds that the last segment has at least, where there is another before it."""
FASTEST = 60.0
"""Frames a second that are kept."""
_SOUND = ("-c:a", "aac", "-b:a", "128k", "-ac", "2", "-ar", "48000", "-filter:a", "aresample=async=1:first_pts=0")
_EXACT = (
    "-flags:v",
    "+bitexact",
    "-flags:a",
    "+bitexact",
    "-fflags",
    "+bitexact",
    "-map_metadata",
    "-1",
    "-map_chapters",
    "-1",
    "-sn",
    "-dn",
)


class How(Struct, frozen=True, kw_only=True):
    """What there is to be said of the work besides the film and what is to be made of it."""

    program: str
    tonemaps: bool
    demuxer: str
    crf: int
    preset: str
    threads: int
    pixels: int


def _input(how: How) -> list[str]:
    return [
        how.program, "-nostdin", "-hide_banner", "-v", "error", "-progress", "pipe:{progress}", "-stats_period", "0.5", "-max_error_rate", "0.2",
        "-filter_complex_threads", str(how.threads), "-threads", str(how.threads), "-max_pixels", str(how.pixels),
        "-protocol_whitelist", "fd", "-f", how.demuxer, "-fd", "{source}", "-i", "fd:",
    ]  # fmt: skip


def _pictures(film: Film, renditions: Sequence[Rendition], tonemaps: bool) -> str:
    """The filter graph from the film's pictures to `[v0]`, `[v1]` and so on."""
    assert film.video is not None
    first = []
    if film.video.interlaced:
        first.append("bwdif=deint=interlaced")
    if film.video.frame_rate > FASTEST:
        first.append(f"fps={FASTEST:g}")
    if film.video.hdr and tonemaps:  # to what every screen shows
        first += [
            "setparams=color_primaries=bt2020:colorspace=bt2020nc",
            "zscale=t=linear:npl=100",
            "format=gbrpf32le",
            "zscale=p=bt709",
            "tonemap=hable:desat=0",
            "zscale=t=bt709:m=bt709:r=tv",
        ]
    first.append(f"split={len(renditions)}" + "".join(f"[s{number}]" for number in range(len(renditions))))
    graph = [f"[0:{film.video.index}]{','.join(first)}"]
    for number, each in enumerate(renditions):
        graph.append(f"[s{number}]scale={each.width}:{each.height}:flags=bicubic,setsar=1,format=yuv420p[v{number}]")
    return ";".join(graph)


def _x264(renditions: Sequence[Rendition], how: How) -> list[str]:
    arguments = [
        "-c:v", "libx264", "-preset", how.preset, "-crf", str(how.crf), "-profile:v", "high", "-threads:v", str(ENCODER_THREADS), "-fps_mode:v", "vfr",
    ]  # fmt: skip
    for number, each in enumerate(renditions):
        arguments += [f"-maxrate:v:{number}", str(each.rate), f"-bufsize:v:{number}", str(each.rate * 2)]
    return arguments


def hls(film: Film, renditions: Sequence[Rendition], how: How, *, container: str, seconds: int) -> tuple[list[str], list[str]]:
    """Give the arguments, and the names of the playlists that they make: of the renditions first, then of further tracks of sound."""
    arguments, names, streams = _input(how), [], []
    sounds = film.audio[:MOST_SOUNDS]
    heard = ""
    if renditions:
        arguments += ["-filter_complex", _pictures(film, renditions, how.tonemaps)]
        count = 0
        for number, each in enumerate(renditions):
            arguments += ["-map", f"[v{number}]"]
            if sounds:
                arguments += ["-map", f"0:{sounds[0].index}"]
                heard = f",a:{count}"
                count += 1
            names.append(each.name)
            streams.append(f"v:{number}{heard},name:{each.name}")
        others, first = sounds[1:], count
        arguments += _x264(renditions, how)
        # A key frame where each segment begins, in every rendition at the same frame, and nowhere else; none begins just before the end, for players stall at
        # segments of a picture or two.
        arguments += [
            "-force_key_frames:v",
            f"expr:gte(t,n_forced*{seconds})*lte(t,{max(film.duration - TAIL, 0):.3f})",
            "-g:v",
            "100000",
            "-keyint_min:v",
            "100000",
            "-sc_threshold:v",
            "0",
        ]
    else:
        others, first = sounds[:1], 0
    for number, sound in enumerate(others):
        name = f"audio{number + 2}" if renditions else "audio"
        arguments += ["-map", f"0:{sound.index}"]
        names.append(name)
        streams.append(f"a:{first + number},name:{name}")
    if sounds:
        arguments += _SOUND
    ending = "m4s" if container == "fmp4" else "ts"
    init = "%v_init.mp4" if len(names) > 1 else f"{names[0]}_init.mp4"  # of one stream it takes the name as it stands
    arguments += [
        *_EXACT, "-max_muxing_queue_size", "4096", "-f", "hls", "-hls_time", str(seconds), "-hls_playlist_type", "vod", "-hls_flags", "independent_segments",
        "-hls_segment_type", container, *(["-hls_fmp4_init_filename", init] if container == "fmp4" else []),
        "-hls_segment_filename", f"%v_%05d.{ending}", "-var_stream_map", " ".join(streams), "%v.m3u8",
    ]  # fmt: skip
    return arguments, names


def mp4(film: Film, rendition: Rendition | None, how: How, *, name: str) -> list[str]:
    """Give the arguments that make one file whose index stands first."""
    arguments = _input(how)
    if rendition is not None:
        arguments += [
            "-filter_complex",
            _pictures(film, [rendition], how.tonemaps),
            "-map",
            "[v0]",
            *_x264([rendition], how),
            "-g:v",
            "250",
        ]
    if film.audio:
        arguments += ["-map", f"0:{film.audio[0].index}", *_SOUND]
    return [*arguments, *_EXACT, "-max_muxing_queue_size", "4096", "-movflags", "+faststart", "-f", "mp4", name]


def opus(film: Film, how: How, *, rate: int, name: str) -> list[str]:
    """Give the arguments that make Opus in Ogg of the first track of sound."""
    sound = (
        "-map",
        f"0:{film.audio[0].index}",
        "-vn",
        "-c:a",
        "libopus",
        "-b:a",
        f"{rate}k",
        "-ac",
        str(min(max(film.audio[0].channels, 1), 2)),
        "-ar",
        "48000",
    )
    return [*_input(how), *sound, *_EXACT, "-f", "ogg", name]
