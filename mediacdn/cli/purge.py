"""`mediacdn purge`: make every cached copy of some media, or of all, unusable at once."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mediacdn.cli.server import client, with_server
from mediacdn.cli.verb import Verb, answer

if TYPE_CHECKING:
    from mediacdn.client import Client


@click.command(cls=Verb, name="purge")
@click.argument("media_ids", metavar="[ID]...", nargs=-1)
@click.option("--tag", "tags", multiple=True, help="Every media that carries this tag; may be given several times.")
@click.option("--all", "everything", is_flag=True, help="Everything.")
@with_server
def command(
    media_ids: tuple[str, ...],
    tags: tuple[str, ...],
    everything: bool,
    url: str,
    token: str | None,
    config_file: Path | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Purge the media ID, and what was derived from them, from the cache of every server process. The media stay. Needs an admin token.

    Links and records are not touched: see revoke and quarantine in the API for those.
    """
    import asyncio

    if [bool(media_ids), bool(tags), everything].count(True) != 1:
        raise click.UsageError("name media, tags, or --all: exactly one of the three")
    purged = asyncio.run(_purge(client(url, token, config_file, data), media_ids, tags, everything=everything))
    if as_json:
        answer({"purged": purged})
    else:
        click.echo("everything purged" if purged is None else f"{purged} media purged")


async def _purge(server: "Client", media_ids: tuple[str, ...], tags: tuple[str, ...], *, everything: bool) -> int | None:
    async with server:
        return await server.purge(*media_ids, tags=tags, everything=everything)
