"""`mediacdn migrate`: bring the catalog's tables forward."""

from pathlib import Path

import click

from mediacdn.cli.verb import Verb, answer, settings, with_settings


@click.command(cls=Verb, name="migrate")
@click.option("--check", is_flag=True, help="Change nothing; exit 1 when migrations are pending.")
@with_settings
def command(check: bool, config_file: Path | None, data: Path | None, as_json: bool) -> None:
    """Bring the catalog's tables forward. It may be killed and run again at any time, also beside a starting server."""
    import asyncio

    from mediacdn.catalog.migrate import migrate, pending
    from mediacdn.plugins import Plugins

    config = settings(config_file, data).config
    folder = Path(config.server.data)
    branches = Plugins.load(config.plugins).branches()
    behind = asyncio.run(pending(config.database, folder, branches))
    applied = asyncio.run(migrate(config.database, folder, branches)) if behind and not check else []
    left = behind and check
    if as_json:
        answer({"pending": left, "applied": applied})
    elif left:
        click.echo("migrations are pending")
    else:
        click.echo("\n".join(f"applied {each}" for each in applied) or "nothing to do")
    if left:
        raise SystemExit(1)
