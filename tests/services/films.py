"""Films made by ffmpeg: the real thing, small. The binary is imageio-ffmpeg's, so that every machine has the same."""

import subprocess
from pathlib import Path

import imageio_ffmpeg


def ffmpeg(*arguments: str, timeout: float = 60) -> bytes:
    """Run ffmpeg and give its standard output; its own words when it fails."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-threads", "2", *arguments]
    done = subprocess.run(command, capture_output=True, timeout=timeout)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def mp4(path: Path, seconds: int = 20, size: str = "640x360") -> Path:
    """H.264 and AAC at 25 frames a second, a key frame each second, its index at the end: a player that seeks must ask for ranges."""
    ffmpeg(
        "-f", "lavfi", "-i", f"testsrc2=size={size}:rate=25:duration={seconds}", "-f", "lavfi", "-i", f"sine=frequency=440:duration={seconds}",
        "-c:v", "libx264", "-preset", "ultrafast", "-crf", "18", "-g", "25", "-pix_fmt", "yuv420p", "-c:a", "aac", str(path),
    )  # fmt: skip
    return path


def webm(path: Path, seconds: int = 6, size: str = "320x180") -> Path:
    """VP8, which every browser plays."""
    ffmpeg(
        "-f", "lavfi", "-i", f"testsrc2=size={size}:rate=10:duration={seconds}", "-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8",
        "-g", "10", "-b:v", "400k", str(path),
    )  # fmt: skip
    return path
