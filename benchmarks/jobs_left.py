"""What workers and kills have left: every job, derivative, object and status of a catalog against what was uploaded."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct
from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from benchmarks.jobs_world import CUT, PLANNED, Uploader
from mediacdn.catalog.database import open_catalog
from mediacdn.catalog.tables import jobs, media, objects
from mediacdn.config import Database
from mediacdn.drivers import SystemClock
from mediacdn_local.layout import place_of

Blame = Callable[[str, str], None]
Rows = Sequence[Row[Any]]
MADE = {"thumb@1": ("thumbnail",), "card@1": ("middle", "card"), "pair@1": ("left", "right"), "look@1": (), "witnessed@1": ()}
"""What each recipe leaves."""


class Left(Struct, frozen=True):
    """Where to look, and what was asked for."""

    database: Database
    data: Path
    uploader: Uploader
    killed_at: Mapping[int, float]
    witness: Path
    attempts: int


def look(left: Left, blame: Blame) -> tuple[int, int, int]:
    """Tell `blame` of whatever is wrong; give how many jobs there are, how many took more than one attempt, and the most that one took."""
    done, made, kept = asyncio.run(_read(left))
    _jobs(left, done, blame)
    _made(left, done, made, blame)
    _kept(left, made, kept, blame)
    _witnessed(left, done, blame)
    return len(done), sum(job.attempts > 1 for job in done), max((job.attempts for job in done), default=0)


async def _read(left: Left) -> tuple[Rows, Rows, Rows]:
    async def work(connection: AsyncConnection) -> tuple[Rows, Rows, Rows]:
        found = [(await connection.execute(select(each))).all() for each in (jobs, media, objects)]
        return found[0], found[1], found[2]

    async with open_catalog(left.database, left.data, SystemClock()) as catalog:
        return await catalog._transactions.read(work)


def _jobs(left: Left, done: Rows, blame: Blame) -> None:
    """Every upload has its jobs, each once; each ended as its picture says."""
    expected = Counter((each, f"{code}@1") for each in left.uploader.uploaded for code in PLANNED)
    expected += Counter((each, "pair@1") for each in left.uploader.asked)
    if (found := Counter((job.media_id, job.code) for job in done)) != expected:
        blame("jobs lost or doubled", f"{(expected - found) or (found - expected)}")
    for job in done:
        hopeless = not left.uploader.uploaded[job.media_id] and job.code.partition("@")[0] in CUT
        ended = ("Failed", "undecodable") if hopeless else ("Completed", None)
        if job.code == "look@1" and not left.uploader.uploaded[job.media_id]:
            if job.state not in ("Failed", "Completed"):
                blame("job not ended", str(job))
        elif (job.state, job.error_code) != ended:
            blame("job ended otherwise", str(job))
        if not 1 <= job.attempts <= left.attempts or job.lease_until is not None or job.ended_at is None:
            blame("job's row untrue", str(job))
        if job.state == "Completed" and any(step["state"] != "Completed" or step["ended_at"] is None for step in job.steps):
            blame("timeline untrue", str(job))


def _made(left: Left, done: Rows, made: Rows, blame: Blame) -> None:
    """Each completed job's derivatives are there once, with their bytes; nothing else is; and every status is what the required jobs say."""
    live = [each for each in made if each.state == "live" and each.source_id is not None]
    for name, keys in (
        ("derivation key", Counter(each.derivation_key for each in live)),
        ("relationship", Counter((each.source_id, each.relationship) for each in live)),
    ):
        for key, count in keys.items():
            if count != 1:
                blame("derivative doubled", f"{name} {key}: {count}")
    by_id = {each.id: each for each in made}
    outputs = Counter[str]()
    for job in done:
        if job.state != "Completed":
            continue
        there = [by_id[step["output"]] for step in job.steps if step["output"]]
        outputs.update(each.id for each in there)
        if tuple(each.relationship for each in there) != MADE[job.code] or any(each.state != "live" for each in there):
            blame("derivative missing", str(job))
    for stray in {each.id for each in live} - outputs.keys():
        blame("derivative without a job", stray)
    for each in made:
        if each.state != "live":
            continue
        file = _file(left, each.storage_key)
        if not file.exists():
            blame("lost", each.id)
        elif hashlib.sha256(file.read_bytes()).hexdigest() != each.digest:
            blame("torn", each.id)
        if each.status != ("FAILED" if left.uploader.uploaded.get(each.id) is False else "READY"):
            blame("status untrue", f"{each.id} {each.status}")
        whole = left.uploader.uploaded.get(each.id, False)
        if whole and not (each.width and each.placeholder and each.facts.get("seen")):
            blame("facts missing", each.id)


def _kept(left: Left, made: Rows, kept: Rows, blame: Blame) -> None:
    """Rows of objects, files and media are of one mind."""
    there = {each.storage_key for each in made if each.state == "live"}
    if rows := {each.key for each in kept if each.state != "live"}:
        blame("object left behind", str(sorted(rows)[:5]))
    if rows := {each.key for each in kept} ^ there:
        blame("objects and media differ", str(sorted(rows)[:5]))
    files = {each for each in (left.data / "objects").rglob("*") if each.is_file()}
    if stray := files ^ {_file(left, each) for each in there}:
        blame("file left behind or lost", str(sorted(stray)[:5]))
    counts = Counter(each.storage_key for each in made if each.state == "live")
    if wrong := [each.key for each in kept if each.refcount != counts[each.key]]:
        blame("references counted wrong", str(wrong[:5]))
    scratch = left.data / "scratch"
    if scratch.exists() and any(scratch.iterdir()):
        blame("scratch left behind", str(list(scratch.iterdir())[:5]))


def _file(left: Left, key: str) -> Path:
    place = place_of(key)
    return left.data.joinpath("objects", *place.folders, place.name)


def _witnessed(left: Left, done: Rows, blame: Blame) -> None:
    """No two living workers were at one media at once, and each was seen."""
    open_by: dict[str, int] = {}
    for line in left.witness.read_text().splitlines():
        word, name, number, at = line.split()
        pid = int(number)
        if word == "begin":
            other = open_by.get(name)
            if other is not None and left.killed_at.get(other, float("inf")) > float(at):
                blame("two at once", f"{name}: {other} and {pid}")
            open_by[name] = pid
        elif open_by.get(name) == pid:
            del open_by[name]
    if unseen := left.uploader.uploaded.keys() - {line.split()[1] for line in left.witness.read_text().splitlines()}:
        blame("completed and never done", str(sorted(unseen)[:5]))
