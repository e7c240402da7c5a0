"""After the answer to a quarantine: reads of every form over every server process, and how many of them still carried bytes.

Every media is first read through all connections, so that all processes hold it in their caches; then it is put into quarantine, and from the moment of the 200 on every connection reads
every form of it. A right answer is an error without a byte of the object; 200, 206 and 304 are wrong, and so is any body that has a piece of the object in it.
"""

import asyncio
import os
import tempfile
import time
from collections import Counter
from itertools import count
from pathlib import Path
from typing import Any

import httpx
from msgspec import Struct

from benchmarks.machine import progress
from benchmarks.results import table
from benchmarks.server import Mediacdn
from benchmarks.wire import Wire, opened, run

TITLE = "Reads after a quarantine"
SIZE = 10_240
CONNECTIONS = 32
READS = 100_000
PROCESSES = (1, 4)


class Form(Struct, frozen=True):
    """A way to ask for a media."""

    name: str
    path: str
    header: str = ""
    method: str = "GET"


def measure(*, full: bool) -> dict[str, Any]:
    """The run of `python -m benchmarks withheld`."""
    return measured(PROCESSES, READS if full else 5_000)


def measured(processes: tuple[int, ...], reads: int) -> dict[str, Any]:
    """Quarantine media after media until so many reads were made. Raises: RuntimeError when a read before the quarantine is not right."""
    return {"results": [_quarantines(number, reads) for number in processes]}


def _quarantines(processes: int, reads: int) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    statuses: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="mediacdn-bench-") as folder:
        server = Mediacdn(Path(folder) / "data", workers=processes)
        try:
            numbers = count()
            token, began = server.read_token(), time.monotonic()

            async def all_of_them() -> None:
                wires = await opened(server.url, CONNECTIONS, count())
                await asyncio.gather(*(each.ask("/healthz") for each in wires))
                if (held := server.holders()) != processes:
                    raise RuntimeError(f"the connections reach {held} of {processes} server processes")
                while sum(counts.values()) < reads:
                    body = b"\x00\x01" + os.urandom(SIZE - 2)
                    source = Path(folder) / "source"
                    source.write_bytes(body)
                    media = await asyncio.to_thread(server.upload, source, public="true" if next(numbers) % 2 else "false")
                    forms = await asyncio.to_thread(_forms, server, media, token)
                    await asyncio.gather(*(_before(each, forms, body) for each in wires))
                    answer = await asyncio.to_thread(
                        server.client.post, f"/v1/media/{media}/quarantine", json={"reason": "a benchmark", "scope": "media"}
                    )
                    answer.raise_for_status()
                    # Twice: what a first read might bring back into a cache, a second would give away.
                    for _ in range(2):
                        await asyncio.gather(*(_after(each, forms, body, counts, statuses) for each in wires))
                for each in wires:
                    each.close()

            run(all_of_them)
            progress(
                f"{processes} processes: {counts.total():,} reads, {counts['with bytes']} with bytes, in {time.monotonic() - began:.0f} s"
            )
        finally:
            server.stop()
    return {
        "processes": processes,
        "reads": counts.total(),
        "with_bytes": counts["with bytes"],
        "told_fresh": counts["not modified or headers of the object"],
        "statuses": dict(sorted(statuses.items())),
    }


def _forms(server: Mediacdn, media: str, token: str) -> list[Form]:
    """Every form there is: by token, by link and by prefix link; whole, a range, conditional, HEAD."""
    path, bearer = f"/v1/media/{media}", f"Authorization: Bearer {token}"
    answer = server.client.post(f"{path}/sign", json={"expires": 3600, "prefix": True})
    answer.raise_for_status()
    signed, prefix = server.signed(media), httpx.URL(answer.json()["url"]).raw_path.decode()
    tag = server.client.head(path).headers["etag"]
    return [
        Form("token", path, bearer),
        Form("token, range", path, f"{bearer}\r\nRange: bytes=100-199"),
        Form("token, conditional", path, f"{bearer}\r\nIf-None-Match: {tag}"),
        Form("token, HEAD", path, bearer, "HEAD"),
        Form("link", signed),
        Form("link, range", signed, "Range: bytes=-500"),
        Form("link, conditional", signed, f"If-None-Match: {tag}"),
        Form("link, HEAD", signed, method="HEAD"),
        Form("prefix link", prefix),
        Form("prefix link, range", prefix, "Range: bytes=0-0,5000-5099"),
        Form("prefix link, conditional", prefix, f"If-None-Match: {tag}"),
        Form("prefix link, HEAD", prefix, method="HEAD"),
    ]


async def _before(wire: Wire, forms: list[Form], body: bytes) -> None:
    for form in forms:
        answer = await wire.ask(form.path, form.header, form.method)
        if answer.status not in (200, 206, 304) or (answer.status == 200 and form.method == "GET" and answer.body != body):
            raise RuntimeError(f"{form.name}, before the quarantine: {answer.status}, {len(answer.body)} bytes")


async def _after(wire: Wire, forms: list[Form], body: bytes, counts: "Counter[str]", statuses: "Counter[str]") -> None:
    for form in forms:
        answer = await wire.ask(form.path, form.header, form.method)
        statuses[str(answer.status)] += 1
        # The shortest piece asked for alone is too short to be looked for; its status gives it away.
        if (answer.status in (200, 206) and form.method == "GET") or (
            len(answer.body) >= 64 and any(body[at : at + 64] in answer.body for at in (0, 100, 5000, SIZE - 500))
        ):
            counts["with bytes"] += 1
        elif answer.status < 400:
            counts["not modified or headers of the object"] += 1
        else:
            counts["refused"] += 1


def section(outcome: dict[str, Any]) -> str:
    """The outcome for RESULTS.md."""
    rows = [
        (
            f"{each['processes']} server process{'es' if each['processes'] > 1 else ''}",
            f"{each['reads']:,}",
            f"**{each['with_bytes']}**",
            f"**{each['told_fresh']}**",
            ", ".join(f"{status}: {number:,}" for status, number in each["statuses"].items()),
        )
        for each in outcome["results"]
    ]
    return f"""{table(("", "reads after the 200", "with bytes", "304, or HEAD with 200", "answers"), rows)}

{CONNECTIONS} connections, opened before and spread over the processes, read each media in twelve forms (token, link, prefix link; whole, range, conditional, HEAD) until it is in every cache. It is then
put into quarantine, and when that is answered all forms are read twice over all connections. Every other media is public."""
