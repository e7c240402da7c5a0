"""`mediacdn put`: files into a server, of any size, one after the other."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mediacdn.cli.server import client, printable, progress_bar, with_server
from mediacdn.cli.verb import Verb, answer, complain
from mediacdn.errors import MediaError, Unauthorized

if TYPE_CHECKING:
    from mediacdn.client import Client


@click.command(cls=Verb, name="put")
@click.argument("files", metavar="FILE…", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--public", is_flag=True, help="Let anybody read it.")
@click.option("--title", help="The record's title.")
@click.option("--tags", metavar="TAG,…", default="", help="The record's tags.")
@click.option("--type", "media_type", metavar="TYPE", help="Insist on this media type.  [default: the server looks at the bytes]")
@click.option("--verify", is_flag=True, help="Hash the file first and have the server insist on the digest; costs one more read.")
@click.option("--resume", is_flag=True, help="Also go on in a later run where this one was ended; hashes the file first.")
@with_server
def command(
    files: tuple[Path, ...],
    public: bool,
    title: str | None,
    tags: str,
    media_type: str | None,
    verify: bool,
    resume: bool,
    url: str,
    token: str | None,
    config_file: Path | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Upload files, in turn, and print each one's id and URL.

    The digest that the server answers is compared with one made while sending. Broken uploads are repeated a few times; files of 64 MiB and more go on where they were.
    After a failure the other files still go.
    """
    import asyncio

    wish: dict[str, Any] = {"public": public, "title": title, "tags": [tag for tag in tags.split(",") if tag], "media_type": media_type}
    server = client(url, token, config_file, data)
    outcomes = asyncio.run(_put(server, files, wish, verify=verify, resume=resume, as_json=as_json))
    if as_json:
        answer(outcomes)
    if any("error" in outcome for outcome in outcomes):
        raise SystemExit(1)


async def _put(
    server: "Client", files: tuple[Path, ...], wish: dict[str, Any], *, verify: bool, resume: bool, as_json: bool
) -> list[dict[str, Any]]:
    outcomes: list[dict[str, Any]] = []
    async with server:
        for file in files:
            try:
                outcome = await _put_one(server, file, wish, verify=verify, resume=resume, as_json=as_json)
            except (MediaError, OSError) as error:
                sentence = error.detail if isinstance(error, MediaError) else error.strerror or str(error)
                code = error.code if isinstance(error, MediaError) else "os_error"
                complain(f"{printable(str(file))}: {sentence}", code, as_json=False)
                if isinstance(error, Unauthorized):
                    click.echo("  Give a token: --token, MEDIACDN_TOKEN, or --data with the server's data directory.", err=True)
                outcome = {"file": str(file), "error": {"code": code, "detail": sentence}}
            outcomes.append(outcome)
    return outcomes


async def _put_one(server: "Client", file: Path, wish: dict[str, Any], *, verify: bool, resume: bool, as_json: bool) -> dict[str, Any]:
    from mediacdn.client import Body

    with progress_bar(file.name, quiet=as_json) as progress:
        if resume:
            record = await server.resume(file, progress=progress, **wish)
        else:
            body = Body(file, progress=progress)
            digest = await body.prehash() if verify and body.replayable else None
            record = await server.upload(body, filename=file.name, digest=digest, **wish)
    where = server.url(record.id)
    if not as_json:
        click.echo(f"{record.id}  {where}{'  (already here)' if record.duplicate else ''}")
        if kept := [name for name in record.ignored if name in wish]:
            click.echo(f"  the record that is here keeps its own {', '.join(kept)}", err=True)
    return {"file": str(file), "id": record.id, "url": where, "duplicate": record.duplicate, "record": record}
