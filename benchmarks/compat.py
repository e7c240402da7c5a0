"""A film of 21 GB through `POST /media/upload`: the server's memory while it comes in, how soon it is answered, and that it plays.

    python -m benchmarks.compat --size 21000000000

The film is a real one of two seconds, padded by a box `free` (ISO/IEC 14496-12) that is a hole in a sparse file: it is sent out of the page cache and takes no room of
its own, so that one copy of it is on the disk, the server's. A worker runs beside the server and is asked for the stream. Prints JSON; sizes are bytes, times seconds.
"""

import argparse
import json
import socket
import struct
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks import cores
from benchmarks.big import GROWTH, Memory
from benchmarks.machine import progress
from benchmarks.results import table
from tests.services.films import ffmpeg
from tests.services.served import Served

TITLE = "A very large film as a form"
FULL, SHORT = 21_000_000_000, 1_000_000_000
STEP = 4 * 1024 * 1024
POINTS = 12
TOML = """
plugins = ["local", "jwt", "vips", "ffmpeg", "compat"]
[limits]
uploads_per_second = 0
[recipes.hls]
renditions = ["240p"]
preset = "ultrafast"
"""


class Curve(threading.Thread):
    """Resident memory of a process over what has been sent to it, every fifth of a second; `allocated` leaves out the pages of files that it has mapped."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._status = Path(f"/proc/{pid}/status")
        self._ending = threading.Event()
        self._began = time.monotonic()
        self.sent = 0
        self.points: list[dict[str, float]] = []
        self.start()

    def run(self) -> None:
        while not self._ending.wait(0.2):
            fields = dict(line.split(":", 1) for line in self._status.read_text().splitlines())
            resident, mapped = (int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "RssFile"))
            passed = round(time.monotonic() - self._began, 1)
            self.points.append({"at": passed, "sent": self.sent, "resident": resident, "allocated": resident - mapped})

    def done(self) -> list[dict[str, float]]:
        self._ending.set()
        self.join()
        return self.points


def run(folder: Path, size: int) -> dict[str, Any]:
    """Raises: AssertionError when it is not stored whole, or does not play."""
    film = folder / "film.mp4"
    _padded(film, size)
    config = folder / "mediacdn.toml"
    config.write_text(TOML)
    server = Served(folder / "data", config, {}, ())
    try:
        token = server.token("writer", "write", "12h")
        auth = {"Authorization": f"Bearer {token}"}
        server.client.get("/media", headers=auth).raise_for_status()
        progress(f"{size / 1e9:g} GB: upload")
        memory, curve = Memory(server.process.pid), Curve(server.process.pid)
        before = cores.spent([server.process.pid])
        report: dict[str, Any] = {"size": size, **_upload(server, token, film, curve)}
        report["cost"] = round((cores.spent([server.process.pid]) - before) / size * 1e9, 2)
        report |= {**memory.done(), "curve": curve.done()}
        media = report["answer"]["mediaFileId"]
        began = time.monotonic()
        while (told := server.client.get(f"/media-files/{media}", headers=auth).json())["status"] not in ("READY", "FAILED"):
            time.sleep(0.1)
        report["ready"] = round(time.monotonic() - began, 2)
        assert told["status"] == "READY", told
        assert server.client.get(told["manifestUrl"]).text.startswith("#EXTM3U")
        assert server.client.head(f"/media/{media}", headers=auth).headers["content-length"] == str(size)
        progress(f"answered {report['answered']:.2f} s after the last byte; plays {report['ready']:.1f} s later")
    finally:
        server.stop()
    return report


def measure(*, full: bool) -> dict[str, Any]:
    """The run of `python -m benchmarks compat`."""
    with tempfile.TemporaryDirectory() as folder:
        return run(Path(folder), FULL if full else SHORT)


def section(outcome: dict[str, Any]) -> str:
    """The outcome for RESULTS.md."""
    curve = outcome["curve"]
    chosen = [curve[number * (len(curve) - 1) // (POINTS - 1)] for number in range(POINTS)] if len(curve) >= POINTS else curve
    rows = [
        (f"{each['at']:.0f}", f"{each['sent'] / 1e9:.2f}", f"{each['resident'] / 2**20:.1f}", f"{each['allocated'] / 2**20:.1f}")
        for each in chosen
    ]
    return f"""{table(("second", "GB sent", "resident MiB", "of it allocated MiB"), rows)}

{outcome["size"] / 1e9:g} GB in {outcome["seconds"]:.0f} s, {outcome["rate"] / 1e6:,.0f} MB/s, for which the server used {outcome["cost"]:.1f} s of processor time a GB; it grew by {outcome["growth"] / 2**20:.1f} MiB at most (at most {GROWTH // 2**20}). The answer
`{json.dumps(outcome["answer"]["status"])}` came {outcome["answered"]:.2f} s after the last byte was sent, and the stream was there {outcome["ready"]:.1f} s later."""


def _padded(film: Path, size: int) -> None:
    """A film of two seconds, its index first, and nothing behind it up to `size`."""
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25:duration=2", "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p",
           "-movflags", "+faststart", str(film))  # fmt: skip
    with film.open("ab") as file:
        file.write(struct.pack(">I4sQ", 1, b"free", size - film.stat().st_size))
        file.truncate(size)


def _upload(server: Served, token: str, film: Path, curve: Curve) -> dict[str, Any]:
    host, port = server.url.removeprefix("http://").split(":")
    size = film.stat().st_size
    opening = b'--b\r\nContent-Disposition: form-data; name="file"; filename="film.mp4"\r\nContent-Type: video/mp4\r\n\r\n'
    closing = b"\r\n--b--\r\n"
    head = (
        f"POST /media/upload HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        f"Content-Length: {len(opening) + size + len(closing)}\r\nConnection: close\r\n\r\n"
    )
    with film.open("rb") as file, socket.create_connection((host, int(port)), 600) as connection:
        began = time.monotonic()
        connection.sendall(head.encode() + opening)
        while curve.sent < size:
            curve.sent += connection.sendfile(file, curve.sent, min(STEP, size - curve.sent))
        connection.sendall(closing)
        last = time.monotonic()
        answer = b""
        while more := connection.recv(65536):
            answer += more
        ended = time.monotonic()
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    told = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert told["status"] == "UPLOADED", told
    return {"seconds": round(ended - began, 2), "rate": round(size / (ended - began)), "answered": round(ended - last, 3), "answer": told}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=FULL)
    parser.add_argument("--folder", type=Path, help="where to write; the system's folder for temporary files if not given")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        report = run(Path(folder), options.size)
    print(json.dumps(report))
    print(section(report))
    raise SystemExit(0 if report["growth"] <= GROWTH else 1)


if __name__ == "__main__":
    main()
