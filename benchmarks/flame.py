"""A flame graph of the server while signed pictures are hot, and the list of functions that its samples fell into.

    python -m benchmarks.flame --seconds 20

py-spy samples the real server from outside while wrk loads it from the other core: once for plots/flame.svg, once for the list, which is printed and kept as plots/flame.txt.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path

from benchmarks import cores, wrk
from benchmarks.browser import HEADERS, zipf
from benchmarks.corpus import LINKS, PICTURES, Corpus
from benchmarks.machine import describe, progress
from benchmarks.plots import PLOTS
from benchmarks.server import Mediacdn


def record(seconds: float, pictures: int, links: int, rate: int, *, native: bool, form: str) -> tuple[str, float]:
    """Load, sample, write plots/flame.svg; gives the folded stacks and the requests a second while they were taken."""
    served, load = cores.pair()
    corpus = Corpus(pictures)
    with tempfile.TemporaryDirectory(prefix="run-", dir=corpus.root) as name:
        folder = Path(name)
        with cores.pinned(served):
            server = Mediacdn(corpus.data, log=folder / "mediacdn.log")
        try:
            private, public = corpus.stored(server)
            paths = (
                [path for _, path in corpus.links(private, links)]
                if form == "signed"
                else [f"/v1/media/{public[each]}" for each in corpus.pictures]
            )
            requests, order, headers = folder / "requests", folder / "order", folder / "headers"
            requests.write_text("\n".join(paths) + "\n")
            headers.write_text(HEADERS)
            zipf(len(paths), order)
            with cores.pinned(load):
                wrk.play(server.url, requests, headers, order, 0, 3, 32)
                _sampled(server, seconds, rate, "flamegraph", PLOTS / "flame.svg", native, (requests, headers, order))
                found = _sampled(server, seconds, rate, "raw", folder / "stacks", native, (requests, headers, order))
            return (folder / "stacks").read_text(), found.requests / found.seconds
        finally:
            server.stop()


def _sampled(server: Mediacdn, seconds: float, rate: int, kind: str, file: Path, native: bool, files: tuple[Path, Path, Path]) -> wrk.Load:
    program = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")
    if program is None:
        raise SystemExit("py-spy is missing; `make bench` installs it")
    command = [
        program,
        "record",
        "--pid",
        str(server.pid),
        "--duration",
        f"{seconds:.0f}",
        "--rate",
        str(rate),
        "--format",
        kind,
        "--output",
        str(file),
    ]
    # Only who holds the interpreter's lock is sampled: idle threads are none of the request's cost.
    command += ["--gil", *(["--native"] if native else [])]
    loads: list[wrk.Load] = []
    loading = threading.Thread(target=lambda: loads.append(wrk.play(server.url, *files, 0, seconds + 3, 32)))
    loading.start()
    done = subprocess.run(command, capture_output=True, text=True)
    loading.join()
    if done.returncode or not loads:
        raise RuntimeError(
            f"py-spy ended with {done.returncode}; it needs the right to trace (root, or kernel.yama.ptrace_scope=0):\n{done.stderr}"
        )
    progress(f"{file.name}: {loads[0].requests / loads[0].seconds:,.0f} requests/s under the sampler")
    return loads[0]


def listed(stacks: str, lines: int) -> str:
    """The functions by their own samples, and by those of all they call, in percent of all."""
    own: Counter[str] = Counter()
    within: Counter[str] = Counter()
    for line in stacks.splitlines():
        stack, _, number = line.rpartition(" ")
        frames = [frame.rpartition(":")[0] + ")" if ":" in frame else frame for frame in stack.split(";")]
        own[frames[-1]] += int(number)
        for each in set(frames):
            within[each] += int(number)
    total = own.total()
    told = [f"{total} samples", "", "own     all called   function"]
    told += [f"{number / total:6.1%}  {within[name] / total:6.1%}       {name}" for name, number in own.most_common(lines)]
    return "\n".join(told) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--pictures", type=int, default=PICTURES)
    parser.add_argument("--links", type=int, default=LINKS)
    parser.add_argument("--rate", type=int, default=97, help="samples a second; each stops the server for a moment")
    parser.add_argument("--lines", type=int, default=40, help="functions to list")
    parser.add_argument("--native", action="store_true", help="with frames of C, which slows the server down more")
    parser.add_argument("--form", choices=("signed", "public"), default="signed")
    options = parser.parse_args()
    stacks, rate = record(options.seconds, options.pictures, options.links, options.rate, native=options.native, form=options.form)
    about = describe(PLOTS)
    text = (
        f"{about['date']}, commit {about['commit']}, {options.form} pictures of 10 KB, {rate:,.0f} requests/s under the sampler\n\n"
        + listed(stacks, options.lines)
    )
    (PLOTS / "flame.txt").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
