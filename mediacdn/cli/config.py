"""`mediacdn config`: what is in force, and where each value came from."""

from pathlib import Path
from typing import Any

import click

from mediacdn.cli.verb import Verb, answer, settings, with_settings


@click.command(cls=Verb, name="config")
@click.option("--changed", is_flag=True, help="Only what is not a default.")
@with_settings
def command(changed: bool, config_file: Path | None, data: Path | None, as_json: bool) -> None:
    """Print the configuration in force, secrets masked, and where each value came from."""
    import msgspec

    from mediacdn.config import masked
    from mediacdn.config.decoding import dotted
    from mediacdn.config.showing import flatten

    loaded = settings(config_file, data)
    tree = masked(loaded.config)
    if as_json and not changed:
        answer({"config": tree, "sources": loaded.sources})
        return
    rows: list[tuple[str, Any, str]] = []
    for path, _ in flatten(loaded.config):
        value: Any = tree
        for part in path:
            value = value[str(part)]
        source = loaded.sources[dotted(path)]
        if not changed or source != "default":
            rows.append((dotted(path), value, source))
    if as_json:
        answer({"config": {key: value for key, value, _ in rows}, "sources": {key: source for key, _, source in rows}})
        return
    lines = [(f"{key} = {'(none)' if value is None else msgspec.json.encode(value).decode()}", source) for key, value, source in rows]
    width = min(60, max((len(left) for left, _ in lines), default=0))
    for left, source in lines:
        click.echo(f"{left:<{width}}  # {source}")
