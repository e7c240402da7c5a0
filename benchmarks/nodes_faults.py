"""The fault table: one part at a time is killed under load and brought back; who noticed, for how long, and what was lost or doubled, which must be nothing."""

import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from benchmarks.contained import Ended, Late, contained
from benchmarks.machine import progress
from benchmarks.nodes_load import Answer, Load, warm
from benchmarks.nodes_tus import Uploader
from benchmarks.nodes_world import World
from tests.services import samples

HOT = 12
UPLOADERS = 2
UPLOADED_WITHIN = 60.0
STEADY = 2.0
REFUSED_WITHIN = 3.0
RECOVERED_WITHIN = 10.0
JOBS_WITHIN = 60.0
SLACK = 30.0
"""Seconds to bring a part back, and to check what is there."""
WORLD_WITHIN = 120.0
ALL_WITHIN = 480.0
EXPECTED = ("409 idempotency_in_flight", "409 offset_mismatch")
"""What a writer is told who tries again while the key is still that of the process that died, until its lease has run out; and who could not ask how far an upload has come."""


class Row(Struct, frozen=True):
    """A fault. Seconds; `reads` and `writes` count answers by what they were, `uploads` those that came through and how often they were cut; `wrong` names what must not be."""

    fault: str
    away: float
    recovered: float
    jobs_after: float
    slowest_read: float
    slowest_refusal: float
    reads: dict[str, int]
    writes: dict[str, int]
    uploads: dict[str, int]
    lost: int
    doubled: int
    wrong: list[str]


def fault_table(world: World, *, away: float, after: float, only: Sequence[str] = ()) -> Iterator[Row]:
    """Every fault in turn, or `only` some: so many seconds `away`, and `after` it is back."""
    bodies = [samples.binary(10_000 + number, f"hot {number}".encode()) for number in range(HOT)]
    hot = {world.nodes.upload(body, public="true")["id"]: body for body in bodies}
    # What is cached goes on, and nothing else is asked of the storage.
    warm(world.nodes.nodes, {f"/v1/media/{media}": body for media, body in hot.items()})
    for fault, (take, bring) in world.faults().items():
        if not only or fault in only:
            row = _play(world, hot, fault, take, bring, away, after)
            progress(f"{fault}: recovered after {row.recovered:.2f} s, lost {row.lost}, doubled {row.doubled} {row.wrong or ''}")
            if row.wrong:
                print(world.nodes.logs(), file=sys.stderr)
            yield row


def every_fault(*options: str, faults: Sequence[str], away: float, after: float) -> list[Row]:
    """The table of these faults, by a process of its own. One that does not end is ended, noted and left out, and the others go on in another world."""
    rows: dict[str, Row] = {}
    last = time.monotonic() + ALL_WITHIN
    while left := [each for each in faults if each not in rows]:
        if time.monotonic() > last:
            return [*rows.values(), *(_unplayed(each, "there was no time for it") for each in left)]
        wanted = [part for each in left for part in ("--only", each)]
        with contained("benchmarks.nodes", "rows", "--away", str(away), "--after", str(after), *wanted, *options) as part:
            within = WORLD_WITHIN
            for fault in left:
                within += STEADY + away + after + JOBS_WITHIN + SLACK
                try:
                    rows[fault] = msgspec.convert(part.hear(min(last, time.monotonic() + within)), Row)
                except Late:
                    rows[fault] = _unplayed(fault, f"not over within {within:.0f} s")
                    break
                except Ended:
                    rows[fault] = _unplayed(fault, "the run failed")
                    break
                within = 0.0
    return list(rows.values())


def _unplayed(fault: str, why: str) -> Row:
    progress(f"{fault}: {why}")
    return Row(fault, 0.0, 0.0, 0.0, 0.0, 0.0, {}, {}, {}, 0, 0, [why])


def _play(world: World, hot: dict[str, bytes], fault: str, take: Any, bring: Any, away: float, after: float) -> Row:
    load = Load(world.nodes, hot, seed=fault)
    over = threading.Event()
    uploads = [Uploader(world.nodes, over) for _ in range(UPLOADERS)]
    load.start()
    for each in uploads:
        each.start()
    time.sleep(STEADY)
    take()
    gone = time.monotonic()
    time.sleep(away)
    bring()
    back = time.monotonic()
    time.sleep(after)
    over.set()
    load.finish()
    for each in uploads:
        each.join(UPLOADED_WITHIN)
    stuck = sum(each.is_alive() or each.failure is not None for each in uploads)
    jobs_after = _jobs_done(world)
    during = [each for each in load.writes if not each.ok]
    sent = [answer for each in uploads for answer in each.answers]
    recovered = max([0.0, *(each.ended - back for each in [*load.writes, *load.reads, *sent] if not each.ok)])
    lost, doubled = _checked(world, load)
    lost += sum(each.check() for each in uploads)
    return Row(
        fault=fault,
        away=back - gone,
        recovered=recovered,
        jobs_after=jobs_after,
        slowest_read=max(each.ended - each.began for each in load.reads),
        slowest_refusal=max((each.ended - each.began for each in during), default=0.0),
        reads=dict(Counter(each.what for each in load.reads)),
        writes=dict(Counter(each.what for each in load.writes)),
        uploads={"whole": sum(len(each.media) for each in uploads), **Counter(each.what for each in sent if not each.ok)},
        lost=lost,
        doubled=doubled,
        wrong=[*_wrong(fault, load, sent, recovered, lost, doubled, jobs_after), *(["uploads do not end"] if stuck else [])],
    )


def _wrong(fault: str, load: Load, sent: list[Answer], recovered: float, lost: int, doubled: int, jobs_after: float) -> list[str]:
    """What breaks a promise."""
    refused = [each for each in load.writes if each.what.startswith("node 503")]
    cut = [each for each in load.reads if not each.ok]
    promises = {
        "lost": lost == 0,
        "doubled": doubled == 0,
        "recovery took too long": recovered <= RECOVERED_WITHIN,
        "a refusal took too long": all(each.ended - each.began <= REFUSED_WITHIN for each in load.writes if not each.ok),
        "503 without Retry-After": all(each.retry_after for each in refused),
        "writes never went on": bool(load.writes) and load.writes[-1].ok,
        "other bytes": not any(each.what == "other bytes" for each in load.reads),
        # A killed node takes the answers with it that it was giving; for any other fault a cached read goes on.
        "cached reads failed": len(cut) <= (6 if fault == "one API node" else 0),
        "writes failed of what nobody needs": not fault.startswith(("redis", "one worker")) or all(each.ok for each in load.writes),
        "a node failed unexpectedly": all(_expected(each) for each in [*load.reads, *load.writes, *sent]),
        "jobs were not done": jobs_after <= JOBS_WITHIN,
    }
    return [what for what, holds in promises.items() if not holds]


def _expected(answer: Answer) -> bool:
    return not answer.what.startswith("node ") or answer.what.startswith("node 503") or answer.what.endswith(EXPECTED)


def _jobs_done(world: World) -> float:
    began = time.monotonic()
    while time.monotonic() - began < JOBS_WITHIN:
        found = world.jobs()
        if not found.get("Pending") and not found.get("Processing"):
            return time.monotonic() - began
        time.sleep(0.1)
    return JOBS_WITHIN + 1


def _checked(world: World, load: Load) -> tuple[int, int]:
    """What was acknowledged and is not there, byte by byte of a sample and by its row of all; and what is there twice."""
    held = {row["id"]: row["digest"] for row in world.rows("SELECT id, digest FROM media WHERE owner = 'writer'")}
    lost = [f"{media} has no row, or that of other bytes" for digest, media in load.stored.items() if held.get(media) != digest]
    for _, media in list(load.stored.items())[:: max(1, len(load.stored) // 100)]:
        answer = world.nodes.client.get(f"/v1/media/{media}", headers=world.nodes.auth("writer"))
        lost += [f"{media} is {answer.status_code}: {answer.text[:200]}"] if answer.status_code != 200 else []
    twice = "SELECT digest FROM media WHERE owner = 'writer' AND source_id IS NULL GROUP BY digest HAVING count(*) > 1"
    made = "SELECT source_id FROM media WHERE source_id IS NOT NULL GROUP BY source_id, relationship HAVING count(*) > 1"
    unmade = "SELECT id, code, attempts, error_message FROM jobs WHERE state = 'Failed'"
    lost += [f"the job {dict(row)} failed" for row in world.rows(unmade)]
    for each in lost[:10]:
        progress(f"lost: {each}")
    return len(lost), len(world.rows(twice)) + len(world.rows(made))
