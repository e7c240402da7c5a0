"""Many nodes: what each fault costs under load, many jobs through losses of Redis, and the processor time a request of two API nodes against one.

    python -m benchmarks.nodes faults [--only "one worker"] [--away 8] [--after 11]
    python -m benchmarks.nodes jobs [--jobs 10000]
    python -m benchmarks.nodes cost [--rounds 5] [--seconds 10]

Two API nodes of two processes each, two workers, PostgreSQL, Valkey, S3 and nginx, all on this machine. The storage is OpenStack Swift by its S3 API; with
`--storage folder` a shared folder, or what `--storage FILE` configures: TOML with the table [storage.default], for which `--plugin NAME` names the plugin. Exit 1
when a promise is broken. Each runs in a process of its own by a deadline, at which whatever it has started is ended. `python -m benchmarks nodes --full` runs all
and writes RESULTS.md.
"""

import argparse
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.contained import Ended, Late, contained, ends
from benchmarks.machine import progress
from benchmarks.nodes_cost import cost
from benchmarks.nodes_faults import Row, every_fault, fault_table
from benchmarks.nodes_jobs import jobs_through_a_loss
from benchmarks.nodes_world import FAULTS, Engines, world
from benchmarks.results import table

TITLE = "Many nodes"
MOST = 1.1
"""What two nodes may cost a request, in terms of one with as many processes."""
JOBS_WITHIN, COST_WITHIN = 480.0, 300.0


def measure(*, full: bool) -> dict[str, Any]:
    """Everything, each in a world of its own and by its deadline; None for what did not end."""
    away, after = (8.0, 11.0) if full else (2.0, 11.0)
    faults = every_fault(faults=FAULTS, away=away, after=after)
    jobs = _heard(JOBS_WITHIN, "jobs", "--jobs", "10000" if full else "300")
    costs = _heard(COST_WITHIN, "cost", *(("--rounds", "3", "--seconds", "8") if full else ("--rounds", "1", "--seconds", "3")))
    return {"faults": msgspec.to_builtins(faults), "jobs": jobs, "cost": costs}


def _heard(within: float, *arguments: str) -> dict[str, Any] | None:
    """What one verb finds out in a process of its own."""
    with contained("benchmarks.nodes", f"{arguments[0]}-here", *arguments[1:]) as part:
        try:
            return part.hear(time.monotonic() + within)
        except Late:
            progress(f"{arguments[0]}: not over within {within:.0f} s")
        except Ended:
            progress(f"{arguments[0]}: the run failed")
    return None


def section(outcome: dict[str, Any]) -> str:
    """The outcome for RESULTS.md."""
    return f"""{_faults([msgspec.convert(each, Row) for each in outcome["faults"]])}

Each part is taken away by kill -9 (silent: SIGSTOP) under a load of three readers of public media, three writers and two uploads by tus
of 7 MB at 5 MB/s, through nginx, and brought back. Recovery counts from the moment the part
answers again to the last failure that anybody saw; "refusal" is the slowest answer to a write that was none. Lost is what was acknowledged (media, and offsets of uploads) and is not there, or a job that failed; doubled
is a content or a derivative that is there twice. Who waits for a silent part waits for `database.timeout` or the storage's `read_timeout`, which are 2 s here.

{_jobs(outcome["jobs"])}

{_costs(outcome["cost"])}"""


def _jobs(found: dict[str, Any] | None) -> str:
    if found is None:
        return "The jobs through losses of Redis did not end."
    later = found["done in"] - found["asked in"]
    return (
        f"{found['jobs']:,} jobs asked for over HTTP in {found['asked in']:.0f} s while Redis was killed {len(found['away'])} times: {found['lost']} lost, "
        f"{found['doubled']} done twice; the last one was done {later:.1f} s after it was asked for."
    )


def _costs(found: dict[str, Any] | None) -> str:
    if found is None:
        return "The comparison of one node with two did not end."
    return table(
        ["processor time a request, us", "one node of four processes", "two of two", "ratio", "PostgreSQL and Valkey, one", "two"],
        [[mix, each["1 own"], each["2 own"], each["ratio"], each["1 shared"], each["2 shared"]] for mix, each in found.items()],
    )


def _faults(rows: list[Row]) -> str:
    return table(
        ["fault", "away, s", "recovered, s", "jobs done after, s", "reads", "writes", "uploads by tus", "slowest refusal, s", "lost", "doubled", "broken promises"],
        [
            [
                row.fault, f"{row.away:.1f}", f"{row.recovered:.2f}", f"{row.jobs_after:.1f}", _told(row.reads), _told(row.writes), _told(row.uploads),
                f"{row.slowest_refusal:.2f}", row.lost, row.doubled, ", ".join(row.wrong) or "none",
            ]
            for row in rows
        ],
    )  # fmt: skip


def _told(answers: dict[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in sorted(answers.items(), key=lambda each: -each[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("faults", "jobs", "cost", "rows", "jobs-here", "cost-here"), metavar="faults|jobs|cost")
    parser.add_argument("--only", action="append", default=[], metavar="FAULT", help=", ".join(FAULTS))
    parser.add_argument("--away", type=float, default=3.0)
    parser.add_argument("--after", type=float, default=11.0)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--storage", default="", metavar="FILE")
    parser.add_argument("--plugin", action="append", default=[], metavar="NAME")
    options = parser.parse_args()
    if unknown := set(options.only) - set(FAULTS):
        parser.error(f"{', '.join(sorted(unknown))}: no such fault; there are {', '.join(FAULTS)}")
    given = sys.argv[2:]
    if options.what == "faults":
        there = [each for each in FAULTS if not (options.storage and each.startswith("s3"))]
        engines = ["--storage", options.storage, *(part for each in options.plugin for part in ("--plugin", each))]
        rows = every_fault(*engines, faults=options.only or there, away=options.away, after=options.after)
        print(_faults(rows))
        broken = any(row.wrong for row in rows)
    elif options.what in ("jobs", "cost"):
        found = _heard(JOBS_WITHIN if options.what == "jobs" else COST_WITHIN, options.what, *given)
        print(json.dumps(found, indent=2))
        broken = found is None or bool(found["lost"] or found["doubled"] if options.what == "jobs" else _dear(found))
    else:
        _here(options)
        return
    raise SystemExit(1 if broken else 0)


def _dear(costs: dict[str, Any]) -> bool:
    return any(each["ratio"] > MOST for each in costs.values())


def _here(options: argparse.Namespace) -> None:
    """The part that another process of this program contains: a line of JSON for each thing that is found out."""
    signal.signal(signal.SIGTERM, ends)
    engines = Engines(options.storage if options.storage in ("", "folder") else Path(options.storage).read_text(), tuple(options.plugin))
    with world(engines) as there:
        progress("the nodes are up")
        if options.what == "rows":
            for row in fault_table(there, away=options.away, after=options.after, only=options.only):
                print(msgspec.json.encode(row).decode(), flush=True)
        elif options.what == "jobs-here":
            print(json.dumps(jobs_through_a_loss(there, options.jobs)), flush=True)
        else:
            print(json.dumps(cost(there, rounds=options.rounds, seconds=options.seconds)), flush=True)


if __name__ == "__main__":
    main()
