"""Subtitles read strictly and written plainly, the playlists that list them, and the manifest of DASH: what the plugin `ffmpeg` writes without ffmpeg."""

import re
from fractions import Fraction
from xml.etree import ElementTree

import pytest

from mediacdn.errors import OverLimits, Undecodable
from mediacdn_ffmpeg import dash, subtitles
from mediacdn_ffmpeg.manifests import Entry, Media, Subtitles, read_master, read_media, subtitles_playlist, with_subtitles
from mediacdn_ffmpeg.timing import begins

KEPT: list[tuple[str, str, list[tuple[int, int, str, str]]]] = [
    ("the least", "WEBVTT\n\n00:01.000 --> 00:02.500\nhi", [(1000, 2500, "hi", "")]),
    ("a mark, a title, metadata, CRLF", "\ufeffWEBVTT - a film\r\nX-TIMESTAMP-MAP=LOCAL:00:00:00.000,MPEGTS:900000\r\n\r\n1\r\n00:00:01.000 --> 00:00:02.000\r\nhi\r\n",
     [(1000, 2000, "hi", "")]),
    ("comments, styles and regions stay behind",
     "WEBVTT\n\nNOTE a word\nof two lines\n\nSTYLE\n::cue { background: url(https://x.example/) }\n\nREGION\nid:fred\n\nname\n01:00:00.000 --> 01:00:01.000 region:fred line:0 align:start\nhi",
     [(3_600_000, 3_601_000, "hi", "line:0 align:start")]),
    ("markup", "WEBVTT\n\n00:01.000 --> 00:02.000\n<v.loud Anna>so</v> <c.red.big>x</c> <00:00:01.500><i>y</i> &amp; &lt;b&gt;",
     [(1000, 2000, "<v.loud Anna>so</v> <c.red.big>x</c> <00:00:01.500><i>y</i> &amp; &lt;b&gt;", "")]),
    ("SubRip", "1\n00:00:01,000 --> 00:00:02,500\nhi", [(1000, 2500, "hi", "")]),
    ("SubRip as it is found", "\ufeff\r\n7\r\n0:00:03.5 --> 0:00:04,20  X1:1 X2:2\r\n<FONT color=\"red\">a</font> {\\an8}& <B>b</B> <script>\r\n\r\nstill a\r\n\r\n2\r\n00:00:01,000 --> 00:00:02,000\r\nb\r\n",
     [(1000, 2000, "b", ""), (3500, 4200, "a &amp; <b>b</b> &lt;script&gt;\nstill a", "")]),
]  # fmt: skip
REFUSED: list[tuple[str, bytes, str]] = [
    ("nothing", b"", "neither WebVTT"),
    ("no cues", b"WEBVTT\n\nNOTE x\n", "no subtitles"),
    ("something else", b"\x89PNG\r\n", "not UTF-8: byte 1"),
    ("Latin-1", "WEBVTT\n\n00:01.000 --> 00:02.000\nsch\u00f6n".encode("latin-1"), "not UTF-8: byte 36"),
    ("UTF-16", "WEBVTT\n\n00:01.000 --> 00:02.000\nhi".encode("utf-16"), "not UTF-8"),
    ("a zero", b"WEBVTT\n\n00:01.000 --> 00:02.000\nh\0i", "zero byte"),
    ("a page", b"<html>WEBVTT\n\n00:01.000 --> 00:02.000\nhi", "neither WebVTT"),
    ("a glued name", b"WEBVTTX\n\n00:01.000 --> 00:02.000\nhi", "neither WebVTT"),
    ("a cue in the head", b"WEBVTT\n00:01.000 --> 00:02.000\nhi", "Line 2 .*empty line"),
    ("a comma", b"WEBVTT\n\n00:01,000 --> 00:02,000\nhi", "Line 3 .*pair of times"),
    ("no time", b"WEBVTT\n\nhi\n", "Line 3 .*pair of times"),
    ("61 seconds", b"WEBVTT\n\n00:61.000 --> 01:02.000\nhi", "Line 3 "),
    ("backwards", b"WEBVTT\n\n00:02.000 --> 00:02.000\nhi", "Line 3 .*ends before"),
    ("out of order", b"WEBVTT\n\n00:02.000 --> 00:03.000\nhi\n\n00:01.000 --> 00:04.000\nho", "Line 6 .*before the cue"),
    ("a setting", b"WEBVTT\n\n00:01.000 --> 00:02.000 onclick:x\nhi", "Line 3 .*no setting"),
    ("101%", b"WEBVTT\n\n00:01.000 --> 00:02.000 size:101%\nhi", "Line 3 .*no setting"),
    ("twice", b"WEBVTT\n\n00:01.000 --> 00:02.000 size:1% size:2%\nhi", "Line 3 .*no setting"),
    ("a script", b"WEBVTT\n\n00:01.000 --> 00:02.000\n<script>alert(1)</script>", "Line 4 .*markup"),
    ("a bare <", b"WEBVTT\n\n00:01.000 --> 00:02.000\n1 < 2", "Line 4 .*markup"),
    ("a bare &", b"WEBVTT\n\n00:01.000 --> 00:02.000\nA & B", "Line 4 .*&amp;"),
    ("a glued cue", b"WEBVTT\n\n00:01.000 --> 00:02.000\nhi\n00:03.000 --> 00:04.000\nho", "Line 4 .*arrow"),
    ("SubRip that ends before", b"1\n00:00:02,000 --> 00:00:01,000\nhi", "Line 2 .*ends before"),
    ("SubRip with an arrow", b"1\n00:00:01,000 --> 00:00:02,000\nhi\n\n2\n00:00:03 --> 00:00:04\nho", "Line 2 .*arrow"),
    ("a playlist", b"#EXTM3U\n#EXTINF:1,\nhttp://x/\n", "neither WebVTT"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "cues"), [row[1:] for row in KEPT], ids=[row[0] for row in KEPT])
def test_what_is_kept(given: str, cues: list[tuple[int, int, str, str]]) -> None:
    found = subtitles.read(given.encode())
    assert [(each.start, each.stop, each.text, each.settings) for each in found] == cues
    written = subtitles.write(found)
    assert written.startswith("WEBVTT\n\n")
    assert subtitles.read(written.encode()) == found, "what is written is read as the same"


@pytest.mark.parametrize(("given", "told"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_is_refused_with_its_line(given: bytes, told: str) -> None:
    with pytest.raises(Undecodable, match=told):
        subtitles.read(given)


@pytest.mark.parametrize(
    "many", [b"WEBVTT\n\n" + b"00:01.000 --> 00:02.000\nhi\n\n" * 20_001, b"WEBVTT\n\n00:01.000 --> 00:02.000\n" + b"x" * 5_001]
)
def test_what_is_too_much(many: bytes) -> None:
    with pytest.raises(OverLimits):
        subtitles.read(many)


@pytest.mark.parametrize(
    "hard",
    [
        b"1\n" * 500_000,
        b"WEBVTT\n\n" + b"<" * 1_000_000,
        b"1\n00:00:01,000 --> 00:00:02,000\n" + b"{\\" * 300_000,
        b"WEBVTT " + b"\t " * 500_000,
    ],
)
def test_what_takes_long_for_others_is_soon_refused(hard: bytes) -> None:
    with pytest.raises((Undecodable, OverLimits)):
        subtitles.read(hard)


MASTER = """#EXTM3U
#EXT-X-VERSION:7
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio",NAME="eng 1",LANGUAGE="eng",DEFAULT=YES,AUTOSELECT=YES
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio",NAME="deu 2",LANGUAGE="deu",DEFAULT=NO,AUTOSELECT=YES,URI="audio2.m3u8"
#EXT-X-STREAM-INF:BANDWIDTH=2,AVERAGE-BANDWIDTH=1,RESOLUTION=640x360,FRAME-RATE=29.970,CODECS="avc1.64001e,mp4a.40.2",AUDIO="audio"
480p.m3u8
#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI="480p-keys.m3u8"
"""


def test_a_master_playlist_lists_them() -> None:
    master = read_master(MASTER)
    assert [(each.uri, each.attributes["CODECS"]) for each in master.streams] == [("480p.m3u8", "avc1.64001e,mp4a.40.2")]
    lines = with_subtitles(master, [Subtitles("en", "Same"), Subtitles("pt-BR", "Same")]).splitlines()
    told = [line for line in lines if "TYPE=SUBTITLES" in line]
    assert [re.findall(r'(?:NAME|LANGUAGE|URI)="([^"]*)"', line) for line in told] == [
        ["Same", "en", "subtitles/en.m3u8"], ["Same (pt-BR)", "pt-BR", "subtitles/pt-BR.m3u8"],
    ]  # fmt: skip
    assert [line for line in lines if line not in told] == MASTER.replace(
        'AUDIO="audio"\n', 'AUDIO="audio",SUBTITLES="subtitles"\n'
    ).splitlines()
    assert with_subtitles(master, []).replace(',SUBTITLES="subtitles"', "") == MASTER
    listed = read_media(subtitles_playlist("en.vtt", 61.5))
    assert (listed.segments, listed.ended, listed.init) == ((("en.vtt", 61.5),), True, "")


@pytest.mark.parametrize(
    ("lengths", "told"),
    [
        ([4.0, 4.0, 1.5], "4000000"),
        ([4.0], "4000000"),
        ([4.0, 4.004, 1.0], "4002000"),
        ([4.0, 4.0, 4.5], None),
        ([4.0, 5.0, 1.0], None),
        ([4.0] * 9 + [4.03] * 9 + [1.0], None),
    ],
)
def test_segments_of_one_length_need_no_timeline(lengths: list[float], told: str | None) -> None:
    media = Media("init.mp4", tuple((f"{number}.m4s", seconds) for number, seconds in enumerate(lengths)), True)
    shown = dash.Representation("audio", Entry({}, "audio.m3u8"), media, Fraction(0), 1, "mp4a.40.2")
    root = ElementTree.fromstring(dash.manifest([], [shown], [], base="../hls/", beside="../subtitles/"))
    [listed] = root.iter("{urn:mpeg:dash:schema:mpd:2011}SegmentList")
    assert listed.get("duration") == told
    assert (listed.find("{urn:mpeg:dash:schema:mpd:2011}SegmentTimeline") is None) == (told is not None)


def test_a_manifest_of_dash_tells_of_each_segment() -> None:
    lengths = [4.0, 4.0, 4.5, 1.5]
    media = Media("init.mp4", tuple((f"segments/{number}.m4s", seconds) for number, seconds in enumerate(lengths)), True)
    entry = Entry({"RESOLUTION": "640x360", "FRAME-RATE": "29.970"}, "480p.m3u8")
    pictures = [dash.Representation("480p", entry, media, Fraction(8, 100), 2, "avc1.64001e,mp4a.40.2")]
    sounds = [dash.Representation("audio2", Entry({}, "audio2.m3u8"), media, Fraction(0), 1, "mp4a.40.2", "deu")]
    root = ElementTree.fromstring(dash.manifest(pictures, sounds, [Subtitles("en", '<"&>')], base="../hls/", beside="../subtitles/"))
    space = {"": "urn:mpeg:dash:schema:mpd:2011"}
    assert root.get("mediaPresentationDuration") == "PT14.000S"
    sets = root.findall("Period/AdaptationSet", space)
    assert [each.get("contentType") for each in sets] == ["video", "audio", "text"]
    shown = sets[0].find("Representation", space)
    assert shown is not None
    assert (shown.get("frameRate"), shown.get("width"), shown.get("codecs")) == ("30000/1001", "640", "avc1.64001e,mp4a.40.2")
    timeline = [(each.get("t"), each.get("d"), each.get("r")) for each in shown.findall("SegmentList/SegmentTimeline/S", space)]
    assert timeline == [("80000", "4000000", "1"), (None, "4500000", None), (None, "1500000", None)]
    assert [each.get("media") for each in shown.findall("SegmentList/SegmentURL", space)] == [name for name, _ in media.segments]
    assert sets[2].findtext("Label", namespaces=space) == '<"&>'
    assert sets[2].findtext("Representation/BaseURL", namespaces=space) == "../subtitles/en"


@pytest.mark.parametrize(
    ("init", "segment"),
    [
        (b"", b""),
        (b"", b"x" * 188),
        (b"", b"\x47" * 376),
        (b"moov", b"moof"),
        (b"\0\0\0\x08moov", b"\0\0\0\x08moof"),
        (b"\0\0\0\x01moov" * 4, b""),
    ],
)
def test_what_is_no_segment_has_no_beginning(init: bytes, segment: bytes) -> None:
    with pytest.raises(ValueError, match="no segment"):
        begins(init, segment)
