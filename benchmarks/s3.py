"""Uploads into a bucket through us beside the same multipart upload by the SDK alone, and the first byte of a cold read beside one GetObject.

    python -m benchmarks.s3 [--full] [--size BYTES] [--server rclone|swift]

The service runs on this machine, rclone with its objects on disk or Swift, and costs processor time like everything here: figures of one run compare, and mean
nothing elsewhere. Both uploads have parts of 8 MiB, four in flight. Bare is a script of aiobotocore with its own defaults, which reads the file from the page
cache; through us is a POST of that file by a client that sends it with sendfile, answered when the object and its record are durable. Prints JSON.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import cores
from benchmarks.big import Memory
from benchmarks.machine import progress
from benchmarks.results import table
from benchmarks.server import Mediacdn
from benchmarks.upload import _upload, _write
from mediacdn.model import ByteRange
from tests.services.buckets import BUCKET, MIB, Bucket, open_bucket
from tests.services.rclone import RcloneServer
from tests.services.swift import SwiftServer

TITLE = "Into and out of a bucket"
PART, IN_FLIGHT = 8 * MIB, 4
LEAST, LONGEST = 0.8, 1.3
GROWTH = (IN_FLIGHT + 1) * PART + 64_000_000
COLD = 64 * MIB
SERVERS = {"rclone": RcloneServer, "swift": SwiftServer}


def measure(*, full: bool, size: int | None = None, server: str = "rclone") -> dict[str, Any]:
    size = size or (2_000_000_000 if full else 512_000_000)
    with tempfile.TemporaryDirectory(prefix="mediacdn-bench-") as folder:
        with _service(server, Path(folder) / "s3") as service:
            outcome = {"server": server, "size": size, **_uploads(Path(folder), service, size, 5 if full else 2)}
            return {**outcome, **asyncio.run(_reads(service, 40 if full else 15))}


@contextmanager
def _service(name: str, root: Path) -> Iterator[Any]:
    root.mkdir()
    service: Any = RcloneServer(root, keep=root / "objects") if name == "rclone" else SwiftServer(root)
    service.start()
    try:
        yield service
    finally:
        service.kill()


def _uploads(folder: Path, service: Any, size: int, rounds: int) -> dict[str, Any]:
    source = folder / "source"
    _write(source, size)
    toml = f"""
[storage.default]
driver = "s3"
bucket = "{BUCKET}"
prefix = "ours"
part_size = {PART}
parts_in_flight = {IN_FLIGHT}
""" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in service.table.items())
    asyncio.run(_made(service.table))
    bare, ours, growth = [], [], []
    costs: dict[str, list[float]] = {"bare": [], "ours": []}
    server = Mediacdn(folder / "data", toml=toml, plugins=("s3",))
    warm = folder / "warm"
    _write(warm, 4 * PART)
    try:
        _upload(server, warm)  # whoever comes first finds a service, and a server, that have done nothing yet
        _bare(warm, service.table)
        for number in range(rounds):
            with source.open("r+b") as file:  # it stays in the page cache, and is no duplicate
                file.write(b"\x00\x01" + number.to_bytes(8, "big"))
            for which in ("bare", "ours") if number % 2 else ("ours", "bare"):
                os.sync()
                if which == "bare":
                    took, spent = _bare(source, service.table)
                    bare.append(took)
                    costs["bare"].append(spent / size * 1e9)
                else:
                    memory, before = Memory(server.pid), cores.spent([server.pid])
                    ours.append(_upload(server, source))
                    costs["ours"].append((cores.spent([server.pid]) - before) / size * 1e9)
                    growth.append(memory.done()["growth"])
            progress(
                f"round {number + 1} of {rounds}: bare {bare[-1]:.2f} s, ours {ours[-1]:.2f} s, ratio {bare[-1] / ours[-1]:.2f}, grown by {growth[-1] / 1e6:.0f} MB"
            )
    finally:
        server.stop()
    ratios = sorted(one / other for one, other in zip(bare, ours, strict=True))
    return {
        "bare": bare,
        "ours": ours,
        "ratios": ratios,
        "ratio": statistics.median(ratios),
        "growth": max(growth),
        "growth_allowed": GROWTH,
        "cost": {name: round(statistics.median(each), 2) for name, each in costs.items()},
    }


async def _made(where: dict[str, Any]) -> None:
    async with open_bucket(where):
        return


def _bare(source: Path, where: dict[str, Any]) -> tuple[float, float]:
    """Seconds of the SDK's upload, and of processor time, in a process of its own that is warm when they begin."""
    command = [sys.executable, "-m", "benchmarks.s3", "--bare", str(source), "--where", json.dumps(where)]
    took, cost = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(took), float(cost)


async def _upload_bare(source: Path, where: dict[str, Any]) -> tuple[float, float]:
    from aiobotocore.config import AioConfig
    from aiobotocore.session import get_session

    config = AioConfig(s3={"addressing_style": "path"})
    keys = {"aws_access_key_id": where["access_key"], "aws_secret_access_key": where["secret_key"], "region_name": where["region"]}
    async with get_session().create_client("s3", endpoint_url=where["endpoint"], config=config, **keys) as client:
        await client.head_bucket(Bucket=BUCKET)
        began, spent = time.perf_counter(), time.process_time()
        target = {"Bucket": BUCKET, "Key": "bare"}
        upload = (await client.create_multipart_upload(**target))["UploadId"]
        limit = asyncio.Semaphore(IN_FLIGHT)

        async def part(number: int, body: bytes) -> dict[str, Any]:
            try:
                answer = await client.upload_part(**target, UploadId=upload, PartNumber=number, Body=body)
            finally:
                limit.release()
            return {"PartNumber": number, "ETag": answer["ETag"]}

        parts = []
        with source.open("rb") as file:
            while True:
                await limit.acquire()
                body = await asyncio.to_thread(file.read, PART)
                if not body:
                    break
                parts.append(asyncio.create_task(part(len(parts) + 1, body)))
        done = [await each for each in parts]
        await client.complete_multipart_upload(**target, UploadId=upload, MultipartUpload={"Parts": done})
        took = time.perf_counter() - began, time.process_time() - spent
        await client.delete_object(**target)
        return took


async def _reads(service: Any, rounds: int) -> dict[str, Any]:
    """First bytes and whole reads of one object, in turns: one GetObject, and the driver's parallel read."""
    async with open_bucket(service.table) as bucket:
        storage = bucket.storage(prefix="reads", part_size=PART)
        block = os.urandom(MIB)

        async def blocks() -> Any:
            for _ in range(COLD // MIB):
                yield block

        await storage.put("cold", blocks(), size=COLD)
        firsts: dict[str, list[float]] = {"get": [], "ours": [], "slice": []}
        wholes: dict[str, list[float]] = {"get": [], "ours": []}
        for number in range(rounds):
            for which in ("get", "ours") if number % 2 else ("ours", "get"):
                first, whole = await (_get(bucket) if which == "get" else _ours(storage, None))
                firsts[which].append(first)
                wholes[which].append(whole)
            firsts["slice"].append((await _ours(storage, ByteRange(8 * MIB, 12 * MIB)))[0])
        await storage.delete("cold")
    middles = {name: statistics.median(each) for name, each in firsts.items()}
    return {
        "first": {name: round(each * 1000, 2) for name, each in middles.items()},
        "first_ratio": middles["ours"] / middles["get"],
        "slice_ratio": middles["slice"] / middles["get"],
        "whole": {name: round(COLD / statistics.median(each) / 1e6) for name, each in wholes.items()},
    }


async def _get(bucket: Bucket) -> tuple[float, float]:
    began = time.perf_counter()
    answer = await bucket.client.get_object(Bucket=BUCKET, Key="reads/cold")
    async with answer["Body"] as body:
        await body.read(65536)
        first = time.perf_counter() - began
        while await body.read(262144):
            pass
    return first, time.perf_counter() - began


async def _ours(storage: Any, span: ByteRange | None) -> tuple[float, float]:
    began = time.perf_counter()
    async with storage.open("cold", span) as chunks:
        await anext(chunks)
        first = time.perf_counter() - began
        async for _ in chunks:
            pass
    return first, time.perf_counter() - began


def section(outcome: dict[str, Any]) -> str:
    """The outcome for RESULTS.md."""
    size = outcome["size"]

    def rate(each: Sequence[float]) -> str:
        return f"{size / statistics.median(each) / 1e6:,.0f} MB/s"

    rows = [
        ("upload", rate(outcome["ours"]), rate(outcome["bare"]), f"**{outcome['ratio']:.2f}**", f"at least {LEAST}"),
        ("processor time a GB", f"{outcome['cost']['ours']} s", f"{outcome['cost']['bare']} s", "", ""),
        ("its memory", f"{outcome['growth'] / 1e6:.0f} MB more", "", "", f"at most {outcome['growth_allowed'] / 1e6:.0f} MB"),
        (
            "first byte of a large read",
            f"{outcome['first']['ours']} ms",
            f"{outcome['first']['get']} ms",
            f"**{outcome['first_ratio']:.2f}**",
            f"under {LONGEST}",
        ),
        ("first byte of a slice", f"{outcome['first']['slice']} ms", "", f"{outcome['slice_ratio']:.2f}", ""),
        ("whole large read", f"{outcome['whole']['ours']} MB/s", f"{outcome['whole']['get']} MB/s", "", ""),
    ]
    heads = (f"{size / 1e9:g} GB, {outcome['server']}", "ours", "SDK alone", "ratio", "to reach")
    return f"""{table(heads, rows)}

Parts of 8 MiB, four in flight on both sides; medians of rounds taken in turns. The upload is over HTTP through the server, hashed, recorded and durable; the SDK's is a script that does nothing
else. Reads are the driver's, of an object of {COLD // MIB} MiB in {COLD // PART} parts, beside one GetObject. Service and both clients share the machine's cores."""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.s3", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--size", type=int)
    parser.add_argument("--server", choices=SERVERS, default="rclone")
    parser.add_argument("--bare", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--where", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare is not None:
        print(*asyncio.run(_upload_bare(options.bare, options.where)))
        return
    print(json.dumps(measure(full=options.full, size=options.size, server=options.server), indent=2))


if __name__ == "__main__":
    main()
