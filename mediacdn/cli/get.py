"""`mediacdn get`: one media out of a server, into a file or standard output."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mediacdn.cli.server import client, printable, progress_bar, with_server
from mediacdn.cli.verb import Verb, answer
from mediacdn.errors import Conflict, DigestMismatch, RangeNotSatisfiable

if TYPE_CHECKING:
    from mediacdn.client import Client


@click.command(cls=Verb, name="get")
@click.argument("media_id", metavar="ID")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="The file to write; - is standard output.  [default: the media's own name, where there is no such file yet]",
)
@click.option("--variant", help="This variant in place of the original.")
@click.option("--restart", is_flag=True, help="Do not go on with a part that an earlier call left.")
@with_server
def command(
    media_id: str,
    output: str | None,
    variant: str | None,
    restart: bool,
    url: str,
    token: str | None,
    config_file: Path | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Download the media ID, verified by its SHA-256.

    The bytes collect in FILE.part, with which a later call goes on, and get their name when they are whole and right.
    """
    import asyncio

    if output == "-" and as_json:
        raise click.UsageError("standard output takes the media or JSON, not both")
    server = client(url, token, config_file, data)
    told = asyncio.run(_get(server, media_id, output, variant, resume=not restart, quiet=as_json))
    if as_json:
        answer(told)
    elif output != "-":
        click.echo(f"{told['file']}  {told['size']} bytes, sha256 {told['digest']}")


async def _get(server: "Client", media_id: str, output: str | None, variant: str | None, *, resume: bool, quiet: bool) -> dict[str, Any]:
    async with server:
        if output == "-":
            return await _to_stdout(server, media_id, variant)
        target = Path(output) if output is not None else _free(await _own_name(server, media_id, variant))
        with progress_bar(target.name, quiet=quiet) as progress:
            fetched = await server.get(media_id, target, variant=variant, resume=resume, progress=progress)
    return {"file": str(fetched.path), "size": fetched.size, "digest": fetched.digest, "resumed_at": fetched.resumed_at}


async def _to_stdout(server: "Client", media_id: str, variant: str | None) -> dict[str, Any]:
    """What is written cannot be taken back: a wrong digest is told by the exit code."""
    import asyncio
    import hashlib

    sha256, size = hashlib.sha256(), 0
    async with server.open(media_id, variant=variant) as download:
        with progress_bar(media_id, quiet=sys.stdout.isatty()) as progress:
            async for chunk in download:
                await asyncio.to_thread(sys.stdout.buffer.write, chunk)
                sha256.update(chunk)
                size += len(chunk)
                if progress is not None:
                    progress(size, download.size)
        sys.stdout.buffer.flush()
        if download.digest is not None and sha256.hexdigest() != download.digest:
            raise DigestMismatch("the bytes that came are not those that the server vouches for")
    return {"size": size, "digest": sha256.hexdigest()}


async def _own_name(server: "Client", media_id: str, variant: str | None) -> str:
    """The name that the server proposes, reduced to one that stays in this folder (RFC 6266 section 4.3)."""
    try:
        async with server.open(media_id, start=0, stop=1, variant=variant) as download:
            return _proposed(download.disposition or "") or media_id
    except RangeNotSatisfiable:  # not one byte in it
        return media_id


def _free(name: str) -> Path:
    if Path(name).exists():
        raise Conflict(f"{name} is already there; name a file with -o")
    return Path(name)


def _proposed(disposition: str) -> str:
    from mediacdn.http.disposition import decode_ext_value

    extended = re.search(r"filename\*=([^;\s]+)", disposition)
    plain = re.search(r'filename="((?:[^"\\]|\\.)*)"', disposition)
    name = decode_ext_value(extended[1]) if extended else re.sub(r"\\(.)", r"\1", plain[1]) if plain else ""
    name = printable(name).replace("\\", "/").rsplit("/", 1)[-1].replace("?", "_").lstrip(".")
    return name.encode("utf-8", "ignore")[:200].decode("utf-8", "ignore").strip()
