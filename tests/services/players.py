"""Players of streams, each with what it complained of: hls.js in a browser, ffmpeg, and VLC where it is installed."""

import os
import re
import shutil
import subprocess
import tempfile
from typing import Any

import imageio_ffmpeg
from playwright.sync_api import Page

from tests.services.chat import Chat

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
WATCH = """async manifest => {
    const video = document.querySelector('video'), errors = [];
    const until = name => new Promise((done, fail) => {
        video.addEventListener(name, done, {once: true});
        setTimeout(() => fail(new Error(`no ${name}; ${errors}`)), 20000);
    });
    video.muted = true;
    video.addEventListener('error', () => errors.push(video.error.message));
    const hls = new Hls({enableWorker: false});
    // A request that it gave up itself, because of a seek, is told as an error too; and so is waiting for what a busy machine has not fetched yet, at four times the speed:
    // a hole in the stream is told by other names, and what never comes has no end.
    const usual = [Hls.ErrorDetails.INTERNAL_ABORTED, Hls.ErrorDetails.BUFFER_STALLED_ERROR];
    hls.on(Hls.Events.ERROR, (_, error) => {
        if (error.fatal || !usual.includes(error.details)) errors.push(`${error.fatal ? 'fatal ' : ''}${error.type} ${error.details}`);
    });
    hls.loadSource(manifest);
    hls.attachMedia(video);
    if (video.readyState < 2) await until('loadeddata');
    const duration = video.duration;
    for (const share of [0.8, 0.1, 0.4]) {
        const sought = until('seeked');
        video.currentTime = duration * share;
        await sought;
    }
    video.currentTime = Math.max(duration * 0.4, duration - 5);
    const ended = until('ended');
    video.playbackRate = 4;
    await video.play();
    await ended;
    const seen = {errors, duration, width: video.videoWidth, height: video.videoHeight, frames: video.getVideoPlaybackQuality().totalVideoFrames,
        heard: video.webkitAudioDecodedByteCount};
    hls.destroy();
    return seen;
}"""
_FAULT = re.compile(r"\berror\b|corrupt|[cC]annot|unable|failed", re.IGNORECASE)
_NO_FAULT = re.compile(
    r"interface|dbus|globalhotkeys|directory-extractor|connection failed|configured with|probing|no suitable|get_buffer|decode_slice_header|lua|PulseAudio|"
    r"failed \(|plugins.dat|not found in plugins|keystore|attachment of"
)


def chromium() -> str | None:
    """The browser, where there is one."""
    return next((path for path in map(shutil.which, ("chromium-headless-shell", "chromium")) if path), None)


def in_hls_js(page: Page, site: Chat, server: str, manifest: str) -> dict[str, Any]:
    """Load a stream on a page of another site, seek forward and back, and play it to its end: what was seen, and every `errors`, fatal or not."""
    page.goto(site.page(f"<video></video><script src='{server}/v1/player/hls.min.js'></script>"))
    seen: dict[str, Any] = page.evaluate(WATCH, manifest)
    return seen


def in_ffmpeg(manifest: str) -> str:
    """Decode all of it over HTTP, then the rest of it after a seek; its complaints."""
    said = []
    for more in ((), ("-ss", "1")):
        command = [
            imageio_ffmpeg.get_ffmpeg_exe(),
            "-v",
            "error",
            "-xerror",
            "-nostdin",
            *more,
            "-i",
            manifest,
            "-map",
            "0:v?",
            "-map",
            "0:a?",
            "-f",
            "null",
            "-",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        said.append(done.stderr.strip() or ("" if not done.returncode else f"it ended with {done.returncode}"))
    return "; ".join(filter(None, said))


def vlc() -> str | None:
    """The program, where it is installed (Debian: vlc-bin and vlc-plugin-base)."""
    return shutil.which("cvlc")


def in_vlc(manifest: str, *, start: float = 0.0) -> tuple[str, str]:
    """Play it without an output, from a second on, to its end: what it complained of, and all that it said."""
    program = vlc()
    assert program is not None
    with tempfile.TemporaryDirectory() as home:
        words = [
            program,
            "-I",
            "dummy",
            "--no-dbus",
            "--vout",
            "dummy",
            "--aout",
            "dummy",
            "--play-and-exit",
            "-vv",
            "--start-time",
            str(start),
            manifest,
        ]
        if os.geteuid() == 0:  # it refuses
            os.chown(home, 65534, 65534)
            words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *words]
        done = subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=120, env={**os.environ, "HOME": home})
    said = done.stdout + done.stderr
    faults = [line for line in said.splitlines() if _FAULT.search(line) and not _NO_FAULT.search(line)]
    if "segments/" not in said:
        faults.append("it asked for no segment")
    if done.returncode:
        faults.append(f"it ended with {done.returncode}")
    return "\n".join(faults), said
