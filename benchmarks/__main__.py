"""`python -m benchmarks [NAME…] [--full]`: run benchmarks, print what came out as JSON, and write their sections of RESULTS.md.

Without names all of them run. The short form takes minutes and shows that everything works; `--full` gives the figures. A benchmark is a module with TITLE,
`measure(full=…)`, which gives its outcome as a value for JSON, and `section(outcome)`, which writes it down.
"""

import argparse
import importlib
import json
import tempfile
import time
import traceback
from pathlib import Path

from benchmarks.machine import describe
from benchmarks.results import RESULTS, write

PLAIN = (
    "delivery",
    "memory",
    "latency",
    "crowd",
    "herd",
    "withheld",
    "damage",
    "startup",
    "catalog",
    "upload",
    "resume",
    "s3",
    "big",
    "compat",
    "crash",
    "jobs",
    "jobs_crash",
    "nodes",
    "variants",
    "players",
)
MODULES = {"peers": "beside"} | {name: name for name in PLAIN} | {"browser-upload": "browser_upload", "locust": "mixes"}
SIZED = ("s3", "browser-upload")
UNITS = {"MB": 10**6, "GB": 10**9}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MODULES))
    parser.add_argument("--full", action="store_true", help="measure long enough for figures that count")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, metavar="FILE", help="where sections are written; default: RESULTS.md beside this program"
    )
    parser.add_argument("--size", type=_bytes, metavar="SIZE", help=f"such as 512MB or 5GB, for {' and '.join(SIZED)}")
    options = parser.parse_args()
    if options.size and not (options.names and set(options.names) <= set(SIZED)):
        parser.error(f"--size is for {' and '.join(SIZED)} alone")
    if unknown := set(options.names) - set(MODULES):
        parser.error(f"{', '.join(sorted(unknown))}: no such benchmark; there are {', '.join(MODULES)}")
    failed = [name for name in options.names or MODULES if not _run(name, options.full, options.size, options.results)]
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def _bytes(text: str) -> int:
    return int(float(text[:-2]) * UNITS[text[-2:].upper()])


def _run(name: str, full: bool, size: int | None, results: Path) -> bool:
    """Run one; a failure is told, leaves its section as it was, and does not keep the others from running."""
    print(f"{name}:", flush=True)
    benchmark = importlib.import_module(f"benchmarks.{MODULES[name]}")
    about = describe(Path(tempfile.gettempdir()))
    began = time.monotonic()
    try:
        outcome = benchmark.measure(full=full, **({"size": size} if size else {}))
    except Exception:
        traceback.print_exc()
        return False
    about["took"] = f"{time.monotonic() - began:.0f} s" + ("" if full else ", a short run")
    print(json.dumps({"benchmark": name, "about": about, "outcome": outcome}), flush=True)
    write(
        name,
        benchmark.TITLE,
        about,
        f"python -m benchmarks {name}{' --full' if full else ''}{f' --size {size / 1e9:g}GB' if size else ''}",
        benchmark.section(outcome),
        results,
    )
    return True


if __name__ == "__main__":
    main()
