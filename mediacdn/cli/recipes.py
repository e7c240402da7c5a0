"""`mediacdn recipes`: what can be made of media here, and what was made by versions that have a newer one."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mediacdn.cli.verb import Listing, Verb, answer, log_on_stderr, settings, with_settings

if TYPE_CHECKING:
    from mediacdn.config import Config
    from mediacdn.recipes.descriptors import Descriptor
    from mediacdn.recipes.registry import Registry
    from mediacdn.tasks import Stale


@click.group(name="recipes", cls=Listing)
def command() -> None:
    """List the recipes, show one, or find what older versions made. Without more said: list."""


@command.command("list", cls=Verb)
@with_settings
def list_recipes(config_file: Path | None, data: Path | None, as_json: bool) -> None:
    """List the recipes that plugins and the configuration bring."""
    found = _described(settings(config_file, data).config)
    if as_json:
        answer({"items": found})
        return
    for each in found:
        click.echo(f"{each.code}@{each.version}  {', '.join(each.requires) or '*/*'}  {each.title or ''}".rstrip())
    if not found:
        click.echo("no recipes")


@command.command("show", cls=Verb)
@click.argument("code")
@with_settings
def show(code: str, config_file: Path | None, data: Path | None, as_json: bool) -> None:
    """Show the recipe CODE, its newest version, or CODE@VERSION."""
    [each] = _described(settings(config_file, data).config, code)
    if as_json:
        answer(each)
        return
    click.echo(f"{each.code}@{each.version}" + (f"  {each.title}" if each.title else ""))
    if each.summary:
        click.echo(f"  {each.summary}")
    click.echo(f"  takes {', '.join(each.requires) or '*/*'}")
    for argument in each.args:
        default = "required" if argument.required else "" if argument.default is None else f"default {argument.default}"
        click.echo(f"  {argument.name}: {argument.type}" + (f", {default}" if default else ""))
    for number, step in enumerate(each.steps, 1):
        click.echo(f"  {number}. {step.name}: {step.action}" + (f" -> {step.relationship}" if step.relationship else ""))


@command.command("stale", cls=Verb)
@click.option("--rebuild", is_flag=True, help="Ask for the newest version, for just these sources.")
@with_settings
def stale(rebuild: bool, config_file: Path | None, data: Path | None, as_json: bool) -> None:
    """List what was made by a version of a recipe that has a newer one, which would make it otherwise and has not done so yet.

    The older version need not be there any more. The older derivatives stay where they are.
    """
    import asyncio

    config = settings(config_file, data).config
    with log_on_stderr(config):
        found, asked = asyncio.run(_stale(config, rebuild=rebuild))
    if as_json:
        answer({"items": found, "asked": asked})
        return
    for each in found:
        click.echo(f"{each.id}  {each.recipe} -> {each.newest}  of {each.source}")
    told = "nothing is stale" if not found else f"{len(found)} stale"
    click.echo(told + (f"; {len(asked)} tasks asked for" if rebuild else ""))


def _described(config: "Config", code: str | None = None) -> "list[Descriptor]":
    import asyncio

    async def work() -> "list[Descriptor]":
        from prometheus_client import CollectorRegistry

        from mediacdn.drivers import open_actions, recipe_registry
        from mediacdn.plugins import Plugins

        plugins = Plugins.load(config.plugins)
        async with open_actions(config, plugins, CollectorRegistry()) as actions:
            registry: Registry = recipe_registry(config, plugins, actions)
            return [registry.describe(each) for each in (registry.all() if code is None else [registry.find(code)])]

    with log_on_stderr(config):
        return asyncio.run(work())


async def _stale(config: "Config", *, rebuild: bool) -> "tuple[list[Stale], list[str]]":
    from prometheus_client import CollectorRegistry

    from mediacdn.catalog.database import open_catalog
    from mediacdn.cli.drivers import MachineClock
    from mediacdn.drivers import open_actions, recipe_registry
    from mediacdn.errors import MediaError
    from mediacdn.plugins import Plugins
    from mediacdn.tasks import Tasks
    from mediacdn.ulids import Ulids

    async def nobody(changes: Any) -> None:
        """Servers learn by their own sweep."""

    plugins, clock = Plugins.load(config.plugins), MachineClock()
    asked: list[str] = []
    async with (
        open_catalog(config.database, Path(config.server.data), clock) as catalog,
        open_actions(config, plugins, CollectorRegistry()) as actions,
    ):
        registry = recipe_registry(config, plugins, actions)
        tasks = Tasks(catalog=catalog, registry=registry, told=nobody, new_id=Ulids(), clock=clock, attempts=config.jobs.attempts)
        found = [each async for each in tasks.stale()]
        for each in found if rebuild else ():
            source = await catalog.media.get(each.source)
            if source is None:
                continue
            try:
                job, started = await tasks.ask(source, each.newest, each.arguments, by=None)
            except MediaError as error:
                click.echo(f"mediacdn: {each.source}: {error.detail}", err=True)
                continue
            asked += [job.id] if started else []
    return found, asked
