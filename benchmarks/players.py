"""Films of every kind, and those of a folder, uploaded and played: by hls.js in Chromium and by ffmpeg over HTTP, and by VLC where it is installed, each with a seek; and
the manifest of DASH by ffmpeg and VLC. What is counted is what they complain of.

    python -m benchmarks players                   (PLAYERS_FOLDER=… adds the films and sounds below a folder; PLAYERS_LOG=… keeps what VLC said)

VLC is Debian's vlc-bin and vlc-plugin-base; without it its columns stay empty.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from benchmarks.machine import progress
from mediacdn.sniff import kind, sniff
from tests.journeys.test_sources import SOURCES, film
from tests.services.chat import chat
from tests.services.players import FLAGS, chromium, in_ffmpeg, in_hls_js, in_vlc, vlc
from tests.services.served import Served, served

TITLE = "Players"
TOML = """
plugins = ["local", "jwt", "ffmpeg"]
[limits]
uploads_per_second = 0
[recipes]
plan = {poster = [], thumb-film = [], storyboard = [], preview = [], cover = [], loudness = [], waveform = [], waveform-picture = []}
[recipes.hls]
seconds = 1
"""


def _films(folder: Path) -> Iterator[tuple[str, bytes]]:
    for name in SOURCES:
        yield name, film(folder, name)
    others = os.environ.get("PLAYERS_FOLDER")
    for path in sorted(Path(others).rglob("*")) if others else []:
        if path.is_file() and kind(sniff(path.read_bytes()[:8192])) in ("video", "audio"):
            yield path.name, path.read_bytes()


def _stream(server: Served, media: str) -> str:
    """Wait for the stream: its error where there is none."""
    stop = time.monotonic() + 120
    while time.monotonic() < stop:
        tasks = server.client.get(f"/v1/media/{media}/tasks", headers=server.auth()).json()["items"]
        found = next((each for each in tasks if each["code"].partition("@")[0] == "hls"), None)
        if found is None:
            return "no stream is planned"
        if found["status"] in ("Completed", "Failed"):
            return str(found.get("error", {}).get("message") or "")
        time.sleep(0.2)
    return "it took too long"


def measure(*, full: bool) -> list[dict[str, Any]]:
    """Play all of them; VLC plays in real time, of the first ones only unless `full`."""
    outcome: list[dict[str, Any]] = []
    said: list[str] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        served(Path(folder) / "data", TOML, arguments=()) as server,
        chat() as site,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        page = browser.new_page()
        page.set_default_timeout(40_000)
        media = {name: server.upload(content, public="true")["id"] for name, content in _films(Path(folder))}
        for name, each in media.items():
            row: dict[str, Any] = {"film": name, "refused": _stream(server, each)}
            outcome.append(row)
            if not row["refused"]:
                below = f"{server.url}/v1/media/{each}"
                hls, dash = f"{below}/hls/master.m3u8", f"{below}/dash/manifest.mpd"
                try:
                    seen = in_hls_js(page, site, server.url, hls)
                    row.update(seconds=round(seen["duration"], 2), hls_js="; ".join(seen["errors"]))
                except Exception as error:
                    row["hls_js"] = str(error).splitlines()[0]
                row.update(ffmpeg=in_ffmpeg(hls), ffmpeg_dash=in_ffmpeg(dash))
                if vlc() is not None:
                    for column, url, start in (("vlc", hls, 0.0), ("vlc_sought", hls, 1.0), ("vlc_dash", dash, 0.0))[: 3 if full else 1]:
                        row[column], words = in_vlc(url, start=start)
                        said.append(f"==== {name}: {column}\n{words}")
            progress(f"{name}: {row}")
        browser.close()
    if log := os.environ.get("PLAYERS_LOG"):
        Path(log).write_text("\n".join(said))
    return outcome


def section(outcome: list[dict[str, Any]]) -> str:
    """A line of each film, with what was complained of."""
    columns = ("hls_js", "ffmpeg", "ffmpeg_dash", "vlc", "vlc_sought", "vlc_dash")
    lines = ["| film | seconds | hls.js | ffmpeg | ffmpeg, DASH | VLC | VLC, sought | VLC, DASH |", "|---|---|---|---|---|---|---|---|"]
    for row in outcome:
        if row["refused"]:
            lines.append(f"| {row['film']} | refused: {row['refused']} | | | | | | |")
            continue
        told = ["" if each not in row else (row[each].replace("|", "/").replace("\n", "; ")[:200] or "0 errors") for each in columns]
        lines.append(f"| {row['film']} | {row.get('seconds', '')} | {' | '.join(told)} |")
    return "\n".join(lines)
