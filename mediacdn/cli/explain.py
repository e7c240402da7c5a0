"""`mediacdn explain`: why one media answers as it does."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mediacdn.cli.server import client, printable, with_server
from mediacdn.cli.verb import Verb, answer

if TYPE_CHECKING:
    from mediacdn.client import Client


@click.command(cls=Verb, name="explain")
@click.argument("media_id", metavar="ID")
@with_server
def command(media_id: str, url: str, token: str | None, config_file: Path | None, data: Path | None, as_json: bool) -> None:
    """Tell who may read the media ID and why, and where its bytes are. Needs an admin token."""
    import asyncio

    told = asyncio.run(_explain(client(url, token, config_file, data), media_id))
    if as_json:
        answer(told)
        return
    for name, value in told.items():
        click.echo(f"{name.replace('_', ' ') + ':':<20}{'' if isinstance(value, dict) else _shown(value)}")
        for key, each in value.items() if isinstance(value, dict) else ():
            click.echo(f"  {key.replace('_', ' ') + ':':<18}{_shown(each)}")


async def _explain(server: "Client", media_id: str) -> dict[str, Any]:
    async with server:
        return await server.explain(media_id)


def _shown(value: Any) -> str:
    if value is None or value == []:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return printable(", ".join(map(str, value)) if isinstance(value, list) else str(value))
