"""`mediacdn keys`: the ring of keys that sign links."""

from pathlib import Path

import click

from mediacdn.cli.verb import Verb, answer, settings, with_settings


@click.group(name="keys")
def command() -> None:
    """List or rotate the keys that sign links."""


@command.command("list", cls=Verb)
@with_settings
def list_keys(config_file: Path | None, data: Path | None, as_json: bool) -> None:
    """List the keys, oldest first, without their secrets; a star marks the one that signs."""
    from mediacdn.keyring import open_keyring

    config = settings(config_file, data).config
    entries = open_keyring(config.signing, Path(config.server.data)).list()
    if as_json:
        answer([{"kid": each.kid, "current": each.current, "created_at": each.created_at} for each in entries])
        return
    for each in entries:
        since = "from the configuration" if each.created_at is None else f"{each.created_at:%Y-%m-%d %H:%M:%S} UTC"
        click.echo(f"{'*' if each.current else ' '} {each.kid}  {since}")


@command.command("rotate", cls=Verb)
@click.option("--keep", type=click.IntRange(0, 100), default=2, show_default=True, help="How many older keys still verify links.")
@with_settings
def rotate_keys(keep: int, config_file: Path | None, data: Path | None, as_json: bool) -> None:
    """Sign with a new key from now on. A running server follows by itself; links of keys beyond --keep die at once."""
    from mediacdn.keyring import open_keyring

    config = settings(config_file, data).config
    ring = open_keyring(config.signing, Path(config.server.data))
    before = {each.kid for each in ring.list()}
    kid = ring.rotate(keep)
    dropped = sorted(before - {each.kid for each in ring.list()})
    if as_json:
        answer({"kid": kid, "dropped": dropped})
    else:
        click.echo(f"{kid} signs from now on" + (f"; dropped: {', '.join(dropped)}" if dropped else ""))
