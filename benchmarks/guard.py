"""`make bench-guard`: fail when this server has grown slower beside nginx than it was when guard.json was recorded.

    python -m benchmarks.guard [--record] [--rounds 7]

nginx is measured in the same run, in turns, on the same core and the same bytes, so that the machine's own speed falls out. What is compared is the median ratio of requests per second of processor
time, which other work on the machine hardly moves; a case fails when it falls more than 15 % under the recorded one. `--record` writes what was measured, to be committed with the change that
explains it; how fast nginx is beside us differs from one kind of machine to another, so that a record is good for the kind it names.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.beside import PAIRS, run
from benchmarks.machine import REPOSITORY, describe

RECORD = Path(__file__).with_name("guard.json")
GUARDED = tuple(pair for pair in PAIRS if pair.peer == "nginx" and pair.least is not None)
FALL = 0.15


def measured(rounds: int, seconds: float, pictures: int, links: int) -> dict[str, float]:
    """The median ratio per core of every guarded case."""
    outcome = run(GUARDED, rounds=rounds, seconds=seconds, pictures=pictures, links=links)
    return {each["name"]: round(statistics.median(each["per_core_ratios"]), 4) for each in outcome["results"]}


def fallen(now: dict[str, float], recorded: dict[str, float]) -> list[str]:
    """A sentence for each case that fell too far, or that only one of the two knows."""
    told = [f"{name}: in one of the two only; run with --record" for name in sorted(set(now) ^ set(recorded))]
    slower = (name for name in sorted(set(now) & set(recorded)) if now[name] < recorded[name] * (1 - FALL))
    told += [
        f"{name}: {now[name]:.3f} of nginx, recorded {recorded[name]:.3f}: {1 - now[name] / recorded[name]:.0%} slower" for name in slower
    ]
    return told


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="write guard.json instead of comparing with it")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each side in each round")
    parser.add_argument("--pictures", type=int, default=1_000)
    parser.add_argument("--links", type=int, default=10_000)
    parser.add_argument("--file", type=Path, default=RECORD, help="the record; default: guard.json beside this program")
    options = parser.parse_args(arguments)
    file: Path = options.file
    if not options.record and not file.exists():
        raise SystemExit(f"there is no {file} to compare with; on a quiet machine: make bench-guard ARGS=--record, and commit it")
    now = measured(options.rounds, options.seconds, options.pictures, options.links)
    about = describe(REPOSITORY)
    if options.record:
        file.write_text(json.dumps({"about": about, "ratios": now}, indent=2) + "\n")
        print(f"recorded in {file}: {now}")
        return
    record: dict[str, Any] = json.loads(file.read_text())
    recorded: dict[str, float] = record["ratios"]
    for name, ratio in now.items():
        print(f"{name}: {ratio:.3f} of nginx, recorded {recorded.get(name, float('nan')):.3f}")
    if told := fallen(now, recorded):
        was, machine = record["about"], about["machine"]
        if was["machine"] != machine:
            told.append(f"but it was recorded on another machine: {was['machine']}, and this is {machine}")
        raise SystemExit("\n".join([f"slower than recorded on {was['date']} at {was['commit']}, by more than {FALL:.0%}:", *told]))


if __name__ == "__main__":
    main()
