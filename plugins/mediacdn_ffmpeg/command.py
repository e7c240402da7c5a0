"""The arguments of ffmpeg: one process that decodes a film once and makes all of its renditions. Pure.

The input is a descriptor, its demuxer is named by what our own sniffing found, and the only protocol that it may open is that descriptor: playlists, concatenations
and references to other files lead nowhere. The bytes that come out depend on the film and the wish alone.
"""

from collections.abc import Sequence

from msgspec import Struct

from mediacdn_ffmpeg.copying import Copied
from mediacdn_ffmpeg.ladder import Rendition
from mediacdn_ffmpeg.request import Film

ENCODER_THREADS = 1
"""With more, what x264 writes within a bit rate is another thing each time: its threads tell each other what they have spent when they come to it. The renditions,
the decoder and the filters run beside each other all the same."""
_NOTHING = Copied()
MOST_SOUNDS = 8
TAIL = 0.5
"""Seconds that the last segment has at least, where there is another before it."""
FASTEST = 60.0
"""Frames a second that are kept."""
_AAC = ("-c:a", "aac", "-b:a", "128k", "-ac", "2", "-ar", "48000", "-filter:a")
_EVEN = "aresample=async=1:first_pts=0"
_FROM_ZERO = ("-bsf:a", "noise=drop='lt(pts,0)'")
"""What an encoder of sound writes ahead of the first sample would lie before the beginning of time."""
BEFORE = 2
"""Seconds ahead of a part at which decoding begins: filters look back, and containers seek as well as they can."""
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


def _input(how: How, *clock: str) -> list[str]:
    """`clock` says where in the film to begin and to end."""
    return [
        how.program, "-nostdin", "-hide_banner", "-v", "error", "-progress", "pipe:{progress}", "-stats_period", "0.5", "-max_error_rate", "0.2",
        "-filter_complex_threads", str(how.threads), "-threads", str(how.threads), "-max_pixels", str(how.pixels),
        *clock, "-protocol_whitelist", "fd", "-f", how.demuxer, "-fd", "{source}", "-i", "fd:",
    ]  # fmt: skip


def _pictures(film: Film, renditions: Sequence[Rendition], tonemaps: bool, cut: str = "") -> str:
    """The filter graph from the film's pictures to `[v0]`, `[v1]` and so on; `cut` leaves those of a part of it, by the film's own clock from its beginning."""
    assert film.video is not None
    first = [f"setpts=PTS-({film.start:.6f}/TB)"] if cut else []
    if film.video.interlaced:
        first.append("bwdif=deint=interlaced")
    if film.video.frame_rate > FASTEST:
        first.append(f"fps={FASTEST:g}:eof_action=pass")  # or there would be nothing of a single picture
    if cut:
        first.append(cut)
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


def _x264(renditions: Sequence[Rendition], how: How, before: int = 0) -> list[str]:
    """`before` streams of pictures are copied ahead of these."""
    arguments = [
        "-c:v", "libx264", "-preset", how.preset, "-crf", str(how.crf), "-profile:v", "high", "-threads:v", str(ENCODER_THREADS), "-fps_mode:v", "vfr",
    ]  # fmt: skip
    for number, each in enumerate(renditions, before):
        arguments += [f"-maxrate:v:{number}", str(each.rate), f"-bufsize:v:{number}", str(each.rate * 2)]
    return arguments


def hls(
    film: Film, renditions: Sequence[Rendition], how: How, *, container: str, seconds: int, copied: Copied = _NOTHING
) -> tuple[list[str], list[str]]:
    """Give the arguments, and the names of the playlists that they make: of the renditions first, then of the tracks of sound beside them."""
    arguments, names, streams = _input(how), [], []
    apart = container == "fmp4"
    tracks = film.audio[: MOST_SOUNDS if renditions else 1]
    within = tracks[:1] if renditions and not apart else ()
    if renditions:
        before = 1 if copied.keys else 0
        made = renditions[before:]
        if made:
            arguments += ["-filter_complex", _pictures(film, made, how.tonemaps)]
        for number, each in enumerate(renditions):
            assert film.video is not None
            arguments += ["-map", f"0:{film.video.index}" if number < before else f"[v{number - before}]"]
            arguments += [word for track in within for word in ("-map", f"0:{track.index}")]
            names.append(each.name)
            streams.append(f"v:{number}{f',a:{number}' if within else ''},name:{each.name}")
        if made:
            said = [*_x264(made, how, before), *_keys(seconds, film.duration, copied.keys)]
            arguments += _beside(said, before, len(made)) if before else said
        if before:
            arguments += ["-c:v:0", "copy"]
    beside = sound_names(len(tracks))[len(within) :]
    for number, name in enumerate(beside):
        arguments += ["-map", f"0:{tracks[len(within) + number].index}"]
        streams.append(f"a:{len(renditions) * len(within) + number},name:{name}")
    if tracks:
        padded = f"{_EVEN},apad=whole_dur={film.duration:.6f}" if renditions and apart else _EVEN
        arguments += [*(["-c:a", "copy"] if copied.sound else [*_AAC, padded]), *(_FROM_ZERO if apart else ())]
    return [*arguments, *_segments([*names, *beside], streams, seconds, container)], [*names, *beside]


def sound_names(count: int) -> list[str]:
    """What the playlists of so many tracks of sound are called."""
    return [f"audio{number or ''}" for number in [0, *range(2, count + 1)]][:count]


def _beside(said: Sequence[str], before: int, count: int) -> list[str]:
    """The same words for an encoder, said of each stream of pictures that is encoded: those that are copied want to hear none of them."""
    found: list[str] = []
    for name, value in zip(said[::2], said[1::2], strict=True):
        own, _, which = name.partition(":v")
        found += [each for number in range(before, before + count) for each in (f"{own}:v:{number}", value)] if not which else [name, value]
    return found


def _keys(seconds: int, length: float | None, given: Sequence[float] = ()) -> list[str]:
    """A key frame where each segment begins, in every rendition at the same frame, and nowhere else; none just before the end of what lasts for `length` seconds,
    for players stall at segments of a picture or two. Or those that are `given`."""
    end = "" if length is None else f"*lte(t,{max(length - TAIL, 0):.3f})"
    forced = ",".join(f"{each:.6f}" for each in given) or f"expr:gte(t,n_forced*{seconds}){end}"
    return [
        "-force_key_frames:v", forced, "-g:v", "100000", "-keyint_min:v", "100000", "-sc_threshold:v", "0",
    ]  # fmt: skip


def chunk(film: Film, renditions: Sequence[Rendition], how: How, *, seconds: int, start: int, stop: int) -> tuple[list[str], list[str]]:
    """Give the arguments that make the pictures of a part of a film, from second `start` up to `stop` (0: to its end), and the names of the playlists.

    All times in what is made are the film's own, so that the parts follow each other without a seam.
    """
    begin = max(0, start - BEFORE)
    clock = ["-copyts", *(["-ss", str(begin)] if begin else []), *(["-t", str(stop - begin + 2 * BEFORE)] if stop else [])]
    cut = f"trim=start={start}" + (f":end={stop}" if stop else "")
    arguments = [*_input(how, *clock), "-filter_complex", _pictures(film, renditions, how.tonemaps, cut)]
    for number in range(len(renditions)):
        arguments += ["-map", f"[v{number}]"]
    names = [each.name for each in renditions]
    streams = [f"v:{number},name:{name}" for number, name in enumerate(names)]
    arguments += [*_x264(renditions, how), *_keys(seconds, None if stop else film.duration - start)]
    return [*arguments, *_segments(names, streams, seconds)], names


def sounds(film: Film, how: How, *, seconds: int, until: int) -> tuple[list[str], list[str]]:
    """Give the arguments that make the sound of a film from its beginning up to second `until` (0: to its end), and the names of the playlists, one of each track.

    An encoder of sound knows nothing of what is to come but for the next moment: up to a second before its end, what is made of a part of the film is what would
    be made of the whole. It is as long as the pictures at least, for every part of these has to have sound.
    """
    tracks = film.audio[:MOST_SOUNDS]
    names = sound_names(len(tracks))
    arguments = _input(how, "-copyts", *(["-t", str(until)] if until else []))
    for track in tracks:
        arguments += ["-map", f"0:{track.index}"]
    length = min(until or film.duration, film.duration)
    heard = f"asetpts=PTS-({film.start:.6f}/TB),{_EVEN},apad=whole_dur={length:.6f}"
    streams = [f"a:{number},name:{name}" for number, name in enumerate(names)]
    return [*arguments, *_AAC, heard, *_FROM_ZERO, *_segments(names, streams, seconds)], names


def _segments(names: Sequence[str], streams: Sequence[str], seconds: int, container: str = "fmp4") -> list[str]:
    """Segments; in fragments their times are those of what goes into them, in all playlists on the same clock. What B-frames shift is told in the initialization,
    which is the same for every part."""
    init = "%v_init.mp4" if len(names) > 1 else f"{names[0]}_init.mp4"  # of one stream it takes the name as it stands
    kind = ["-hls_segment_type", "mpegts", "-hls_segment_filename", "%v_%05d.ts"]
    if container == "fmp4":
        kind = [
            "-avoid_negative_ts", "disabled", "-hls_segment_type", "fmp4", "-hls_segment_options", "movflags=+frag_discont",
            "-hls_fmp4_init_filename", init, "-hls_segment_filename", "%v_%05d.m4s",
        ]  # fmt: skip
    return [
        *_EXACT, "-max_muxing_queue_size", "4096", "-f", "hls", "-hls_time", str(seconds), "-hls_playlist_type", "vod",
        "-hls_flags", "independent_segments", *kind, "-var_stream_map", " ".join(streams), "%v.m3u8",
    ]  # fmt: skip


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
        arguments += ["-map", f"0:{film.audio[0].index}", *_AAC, _EVEN]
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
