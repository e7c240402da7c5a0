"""`mediacdn plugins`: what the configured plugins bring."""

from pathlib import Path

import click

from mediacdn.cli.verb import Verb, answer, settings, with_settings


@click.command(cls=Verb, name="plugins")
@with_settings
def command(config_file: Path | None, data: Path | None, as_json: bool) -> None:
    """List the plugins in use: version, drivers and hooks."""
    from mediacdn.plugins import Plugins

    described = Plugins.load(settings(config_file, data).config.plugins).described()
    if as_json:
        answer(described)
        return
    for each in described:
        click.echo(f"{each.name}  {each.version}  ({each.distribution})")
        click.echo(f"  drivers: {', '.join(each.drivers) or 'none'}")
        click.echo(f"  hooks:   {', '.join(each.hooks) or 'none'}")
