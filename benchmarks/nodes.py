"""Many nodes: what each fault costs under load, many jobs through losses of Redis, and the processor time a request of two API nodes against one.

    python -m benchmarks.nodes faults [--away 10] [--after 15]
    python -m benchmarks.nodes jobs [--jobs 10000]
    python -m benchmarks.nodes cost [--rounds 5] [--seconds 10]

Two API nodes of two processes each, two workers, PostgreSQL, Valkey, S3 and nginx, all on this machine. The storage is OpenStack Swift by its S3 API; with
`--storage folder` a shared folder, or what `--storage FILE` configures: TOML with the table [storage.default], for which `--plugin NAME` names the plugin. Exit 1
when a promise is broken.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.nodes_cost import cost
from benchmarks.nodes_faults import Row, fault_table
from benchmarks.nodes_jobs import jobs_through_a_loss
from benchmarks.nodes_world import Engines, world
from benchmarks.results import table

TITLE = "Many nodes"
MOST = 1.1
"""What two nodes may cost a request, in terms of one with as many processes."""


def measure(*, full: bool, engines: Engines = Engines()) -> dict[str, Any]:  # noqa: B008 - it is frozen
    """Everything, each in a world of its own."""
    with world(engines) as here:
        faults = fault_table(here, away=10.0 if full else 2.0, after=15.0 if full else 11.0)
    with world(engines) as here:
        jobs = jobs_through_a_loss(here, 10_000 if full else 300)
    with world(engines) as here:
        costs = cost(here, rounds=5 if full else 1, seconds=10.0 if full else 3.0)
    return {"faults": msgspec.to_builtins(faults), "jobs": jobs, "cost": costs}


def section(outcome: dict[str, Any]) -> str:
    """The outcome for RESULTS.md."""
    jobs = outcome["jobs"]
    costs = [
        [mix, each["1 own"], each["2 own"], each["ratio"], each["1 shared"], each["2 shared"]] for mix, each in outcome["cost"].items()
    ]
    return f"""{_faults([msgspec.convert(each, Row) for each in outcome["faults"]])}

Each part is taken away by kill -9 (silent: SIGSTOP) under a load of three readers of public media and three writers, through nginx, and brought back. Recovery counts from the moment the part
answers again to the last failure that anybody saw; "refusal" is the slowest answer that was none. Lost is what was acknowledged and is not there, or a job that failed; doubled
is a content or a derivative that is there twice.

{jobs["jobs"]:,} jobs asked for over HTTP while Redis was killed {len(jobs["away"])} times: {jobs["lost"]} lost, {jobs["doubled"]} done twice; the last one was done {jobs["done in"] - jobs["asked in"]:.1f} s after it was asked for.

{table(["processor time a request, us", "one node of four processes", "two of two", "ratio", "PostgreSQL and Valkey, one", "two"], costs)}"""


def _faults(rows: list[Row]) -> str:
    return table(
        ["fault", "away, s", "recovered, s", "jobs done after, s", "reads", "writes", "slowest refusal, s", "lost", "doubled", "broken promises"],
        [
            [
                row.fault, f"{row.away:.1f}", f"{row.recovered:.2f}", f"{row.jobs_after:.1f}", _told(row.reads), _told(row.writes),
                f"{row.slowest_refusal:.2f}", row.lost, row.doubled, ", ".join(row.wrong) or "none",
            ]
            for row in rows
        ],
    )  # fmt: skip


def _told(answers: dict[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in sorted(answers.items(), key=lambda each: -each[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("faults", "jobs", "cost"))
    parser.add_argument("--away", type=float, default=3.0)
    parser.add_argument("--after", type=float, default=12.0)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--storage", default="", metavar="FILE")
    parser.add_argument("--plugin", action="append", default=[], metavar="NAME")
    options = parser.parse_args()
    engines = Engines(options.storage if options.storage in ("", "folder") else Path(options.storage).read_text(), tuple(options.plugin))
    with world(engines) as here:
        if options.what == "faults":
            rows = fault_table(here, away=options.away, after=options.after)
            print(_faults(rows))
            broken = any(row.wrong for row in rows)
        elif options.what == "jobs":
            outcome = jobs_through_a_loss(here, options.jobs)
            print(json.dumps(outcome, indent=2))
            broken = bool(outcome["lost"] or outcome["doubled"])
        else:
            costs = cost(here, rounds=options.rounds, seconds=options.seconds)
            print(json.dumps(costs, indent=2))
            broken = any(each["ratio"] > MOST for each in costs.values())
    raise SystemExit(1 if broken else 0)


if __name__ == "__main__":
    main()
