"""wrk, the load generator: keep-alive connections that ask for a list of paths in turn, for so many seconds."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

SCRIPT = """
local requests, at = {}, 0
function init()
  for path in io.lines("%s") do requests[#requests + 1] = wrk.format("GET", path) end
end
function request()
  at = at %% #requests + 1
  return requests[at]
end
function done(summary, latency)
  local e = summary.errors
  io.write(string.format('\\n{"requests":%%d,"seconds":%%.6f,"bytes":%%d,"failed":%%d,"p50":%%.1f,"p99":%%.1f}\\n', summary.requests,
    summary.duration / 1e6, summary.bytes, e.connect + e.read + e.write + e.status + e.timeout, latency:percentile(50), latency:percentile(99)))
end
"""
SELDOM = 10_000
"""Peers drop a connection now and then; what a run of minutes is thrown away for is more than that."""


class Load(Struct, frozen=True):
    """What a run did. `failed` counts broken connections, time-outs and answers of 400 and more; `p50` and `p99` are microseconds."""

    requests: int
    seconds: float
    bytes: int
    failed: int
    p50: float
    p99: float


PLAY = Path(__file__).with_name("play.lua")


def play(url: str, requests: Path, headers: Path, order: Path | None, start: int, seconds: float, connections: int) -> Load:
    """Load `url` with the listed requests in a drawn order (play.lua says how the files look), from the place `start` in it. Raises: as `run`."""
    arguments = [str(requests), str(headers), str(order or "-"), str(start)]
    return _load([f"-c{connections}", f"-d{seconds:.0f}s", "-s", str(PLAY), url, "--", *arguments], url, seconds)


def run(url: str, paths: Sequence[str], seconds: float, connections: int, folder: Path) -> Load:
    """Load `url`; `folder` takes the script. Raises: SystemExit without wrk, RuntimeError when more than one request in SELDOM failed."""
    listed, script = folder / "paths", folder / "wrk.lua"
    listed.write_text("".join(f"{path}\n" for path in paths))
    script.write_text(SCRIPT % listed)
    return _load([f"-c{connections}", f"-d{seconds:.0f}s", "-s", str(script), url], url, seconds)


def _load(arguments: list[str], url: str, seconds: float) -> Load:
    program = shutil.which("wrk")
    if program is None:
        raise SystemExit("wrk is missing; as root: apt-get install -y wrk")
    command = [program, "-t1", "--timeout", "20s", *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds + 60)
    load = Load(**json.loads(done.stdout.strip().splitlines()[-1]))
    if load.failed * SELDOM > load.requests or not load.requests:
        raise RuntimeError(f"{load.failed} of {load.requests} requests to {url} failed:\n{done.stdout}")
    return load
