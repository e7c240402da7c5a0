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
    """Tell who may read the media ID and why, where its bytes are, and which rule of the cache decides about it. Needs an admin token."""
    import asyncio

    told = asyncio.run(_explain(client(url, token, config_file, data), media_id))
    if as_json:
        answer(told)
        return
    for name, value in told.items():
        title = name.replace("_", " ") + ":"
        if not isinstance(value, dict):
            click.echo(f"{title:<20}{_shown(value)}")
            continue
        click.echo(title)
        for key, each in value.items():
            click.echo(f"  {key.replace('_', ' ') + ':':<18}{_shown(each)}")


async def _explain(server: "Client", media_id: str) -> dict[str, Any]:
    async with server:
        return await server.explain(media_id)


def _shown(value: Any) -> str:
    if value is None or value == [] or value == {}:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return printable(", ".join(f"{key} {each}" for key, each in value.items()))
    if isinstance(value, list):
        return ", ".join(_listed(each) for each in value)
    return printable(f"{value:g}" if isinstance(value, float) else str(value))


def _listed(value: Any) -> str:
    if isinstance(value, dict):  # a rule that did not hold, and why
        first, *others = map(str, value.values())
        return printable(f"{first} ({', '.join(others)})")
    return printable(str(value))
