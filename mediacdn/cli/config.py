"""`mediacdn config`: what is in force, and where each value came from; and where its rules would put a file."""

from pathlib import Path
from typing import Any

import click

from mediacdn.cli.verb import Listing, Verb, answer, settings, with_settings


class Showing(Listing):
    """The group that shows unless it is told otherwise."""

    default = "show"


@click.group(name="config", cls=Showing)
def command() -> None:
    """Print the configuration in force, or say where it would put a file. Without more said: show."""


@command.command("show", cls=Verb)
@click.option("--changed", is_flag=True, help="Only what is not a default.")
@with_settings
def show(changed: bool, config_file: Path | None, data: Path | None, as_json: bool) -> None:
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


@command.command("route", cls=Verb)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--tag", "tags", multiple=True, help="A tag that the upload carries; may be repeated.")
@click.option("--owner", default="", help="The uploader's id.")
@click.option("--public/--private", default=False, help="Whether the upload is public.  [default: private]")
@click.option("--variant", default="", metavar="NAME", help='What the file is to its source, such as "thumbnail".  [default: an original]')
@with_settings
def route(
    file: Path,
    tags: tuple[str, ...],
    owner: str,
    public: bool,
    variant: str,
    config_file: Path | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Say which storage an upload of FILE would go to, which rule says so, and why those before it did not hold. The type is told by the file's bytes."""
    from mediacdn.sniff import HEAD, refined, sniff
    from mediacdn.storage.placement import ORIGINAL, Subject, conditions, routing

    config = settings(config_file, data).config
    with file.open("rb") as handle:
        media_type = refined(sniff(handle.read(HEAD)), None, file.name)
    size = file.stat().st_size
    variant = "" if variant == ORIGINAL else variant
    subject = Subject(media_type=media_type, size=size, tags=tags, owner=owner, public=public, variant=variant)
    rules = routing(config)
    placed = rules.place(subject)
    # Only uploads land elsewhere first: what is made here is written where it stays.
    via = None if variant else rules.via.get(placed.storage)
    names = [rule.name or str(number + 1) for number, rule in enumerate(config.routing)]
    because = "no rule holds" if placed.rule is None else conditions(config.routing[placed.rule])
    if as_json:
        answer(
            {
                "media_type": media_type,
                "size": size,
                "storage": placed.storage,
                "via": via,
                "rule": "default" if placed.rule is None else names[placed.rule],
                "because": because,
                "passed_over": [{"rule": name, "because": why} for name, why in zip(names, placed.passed, strict=False)],
            }
        )
        return
    click.echo(f"{placed.storage}" + (f", by way of {via}" if via else ""))
    click.echo(f"  {media_type}, {size} bytes")
    click.echo("  no rule holds: the default" if placed.rule is None else f"  rule {names[placed.rule]}: {because}")
    for name, why in zip(names, placed.passed, strict=False):
        click.echo(f"  not {name}: {why}")
