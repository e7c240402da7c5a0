"""`mediacdn scrub`: every object read through, and what a mirror can mend mended."""

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mediacdn.cli.move import opened_beside
from mediacdn.cli.verb import Size, Verb, answer, log_on_stderr, settings, with_settings

if TYPE_CHECKING:
    from mediacdn.config import Config
    from mediacdn.upkeep.scrubbing import Finding

NOTED_EVERY = 1.0


class Place:
    """How far an interrupted scrub came, in a file of the data directory: a storage's last key, None when it is done."""

    def __init__(self, file: Path, *, restart: bool) -> None:
        self._file = file
        self._noted = 0.0
        self._reached: dict[str, str | None] = {}
        if not restart:
            with suppress(OSError, TypeError, ValueError):
                self._reached = dict(json.loads(file.read_text()))

    def of(self, storage: str) -> str | None:
        return self._reached.get(storage, "")

    def reach(self, storage: str, key: str | None) -> None:
        self._reached[storage] = key
        if key is None or time.monotonic() - self._noted > NOTED_EVERY:
            part = self._file.with_suffix(".part")
            part.write_text(json.dumps(self._reached))
            os.replace(part, self._file)
            self._noted = time.monotonic()

    def finish(self) -> None:
        self._file.unlink(missing_ok=True)


@click.command(cls=Verb, name="scrub")
@click.option("--storage", "names", multiple=True, metavar="NAME", help="Only this storage; may be repeated.  [default: all]")
@click.option("--rate", type=Size(), default="0", metavar="BYTES", help="Bytes a second at most, such as 20M.  [default: no limit]")
@click.option("--mend/--no-mend", default=True, help="Whether a mirror's damaged members are mended from a sound one.  [default: mend]")
@click.option("--unknown", is_flag=True, help="Also name objects that no record knows.")
@click.option("--restart", is_flag=True, help="From the beginning, not from where the last one was ended.")
@with_settings
def command(
    names: tuple[str, ...],
    rate: int,
    mend: bool,
    unknown: bool,
    restart: bool,
    config_file: Path | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Read all objects and compare them with their digests; name the damaged and missing, and mend what a mirror can. Safe beside a running server.

    Goes on where an interrupted one was ended. Exit code 1 when something is wrong that was not mended. Nothing is deleted.
    """
    import asyncio

    import msgspec

    config = settings(config_file, data).config
    place = Place(Path(config.server.data) / "scrub.json", restart=restart)
    with log_on_stderr(config):
        counted, findings = asyncio.run(_scrub(config, names, rate, place, mend=mend, unknown=unknown, quiet=as_json))
    wrong = [each for each in findings if not each.mended]
    if as_json:
        answer({**counted, "findings": [msgspec.to_builtins(each) for each in findings]})
    else:
        mended = len(findings) - len(wrong)
        click.echo(f"{counted['objects']} objects, {counted['bytes']} bytes read: {len(wrong)} wrong, {mended} mended")
    if wrong:
        raise SystemExit(1)


async def _scrub(
    config: "Config", names: tuple[str, ...], rate: int, place: Place, *, mend: bool, unknown: bool, quiet: bool
) -> "tuple[dict[str, Any], list[Finding]]":
    from datetime import timedelta

    from mediacdn.drivers import SystemClock
    from mediacdn.storage.transfer import Throttle
    from mediacdn.upkeep.scrubbing import Scrub

    findings: list[Finding] = []
    objects = size = 0

    def found(each: "Finding") -> None:
        findings.append(each)
        if not quiet:
            where = f"{each.storage}:{each.key}" + (f" in {each.member}" if each.member else "")
            of = f"  of {', '.join(each.media)}" if each.media else ""
            click.echo(f"{each.what}{', mended' if each.mended else ''}  {where}{of}")

    async with opened_beside(config) as opened:
        scrub = Scrub(catalog=opened.catalog, storages=opened.storages, mirrors=opened.mirrors, clock=SystemClock())
        throttle = Throttle(rate)
        members = {member for mirror in opened.mirrors.values() for member in mirror.members}
        for name in names or config.storage:
            after = place.of(name)
            if after is not None:
                async for passed in scrub.each(name, after=after, throttle=throttle, mend=mend):
                    objects, size = objects + 1, size + passed.size
                    for each in passed.findings:
                        found(each)
                    place.reach(name, passed.key)
                place.reach(name, None)
            if unknown and name not in members:  # a mirror lists its members' objects as its own
                async for each in scrub.unknown(name, timedelta(seconds=config.lifecycle.abandoned_after)):
                    found(each)
    place.finish()
    return {"objects": objects, "bytes": size}, findings
